"""Function calls of the model, from the question to the answer, across broken connections.

A call lives only as long as the model's turn. When the connection breaks first, the tool goes on
running, and its result is used in one of two ways:

* The user's question is asked again on the next connection: the model will call again, and the
  same call with the same arguments gets the same result without running twice.
* It is not asked again: the result is told as conversation, once. A resumed session ignores the
  answer to a call it does not remember. A result that the model had and kept silent about
  (`swallowed`) is not told: it would only ask for the next call.

Ids are the service's and name a call for as long as its connection lives. Vertex AI may leave them
out; such calls are told apart by `key` alone, and answered without an id. The same id with the
same function and arguments is the same call, told twice; with others it is a new call.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from agentd.events import ToolCalled, ToolStarted
from agentd.live.admission import Admission
from agentd.live.commands import CallTool, CancelTool
from agentd.live.messages import FunctionCall, ToolResponse, canonical
from agentd.live.outputs import Outputs

MAX_CALLS = 32  # running at once
MAX_KEPT = 64  # with those whose results are kept for a repeated question
TO_BE_TOLD = -1  # in place of a turn: the result goes out as conversation
UNWANTED = -2  # in place of a turn: the result is dropped


@dataclass(slots=True, eq=False)
class Call:
    """A call under way or answered in a turn that is not over."""

    key: int
    call_id: str  # the service's own; empty where it gave none
    name: str
    args: str  # canonical JSON
    turn: int
    started_s: float
    blocking: bool
    overdue_at_s: float
    asked: bool = True  # its connection is there: the model can be answered
    response: Mapping[str, Any] | None = None  # set when it is done
    outcome: str = ""
    by_hand: bool = False  # a person's wish that the model does not wait for, or no more
    tellable: bool = True  # not when the question itself was such a telling: no chains
    swallowed: bool = False  # the model had the result and said nothing more

    @property
    def running(self) -> bool:
        """Return whether the tool is still at work."""
        return self.response is None

    @property
    def awaited(self) -> bool:
        """Return whether the model waits for it."""
        return self.running and self.asked

    def is_same(self, asked: FunctionCall, args: str) -> bool:
        """Return whether it is the same function with the same arguments."""
        return (self.name, self.args) == (asked.name, args)


@dataclass(frozen=True, slots=True)
class Respond:
    """Answer a call of the present connection, in the turn that it belongs to."""

    response: ToolResponse
    turn: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Say a result as conversation: the model can be answered in no other way."""

    text: str


Answer = Respond | Tell


