"""A person's yes, which the model cannot give itself (pure).

Some functions destroy what a household wants to keep. The model asks for them like for any other,
and anybody who can be heard by it, or read by it, can make it ask: a television, a web page. So the
first call runs nothing. It is answered with `needs_confirmation`, and then

    armed ──the model asks aloud──► heard ──a person answers, the model calls again──► confirmed
      │                               │ ──the button───────────────────────────────►
      └─────── time, mute, "no", another function, the button in mid-question ──────► lapsed

What counts as the answer comes from this device alone, never from the service:

* an utterance of the device's own voice gate that began after the question had been heard to its
  end at the device's own speaker, and that has ended (not cut by mute, not a click); the model must
  call again in the turn that this utterance asked, with the same arguments;
* or a text typed at the control socket after the first call, likewise;
* or the button, after the question was heard; then the call is run as it was asked for.

So nothing that the service sends, and no repetition of it, is a yes: not a second call, not
a question asked again on another connection (it keeps its place under whatever number), not a turn
that the model begins by itself. What was said before or during the question is none either: the
end of the question that the microphone heard from the speaker would be one.

Whether the words were a yes is the model's judgement, as all understanding is. The answer is the
first thing said: when the model has replied to it without calling, it was a no.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agentd.events import (
    ConfirmationAsked,
    ConfirmationLapsed,
    ConfirmationNeeded,
    Confirmed,
    EndReason,
    UtteranceEnded,
)
from agentd.live.messages import DOWNLINK_BYTES_PER_MS, canonical
from agentd.live.outputs import Outputs

ASK_WITHIN_S = 60.0  # from the call until the question has been heard
ANSWER_WITHIN_S = 30.0  # from then on until the answer begins
CALL_WITHIN_S = 60.0  # from the beginning of the answer until the model calls
LONGEST_S = 120.0  # from the call until the answer begins, however often it asks
ONSET_S = 0.5  # the gate says so much later at most that somebody speaks: `vad.onset_ms`
HEARD_SHARE = 0.9  # of a reply is as good as all: people answer before the last syllable is over

Mode = Literal["voice", "button", "off"]


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is to be asked ("delete this conversation"; empty: nothing), and about what."""

    text: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)  # those that the function knows


Ask = Callable[[str, Mapping[str, Any]], Question]


@dataclass(slots=True)
class Pending:
    """A call that waits for a person."""

    name: str
    question: Question
    turn: int  # in which it was asked for
    armed_s: float
    lapses_s: float
    asked_turn: int | None = None  # the reply in which the model spoke after the call
    heard_s: float | None = None  # when that was over; None while it speaks

    def is_same(self, name: str, question: Question) -> bool:
        """Return whether it is the same function with the same arguments."""
        return (name, canonical(question.args)) == (self.name, canonical(self.question.args))

    @property
    def open_until_s(self) -> float:
        """Return until when an answer may begin."""
        if self.heard_s is None:
            return self.armed_s + ASK_WITHIN_S
        return min(self.heard_s + ANSWER_WITHIN_S, self.armed_s + LONGEST_S)


@dataclass(slots=True)
class Answer:
    """What a person has said after the question."""

    by: str  # voice, control
    utterance: int
    whole: bool


@dataclass(slots=True)
class Reply:
    """The newest reply at the speaker."""

    turn: int
    bytes: int = 0
    complete: bool = False  # no more of it will come
    heard_ms: float = 0.0

    @property
    def is_heard(self) -> bool:
        """Return whether (nearly) all of it was heard."""
        heard_bytes = self.heard_ms * DOWNLINK_BYTES_PER_MS
        return self.complete and heard_bytes >= HEARD_SHARE * self.bytes


