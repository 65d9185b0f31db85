"""What hangs on a turn: its question, its functions, a person's yes, the transcript (pure).

`Turns` decides what becomes of a turn. Here is what that means for everything that is kept by the
number of a turn.
"""

from __future__ import annotations

from agentd.events import Downlink, ReplyAudio, ReplyCancelled, ReplyComplete
from agentd.live.calls import Calls
from agentd.live.commands import Deliver
from agentd.live.consent import Consent
from agentd.live.memory import Memory
from agentd.live.outputs import Outputs
from agentd.live.replay import Outbox
from agentd.live.turn import Turn
from agentd.live.usage import Usage


class Dependents:
    """Hands on what becomes of a turn to those that depend on it."""

    def __init__(
        self,
        out: Outputs,
        *,
        outbox: Outbox,
        calls: Calls,
        consent: Consent,
        memory: Memory,
        usage: Usage,
    ) -> None:
        self._outbox = outbox
        self._calls = calls
        self._consent = consent
        self._memory = memory
        self._usage = usage
        self._out = out

    def deliver(self, value: Downlink, now: float) -> None:
        """Hand a value to the speaker's side; what is spoken may be a question to a person."""
        match value:
            case ReplyAudio(turn, pcm):
                self._consent.spoke(turn, len(pcm))
            case ReplyComplete(turn):
                self._consent.spoken_to_the_end(turn)
            case ReplyCancelled(turn):
                self._consent.cut(turn, now)
        self._out.add(Deliver(value))

    def answered(self, turn: int) -> None:
        """Let go of the questions asked up to `turn`: they have their answer."""
        self._outbox.answered(turn)

    def renumbered(self, before: int, after: int) -> None:
        """Go on with a question under another number."""
        self._outbox.renumber(before, after)
        self._calls.renumber(before, after)
        self._consent.renumber(before, after)

    def over(self, turn: Turn, now: float) -> None:
        """Settle what depends on a turn that is over."""
        if turn.failure and not turn.lost:
            self._calls.turn_failed(turn.number, now)
        elif not turn.failure:
            self._calls.turn_over(turn.number)
            if turn.content and not turn.cancelled:
                self._consent.replied(turn.number)
        self._memory.add(turn.user_text, turn.model_text, now)

    def are_at_work_for(self, turn: int) -> bool:
        """Return whether the answer of `turn` cannot be complete before a function's result."""
        return self._calls.holds_up(turn)

    def can_repeat(self, turn: int) -> bool:
        """Return whether the question of `turn` is kept, to be asked again."""
        return turn in self._outbox.questions()

    def take_tokens(self) -> tuple[int, int]:
        """Return the (prompt, response) tokens that were used since the last turn."""
        return self._usage.take_turn()
