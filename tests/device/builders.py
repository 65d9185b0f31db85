"""Events, ready-made."""

from __future__ import annotations

from agentd import events as e


def turn_ended(turn: int) -> e.TurnEnded:
    """A turn is over, answered."""
    return e.TurnEnded(
        turn=turn,
        speech_ms=900,
        first_audio_ms=500,
        reply_ms=1000,
        heard_ms=1000,
        interrupted=False,
        prompt_tokens=0,
        response_tokens=0,
    )


READY = e.Ready(version="1", backend="developer", model="m")
STOPPING = e.Stopping(cause="SIGTERM")
CONFIG = e.ConfigRefused(file="f", key="k", problem="p", remedy="r")
RELOADED = e.Reloaded(changed="live.voice", how="resume")
MIC_LOST = e.CaptureLost(device="mic", cause="unplugged", remedy="plug it in")
MIC_BACK = e.CaptureBack(device="mic", outage_s=1)
SPEAKER_LOST = e.PlaybackLost(device="spk", cause="unplugged", remedy="plug it in")
SPEAKER_BACK = e.PlaybackBack(device="spk", outage_s=1)
MUTED = e.Muted(by="button")
UNMUTED = e.Unmuted(by="button")
VOLUME = e.VolumeChanged(percent=40, by="voice")
RINGING = e.Ringing(kind="timer", number=1)
RING_ENDED = e.RingEnded(by="button")
LOST = e.SpeechLost(utterance=1, speech_ms=900, age_s=30, cause="too old")
FORGOTTEN = e.Forgotten(what="all")
RELEASED = e.Released(connection=1, idle_min=10)
REFUSED = e.Refused(cause="API key not valid", remedy="get another")
QUOTA = e.QuotaExhausted(close_code=1011, retry_in_s=60)
LINK_UP = e.LinkChanged(interface="wlan0", online=True)
LINK_DOWN = e.LinkChanged(interface="", online=False)
ASKED = e.ConfirmationAsked(tool="forget_conversation", within_s=30.0)
CONFIRMED = e.Confirmed(tool="forget_conversation", by="voice")
LAPSED = e.ConfirmationLapsed(tool="forget_conversation", cause="timeout")
TOOL_STARTED = e.ToolStarted(tool="timer", turn=1)
TOOL = e.ToolCalled(tool="timer", outcome="answered", took_ms=5)


def opened(utterance: int = 1, *, replay: bool = False) -> e.UplinkOpened:
    """Audio begins to leave."""
    return e.UplinkOpened(utterance=utterance, replay=replay)


def closed(utterance: int = 1) -> e.UplinkClosed:
    """Audio has left."""
    return e.UplinkClosed(utterance=utterance)


def started(turn: int = 1) -> e.TurnStarted:
    """A turn waits for its reply."""
    return e.TurnStarted(turn=turn)


def reply(turn: int = 1) -> e.ReplyStarted:
    """A reply is heard."""
    return e.ReplyStarted(turn=turn)


def drained(turn: int = 1, heard_ms: float = 900) -> e.ReplyDrained:
    """A reply has been heard."""
    return e.ReplyDrained(turn=turn, heard_ms=heard_ms)


def failed(turn: int = 1) -> e.TurnFailed:
    """A turn failed."""
    return e.TurnFailed(turn=turn, cause="no answer")


def interrupted(turn: int = 1) -> e.Interrupted:
    """A reply was stopped."""
    return e.Interrupted(turn=turn, by="local", heard_ms=100)


def connecting(connection: int = 1) -> e.Connecting:
    """A dial begins."""
    return e.Connecting(connection=connection, rung="newest")


def fresh(connection: int = 1) -> e.SessionFresh:
    """A first session."""
    return e.SessionFresh(connection=connection, cause="first", restored_turns=0, gap_ms=0)


def resumed(connection: int = 2) -> e.Resumed:
    """A resumed session."""
    return e.Resumed(connection=connection, gap_ms=300, handle_age_s=60, rung="newest")


def disconnected(connection: int = 1) -> e.Disconnected:
    """A connection or dial ended."""
    return e.Disconnected(
        connection=connection,
        phase="live",
        cause="network",
        close_code=1006,
        reason="",
        retry_in_s=1,
    )
