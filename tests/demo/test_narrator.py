"""What the demo tells, and what it leaves out."""

from __future__ import annotations

from agentd import events as e
from agentd.demo.narrator import Narrator
from agentd.demo.screen import Sheet


class Lines:
    """A screen that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def line(self, at_s: float, mark: str, text: str, style: str = "") -> None:
        self.told.append(f"{mark}: {text}")

    def now(self, state: str, level_dbfs: float) -> None:
        pass

    def table(self, sheet: Sheet) -> None:
        pass

    def close(self) -> None:
        pass


def told(*given: e.Event | e.TranscriptText) -> list[str]:
    """Return the lines of a story."""
    screen = Lines()
    narrator = Narrator(screen, lambda: 1.0)
    for value in given:
        if isinstance(value, e.TranscriptText):
            narrator.on_transcript(value)
        else:
            narrator.on_event(value)
    return screen.told


def resumed(connection: int) -> e.Resumed:
    return e.Resumed(connection=connection, gap_ms=120.0, handle_age_s=1.0, rung="newest")


def ended(cause: str, code: int = 0) -> e.Disconnected:
    return e.Disconnected(
        connection=1, phase="live", cause=cause, close_code=code, reason="", retry_in_s=0.0
    )


def test_a_turn_is_told_with_both_sides_in_one_piece() -> None:
    """Pieces of transcript are joined."""
    turn = e.TurnEnded(
        turn=1, speech_ms=900, first_audio_ms=210, reply_ms=1000, heard_ms=1000,
        interrupted=False, prompt_tokens=1, response_tokens=1,
    )  # fmt: skip
    pieces = [
        e.TranscriptText(1, e.Speaker.USER, "Front "),
        e.TranscriptText(1, e.Speaker.USER, "center"),
        e.TranscriptText(1, e.Speaker.MODEL, "Yes"),
    ]
    assert told(*pieces, turn) == [
        "you: “Front center”",
        "agentd: “Yes”",
        "turn: answered after 210 ms, 1.0 s heard",
    ]


def test_a_resumption_says_that_nothing_was_lost_only_if_that_is_so() -> None:
    """After lost speech it counts it."""
    lost = e.SpeechLost(utterance=1, speech_ms=900, age_s=30, cause="too old")
    assert told(resumed(2)) == ["session: connection 2 resumed in 0.12 s, nothing lost"]
    assert told(lost, resumed(2))[-1] == "session: connection 2 resumed in 0.12 s, 1 lost"


def test_a_planned_switch_is_no_accident() -> None:
    """Leaving after GoAway and losing a connection are told differently."""
    assert told(ended("go away")) == ["session: connection 1 left at a quiet moment"]
    assert told(ended("connection lost", 1006)) == ["cut: connection lost (code 1006)"]
    assert told(ended("DNS")) == ["cut: DNS"]


def test_what_nobody_cares_about_is_not_told() -> None:
    """Debug events stay in the log."""
    assert told(e.HandleStored(handle="0123abcd"), e.TurnStarted(turn=1)) == []
