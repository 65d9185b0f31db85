"""Turns events and transcripts into the lines of the demo."""

from __future__ import annotations

from collections.abc import Callable

from agentd import events as e
from agentd.demo.screen import Screen
from agentd.service.statustext import was_answered
from agentd.text import counted


class Narrator:
    """Tells what happens, in the order in which it happens, in a few words."""

    def __init__(self, screen: Screen, now_s: Callable[[], float]) -> None:
        self._screen = screen
        self._now_s = now_s
        self.state = "starting"
        self.turns: list[e.TurnEnded] = []
        self.losses: list[e.SpeechLost] = []
        self.connections = 0
        self.resumes: list[e.Resumed] = []
        self._said: dict[tuple[int, e.Speaker], str] = {}

    def on_transcript(self, value: e.TranscriptText) -> None:
        """Collect what was said; it is told once it is complete."""
        key = (value.turn, value.speaker)
        self._said[key] = self._said.get(key, "") + value.text

    def on_event(self, event: e.Event) -> None:
        """Tell `event`, if people care about it."""
        match event:
            case e.StateChanged(after=after):
                self.state = after
            case e.CaptureLost() | e.PlaybackLost() | e.Refused():
                self._tell("trouble", event.message(), "red")
            case e.UtteranceHeard(speech_ms=speech_ms):
                self._tell("you", f"({speech_ms / 1000:.1f} s of speech)", "bold")
            case e.TurnEnded():
                self.turns.append(event)
                self._tell_turn(event)
            case e.Interrupted(by=by, heard_ms=heard_ms):
                self._tell("stop", f"reply stopped by {by} after {heard_ms / 1000:.1f} s", "yellow")
            case e.SpeechLost():
                self.losses.append(event)
                self._tell("lost", event.message(), "bold red")
            case _:
                self._on_connection(event)

    def _on_connection(self, event: e.Event) -> None:
        match event:
            case e.SessionFresh(connection=connection):
                self.connections = connection
                self._tell("session", f"connection {connection}: a new conversation", "green")
            case e.GoAway(time_left_s=left_s):
                self._tell(
                    "GoAway", f"the service ends this connection in {left_s:.0f} s", "yellow"
                )
            case e.Disconnected(connection=connection, cause="go away"):
                self._tell("session", f"connection {connection} left at a quiet moment", "green")
            case e.Disconnected(cause=cause, close_code=code):
                self._tell("cut", f"{cause} (code {code})" if code else cause, "red")
            case e.Resumed(connection=connection, gap_ms=gap_ms):
                self.connections = connection
                self.resumes.append(event)
                lost = f"{len(self.losses)} lost" if self.losses else "nothing lost"
                text = f"connection {connection} resumed in {gap_ms / 1000:.2f} s, {lost}"
                self._tell("session", text, "green")
            case e.Replayed(utterances=count, audio_ms=audio_ms):
                what, verb = counted(count, "utterance"), "is" if count == 1 else "are"
                text = f"{what} kept meanwhile ({audio_ms / 1000:.1f} s so far) {verb} sent now"
                self._tell("replay", text, "green")
            case _:
                pass

    def _tell_turn(self, turn: e.TurnEnded) -> None:
        said = self._said.pop((turn.turn, e.Speaker.USER), "").strip()
        reply = self._said.pop((turn.turn, e.Speaker.MODEL), "").strip()
        if said:
            self._tell("you", f"“{said}”", "bold")
        if reply:
            self._tell("agentd", f"“{reply}”", "cyan")
        if was_answered(turn.first_audio_ms):
            text = f"answered after {turn.first_audio_ms:.0f} ms"
            if was_answered(turn.heard_ms):
                text += f", {turn.heard_ms / 1000:.1f} s heard"
        elif turn.reply_ms > 0:
            text = f"{turn.heard_ms / 1000:.1f} s heard"  # nobody had asked
        else:
            text = "not answered"
        self._tell("turn", text, "grey50")

    def _tell(self, mark: str, text: str, style: str) -> None:
        self._screen.line(max(0.0, self._now_s()), mark, text, style)
