"""Function calls of the model, from the question to the answer, across broken connections.

A call lives only as long as the model's turn. When the connection breaks first, the tool goes on
running, and its result is used in one of two ways:

* The user's question is asked again on the next connection: the model will call again, and the
  same call with the same arguments gets the same result without running twice.
* It is not asked again: the result is told as conversation. A resumed session ignores the answer
  to a call it does not remember.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentd.events import Event, ToolCalled
from agentd.live.commands import CallTool, CancelTimer, CancelTool, Command, SetTimer
from agentd.live.messages import FunctionCall, ToolResponse

MAX_CALLS = 32
TIMER = "tool:"
TO_BE_TOLD = -1  # in place of a turn: the result goes out as conversation
UNWANTED = -2  # in place of a turn: the result is dropped


@dataclass(slots=True, eq=False)
class Call:
    """A call under way or answered in a turn that is not over."""

    key: int
    call_id: str  # empty once its connection is gone
    name: str
    args: str  # canonical JSON
    turn: int
    started_s: float
    blocking: bool
    response: Mapping[str, Any] | None = None  # set when it is done
    outcome: str = ""

    @property
    def running(self) -> bool:
        """Tell whether the tool is still at work."""
        return self.response is None


class Calls:
    """The calls of the turns that are not over; at most 32."""

    def __init__(
        self,
        *,
        command: Callable[[Command], None],
        emit: Callable[[Event], None],
        respond: Callable[[ToolResponse], bool],
        tell: Callable[[str], None],
    ) -> None:
        self._command = command
        self._emit = emit
        self._respond = respond
        self._tell = tell  # say a text as conversation
        self._calls: list[Call] = []
        self._last_key = 0

    @property
    def pending(self) -> bool:
        """Tell whether the model waits for an answer on this connection."""
        return any(call.running and call.call_id for call in self._calls)

    @property
    def blocking(self) -> bool:
        """Tell whether the model's turn is held up by a call."""
        return any(call.running and call.call_id and call.blocking for call in self._calls)

    def called(
        self, asked: FunctionCall, turn: int, now: float, *, timeout_s: float, blocking: bool
    ) -> None:
        """Start a call, or answer it from a result that is there already."""
        if any(call.call_id == asked.call_id for call in self._calls):
            return  # told twice
        args = canonical(asked.args)
        known = next(
            (c for c in self._calls if not c.call_id and (c.name, c.args) == (asked.name, args)),
            None,
        )
        if known is not None:
            known.call_id, known.turn, known.blocking = asked.call_id, turn, blocking
            self._answer(known)
            return
        if len(self._calls) >= MAX_CALLS:
            error = {"error": "too many calls at once"}
            self._respond(ToolResponse(asked.call_id, asked.name, error))
            return
        self._last_key += 1
        call = Call(self._last_key, asked.call_id, asked.name, args, turn, now, blocking)
        self._calls.append(call)
        self._command(SetTimer(f"{TIMER}{call.key}", now + timeout_s))
        self._command(CallTool(call.key, asked.name, dict(asked.args)))

    def done(self, key: int, outcome: str, response: Mapping[str, Any], now: float) -> None:
        """Take the result of a tool."""
        call = self._running(key)
        if call is None:
            return  # cancelled or timed out before
        self._command(CancelTimer(f"{TIMER}{key}"))
        call.response = response
        call.outcome = outcome if call.call_id else "late"
        took_ms = (now - call.started_s) * 1000.0
        self._emit(ToolCalled(tool=call.name, outcome=call.outcome, took_ms=took_ms))
        self._answer(call)

    def timed_out(self, key: int, now: float) -> None:
        """Answer for a tool that takes too long."""
        if self._running(key) is not None:
            self._command(CancelTool(key))
            self.done(key, "timeout", {"error": "the function took too long"}, now)

    def cancelled(self, call_ids: tuple[str, ...], now: float) -> None:
        """Stop calls that the model has withdrawn; they get no answer."""
        for call in [call for call in self._calls if call.call_id in call_ids]:
            self._calls.remove(call)
            if call.running:
                self._stop(call, now)

    def turn_over(self, turn: int) -> None:
        """Let go of results that the model has had the chance to use."""
        for call in list(self._calls):
            if not 0 <= call.turn <= turn:
                continue
            if not call.running:
                self._calls.remove(call)
            elif not call.call_id:
                call.turn = UNWANTED  # asked again and answered without it

    def connection_lost(self) -> None:
        """Note that the model can no longer be answered; the tools go on."""
        for call in self._calls:
            call.call_id = ""

    def connected(self, asked_again: Callable[[int], bool]) -> None:
        """Sort out on a new connection what to do with the results of the old one."""
        for call in list(self._calls):
            if not call.call_id and not asked_again(call.turn):
                call.turn = TO_BE_TOLD  # the model will not call for it again
                if not call.running:
                    self._answer(call)

    def renumber(self, before: int, after: int) -> None:
        """Follow a question that gets a new turn number."""
        for call in self._calls:
            if call.turn == before:
                call.turn = after

    def stop_all(self, now: float) -> None:
        """Stop everything (forget, stop)."""
        calls, self._calls = self._calls, []
        for call in calls:
            if call.running:
                self._stop(call, now)

    def _stop(self, call: Call, now: float) -> None:
        self._command(CancelTimer(f"{TIMER}{call.key}"))
        self._command(CancelTool(call.key))
        took_ms = (now - call.started_s) * 1000.0
        self._emit(ToolCalled(tool=call.name, outcome="cancelled", took_ms=took_ms))

    def _running(self, key: int) -> Call | None:
        return next((call for call in self._calls if call.key == key and call.running), None)

    def _answer(self, call: Call) -> None:
        """Give a finished call's result to the model, in the way that is left."""
        if call.response is None:
            return
        if call.call_id:
            self._respond(ToolResponse(call.call_id, call.name, call.response))
        elif call.turn < 0:
            self._calls.remove(call)
            if call.turn == TO_BE_TOLD:
                self._tell(as_conversation(call))


def as_conversation(call: Call) -> str:
    """Return a result as something the user might say."""
    result = json.dumps(call.response, ensure_ascii=False, default=str)
    return f"The function {call.name} that you called before the line broke answered: {result}"


def canonical(args: Mapping[str, Any]) -> str:
    """Return arguments in a form that is equal for equal calls."""
    return json.dumps(args, sort_keys=True, default=str)
