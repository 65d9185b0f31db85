"""Who is speaking to whom: turns, replies, interruptions (pure).

What a marker of the service means is a table, in `agentd.live.markers`, which begins with what the
service does not say; what the closing of an answer means is another, in `agentd.live.turn`. Here
stands what is done about it, and what is inferred from content:

     speaking ──delivered──► current ──settled──► draining ──drained──► over
                                │ barge-in, interrupted
                                └──────► superseded: what still comes of it is ignored

1. A sign of life is what belongs to the answer or to the question: content, thoughts, the
   transcription of what was said, a marker, a status, a frame that nobody understands. Resumption
   updates come every second from a service that has lost a question (google-gemini/cookbook#1329):
   they show that the connection lives, and prolong nothing.
2. After a barge-in the service still closes the old turn, and that close must not be taken for the
   new one's: the next marker without content goes to the old turn, unless it gives a reason.
   Audio and text of the old turn are ignored until its close or for `GRACE_S` after the new
   question. A function that it called still runs (the service withdraws those that it no longer
   wants by toolCallCancellation), but not where the user or a bound has stopped the turn.
3. What comes when nothing is asked is the service speaking up by itself, if it can be heard or is a
   call. Transcription alone is the late end of the turn before (the guide promises no order for
   it), and thoughts alone are nobody's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from agentd.events import (
    Interrupted,
    PlaybackMark,
    ReplyAudio,
    ReplyCancelled,
    ReplyComplete,
    Speaker,
    TranscriptText,
    TurnEnded,
    TurnFailed,
    TurnInProgress,
    TurnStarted,
)
from agentd.live.dependents import Dependents
from agentd.live.markers import MEANING, Act, Floor, markers_of
from agentd.live.messages import (
    Interaction,
    ServerMessage,
    TranscriptPiece,
    is_content,
)
from agentd.live.outputs import Outputs
from agentd.live.transcript import MAX_TEXT_CHARS, heard_text
from agentd.live.turn import NO_ANSWER, UNHEARD, Hearing, LastTurn, Settled, Turn, settle

GRACE_S = 1.0  # the old turn's late audio is not expected longer than this after a new question
DRAIN_MARGIN_S = 5.0  # a speaker that does not report the end of a reply is not waited for longer
EMPTY_S = 3.0  # an answer behind an empty turn begins about as fast as any; thrice what they take
IN_PROGRESS_S = 120.0  # no source bounds background work; nobody waits longer at a speaker
EXPECTED_S = 5.0  # a result that came after the turn is spoken about within this, or not at all
MAX_CALLS_OF_TURN = 32  # one answer needs a few; a model that calls on and on never gives one
MAX_DRAINING = 32  # replies waiting at the speaker; more are a service gone mad


class Turns:
    """Follows the exchange; tells the speaker, the journal and the outbox what it learns."""

    def __init__(self, dependents: Dependents, out: Outputs) -> None:
        self._dependents = dependents
        self._out = out
        self._local_activity = True  # activityStart is ours on this connection
        self._acts: dict[Act, Callable[[ServerMessage, float], None]] = {
            Act.IGNORE: self._ignore,
            Act.SILENCE: self._silence,
            Act.BREAK_OFF: self._break_off,
            Act.NOTE_STATUS: self._note_status,
            Act.LIVE_ON: self._live_on,
            Act.ALL_SENT: self._all_sent,
            Act.SETTLE: self._settle,
            Act.NOTHING_TO_SAY: self._nothing_to_say,
            Act.OLD_ALL_SENT: self._old_all_sent,
            Act.OLD_CLOSED: self._old_closed,
        }
        self._last_number = 0
        self.speaking: Turn | None = None
        self.current: Turn | None = None
        self._draining: list[Turn] = []
        self._superseded: Turn | None = None
        self._ignore_until_s = math.inf
        self._closer_due = False  # a turnComplete of an older turn is still to come
        self._cut_over: Turn | None = None  # a broken-off reply, to be replaced by its repetition
        self._expected_until_s: float | None = None  # of a result that came after its turn
        self._asked_twice = 0  # the question that was asked again after an empty turn
        self._last_over = 0
        self._calls = (0, 0)  # the answer that calls functions, and how many it has called
        self.count = 0
        self.last: LastTurn | None = None
        self.late_pieces = 0  # audio of cancelled turns that was ignored

    # ── the user's side ──

    @property
    def last_number(self) -> int:
        """Return the newest turn's number."""
        return self._last_number

    def next_number(self) -> int:
        """Return a number for a new turn."""
        self._last_number += 1
        return self._last_number

    def barge_in(self, by: str, now: float) -> bool:
        """Silence the speaker at once; True if it was speaking."""
        audible = [turn for turn in self._open_turns() if turn.audible]
        for turn in audible:
            self._cancel(turn, by, now)
        return bool(audible)

    def user_started(self, number: int, now: float) -> None:
        """Note that an utterance has begun to go out: what was being answered is over."""
        self._supersede_current(now)
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
        *,
        telling: bool = False,
    ) -> None:
        """Note that a question has been delivered whole."""
        turn = self.speaking
        if turn is None and self.current is not None and self.current.number == number:
            turn = self.current  # the service's detector was faster, its answer is under way
        elif turn is None or turn.number != number:
            self._supersede_current(now)
            turn = Turn(number)
        self.speaking = None
        turn.utterance = utterance
        turn.speech_ms = speech_ms
        turn.spoken_until_s = spoken_until_s
        turn.asked_at_s = now
        turn.telling = telling
        self.current = turn
        self._expected_until_s = None
        self._ignore_until_s = now + GRACE_S
        self._out.emit(TurnStarted(turn=number))

    def arrived(self, turn: Turn, now: float) -> None:
        """Note that the service has only now got all of a question; it has its full time."""
        turn.asked_at_s = now

    def responded(self, number: int, now: float) -> None:
        """Note that the result of a function of a turn was sent: what is said of it is to come."""
        turn = self.current
        if turn is None:
            self._expected_until_s = now + EXPECTED_S
        elif turn.number == number:
            turn.asked_at_s = now
            self._owe(turn)

    @staticmethod
    def _owe(turn: Turn) -> None:
        """Note that what was heard until now is not the answer, or not all of it."""
        turn.hearing = Hearing.NOTHING
        turn.generation_complete = False
        turn.owed = True
        turn.empty_at_s = None
        turn.call_closed = False

    def cancel_reply(self, by: str, now: float) -> bool:
        """Stop the reply and ignore the rest of it (button, control socket)."""
        was_speaking = self.barge_in(by, now)
        turn = self.current
        if turn is None:
            return was_speaking
        self.current = None
        turn.stopped = True
        self._supersede(turn, ignore=not turn.generation_complete)
        self._dependents.answered(turn.number)
        self._over(turn, now)
        return True

    # ── the service's side ──

    def received(self, message: ServerMessage, now: float) -> int | None:
        """Take a frame; return the turn that its functions are called for; None: for none."""
        if self.current is not None:
            self.current.frames = True
            if message.problem:
                self.current.life_s = now  # it may have been part of the answer
        if message.user_text is not None:
            self._user_text(message.user_text, now)
        calling = self._content(message, now) if is_content(message) else None
        for marker in markers_of(message):
            self._acts[MEANING[self.floor, marker].act](message, now)
        return calling

    @property
    def floor(self) -> Floor:
        """Return who has it, as the service's markers are to be understood."""
        turn = self.current
        if self._superseded is not None:
            return Floor.LATE
        if self._closer_due and (turn is None or not turn.content):
            return Floor.CLOSING if turn is None else Floor.OVERLAP
        if turn is None:
            return Floor.QUIET
        if not turn.content:
            return Floor.ASKED
        return Floor.SPEAKING if turn.hearing else Floor.THINKING

    def _user_text(self, text: TranscriptPiece, now: float) -> None:
        turn = self.speaking or self.current
        if turn is not None:
            turn.life_s = now
            turn.user_text = (turn.user_text + text.text)[:MAX_TEXT_CHARS]
            self._dependents.deliver(
                TranscriptText(turn.number, Speaker.USER, text.text, text.finished), now
            )

    def _content(self, message: ServerMessage, now: float) -> int | None:
        if self._is_late(now):
            self.late_pieces += len(message.audio)
            late = self._superseded
            return None if late is None or late.stopped else late.number
        if self.current is None and not (message.audio or message.written or message.calls):
            self._late_text(message.model_text, now)
            return None
        turn = self._answering(now)
        if turn is None or turn.cancelled:
            self.late_pieces += len(message.audio)
            return self._last_over if turn is None else turn.number
        self._closer_due = False
        turn.content = True
        turn.life_s = now
        turn.empty_at_s = None
        turn.call_closed = False
        if message.model_text is not None:
            text = message.model_text
            turn.hears(Hearing.TEXT if text.text else Hearing.NOTHING)
            turn.model_text = (turn.model_text + text.text)[:MAX_TEXT_CHARS]
            self._dependents.deliver(
                TranscriptText(turn.number, Speaker.MODEL, text.text, text.finished), now
            )
        if message.written:
            turn.hears(Hearing.TEXT)
        if message.unplayable:
            turn.hears(Hearing.UNPLAYABLE)
        for pcm in message.audio:
            self._audio(turn, pcm, now)
        if message.calls:
            turn.called = True
            self._owe(turn)
        return turn.number

    def _late_text(self, text: TranscriptPiece | None, now: float) -> None:
        """Show what is transcribed of a turn that is over or being played out."""
        if text is not None and self.speaking is None:
            number = self._draining[-1].number if self._draining else self._last_over
            self._dependents.deliver(
                TranscriptText(number, Speaker.MODEL, text.text, text.finished), now
            )

    def _audio(self, turn: Turn, pcm: bytes, now: float) -> None:
        if self._cut_over is not None:
            if self._cut_over.audible:
                self._dependents.deliver(ReplyCancelled(self._cut_over.number), now)
            self._cut_over = None
        if turn.first_audio_s is None:
            turn.first_audio_s = now
        turn.hears(Hearing.SOUND)
        turn.reply_bytes += len(pcm)
        self._dependents.deliver(ReplyAudio(turn.number, pcm), now)

    def _is_late(self, now: float) -> bool:
        """Return whether content belongs to a turn that is over."""
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
            if self._local_activity:
                return None  # sent before the service had heard that the user speaks
            self.current, self.speaking = self.speaking, None  # its detector was faster than ours
        else:
            self.current = Turn(self.next_number(), unasked=True)
        self.current.asked_at_s, self.current.frames = now, True
        self._expected_until_s = None
        return self.current

    # ── what follows from a marker ──

    def _ignore(self, message: ServerMessage, now: float) -> None:
        """Do nothing: it concerns nothing that is asked, or says what was done here."""

    def _silence(self, message: ServerMessage, now: float) -> None:
        """Silence a reply that is still playing out; if there is none it was a phantom."""
        del message
        self.barge_in("server", now)

    def _break_off(self, message: ServerMessage, now: float) -> None:
        """End the answer: the service has heard somebody speak into it."""
        del message
        turn = self._asked
        self.barge_in("server", now)
        self.current = None
        self._supersede(turn, ignore=not turn.generation_complete)
        self._ignore_until_s = now + GRACE_S
        self._dependents.answered(turn.number)
        self._over(turn, now)

    def _note_status(self, message: ServerMessage, now: float) -> None:
        """Note whether the service works on the answer in the background."""
        turn = self._asked
        before, turn.in_progress = turn.in_progress, message.interaction is Interaction.IN_PROGRESS
        turn.life_s = now
        if turn.in_progress and not before:
            self._out.emit(TurnInProgress(turn=turn.number))

    def _live_on(self, message: ServerMessage, now: float) -> None:
        """Note a sign of life: an empty turn was generated, the answer is still to come."""
        del message
        self._asked.life_s = now

    def _all_sent(self, message: ServerMessage, now: float) -> None:
        """Note that no more of the answer comes."""
        del message
        turn = self._asked
        turn.life_s = now
        turn.generation_complete = True
        if turn.heard and not turn.in_progress:
            self._tell_complete(turn, now)
            self._dependents.answered(turn.number)

    def _settle(self, message: ServerMessage, now: float) -> None:
        """Find out what the close means for the question."""
        turn = self._asked
        turn.life_s = now
        turn.reason = message.turn_complete_reason
        working = message.interaction is Interaction.IN_PROGRESS
        settled, cause = settle(
            turn,
            message.turn_complete_reason,
            silent=message.waiting_for_input,
            more=working or self._dependents.are_at_work_for(turn.number),
        )
        self._conclude(turn, settled, cause, now)
        if not message.turn_complete and self.current is None:
            self._closer_due = True  # IDLE alone: should its turnComplete come late

    def _nothing_to_say(self, message: ServerMessage, now: float) -> None:
        """Take the model's word that it says nothing until the user has said more."""
        del message
        turn = self._asked
        turn.reason = "NEED_MORE_INPUT"
        self._conclude(turn, Settled.SILENT, "", now)
        self._closer_due = True

    def _old_all_sent(self, message: ServerMessage, now: float) -> None:
        """Hear again: of the turn before nothing but its close is to come."""
        del message, now
        self._superseded = None
        self._closer_due = True

    def _old_closed(self, message: ServerMessage, now: float) -> None:
        """Let go of the turn before."""
        del message, now
        self._superseded = None
        self._closer_due = False

    @property
    def _asked(self) -> Turn:
        assert self.current is not None  # the floor says so
        return self.current

    def _conclude(self, turn: Turn, settled: Settled, cause: str, now: float) -> None:
        """Do what follows from the service's closing of the current turn."""
        if settled is Settled.OPEN:
            if not turn.in_progress:
                turn.call_closed = self._dependents.are_at_work_for(turn.number)
                turn.empty_at_s = None if turn.call_closed else now
            return
        self.current = None
        if settled is Settled.PART:
            self._go_on(turn, now)
            return
        turn.failure = cause
        self._complete(turn, now)

    def _go_on(self, turn: Turn, now: float) -> None:
        """Let what was heard play out; the wait for the rest goes on as a turn of its own."""
        following = Turn(
            self.next_number(),
            utterance=turn.utterance,
            unrepeatable=turn.unrepeatable,
            asked_at_s=now,
            life_s=now,
            frames=True,
            unasked=turn.unasked,
            telling=turn.telling,
            follows=True,
            in_progress=turn.in_progress,
            called=turn.called,
        )
        self.current = following
        if self._calls[0] == turn.number:
            self._calls = (following.number, self._calls[1])
        self._dependents.renumbered(turn.number, following.number)
        self._leave(turn, now)
        self._out.emit(TurnStarted(turn=following.number))
        if following.in_progress:
            self._out.emit(TurnInProgress(turn=following.number))

    def _complete(self, turn: Turn, now: float) -> None:
        self._dependents.answered(turn.number)
        self._leave(turn, now)

    def _leave(self, turn: Turn, now: float) -> None:
        """Let a turn of which the service will say no more play out."""
        self._tell_complete(turn, now)
        turn.server_done_s = now
        turn.tokens = self._dependents.take_tokens()
        if not turn.audible:
            self._over(turn, now)
            return
        self._draining.append(turn)
        if len(self._draining) > MAX_DRAINING:
            self._over(self._draining.pop(0), now)  # its sound goes on; nobody keeps count of it

    def fail(self, turn: Turn, cause: str, now: float) -> None:
        """Give the current turn up: no answer will be taken for it any more."""
        self.current = None
        self._dependents.answered(turn.number)
        self._tell_complete(turn, now)
        turn.failure, turn.stopped = cause, True
        closed = turn.empty_at_s is not None or turn.call_closed
        self._supersede(turn, ignore=turn.content and not closed)
        self._over(turn, now)

    def may_ask_again(self, turn: Turn) -> bool:
        """Note that a question is asked again for an empty turn; false if it was before."""
        before, self._asked_twice = self._asked_twice, turn.number
        return turn.number != before and not turn.called

    def close_empty(self, turn: Turn, now: float) -> None:
        """Close the current turn: what was heard before its last call or result was all."""
        self.current = None
        self._complete(turn, now)

    def may_call(self, number: int) -> bool:
        """Count a function call of a turn; False if it is one too many for one answer."""
        count = self._calls[1] if self._calls[0] == number else 0
        self._calls = (number, count + 1)
        return count < MAX_CALLS_OF_TURN

    def _tell_complete(self, turn: Turn, now: float) -> None:
        if turn.audible and not turn.complete_told:
            turn.complete_told = True
            self._dependents.deliver(ReplyComplete(turn.number), now)

    # ── the speaker's side ──

    def marked(self, mark: PlaybackMark, now: float) -> None:
        """Take word of how far a reply has been heard."""
        for turn in self._open_turns():
            if turn.number == mark.turn:
                turn.heard_ms = max(turn.heard_ms, mark.heard_ms)
                turn.drained = turn.drained or mark.drained
        for turn in [turn for turn in self._draining if turn.drained]:
            self._draining.remove(turn)
            self._over(turn, now)

    # ── connections and time ──

    def connected(self, *, local_activity: bool) -> None:
        """Note that a connection stands, and whether activityStart and activityEnd are ours."""
        self._local_activity = local_activity

    def connection_lost(self, cause: str, now: float) -> None:
        """Settle what the lost connection leaves behind.

        A question that can be asked again keeps its turn if the user has heard nothing of the
        answer; else it gets a new number, and the old reply falls silent when the new one begins.
        """
        self._superseded = None
        self._closer_due = False
        self._calls = (0, 0)
        self._expected_until_s = None
        self.speaking = None
        turn, self.current = self.current, None
        if turn is None:
            return
        if (turn.generation_complete and turn.heard) or turn.cancelled:
            self._complete(turn, now)
        elif not self._dependents.can_repeat(turn.number):
            self._tell_complete(turn, now)
            self._fail(turn, cause, now, lost=True)
        elif turn.reply_bytes:
            self._dependents.renumbered(turn.number, self.next_number())
            self._tell_complete(turn, now)
            self._cut_over = turn
            turn.user_text = turn.model_text = ""  # the repetition will have it whole
            self._over(turn, now, interrupted=True)

    def give_up(self, number: int, utterance: int, cause: str) -> None:
        """Note that a question will not be asked again."""
        if self.current is None or self.current.number != number:
            self._out.emit(TurnFailed(turn=number, utterance=utterance, cause=cause))
        else:
            self.current.unrepeatable = True  # its answer may still come on this connection

    def abandon(self, now: float) -> None:
        """Drop everything (forget): silence, and no turn is open."""
        self.barge_in("forget", now)
        for turn in self._open_turns():
            turn.user_text = turn.model_text = ""
            self._over(turn, now)
        self.speaking = self.current = self._superseded = self._cut_over = None
        self._draining.clear()
        self._closer_due = False
        self._expected_until_s = None

    @property
    def is_telling(self) -> bool:
        """Return whether the answer awaited is to a result that outlived its question."""
        return self.current is not None and self.current.telling

    @property
    def is_open(self) -> bool:
        """Return whether the user speaks, or the service has not closed what it was asked."""
        return self.speaking is not None or self.current is not None

    @property
    def quiet(self) -> bool:
        """Return whether nobody speaks and nothing is awaited."""
        expected = self._expected_until_s is not None
        return not (self.speaking or self.current or self._draining or expected)

    @property
    def awaiting(self) -> Turn | None:
        """Return the turn whose answer is awaited or under way."""
        turn = self.current
        return turn if turn is not None and not turn.generation_complete else None

    def deadline(self) -> float | None:
        """Return when `tick` should be called next, if anything can become overdue."""
        times = [self._overdue_at_s(turn) for turn in self._closing()]
        if self._expected_until_s is not None:
            times.append(self._expected_until_s)
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Close turns whose turnComplete or last sample never came."""
        if self._expected_until_s is not None and self._expected_until_s <= now:
            self._expected_until_s = None
        for turn in self._closing():
            if self._overdue_at_s(turn) > now:
                continue
            if turn is self.current:
                self.current = None
                self._closer_due = True
                turn.drained = True
                turn.failure = UNHEARD[turn.hearing]
                self._complete(turn, now)
            else:
                self._draining.remove(turn)
                turn.drained = True
                self._over(turn, now)

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

    def _cancel(self, turn: Turn, by: str, now: float) -> None:
        turn.cancelled = True
        self._dependents.deliver(ReplyCancelled(turn.number), now)
        self._out.emit(Interrupted(turn=turn.number, by=by, heard_ms=turn.heard_ms))
        self._dependents.answered(turn.number)
        if turn in self._draining:
            self._draining.remove(turn)
            self._over(turn, now)

    def _supersede_current(self, now: float) -> None:
        turn, self.current = self.current, None
        if turn is None:
            return
        unfinished = turn.content and not (turn.generation_complete or turn.call_closed)
        self._supersede(turn, ignore=unfinished)
        if turn.follows:
            self._dependents.answered(turn.number)  # part of it was heard, and then spoken over
        if turn.unrepeatable and not turn.content:
            self._fail(turn, NO_ANSWER, now)
        else:
            turn.cancelled = turn.cancelled or turn.audible
            self._over(turn, now, interrupted=not turn.generation_complete)

    def _supersede(self, turn: Turn, *, ignore: bool) -> None:
        self._superseded = turn if ignore else None
        self._ignore_until_s = math.inf
        closed = turn.empty_at_s is not None or turn.call_closed
        self._closer_due = not (ignore or closed)

    def _fail(self, turn: Turn, cause: str, now: float, *, lost: bool = False) -> None:
        turn.failure = cause
        turn.lost = lost
        self._over(turn, now)

    def _over(self, turn: Turn, now: float, *, interrupted: bool = False) -> None:
        """Close a turn and tell its figures; the only place where turns end."""
        self.count += 1
        self._last_over = turn.number
        if turn.tokens == (0, 0):
            turn.tokens = self._dependents.take_tokens()
        heard_ms = turn.heard_ms
        first_audio_ms = None
        if turn.first_audio_s is not None and turn.spoken_until_s is not None:
            first_audio_ms = max(0.0, turn.first_audio_s - turn.spoken_until_s) * 1000.0
        stopped = interrupted or turn.cancelled
        self.last = LastTurn(
            turn.number,
            turn.speech_ms,
            first_audio_ms,
            turn.reply_ms,
            heard_ms,
            stopped,
            turn.reason,
        )
        if stopped:
            turn.model_text = heard_text(turn.model_text, heard_ms, turn.reply_ms)
        self._dependents.over(turn, now)
        if turn.failure and not stopped:
            self._out.emit(
                TurnFailed(
                    turn=turn.number,
                    utterance=turn.utterance,
                    cause=turn.failure,
                    turn_complete_reason=turn.reason,
                )
            )
        else:
            self._out.emit(
                TurnEnded(
                    turn=turn.number,
                    speech_ms=turn.speech_ms,
                    first_audio_ms=first_audio_ms,
                    reply_ms=turn.reply_ms,
                    heard_ms=heard_ms,
                    interrupted=stopped,
                    turn_complete_reason=turn.reason,
                    prompt_tokens=turn.tokens[0],
                    response_tokens=turn.tokens[1],
                )
            )