class Consent:
    """Holds the one call that waits for a person, and what may count as their answer."""

    def __init__(self, ask: Ask, mode: Mode, out: Outputs, *, press: str = "") -> None:
        self._ask = ask
        self._mode = mode
        self._press = press  # "press the button", or what it takes; empty: there is none
        self._out = out
        self._pending: Pending | None = None
        self._answers: dict[int, Answer] = {}  # by turn
        self._reply: Reply | None = None

    @property
    def waiting(self) -> str:
        """Return the function that waits for a person; empty: none."""
        return "" if self._pending is None else self._pending.name

    def deadline(self) -> float | None:
        """Return when `tick` should be called next, if ever."""
        return None if self._pending is None else self._pending.lapses_s

    def configure(self, mode: Mode, *, press: str = "") -> None:
        """Take another way of confirming; what waits was asked for under the old one."""
        self._press = press
        if mode != self._mode:
            self._mode = mode
            self.lapse("reloaded")

    # ── the model's side ──

    def admit(
        self, name: str, args: Mapping[str, Any], turn: int, now: float
    ) -> Mapping[str, Any] | None:
        """Return None if the call may be run, or what the model is told instead."""
        self.tick(now)
        question = Question() if self._mode == "off" else self._ask(name, args)
        if not question.text:
            return None
        pending = self._pending
        if pending is None:
            return self._arm(name, question, turn, now)
        if pending.is_same(name, question):
            answer = self._answers.pop(turn, None)
            if answer is None or not answer.whole:
                return self._told(STILL_WAITING[self._mode], pending)
            self._confirmed(answer.by)
            return None
        if pending.turn == turn:
            return {"error": ONE_AT_A_TIME}
        self.lapse("replaced")
        return self._arm(name, question, turn, now)

    def _arm(self, name: str, question: Question, turn: int, now: float) -> Mapping[str, Any]:
        self._pending = Pending(name, question, turn, now, now + ASK_WITHIN_S)
        self._answers.clear()
        self._out.emit(ConfirmationNeeded(tool=name, turn=turn))
        or_press = OR_PRESS if self._press and self._mode == "voice" else ""
        return self._told(ASK_THE_USER[self._mode] + or_press, self._pending)

    def _told(self, text: str, pending: Pending) -> Mapping[str, Any]:
        what = pending.question.text
        told = text.format(name=pending.name, question=what, press=self._press)
        return {"needs_confirmation": told}

    def _confirmed(self, by: str) -> Pending:
        pending, self._pending = self._pending, None
        assert pending is not None
        self._answers.clear()
        self._out.emit(Confirmed(tool=pending.name, by=by))
        return pending

    def renumber(self, before: int, after: int) -> None:
        """Follow a question that goes on under another number."""
        if self._pending is not None and self._pending.turn == before:
            self._pending.turn = after
        if before in self._answers:
            self._answers[after] = self._answers.pop(before)

    # ── the speaker's side ──

    def spoke(self, turn: int, size: int) -> None:
        """Note reply audio on its way to the speaker: whoever answers now has not heard it out."""
        if self._reply is None or self._reply.turn != turn:
            self._reply = Reply(turn)
        self._reply.bytes += size
        if self._pending is not None:
            self._pending.asked_turn = turn
            self._pending.heard_s = None

    def spoken_to_the_end(self, turn: int) -> None:
        """Note that all of a reply has come."""
        if self._reply is not None and self._reply.turn == turn:
            self._reply.complete = True

    def played(self, turn: int, heard_ms: float, now: float, *, drained: bool) -> None:
        """Note how far a reply has been heard."""
        reply = self._reply
        if reply is None or reply.turn != turn:
            return
        reply.heard_ms = max(reply.heard_ms, heard_ms)
        if drained:
            self._silent(now)

    def cut(self, turn: int, now: float) -> None:
        """Note that a reply was silenced."""
        if self._reply is not None and self._reply.turn == turn:
            self._silent(now)

    def broke_off(self, turn: int) -> None:
        """Note that the rest of a reply will not come: its end is not the question's."""
        if self._reply is not None and self._reply.turn == turn:
            self._reply = None

    def _silent(self, now: float) -> None:
        reply, self._reply = self._reply, None
        pending = self._pending
        if reply is None or pending is None or pending.asked_turn != reply.turn:
            return
        if not reply.is_heard or now > pending.armed_s + LONGEST_S:
            return
        pending.heard_s = now
        open_until_s = pending.open_until_s
        kept_s = pending.lapses_s if self._answers else open_until_s
        pending.lapses_s = max(open_until_s, kept_s)
        self._out.emit(ConfirmationAsked(tool=pending.name, within_s=open_until_s - now))

    # ── the person's side ──

    def spoken(self, turn: int, utterance: int, onset_s: float, now: float) -> None:
        """Note that an utterance has begun that asks a turn of its own."""
        pending = self._pending
        if pending is None or pending.heard_s is None or self._mode == "button":
            return
        if pending.heard_s - ONSET_S <= onset_s <= pending.open_until_s:
            self._answer(pending, turn, Answer("voice", utterance, whole=False), now)

    def spoken_out(self, ended: UtteranceEnded) -> None:
        """Note that an utterance has ended; only one that ended by itself is an answer."""
        for turn, answer in list(self._answers.items()):
            if answer.by == "voice" and answer.utterance == ended.utterance:
                answer.whole = ended.reason is EndReason.HANGOVER
                if not answer.whole:
                    del self._answers[turn]

    def typed(self, turn: int, now: float) -> None:
        """Note a typed question: who may type may also do it without the model."""
        pending = self._pending
        if pending is None or self._mode == "button":
            return
        if now <= pending.open_until_s:
            self._answer(pending, turn, Answer("control", 0, whole=True), now)

    def _answer(self, pending: Pending, turn: int, answer: Answer, now: float) -> None:
        self._answers[turn] = answer
        pending.lapses_s = max(pending.lapses_s, now + CALL_WITHIN_S)

    def replied(self, turn: int) -> None:
        """Note that the model has replied to a turn to the end: without calling, that was a no."""
        if turn in self._answers:
            self.lapse("declined")

    def stopped(self) -> None:
        """Note that the button has stopped the reply: no to the question, or to its answer."""
        if self._pending is not None and self._pending.heard_s is None:
            self.lapse("stopped")
        self._answers.clear()

    def pressed(self, now: float) -> Pending | None:
        """Take the button for a yes; return the call that is to be run now."""
        self.tick(now)
        pending = self._pending
        if pending is None or pending.heard_s is None or now > pending.open_until_s:
            return None
        return self._confirmed("button")

    # ── the end ──

    def tick(self, now: float) -> None:
        """Give up what nobody has confirmed in time."""
        if self._pending is not None and now >= self._pending.lapses_s:
            self.lapse("timeout")

    def lapse(self, cause: str) -> None:
        """Give up what waits, if anything does."""
        pending, self._pending = self._pending, None
        self._answers.clear()
        if pending is not None:
            self._out.emit(ConfirmationLapsed(tool=pending.name, cause=cause))


ONE_AT_A_TIME = (
    "Nothing was done: another function waits for the user's answer. Ask for one thing at a time."
)
ASK_THE_USER: Mapping[str, str] = {
    "voice": (
        "Nothing was done yet. Ask the user aloud whether they want to {question}, then be silent. "
        "Once they have answered yes, call {name} again with the same arguments, and never before."
    ),
    "button": (
        "Nothing was done yet. Ask the user aloud to {press} on the speaker if they want "
        "to {question}. It is done then. Do not call {name} again for that."
    ),
}
OR_PRESS = " They may also {press} on the speaker; then it is done without another call."
STILL_WAITING: Mapping[str, str] = {
    "voice": (
        "Still nothing was done: the user has not answered since the question was spoken to its "
        "end. Ask once more whether they want to {question}, and wait for their answer."
    ),
    "button": (
        "Still nothing was done: only the button confirms this. Ask the user to {press} on the "
        "speaker if they want to {question}."
    ),
}
