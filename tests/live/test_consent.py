"""A person's yes: the corners that no conversation reaches easily."""

from __future__ import annotations

from agentd.events import (
    ConfirmationAsked,
    ConfirmationLapsed,
    ConfirmationNeeded,
    Confirmed,
    EndReason,
    Event,
    UtteranceEnded,
)
from agentd.live.commands import Command, Emit
from agentd.live.consent import Consent, Mode, Question
from agentd.live.outputs import Outputs

MS = 48  # bytes of reply


class Asking:
    """A consent for everything, and what it told."""

    def __init__(self, mode: Mode = "voice") -> None:
        self.out = Outputs()
        self.commands: list[Command] = []
        self.consent = Consent(lambda name, args: Question(f"{name} it", args), mode, self.out)

    @property
    def told(self) -> list[Event]:
        """The events so far."""
        self.commands += self.out.take()
        return [command.event for command in self.commands if isinstance(command, Emit)]

    def call(self, turn: int, now: float, name: str = "forget") -> bool:
        """Return whether the model's call is run."""
        return self.consent.admit(name, {}, turn, now) is None

    def reply(self, turn: int, now: float, *, ms: int = 1000, heard_ms: int = 1000) -> None:
        """Let the model speak."""
        self.consent.spoke(turn, ms * MS)
        self.consent.spoken_to_the_end(turn)
        self.consent.played(turn, heard_ms, now, drained=True)

    def answer(self, turn: int, now: float, reason: EndReason = EndReason.HANGOVER) -> None:
        """Let a person speak."""
        self.consent.spoken(turn, turn, now, now + 0.1)
        self.consent.spoken_out(UtteranceEnded(turn, now + 1.0, 900.0, reason))

    def kinds(self) -> list[type[Event]]:
        """What was told, in order."""
        return [type(event) for event in self.told]


def test_it_is_asked_for_answered_and_done() -> None:
    """In this order, and each is told."""
    asking = Asking()
    assert not asking.call(1, 0.0)
    asking.reply(1, 5.0)
    asking.answer(2, 6.0)
    assert asking.call(2, 8.0)
    assert asking.kinds() == [ConfirmationNeeded, ConfirmationAsked, Confirmed]
    assert asking.consent.deadline() is None


def test_what_lies_before_the_question_says_nothing() -> None:
    """A reply that was at the speaker already, marks and ends of others, answers to nothing."""
    asking = Asking()
    asking.consent.spoke(1, 1000 * MS)
    asking.consent.spoken_to_the_end(7)
    asking.answer(2, 0.0)
    asking.consent.typed(2, 0.0)
    asking.consent.renumber(2, 3)
    assert not asking.call(3, 1.0)
    asking.consent.spoken_to_the_end(1)
    asking.consent.played(7, 1000, 2.0, drained=True)
    asking.consent.played(1, 1000, 2.0, drained=True)
    asking.consent.played(1, 1000, 2.0, drained=True)
    asking.consent.cut(1, 2.0)
    asking.consent.broke_off(1)
    asking.answer(4, 3.0)
    assert not asking.call(4, 4.0)
    assert asking.kinds() == [ConfirmationNeeded]


def test_most_of_the_question_must_be_heard() -> None:
    """Nine tenths are as good as all."""
    for heard_ms, counts in ((890, False), (900, True)):
        asking = Asking()
        asking.call(1, 0.0)
        asking.reply(1, 5.0, heard_ms=heard_ms)
        asking.answer(2, 6.0)
        assert asking.call(2, 8.0) is counts


def test_a_reply_that_is_cut_before_all_of_it_has_come_was_not_heard() -> None:
    """What was heard of it may be all that has come so far."""
    asking = Asking()
    asking.call(1, 0.0)
    asking.consent.spoke(1, 1000 * MS)
    asking.consent.played(1, 1000, 2.0, drained=False)
    asking.consent.cut(1, 2.0)
    asking.answer(2, 2.0)
    assert not asking.call(2, 3.0)


def test_the_onset_lies_a_little_before_the_gate_is_sure() -> None:
    """Half a second at most; what began before that was said into the question."""
    for onset_s, counts in ((4.4, False), (4.6, True), (35.0, True), (35.1, False)):
        asking = Asking()
        asking.call(1, 0.0)
        asking.reply(1, 5.0)
        asking.answer(2, onset_s)
        assert asking.call(2, 36.0 if onset_s > 30 and counts else 9.0) is counts


def test_an_answer_late_in_the_time_has_its_own() -> None:
    """Begun in the last second, it may end and be understood after it."""
    asking = Asking()
    asking.call(1, 0.0)
    asking.reply(1, 5.0)
    asking.answer(2, 34.0)
    asking.reply(9, 35.5, ms=100, heard_ms=100)
    asking.consent.tick(80.0)
    assert asking.call(2, 90.0)


def test_the_end_of_another_utterance_is_not_the_answers() -> None:
    """Each has its own."""
    asking = Asking()
    asking.call(1, 0.0)
    asking.reply(1, 5.0)
    asking.consent.spoken(2, 2, 6.0, 6.1)
    asking.consent.spoken_out(UtteranceEnded(1, 6.2, 900.0, EndReason.HANGOVER))
    assert not asking.call(2, 7.0)


def test_a_typed_answer_has_its_time_as_well() -> None:
    """A minute where the question was not heard."""
    for at_s, counts in ((59.0, True), (60.5, False)):
        asking = Asking()
        asking.call(1, 0.0)
        asking.consent.typed(2, at_s)
        assert asking.call(2, 60.6) is counts
    asking = Asking("button")
    asking.call(1, 0.0)
    asking.reply(1, 1.0)
    asking.consent.typed(2, 2.0)
    asking.answer(2, 2.0)
    assert not asking.call(2, 3.0)


def test_the_button_has_its_time_as_well() -> None:
    """As long as an answer may begin, although one that has begun is still waited for."""
    for at_s, counts in ((34.0, True), (36.0, False)):
        asking = Asking()
        asking.call(1, 0.0)
        asking.reply(1, 5.0)
        asking.consent.spoken(2, 2, 30.0, 30.1)
        assert (asking.consent.pressed(at_s) is not None) is counts


def test_after_two_minutes_no_reply_opens_the_question_again() -> None:
    """It had its time; what is under way may end."""
    asking = Asking()
    asking.call(1, 0.0)
    asking.reply(1, 50.0)
    asking.answer(2, 79.0)
    asking.reply(8, 100.0, ms=100, heard_ms=100)
    asking.answer(3, 119.0)
    asking.reply(9, 130.0, ms=100, heard_ms=100)
    asking.answer(4, 131.0)
    assert not asking.call(4, 132.0)
    assert asking.call(3, 133.0)


def test_settings_that_stay_change_nothing() -> None:
    """Only another way of confirming ends what waits."""
    asking = Asking()
    asking.call(1, 0.0)
    asking.consent.configure("voice")
    assert asking.consent.waiting == "forget"
    asking.consent.configure("off")
    assert asking.kinds()[-1] is ConfirmationLapsed
    assert asking.call(1, 1.0)


def test_nothing_waits_nothing_ends() -> None:
    """All ends are quiet where nothing was asked for."""
    asking = Asking()
    asking.consent.lapse("muted")
    asking.consent.stopped()
    asking.consent.replied(1)
    asking.consent.tick(1e9)
    assert asking.consent.pressed(0.0) is None
    assert not asking.told
