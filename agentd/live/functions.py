"""The model's functions, from the frame that calls them to the answer that it gets (pure).

`Calls` knows which are under way; here is what the settings and the model's capabilities make of a
call, and in which form its result goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agentd.config.settings import Settings
from agentd.live.calls import Answer, Calls, Tell, as_conversation, refusal
from agentd.live.capabilities import Capabilities
from agentd.live.consent import Consent
from agentd.live.messages import FunctionCall, ServerMessage, ToolResponse, whole_json
from agentd.live.tool_rules import Rules
from agentd.live.turn import TOO_MANY_CALLS
from agentd.live.turns import Turns
from agentd.live.uplink import Uplink

SWITCHED_OFF = "functions are switched off"


class Functions:
    """Has functions run, and the model hear of them."""

    def __init__(
        self,
        settings: Settings,
        caps: Capabilities,
        rules: Rules,
        *,
        non_blocking: Callable[[str], bool],
        calls: Calls,
        consent: Consent,
        turns: Turns,
        uplink: Uplink,
    ) -> None:
        self._settings = settings
        self._caps = caps
        self._rules = rules
        self._non_blocking = non_blocking
        self._calls = calls
        self._consent = consent
        self._turns = turns
        self._uplink = uplink

    def configure(self, settings: Settings, caps: Capabilities) -> None:
        """Take new settings; what is under way goes on."""
        self._settings = settings
        self._caps = caps

    @property
    def holds_audio(self) -> bool:
        """Return whether the model's turn is held up in a way in which it takes no audio."""
        return self._caps.hold_audio_during_calls and self._calls.blocking

    def received(self, message: ServerMessage, turn: int | None, now: float) -> None:
        """Take the calls of a frame, and those that it withdraws.

        Args:
            turn: for which the functions are called; None: for none, nothing is run.
        """
        for call in message.calls if turn is not None else ():
            assert turn is not None
            if not self._turns.may_call(turn):
                self._too_many(call, turn, now)
                break
            self._called(call, turn, now)
        if message.cancelled_calls:
            self._calls.cancelled(message.cancelled_calls, now)

    def _called(self, call: FunctionCall, turn: int, now: float) -> None:
        enabled = self._settings.tools.enabled
        answers = self._calls.called(
            call if enabled else replace(call, refused=SWITCHED_OFF),
            turn,
            now,
            timeout_s=self._timeout_s(call.name),
            blocking=not (self._caps.declare_behavior and self._non_blocking(call.name)),
            tellable=not self._turns.is_telling,
        )
        self._give(answers, now)

    def _timeout_s(self, name: str) -> float:
        own_s = self._rules.timeout_s(name)
        return self._settings.tools.timeout_s if own_s is None else own_s

    def _too_many(self, call: FunctionCall, turn: int, now: float) -> None:
        """End an answer that calls one function after the other; the model hears of it once."""
        current = self._turns.current
        if current is None or current.number != turn:
            return
        self._give([refusal(call, turn, TOO_MANY_CALLS)], now)
        self._turns.fail(current, TOO_MANY_CALLS, now)

    def confirmed(self, now: float) -> None:
        """Take the button for a yes to what the model was told to ask."""
        pending = self._consent.pressed(now)
        if pending is not None:
            args, timeout_s = pending.question.args, self._timeout_s(pending.name)
            self._calls.run_by_hand(pending.name, args, now, timeout_s=timeout_s)

    def done(self, key: int, outcome: str, response: Mapping[str, Any], now: float) -> None:
        """Take the result of a function."""
        self._give(self._calls.done(key, outcome, response, now), now)

    def connected(self, asked_again: frozenset[int], now: float) -> None:
        """Give the results of the connection before, where nothing is asked again for them."""
        self._give(self._calls.connected(asked_again), now)

    def tick(self, now: float) -> None:
        """Answer for the functions that take too long."""
        self._give(self._calls.tick(now), now)

    def deadline(self) -> float | None:
        """Return when `tick` should be called next, if ever."""
        return self._calls.deadline()

    def _give(self, answers: list[Answer], now: float) -> None:
        """Let the model hear what came of its calls."""
        for answer in answers:
            if isinstance(answer, Tell):
                self._tell(answer.text, now)
            else:
                self._respond(answer.response, answer.turn, now)

    def _respond(self, response: ToolResponse, turn: int, now: float) -> None:
        response = replace(response, response=whole_json(response.response))
        if self._caps.scheduling and self._non_blocking(response.name):
            response = replace(response, scheduling="WHEN_IDLE")
        if not response.call_id and not self._caps.response_without_id:
            if not self._turns.is_telling:
                self._tell(as_conversation(response.name, response.response), now)
            return
        self._turns.responded(turn, now)
        self._uplink.send(response)

    def _tell(self, text: str, now: float) -> None:
        self._uplink.enter(text, asks=True, now=now, once=True)
