"""Who is speaking to whom: turns, replies, interruptions.

The service's markers are not what they seem. `generationComplete` means that no more audio will
come; `turnComplete` follows when the service thinks the reply has been played, seconds later;
the speaker has its own opinion (`PlaybackMark`). `interrupted` may come before any audio, after
generationComplete, or after turnComplete. After a barge-in the service still closes the old turn,
and that close must not be taken for the new one's.

     speaking ──delivered──► current ──turnComplete──► draining ──drained──► over
                                │ barge-in, interrupted
                                └──────► superseded: what still comes of it is ignored
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from agentd.events import (
    Downlink,
    Event,
    Interrupted,
    PlaybackMark,
    ReplyAudio,
    ReplyCancelled,
    ReplyComplete,
    Speaker,
    TranscriptText,
    TurnEnded,
    TurnFailed,
    TurnStarted,
)
from agentd.live.messages import (
    DOWNLINK_BYTES_PER_MS,
    Interaction,
    ServerMessage,
    Text,
    is_content,
)
from agentd.live.transcript import MAX_TEXT_CHARS, heard_text

GRACE_S = 1.0  # the old turn's late audio is not expected longer than this after a new question
DRAIN_MARGIN_S = 5.0  # a speaker that does not report the end of a reply is not waited for longer


@dataclass(slots=True, eq=False)
class Turn:
    """One exchange."""

    number: int
    utterance: int = 0  # the last one of the question, as in TurnFailed
    unrepeatable: bool = False  # the question has become too old to be asked again
    speech_ms: float = 0.0
    spoken_until_s: float | None = None  # end of the user's speech at the gate
    asked_at_s: float | None = None  # delivered whole
    frames: bool = False  # the service has shown any sign of life since
    content: bool = False  # it has begun to answer
    first_audio_s: float | None = None
    reply_bytes: int = 0
    heard_ms: float = 0.0
    generation_complete: bool = False
    complete_told: bool = False  # ReplyComplete was delivered
    server_done_s: float | None = None
    drained: bool = False
    cancelled: bool = False
    tokens: tuple[int, int] = (0, 0)
    user_text: str = ""
    model_text: str = ""

    @property
    def reply_ms(self) -> float:
        """Return how much reply has been received."""
        return self.reply_bytes / DOWNLINK_BYTES_PER_MS

    @property
    def audible(self) -> bool:
        """Tell whether some of its reply may still be at the speaker."""
        return self.reply_bytes > 0 and not self.drained and not self.cancelled

    @property
    def audio_end_s(self) -> float:
        """Estimate when the reply received so far will have been played."""
        return (self.first_audio_s or 0.0) + self.reply_ms / 1000.0


@dataclass(frozen=True, slots=True)
class LastTurn:
    """The figures of the turn that ended last."""

    turn: int
    speech_ms: float
    first_audio_ms: float
    reply_ms: float
    heard_ms: float
    interrupted: bool


class Turns:
    """Follows the exchange; tells the speaker, the journal and the ring what it learns."""

    def __init__(
        self,
        *,
        deliver: Callable[[Downlink], None],
        emit: Callable[[Event], None],
        answered: Callable[[int], None],
        finished: Callable[[Turn, bool], None],
        take_tokens: Callable[[], tuple[int, int]],
        local_activity: Callable[[], bool],
    ) -> None:
        self._deliver = deliver
        self._emit = emit
        self._answered = answered  # everything asked up to this turn has its answer
        self._finished = finished  # gets the turn, and whether it failed
        self._take_tokens = take_tokens
        self._local_activity = local_activity
        self._last_number = 0
        self.speaking: Turn | None = None
        self.current: Turn | None = None
        self._draining: list[Turn] = []
        self._superseded: Turn | None = None
        self._ignore_until_s = math.inf
        self._closer_due = False  # a turnComplete of an older turn is still to come
        self._cut_over: Turn | None = None  # a broken-off reply, to be replaced by its repetition
        self.count = 0
        self.last: LastTurn | None = None
        self.late_pieces = 0  # audio of cancelled turns that was ignored

    # ── the user's side ──

    def next_number(self) -> int:
        """Return a number for a new turn."""
        self._last_number += 1
        return self._last_number

    def barge_in(self, by: str) -> bool:
        """Silence the speaker at once; True if it was speaking."""
        audible = [turn for turn in self._open_turns() if turn.audible]
        for turn in audible:
            self._cancel(turn, by)
        return bool(audible)

    def user_started(self, number: int) -> None:
        """Note that an utterance has begun to go out: what was being answered is over."""
        self._supersede_current()
        self.speaking = Turn(number)

    def user_continued(self, number: int) -> None:
        """Note that the open activity goes on with an utterance of turn `number`."""
        if self.speaking is None:
            self.speaking = Turn(number)

    def user_dropped(self) -> None:
        """Note that what was being said was no speech; no answer is due."""
        self.speaking = None

    def asked(
        self,
        number: int,
        speech_ms: float,
        spoken_until_s: float,
        now: float,
        utterance: int = 0,
    ) -> None:
        """Note that a question has been delivered whole."""
        turn = self.speaking
        if turn is None and self.current is not None and self.current.number == number:
            turn = self.current  # the service's detector was faster, its answer is under way
        elif turn is None or turn.number != number:
            self._supersede_current()
            turn = Turn(number)
        self.speaking = None
        turn.utterance = utterance
        turn.speech_ms = speech_ms
        turn.spoken_until_s = spoken_until_s
        turn.asked_at_s = now
        self.current = turn
        self._ignore_until_s = now + GRACE_S
        self._emit(TurnStarted(turn=number))

    def asked_more(self, now: float) -> None:
        """Note that the service has got what it asked for and has time to answer again."""
        if self.current is not None:
            self.current.asked_at_s = now

    def cancel_reply(self, by: str) -> bool:
        """Stop the reply and ignore the rest of it (button, control socket)."""
        was_speaking = self.barge_in(by)
        turn = self.current
        if turn is None:
            return was_speaking
        self.current = None
        self._supersede(turn, ignore=not turn.generation_complete)
        self._answered(turn.number)
        self._over(turn)
        return True

    # ── the service's side ──

    def received(self, message: ServerMessage, now: float) -> None:
        """Take a frame."""
        if self.current is not None:
            self.current.frames = True
        if message.user_text is not None:
            self._user_text(message.user_text)
        if is_content(message):
            self._content(message, now)
        if message.interrupted:
            self._interrupted(now)
        if message.generation_complete:
            self._generation_complete()
        if message.turn_complete:
            self._turn_complete(message.interaction, now)

    def _user_text(self, text: Text) -> None:
        turn = self.speaking or self.current
        if turn is not None:
            turn.user_text = (turn.user_text + text.text)[:MAX_TEXT_CHARS]
            self._deliver(TranscriptText(turn.number, Speaker.USER, text.text, text.finished))

    def _content(self, message: ServerMessage, now: float) -> None:
        if self._is_late(now):
            self.late_pieces += len(message.audio)
            return
        turn = self._answering(now)
        if turn is None or turn.cancelled:
            self.late_pieces += len(message.audio)
            return
        self._closer_due = False
        turn.content = True
        if message.model_text is not None:
            text = message.model_text
            turn.model_text = (turn.model_text + text.text)[:MAX_TEXT_CHARS]
            self._deliver(TranscriptText(turn.number, Speaker.MODEL, text.text, text.finished))
        for pcm in message.audio:
            self._audio(turn, pcm, now)

    def _audio(self, turn: Turn, pcm: bytes, now: float) -> None:
        if self._cut_over is not None:
            if self._cut_over.audible:
                self._deliver(ReplyCancelled(self._cut_over.number))
            self._cut_over = None
        if turn.first_audio_s is None:
            turn.first_audio_s = now
        turn.reply_bytes += len(pcm)
        self._deliver(ReplyAudio(turn.number, pcm))

    def _is_late(self, now: float) -> bool:
        """Tell whether content belongs to a turn that is over."""
        if self._superseded is None:
            return False
        if self.speaking is not None or now < self._ignore_until_s:
            return True
        self._superseded = None  # its close never came; do not stay deaf for that
        return False

    def _answering(self, now: float) -> Turn | None:
        """Return the turn that content belongs to; None while the user speaks.

        What the service begins by itself counts as asked now, and as answered: its time to
        answer runs from here.
        """
        if self.current is not None:
            return self.current
        if self.speaking is not None:
            if self._local_activity():
                return None  # sent before the service had heard that the user speaks
            self.current, self.speaking = self.speaking, None  # its detector was faster than ours
        else:
            self.current = Turn(self.next_number())  # the service speaks up unasked
        self.current.asked_at_s, self.current.frames = now, True
        return self.current

    def _interrupted(self, now: float) -> None:
        if self._superseded is not None or self._closer_due:
            return  # the service noticed what we did
        turn = self.current
        if turn is not None and turn.content:
            self.barge_in("server")
            self.current = None
            self._supersede(turn, ignore=not turn.generation_complete)
            self._ignore_until_s = now + GRACE_S
            self._answered(turn.number)
            self._over(turn)
        else:
            self.barge_in("server")  # a reply that is still playing out; or a phantom

    def _generation_complete(self) -> None:
        if self._superseded is not None:
            self._superseded = None
            self._closer_due = True
            return
        turn = self.current
        if turn is None or (self._closer_due and not turn.content):
            return
        turn.generation_complete = True
        self._tell_complete(turn)
        self._answered(turn.number)

    def _turn_complete(self, interaction: Interaction, now: float) -> None:
        if self._superseded is not None:
            self._superseded = None
            return
        turn = self.current
        if self._closer_due and (turn is None or not turn.content):
            self._closer_due = False
            return
        if turn is None:
            return
        self.current = None
        self._complete(turn, now)
        if interaction is Interaction.IN_PROGRESS:
            # More turns of the same answer follow: the wait goes on as a turn of its own.
            following = Turn(self.next_number(), asked_at_s=now, frames=True)
            self.current = following
            self._emit(TurnStarted(turn=following.number))

    def _complete(self, turn: Turn, now: float) -> None:
        self._tell_complete(turn)
        self._answered(turn.number)
        turn.server_done_s = now
        turn.tokens = self._take_tokens()
        if turn.audible:
            self._draining.append(turn)
        else:
            self._over(turn)

    def _tell_complete(self, turn: Turn) -> None:
        if turn.audible and not turn.complete_told:
            turn.complete_told = True
            self._deliver(ReplyComplete(turn.number))

    # ── the speaker's side ──

    def marked(self, mark: PlaybackMark) -> None:
        """Take word of how far a reply has been heard."""
        for turn in self._open_turns():
            if turn.number == mark.turn:
                turn.heard_ms = max(turn.heard_ms, mark.heard_ms)
                turn.drained = turn.drained or mark.drained
        for turn in [turn for turn in self._draining if turn.drained]:
            self._draining.remove(turn)
            self._over(turn)

    # ── connections and time ──

    def connection_lost(
        self,
        can_repeat: Callable[[int], bool],
        repeat_as: Callable[[int, int], None],
        now: float,
        cause: str,
    ) -> None:
        """Settle what the lost connection leaves behind.

        A question that can be asked again keeps its turn if the user has heard nothing of the
        answer; else `repeat_as(before, after)` is told its new number, and the old reply falls
        silent when the new one begins.
        """
        self._superseded = None
        self._closer_due = False
        self.speaking = None
        turn, self.current = self.current, None
        if turn is None:
            return
        if turn.generation_complete or turn.cancelled:
            self._complete(turn, now)
        elif not can_repeat(turn.number):
            self._tell_complete(turn)
            self._fail(turn, cause)
        elif turn.reply_bytes:
            repeat_as(turn.number, self.next_number())
            self._tell_complete(turn)
            self._cut_over = turn
            turn.user_text = turn.model_text = ""  # the repetition will have it whole
            self._over(turn, interrupted=True)

    def give_up(self, number: int, utterance: int, cause: str) -> None:
        """Note that a question will not be asked again."""
        if self.current is None or self.current.number != number:
            self._emit(TurnFailed(turn=number, utterance=utterance, cause=cause))
        else:
            self.current.unrepeatable = True  # its answer may still come on this connection

    def abandon(self) -> None:
        """Drop everything (forget): silence, and no turn is open."""
        self.barge_in("forget")
        for turn in self._open_turns():
            turn.user_text = turn.model_text = ""
            self._over(turn)
        self.speaking = self.current = self._superseded = self._cut_over = None
        self._draining.clear()
        self._closer_due = False

    @property
    def quiet(self) -> bool:
        """Tell whether nobody speaks and nothing is awaited."""
        return not (self.speaking or self.current or self._draining)

    @property
    def awaiting(self) -> Turn | None:
        """Return the turn whose answer is awaited or under way."""
        turn = self.current
        return turn if turn is not None and not turn.generation_complete else None

    def deadline_s(self) -> float | None:
        """Return when `close_overdue` should look again, if anything can become overdue."""
        return min((self._overdue_at_s(turn) for turn in self._closing()), default=None)

    def close_overdue(self, now: float) -> None:
        """Close turns whose turnComplete or last sample never came."""
        for turn in self._closing():
            if self._overdue_at_s(turn) > now:
                continue
            if turn is self.current:
                self.current = None
                self._closer_due = True
                turn.drained = True
                self._complete(turn, now)
            else:
                self._draining.remove(turn)
                turn.drained = True
                self._over(turn)

    def _closing(self) -> list[Turn]:
        closing = list(self._draining)
        if self.current is not None and self.current.generation_complete:
            closing.append(self.current)
        return closing

    def _overdue_at_s(self, turn: Turn) -> float:
        margin = DRAIN_MARGIN_S if turn.server_done_s is not None else 3 * DRAIN_MARGIN_S
        start = turn.server_done_s or turn.asked_at_s or 0.0
        return max(start, turn.audio_end_s) + margin

    # ── the rest ──

    def _open_turns(self) -> list[Turn]:
        turns = [*self._draining]
        for turn in (self._superseded, self._cut_over, self.current):
            if turn is not None and turn not in turns:
                turns.append(turn)
        return turns

    def _cancel(self, turn: Turn, by: str) -> None:
        turn.cancelled = True
        self._deliver(ReplyCancelled(turn.number))
        self._emit(Interrupted(turn=turn.number, by=by, heard_ms=turn.heard_ms))
        self._answered(turn.number)
        if turn in self._draining:
            self._draining.remove(turn)
            self._over(turn)

    def _supersede_current(self) -> None:
        turn, self.current = self.current, None
        if turn is None:
            return
        self._supersede(turn, ignore=turn.content and not turn.generation_complete)
        if turn.unrepeatable and not turn.content:
            self._fail(turn, "no answer came")
        else:
            turn.cancelled = turn.cancelled or turn.audible
            self._over(turn, interrupted=not turn.generation_complete)

    def _supersede(self, turn: Turn, *, ignore: bool) -> None:
        self._superseded = turn if ignore else None
        self._ignore_until_s = math.inf
        self._closer_due = not ignore

    def _fail(self, turn: Turn, cause: str) -> None:
        self._emit(TurnFailed(turn=turn.number, utterance=turn.utterance, cause=cause))
        self._over(turn, failed=True)

    def _over(self, turn: Turn, *, interrupted: bool = False, failed: bool = False) -> None:
        """Close a turn and tell its figures; the only place where turns end."""
        self.count += 1
        if turn.tokens == (0, 0):
            turn.tokens = self._take_tokens()
        heard_ms = turn.heard_ms
        first_audio_ms = -1.0
        if turn.first_audio_s is not None and turn.spoken_until_s is not None:
            first_audio_ms = max(0.0, turn.first_audio_s - turn.spoken_until_s) * 1000.0
        stopped = interrupted or turn.cancelled
        self.last = LastTurn(
            turn.number, turn.speech_ms, first_audio_ms, turn.reply_ms, heard_ms, stopped
        )
        if stopped:
            turn.model_text = heard_text(turn.model_text, heard_ms, turn.reply_ms)
        self._finished(turn, failed)
        if not failed:
            self._emit(
                TurnEnded(
                    turn=turn.number,
                    speech_ms=turn.speech_ms,
                    first_audio_ms=first_audio_ms,
                    reply_ms=turn.reply_ms,
                    heard_ms=heard_ms,
                    interrupted=stopped,
                    prompt_tokens=turn.tokens[0],
                    response_tokens=turn.tokens[1],
                )
            )
