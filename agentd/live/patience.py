"""How long an answer is waited for, and what is done when none comes (pure)."""

from __future__ import annotations

from agentd.live.calls import Calls
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.replay import Outbox
from agentd.live.supervisor import Supervisor
from agentd.live.turn import NO_ANSWER, Turn
from agentd.live.turns import EMPTY_S, IN_PROGRESS_S, Turns

LOOK_AGAIN_S = 5.0  # whether a question that is still being sent gets on


class Patience:
    """Watches the awaited answer."""

    def __init__(
        self,
        reply_timeout_s: float,
        *,
        may_stay_silent: bool,
        turns: Turns,
        calls: Calls,
        outbox: Outbox,
        supervisor: Supervisor,
    ) -> None:
        self.reply_timeout_s = reply_timeout_s
        self.may_stay_silent = may_stay_silent
        self._turns = turns
        self._calls = calls
        self._outbox = outbox
        self._supervisor = supervisor
        self._under_way = ((0, 0), 0)  # turn, connection; its bytes unsent at the last look
        self._look_again_s = 0.0

    def deadline(self) -> float | None:
        """Return when the awaited answer is given up; a tool at work is not the service's fault.

        Each call has a deadline of its own, and a turn a bound of calls.
        """
        turn = self._turns.awaiting
        if turn is None or not self._supervisor.is_live:
            return None  # or it is being given up already
        if self._calls.awaited_in(turn.number):
            return None
        patience_s = self.reply_timeout_s
        if turn.empty_at_s is not None:
            return turn.empty_at_s + (patience_s if turn.called else min(EMPTY_S, patience_s))
        if turn.in_progress:
            patience_s = max(patience_s, IN_PROGRESS_S)
        since = max(turn.asked_at_s or 0.0, turn.life_s or 0.0)
        return max(since + patience_s, self._look_again_s)

    def tick(self, unsent_bytes: int, now: float) -> None:
        """Give up a connection on which a question gets no answer.

        Args:
            unsent_bytes: of what was sent, not yet acknowledged by the service's kernel.
        """
        deadline_s, turn = self.deadline(), self._turns.awaiting
        if turn is None or deadline_s is None or deadline_s > now:
            return
        if turn.empty_at_s is not None:
            self._give_up_empty(turn, now)
            return
        if self._is_chosen_silence(turn):
            self._turns.close_empty(turn, now)
            return
        if turn.frames:
            self._calls.swallowed(turn.number)
            failure = Failure(Phase.LIVE, Kind.DROPPED, reason="the answer broke off")
        elif self._is_on_its_way(turn, unsent_bytes, now):
            return
        else:
            failure = Failure(Phase.LIVE, Kind.TIMEOUT, reason="no sign of life")
        self._supervisor.abandon(failure, now, planned=False)

    def _is_chosen_silence(self, turn: Turn) -> bool:
        """Return whether the model has heard what was said, and that it needs no answer.

        Only on a connection that has answered before is that believed: one that never has may
        choke on what it was restored with.
        """
        connection = self._supervisor.connection
        believed = connection is not None and connection.proved and self.may_stay_silent
        return believed and bool(turn.user_text) and not turn.content

    def _give_up_empty(self, turn: Turn, now: float) -> None:
        """Act on a turn that the service has closed and not answered since."""
        if turn.reply_bytes or turn.follows or turn.unasked:
            self._turns.close_empty(turn, now)
        elif turn.number in self._outbox.questions() and self._turns.may_ask_again(turn):
            # On the old connection the service would hear the question a second time.
            failure = Failure(Phase.LIVE, Kind.LOCAL, reason="an empty answer")
            self._supervisor.abandon(failure, now, planned=True)
        else:
            self._turns.fail(turn, NO_ANSWER, now)

    def _is_on_its_way(self, turn: Turn, unsent_bytes: int, now: float) -> bool:
        """Return whether the question itself is still being sent: the path is slow, nobody is mute.

        A path that carries nothing any more is dead, and ended by TCP's own timeout besides.
        """
        question = (turn.number, self._supervisor.connections)
        before, self._under_way = self._under_way, (question, unsent_bytes)
        left = before[1] if before[0] == question else None
        if unsent_bytes:
            self._look_again_s = now + LOOK_AGAIN_S
            return left is None or unsent_bytes < left
        if left:
            self._turns.arrived(turn, now)  # it has arrived since the last look
        return bool(left)
