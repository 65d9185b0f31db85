"""Whom to believe: what the end of a connection says of its handle and of what it was told (pure).

A handle is no better than the connections that were resumed with it, and so is a conversation that
a fresh session was restored from. Neither is blamed for what a network, a key or a quota did.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agentd.live.causes import Handling as Do
from agentd.live.failures import SETUP_REFUSED, Failure, Kind, Verdict, classify
from agentd.live.memory import Memory
from agentd.live.resumption import MAX_STRIKES, Choice, Handle, Rung

HEALTH_S = 10.0  # a resumed connection that dies younger speaks against its handle
PATIENCE_S = 30.0  # a handle is tried this long against internal errors while nobody waits


@dataclass(slots=True, eq=False)
class ConnectionRecord:
    """What is known of the present connection or attempt."""

    number: int
    choice: Choice
    ready_s: float | None = None
    last_frame_s: float = 0.0
    spoke: bool = False  # reply audio has come on it
    proved: bool = False  # a turn was answered on it
    go_away_at_s: float | None = None
    because: Failure | None = None  # why we end it ourselves
    planned: bool = False  # its end is no failure
    rest_s: float = 0.0  # how long to wait after an end that was planned

    def is_young(self, now: float) -> bool:
        """Return whether it ended before it could show its worth."""
        return self.ready_s is None or now - self.ready_s < HEALTH_S


@dataclass(frozen=True, slots=True)
class Scene:
    """What was going on when a connection ended, as far as it speaks for or against a handle."""

    awaiting_first_sign: bool  # a question is out and nothing of its answer has come
    user_speaks: bool
    somebody_waits: bool  # something was said and has not gone out


@dataclass(frozen=True, slots=True)
class HandleJudgement:
    """What the end of a connection was, and whether what is tried next has done no wrong."""

    verdict: Verdict
    blameless: bool = False


class Trust:
    """Drops the handles that are not worth believing, and the restored conversation likewise."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._refusals = 0  # internal errors at setup since the last connection stood

    def stood(self) -> None:
        """Note that a connection stands."""
        self._refusals = 0

    def judge(
        self,
        connection: ConnectionRecord,
        failure: Failure,
        scene: Scene,
        now: float,
        *,
        own_endpoint: bool,
        lost_at_s: float,
    ) -> HandleJudgement:
        """Class the failure and act on what it says about the handle.

        Args:
            own_endpoint: the address of the service is configured.
            lost_at_s: since when there is no connection.
        """
        handle = connection.choice.handle
        verdict = classify(
            failure,
            with_handle=handle is not None,
            clock_synchronised=self._memory.wall.synchronised,
            own_endpoint=own_endpoint,
        )
        if failure.kind is Kind.LOCAL:
            return HandleJudgement(verdict)
        if handle is None:
            return self._judge_restoring(connection, verdict, scene, now)
        if verdict.action is Do.RESET:
            self._memory.drop(handle, verdict.cause)
        elif verdict.action is Do.RETRY and self._is_bad(
            handle, connection, verdict, scene, now, lost_at_s=lost_at_s
        ):
            self._memory.drop(handle, f"{verdict.cause} when resuming with it")
            return HandleJudgement(verdict, blameless=True)
        return HandleJudgement(verdict)

    def _judge_restoring(
        self, connection: ConnectionRecord, verdict: Verdict, scene: Scene, now: float
    ) -> HandleJudgement:
        """Count an end that may be the fault of the restored conversation.

        A filter or a strict parser at the service ends the session whenever that comes, or keeps
        silent about the first question. What is a fault of key, model or quota is none of it; nor
        is the end of a connection that stood in peace.
        """
        if connection.choice.rung is not Rung.RESTORE or connection.ready_s is None:
            return HandleJudgement(verdict)
        if connection.proved or connection.go_away_at_s is not None:
            return HandleJudgement(verdict)
        unreadable = verdict.action is Do.FATAL and verdict.cause == SETUP_REFUSED
        awaited = connection.is_young(now) or scene.awaiting_first_sign
        if not awaited or not (verdict.action is Do.RETRY or unreadable):
            return HandleJudgement(verdict)
        last = self._memory.restoring_refused(verdict.cause)
        return HandleJudgement(replace(verdict, action=Do.RETRY) if unreadable else verdict, last)

    def _is_bad(
        self,
        handle: Handle,
        connection: ConnectionRecord,
        verdict: Verdict,
        scene: Scene,
        now: float,
        *,
        lost_at_s: float,
    ) -> bool:
        """Return whether a resumed connection ended in a way that makes its handle unfit.

        The service's own close soon after the resume, or on the first question, is proof enough.
        A broken network proves nothing, unless it happens again and again.
        """
        if connection.proved or connection.go_away_at_s is not None:
            return False
        if connection.ready_s is None:
            return verdict.blames_handle and self._is_refused(scene, now, lost_at_s)
        young = connection.is_young(now)
        if verdict.blames_handle and (
            scene.awaiting_first_sign or (young and not scene.user_speaks)
        ):
            return True
        return (young or scene.awaiting_first_sign) and self._memory.ladder.strike(handle)

    def _is_refused(self, scene: Scene, now: float, lost_at_s: float) -> bool:
        """Return whether to stop trying a handle that the service answers with internal errors.

        It does so while it believes the old connection to be open, which after a change of networks
        it does for a while. With nobody waiting there is time; a question is worth more than the
        rest of the context, which the transcript can restore.
        """
        self._refusals += 1
        struck_out = self._refusals >= MAX_STRIKES
        return struck_out and (scene.somebody_waits or now - lost_at_s > PATIENCE_S)