class Calls:
    """The calls of the turns that are not over; what the model is to hear of them is returned."""

    def __init__(self, admission: Admission, out: Outputs) -> None:
        self._admission = admission
        self._out = out
        self._calls: list[Call] = []
        self._last_key = 0

    @property
    def pending(self) -> bool:
        """Return whether the model waits for an answer on this connection."""
        return any(call.awaited for call in self._calls)

    @property
    def blocking(self) -> bool:
        """Return whether the model's turn is held up by a call."""
        return any(call.awaited and call.blocking for call in self._calls)

    def awaited_in(self, turn: int) -> bool:
        """Return whether the answer of `turn` waits for one of our functions."""
        return any(call.awaited and call.turn == turn for call in self._calls)

    def holds_up(self, turn: int) -> bool:
        """Return whether the answer of `turn` cannot be complete before a function's result."""
        return any(call.awaited and call.blocking and call.turn == turn for call in self._calls)

    def called(
        self,
        asked: FunctionCall,
        turn: int,
        now: float,
        *,
        timeout_s: float,
        blocking: bool,
        tellable: bool = True,
    ) -> list[Answer]:
        """Start a call, or answer it from a result that is there already.

        Args:
            tellable: its result may become a question of its own, should the connection break.
        """
        if asked.refused:
            return [refusal(asked, turn, asked.refused)]
        args = canonical(asked.args)
        if asked.call_id and (again := self._same(asked, args)) is not None:
            return self._answer(again)
        known = next((c for c in self._calls if not c.asked and c.is_same(asked, args)), None)
        if known is not None:
            known.call_id, known.turn, known.blocking = asked.call_id, turn, blocking
            known.asked, known.swallowed = True, False
            return self._answer(known)
        running = sum(call.running for call in self._calls)
        if running >= MAX_CALLS or len(self._calls) >= MAX_KEPT:
            return [refusal(asked, turn, "too many calls at once")]
        instead = self._admission.instead(asked, turn, now)
        if instead is not None:
            return [Respond(ToolResponse(asked.call_id, asked.name, instead), turn)]
        self._last_key += 1
        call = Call(
            self._last_key, asked.call_id, asked.name, args, turn, now, blocking, now + timeout_s
        )
        call.tellable = tellable
        self._out.emit(ToolStarted(tool=call.name, turn=turn))
        self._run(call, asked.args)
        return []

    def run_by_hand(
        self, name: str, args: Mapping[str, Any], now: float, *, timeout_s: float
    ) -> None:
        """Run what a person has confirmed without the model; it hears of the result."""
        self._last_key += 1
        call = Call(
            self._last_key, "", name, canonical(args), TO_BE_TOLD, now, False, now + timeout_s
        )
        call.asked, call.by_hand = False, True
        self._run(call, args)

    def _run(self, call: Call, args: Mapping[str, Any]) -> None:
        self._calls.append(call)
        self._out.add(CallTool(call.key, call.name, dict(args)))

    def _same(self, asked: FunctionCall, args: str) -> Call | None:
        """Return the call that this one repeats by its id."""
        same = [c for c in self._calls if c.asked and c.call_id == asked.call_id]
        return next((call for call in same if call.is_same(asked, args)), None)

    def done(self, key: int, outcome: str, response: Mapping[str, Any], now: float) -> list[Answer]:
        """Take the result of a tool."""
        call = self._running(key)
        if call is None:
            return []  # cancelled or timed out before
        call.response = response
        call.outcome = outcome if call.asked or call.by_hand else "late"
        took_ms = (now - call.started_s) * 1000.0
        self._out.emit(ToolCalled(tool=call.name, outcome=call.outcome, took_ms=took_ms))
        return self._answer(call)

    def tick(self, now: float) -> list[Answer]:
        """Answer for the tools that take too long."""
        answers: list[Answer] = []
        for call in [c for c in self._calls if c.running and c.overdue_at_s <= now]:
            self._out.add(CancelTool(call.key))
            error = {"error": "the function took too long"}
            answers += self.done(call.key, "timeout", error, now)
        return answers

    def deadline(self) -> float | None:
        """Return when `tick` should be called next, if ever."""
        return min((c.overdue_at_s for c in self._calls if c.running), default=None)

    def cancelled(self, call_ids: tuple[str, ...], now: float) -> None:
        """Stop calls that the model has withdrawn; they get no answer."""
        named = frozenset(call_ids) - {""}
        for call in [call for call in self._calls if call.asked and call.call_id in named]:
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
            elif not call.asked:
                call.turn = UNWANTED  # asked again and answered without it

    def turn_failed(self, turn: int, now: float) -> None:
        """Stop what still runs for a turn that gets no answer, and let go of its results."""
        for call in [call for call in self._calls if call.turn == turn]:
            self._calls.remove(call)
            if call.running:
                self._stop(call, now)

    def swallowed(self, turn: int) -> None:
        """Note that the model had its time to use the results of `turn`, and was silent."""
        for call in self._calls:
            if call.turn == turn and call.asked and not call.running:
                call.swallowed = True

    def connection_lost(self) -> None:
        """Note that the model can no longer be answered; the tools go on."""
        for call in self._calls:
            call.asked = False

    def connected(self, asked_again: Container[int]) -> list[Answer]:
        """Sort out on a new connection what to do with the results of the old one.

        Args:
            asked_again: the turns whose questions will be; the model calls for them again.
        """
        answers: list[Answer] = []
        for call in list(self._calls):
            if call.asked or call.turn == UNWANTED or call.turn in asked_again:
                continue
            call.turn = TO_BE_TOLD if call.tellable and not call.swallowed else UNWANTED
            answers += self._answer(call)
        return answers

    def renumber(self, before: int, after: int) -> None:
        """Follow a question that gets a new turn number."""
        for call in self._calls:
            if call.turn == before:
                call.turn = after

    def stop_all(self, now: float, *, but: int | None = None) -> None:
        """Stop everything (forget, stop).

        Args:
            but: the call that asks for it; it goes on, and what comes of it is told in the next
                conversation: whoever said yes must hear that it was done, or was not.
        """
        calls, self._calls = self._calls, []
        for call in calls:
            if call.running and call.key == but:
                call.asked, call.by_hand, call.tellable = False, True, True
                call.turn = TO_BE_TOLD
                self._calls.append(call)
            elif call.running:
                self._stop(call, now)

    def _stop(self, call: Call, now: float) -> None:
        self._out.add(CancelTool(call.key))
        took_ms = (now - call.started_s) * 1000.0
        self._out.emit(ToolCalled(tool=call.name, outcome="cancelled", took_ms=took_ms))

    def _running(self, key: int) -> Call | None:
        return next((call for call in self._calls if call.key == key and call.running), None)

    def _answer(self, call: Call) -> list[Answer]:
        """Return how a finished call's result reaches the model, in the way that is left."""
        if call.response is None:
            return []
        if call.asked:
            return [Respond(ToolResponse(call.call_id, call.name, call.response), call.turn)]
        if call.turn >= 0:
            return []
        self._calls.remove(call)
        told = call.turn == TO_BE_TOLD
        return [Tell(as_conversation(call.name, call.response))] if told else []


def refusal(asked: FunctionCall, turn: int, error: str) -> Answer:
    """Return an error as the answer to a call; nothing is run."""
    return Respond(ToolResponse(asked.call_id, asked.name, {"error": error}), turn)


def as_conversation(name: str, response: Mapping[str, Any]) -> str:
    """Return a result as something the user might say."""
    result = json.dumps(response, ensure_ascii=False, default=str)
    return f"The function {name} that you called answered: {result}"
