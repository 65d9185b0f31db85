"""`agentd status`: the document, and what a person reads of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agentd import status
from agentd.audio.capture import CaptureStats
from agentd.audio.echo.canceller import EchoStats, Known
from agentd.audio.echo.policy import EchoStatus
from agentd.audio.playback import PlaybackStats
from agentd.cli.describe import describe
from agentd.device.state import Derived, DeviceState
from agentd.events import LinkChanged, Muted, TurnEnded, TurnFailed
from agentd.live.session import SessionStatus
from agentd.network import NetworkLog
from agentd.sound import audio_status
from agentd.stage import rounded
from agentd.status import TurnLog

TURN = TurnEnded(
    turn=3, speech_ms=900, first_audio_ms=210, reply_ms=1000, heard_ms=400,
    interrupted=True, prompt_tokens=7, response_tokens=9,
)  # fmt: skip
CAPTURE = CaptureStats(
    device="plughw:CARD=mic", frames=500, overruns=0, lost_frames=2, level_dbfs=-41.26, alive=True,
    wedged=0,
)  # fmt: skip
PLAYBACK = PlaybackStats(
    device="default", underruns=1, ran_dry=2, buffered_ms=80.0, cushion_ms=80.0,
    playing_turn=None, alive=True, late_bytes=0, wedged=0,
)  # fmt: skip
SESSION = SessionStatus(
    state="live", connected=True, connections=19, dials=20, resumes=18, fresh_sessions=1,
    last_resume_ms=612.34, handle_age_s=75.0, go_away_in_s=42.0, connected_for_s=480.0,
    retry_in_s=None, tokens={"prompt": 700, "response": 90, "prompt_text": 0}, turns=3,
    last_turn=None, bad_frames=0, late_pieces=0, speech_lost=0, replayed=1, trouble="",
)  # fmt: skip


ECHO = EchoStatus("canceller", "WebRTC AEC3 is installed", None)


def document(
    *,
    muted: bool = False,
    echo: EchoStatus | None = None,
    capture: CaptureStats = CAPTURE,
    playback: PlaybackStats = PLAYBACK,
    attention: dict[str, object] | None = None,
) -> dict[str, object]:
    """Return the status of a device in the middle of its day."""
    path = NetworkLog().after(LinkChanged(interface="wlan0", online=True))
    parts = {
        "session": rounded(SESSION),
        "audio": audio_status(capture, playback, echo or ECHO),
        "network": rounded(path),
        "turns": TurnLog().after(TURN).as_json(),
        "volume": {"percent": 40},
        "attention": attention or {"mode": "open", "stance": "open"},
    }
    state = Derived(DeviceState.IDLE, "idle", None)
    return status.document(parts, state=state, muted=muted, uptime_s=11_520.04)


def test_the_document_has_every_field_that_scripts_rely_on() -> None:
    """The names of docs/operator/service.md, as plain JSON."""
    found = json.loads(json.dumps(document()))
    assert (found["state"], found["muted"], found["uptime_s"]) == ("idle", False, 11520.0)
    assert found["audio"]["capture"]["level_dbfs"] == -41.3
    assert {"device", "frames", "overruns"} <= set(found["audio"]["capture"])
    assert {"device", "underruns", "ran_dry", "buffered_ms"} <= set(found["audio"]["playback"])
    assert found["network"] == {"interface": "wlan0", "online": True, "changes": 1}
    assert found["session"]["last_resume_ms"] == 612.3
    assert {"connected", "connections", "resumes", "handle_age_s", "go_away_in_s", "tokens"} <= set(
        found["session"]
    )
    assert found["turns"]["count"] == 1
    assert found["volume"] == {"percent": 40}
    assert found["turns"]["last"]["first_audio_ms"] == 210


def test_the_model_knows_little_of_it() -> None:
    """No names, no causes, no figures of the conversation."""
    assert status.brief(document(muted=True)) == {
        "state": "idle",
        "muted": True,
        "volume_percent": 40,
        "network": "wlan0",
        "uptime_s": 11520,
    }


def test_turns_that_failed_are_counted_and_the_last_is_shown() -> None:
    """With its cause and the service's own word for it, to scripts and to people."""
    failed = TurnFailed(turn=4, cause="the service refuses", turn_complete_reason="BLOCKLIST")
    log = TurnLog().after(TURN).after(failed).as_json()
    assert (log["count"], log["failed"]) == (1, 1)
    assert log["last_failed"] == {
        "turn": 4,
        "utterance": 0,
        "cause": "the service refuses",
        "turn_complete_reason": "BLOCKLIST",
    }
    text = describe({**document(), "turns": log})
    assert "1, 1 interrupted, 1 failed (the last: the service refuses)" in text


def test_who_is_attended_to_is_shown_where_not_everybody_is() -> None:
    """The words, how often they were heard, and until when none is needed."""
    known: dict[str, object] = {
        "mode": "wake-word",
        "stance": "follow_up",
        "reason": "answered",
        "until_in_s": 5.2,
        "words": {"okay_nabu": 0.85},
        "heard": 3,
        "last": {"word": "okay_nabu", "score": 0.97},
        "near_misses": [0, 0, 0, 2, 0, 0, 1, 0, 0, 0],
    }
    shown = "follow up (answered), 5 s more; okay_nabu; heard 3 times, nearly 3 times"
    assert f"attention   {shown}" in describe(document(attention=known))
    asleep = {**known, "stance": "asleep", "reason": "wake-word", "until_in_s": None, "words": {}}
    assert "attention   asleep (wake-word); no word" in describe(document(attention=asleep))
    assert "attention" not in describe(document())


def test_a_person_reads_one_line_per_part() -> None:
    """Every part in a few words; what is zero is left out."""
    text = describe(document())
    assert "echo        canceller (WebRTC AEC3 is installed)" in text
    assert "plughw:CARD=mic: -41 dBFS, 2 frames lost" in text
    assert "19 connections, 18 resumed, last in 0.61 s, handle 1 min old, ends in 42 s" in text
    assert "prompt 700, response 90" in text
    assert "prompt_text" not in text
    assert "1, 1 interrupted; last answered after 210 ms" in text


def test_what_waits_for_a_person_is_shown() -> None:
    """By the name of the function, while it does."""
    shown = document()
    assert "waits for a yes" not in describe(shown)
    session = {**shown["session"], "confirming": "forget_conversation"}  # type: ignore[dict-item]
    assert "forget_conversation waits for a yes" in describe({**shown, "session": session})


def test_the_canceller_tells_how_well_it_does() -> None:
    """Once it has heard a reply: still learning, or by how much it lowers the echo."""
    stats = EchoStats(300, False, Known.NOTHING, 11.0, -50.0, 0, 0, 0, 0, 60.0)
    learning = EchoStatus("canceller", "WebRTC AEC3 is installed", stats)
    assert "echo        canceller, learning" in describe(document(echo=learning))
    knowing = replace(stats, is_settled=True, known=Known.CANCELLED, erle_db=31.4)
    shown = document(echo=replace(learning, canceller=knowing))
    assert "echo        canceller, takes away 31 dB" in describe(shown)
    assert json.loads(json.dumps(shown))["audio"]["echo"]["canceller"]["lead_ms"] == 60.0


@pytest.mark.parametrize("known", list(Known))
def test_whatever_is_known_of_the_room_is_shown(known: Known) -> None:
    """Each way in which a canceller settles has its words."""
    stats = EchoStats(300, known is not Known.NOTHING, known, 3.0, -50.0, 0, 0, 0, 0, 60.0)
    text = describe(document(echo=EchoStatus("canceller", "WebRTC AEC3 is installed", stats)))
    assert "echo        canceller, " in text


def test_a_closed_microphone_shows_no_level() -> None:
    """Muted is closed, and said so."""
    assert "plughw:CARD=mic: closed (muted)" in describe(document(muted=True))


def test_a_device_that_does_not_work_says_why_and_what_to_do() -> None:
    """Both of them, whatever the state on top of the ladder is; scripts get it in fields."""
    shown = document(
        capture=replace(CAPTURE, alive=False, trouble="mic has ended", remedy="Check its cable"),
        playback=replace(PLAYBACK, alive=False, trouble="usb is not there", remedy="Plug it in"),
    )
    text = describe(shown)
    assert "state       idle; no microphone, no speaker; session" in text
    assert "microphone  plughw:CARD=mic: not working: mic has ended. Check its cable" in text
    assert "speaker     default: not working: usb is not there. Plug it in" in text
    playback = json.loads(json.dumps(shown))["audio"]["playback"]
    assert (playback["trouble"], playback["remedy"]) == ("usb is not there", "Plug it in")


def test_a_device_that_is_opening_or_closed_in_silence_is_no_trouble() -> None:
    """At the start, and without `keep_alive`."""
    text = describe(
        document(capture=replace(CAPTURE, alive=False), playback=replace(PLAYBACK, alive=False))
    )
    assert "plughw:CARD=mic: opening" in text
    assert "default: 1 underrun, ran dry 2 times" in text


def test_other_events_change_no_counter() -> None:
    """Only turns count as turns, only links as links."""
    event = Muted(by="button")
    assert TurnLog().after(event) == TurnLog()
    assert NetworkLog().after(event) == NetworkLog()
