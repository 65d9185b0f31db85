"""Which sound when."""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from dataclasses import replace
from datetime import datetime, time
from pathlib import Path

import pytest

from agentd import events as e
from agentd.config.settings import Sounds
from agentd.device import earcons as s
from agentd.device.state import Derived, DeviceState, Facts, derive
from tests.device.builders import (
    CONFIG,
    LINK_DOWN,
    LOST,
    MIC_BACK,
    MIC_LOST,
    MUTED,
    QUOTA,
    READY,
    REFUSED,
    SPEAKER_LOST,
    STOPPING,
    UNMUTED,
    VOLUME,
    disconnected,
    failed,
    fresh,
    opened,
    reply,
)

NOW = 1_000.0
ROOT = Path(__file__).parents[2]


def heard(reason: e.EndReason = e.EndReason.HANGOVER) -> e.UtteranceHeard:
    """Somebody has spoken."""
    return e.UtteranceHeard(utterance=1, speech_ms=800, reason=reason)


def pressed(action: str) -> e.ButtonUsed:
    """The button was used."""
    return e.ButtonUsed(gesture="tap", action=action)


def sounds(*happened: e.Event, pause_s: float = 0.0) -> tuple[str, ...]:
    """Return the sounds of the last event on a device that is up."""
    facts = Facts()
    for event in (READY, MIC_BACK, fresh(), *happened[:-1]):
        facts = facts.after(event, NOW)
    now = NOW + pause_s
    before = derive(facts, now)
    facts = facts.after(happened[-1], now)
    return s.choose(s.Moment(happened[-1], before, derive(facts, now), facts))


@pytest.mark.parametrize(
    ("happened", "expected"),
    [
        ([MUTED], ("mute",)),
        ([MUTED, UNMUTED], ("unmute",)),
        ([VOLUME], ("tick",)),
        ([failed()], ("error",)),
        ([LOST], ("error", "speech_lost")),
        ([CONFIG], ("error",)),
        ([MIC_LOST], ("error", "no_microphone")),
        ([REFUSED], ("error", "refused")),
        ([SPEAKER_LOST], ("error",)),
        ([MIC_LOST, MIC_LOST], ()),
        ([MIC_LOST, REFUSED], ()),
        ([REFUSED, MIC_LOST], ("error", "no_microphone")),
        ([reply()], ()),
        ([heard()], ()),
        ([pressed("talk")], ("listening",)),
        ([pressed("say_muted")], ("muted",)),
        ([MUTED, pressed("tell")], ("muted",)),
        ([pressed("tell")], ("ready",)),
        ([REFUSED, pressed("tell")], ("refused",)),
        ([REFUSED, pressed("talk")], ("refused",)),
        ([pressed("stop_reply")], ()),
        ([REFUSED, failed()], ()),
        ([REFUSED, heard()], ("refused",)),
    ],
)
def test_moment(happened: list[e.Event], expected: tuple[str, ...]) -> None:
    """Each event has its sounds."""
    assert sounds(*happened) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([disconnected()], "reconnecting"),
        ([QUOTA, disconnected()], "quota"),
        ([LINK_DOWN, disconnected()], "no_network"),
    ],
)
def test_offline_is_told_when_spoken_to(events: list[e.Event], expected: str) -> None:
    """Going offline is silent; speaking to an offline device is answered with the cause."""
    assert sounds(*events, pause_s=5) == ()
    assert sounds(*events, heard(), pause_s=5) == (expected,)
    assert sounds(*events, heard(e.EndReason.DISCARDED), pause_s=5) == ()
    assert sounds(*events, failed(), pause_s=5) == ()


@pytest.mark.parametrize(
    ("cause", "clip"),
    [
        ("clock not set", "clock"),
        ("overloaded", "busy"),
        ("dns", "no_network"),
        ("proxy unreachable", "proxy"),
        ("something new", "reconnecting"),
    ],
)
def test_what_is_behind_it_is_said(cause: str, clip: str) -> None:
    """Not just that the service cannot be reached; once connected, that is over."""
    ended = replace(disconnected(), cause=cause, remedy="Do something")
    assert sounds(ended, pressed("tell"), pause_s=5) == (clip,)
    assert sounds(ended, heard(), pause_s=5) == (clip,)
    assert sounds(ended, fresh(), pressed("tell"), pause_s=5) == ("ready",)
    ours = replace(disconnected(), cause=cause)
    assert sounds(ours, pressed("tell"), pause_s=5) == ("reconnecting",)


@pytest.mark.parametrize(
    ("cause", "clip"),
    [
        ("credential", "no_key"),
        ("credential refused", "refused"),
        ("model refused", "settings"),
        ("proxy setting", "proxy"),
        ("certificate", "blocked"),
    ],
)
def test_who_turns_the_device_away_is_said(cause: str, clip: str) -> None:
    """A wrong proxy is not the key's fault."""
    refused = e.Refused(cause=cause, remedy="Do something")
    assert sounds(refused) == ("error", clip)
    assert sounds(refused, pressed("tell")) == (clip,)


def test_ready() -> None:
    """The ready tone comes once at the start, unless something is wrong or the device is muted."""
    assert sounds_at_start() == ("ready",)
    assert sounds_at_start(MIC_LOST) == ()
    assert sounds_at_start(MUTED) == ()


def sounds_at_start(*happened: e.Event) -> tuple[str, ...]:
    """Return the sounds of `Ready` after these events."""
    facts = Facts()
    for event in happened:
        facts = facts.after(event, NOW)
    before, facts = derive(facts, NOW), facts.after(READY, NOW)
    return s.choose(s.Moment(READY, before, derive(facts, NOW), facts))


def test_mute_at_boot_is_silent() -> None:
    """A mute that is restored at boot is shown, not sounded; so is a refused start."""
    for event in (MUTED, CONFIG):
        facts = Facts().after(event, NOW)
        moment = s.Moment(event, derive(facts, NOW), derive(facts, NOW), facts)
        assert s.choose(moment) == ()


@pytest.mark.parametrize("event", [MUTED, VOLUME, LOST, MIC_LOST, heard(), pressed("tell")])
def test_nothing_while_audio_leaves(event: e.Event) -> None:
    """An open uplink would carry our own sound away: nothing is played."""
    assert sounds(opened(), event) == ()


def test_nothing_while_stopping() -> None:
    """Going down is silent."""
    assert sounds(STOPPING, MUTED) == ()


def test_limiter() -> None:
    """The same earcon rests half a second, the same words 20 seconds, others are free."""
    limiter, names = s.Limiter().admit(("error", "quota"), 0.0)
    assert names == ("error", "quota")
    limiter, names = limiter.admit(("error", "quota", "tick"), 0.4)
    assert names == ("tick",)
    limiter, names = limiter.admit(("error", "quota"), 19.9)
    assert names == ("error",)
    assert limiter.admit(("quota",), 20.0)[1] == ("quota",)


@pytest.mark.parametrize(
    ("hours", "at", "expected"),
    [
        (None, "03:00", False),
        ("22:00-07:00", "21:59", False),
        ("22:00-07:00", "22:00", True),
        ("22:00-07:00", "06:59", True),
        ("22:00-07:00", "07:00", False),
        ("13:00-15:00", "14:00", True),
        ("13:00-15:00", "15:00", False),
    ],
)
def test_quiet_hours(hours: str | None, at: str, expected: bool) -> None:
    """Quiet hours may span midnight; their end is no longer quiet."""
    assert s.is_quiet(hours, time.fromisoformat(at)) is expected


def test_alarms_are_always_allowed() -> None:
    """Quiet hours and switched-off sounds silence everything but alarms and timers."""
    night = datetime(2027, 3, 1, 3, 0)  # noqa: DTZ001 - the local clock of the device
    for settings in (Sounds(enabled=False), Sounds(quiet_hours="22:00-07:00")):
        assert [n for n in (*s.EARCONS, *s.SPOKEN) if s.allowed(settings, n, night)] == [
            *("timer", "alarm")
        ]
    assert s.allowed(Sounds(), "error", night)


def test_every_cause_has_words() -> None:
    """Every lasting trouble that can be heard has a clip in every language that is shipped."""
    causes = {"no_network", "reconnecting", "quota", "refused", "no_microphone"}
    assert causes <= set(s.SPOKEN)
    for language in ("en", "id"):
        files = {path.stem for path in (s.OWN_CLIPS / language).glob("*.wav")}
        assert files == set(s.SPOKEN)
    assert {path.stem for path in s.OWN_CLIPS.glob("*.wav")} == set(s.EARCONS)


def test_shipped_sounds_are_small_and_whole() -> None:
    """All shipped clips together stay small; each is audible, without a click at its ends."""
    files = list(s.OWN_CLIPS.rglob("*.wav"))
    assert sum(path.stat().st_size for path in files) < 1_000_000
    for path in files:
        with wave.open(str(path)) as clip:
            assert (clip.getnchannels(), clip.getsampwidth()) == (1, 2)
            pcm = clip.readframes(clip.getnframes())
        values = [int.from_bytes(pcm[i : i + 2], "little", signed=True) for i in (0, -2 % len(pcm))]
        assert all(abs(value) < 1_000 for value in values), path.name
        assert max(pcm[1::2]) > 0x20


def test_tones_come_out_the_same(tmp_path: Path) -> None:
    """The shipped tones are what the script makes, byte for byte."""
    script = ROOT / "scripts" / "make_sounds.py"
    command = [sys.executable, str(script), "--tones", "--into", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    for name in s.EARCONS:
        made = (tmp_path / f"{name}.wav").read_bytes()
        assert made == (s.OWN_CLIPS / f"{name}.wav").read_bytes()


# ── clips ─────────────────────────────────────────────────────────────────────────────────────


def write(path: Path, rate_hz: int, seconds: float) -> None:
    """Write a WAV file at half of full scale."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as clip:
        clip.setparams((1, 2, rate_hz, 0, "NONE", ""))
        clip.writeframes(b"\x00\x40" * round(rate_hz * seconds))


def test_clip_is_24_khz() -> None:
    """Tones are taken as they are, words are converted; both last as long as their files."""
    library = s.ClipLibrary(Sounds(volume_percent=100))
    assert len(library.clip("listening")) == 2 * 24 * 160
    assert 1.0 < len(library.clip("muted")) / 48_000 < 1.6


def test_language_falls_back_to_english() -> None:
    """Without words in the household's language they come in English."""
    english = s.ClipLibrary(Sounds()).clip("muted")
    assert s.ClipLibrary(Sounds(language="fr")).clip("muted") == english
    assert s.ClipLibrary(Sounds(language="id")).clip("muted") != english


def test_dropped_in_clips_come_first(tmp_path: Path) -> None:
    """A file of the household's own replaces ours, also in a language that we do not have."""
    write(tmp_path / "error.wav", 24_000, 0.1)
    write(tmp_path / "fr" / "muted.wav", 8_000, 0.5)
    library = s.ClipLibrary(
        Sounds(language="fr", volume_percent=100), folders=(tmp_path, s.OWN_CLIPS)
    )
    assert len(library.clip("error")) == 4_800
    assert len(library.clip("muted")) == pytest.approx(24_000, abs=200)
    assert len(library.clip("ready")) > 4_800


def test_dropped_in_nonsense(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is no sound is left out with a word about what to do; ours is played."""
    (tmp_path / "error.wav").write_bytes(b"not a sound")
    library = s.ClipLibrary(Sounds(), folders=(tmp_path, s.OWN_CLIPS))
    assert library.clip("error") == s.ClipLibrary(Sounds()).clip("error")
    assert "error.wav" in caplog.text
    assert "sox" in caplog.text


def test_a_pipe_dropped_in_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Opening it would wait for a writer; ours is played."""
    os.mkfifo(tmp_path / "mute.wav")
    library = s.ClipLibrary(Sounds(), (tmp_path, s.OWN_CLIPS))
    assert library.clip("mute") == s.ClipLibrary(Sounds(), (s.OWN_CLIPS,)).clip("mute")
    assert "is a pipe, not a file" in caplog.text


def test_endless_clip_is_cut(tmp_path: Path) -> None:
    """Somebody's two-hour song ends after half a minute."""
    write(tmp_path / "error.wav", 24_000, s.LONGEST_S + 5)
    library = s.ClipLibrary(Sounds(), folders=(tmp_path,))
    assert len(library.clip("error")) == s.LONGEST_S * 48_000


def test_missing_clip_is_silence(tmp_path: Path) -> None:
    """Without a file there is no sound and no fault."""
    assert s.ClipLibrary(Sounds(), folders=(tmp_path,)).clip("error") == b""


def test_volume_of_sounds() -> None:
    """The sounds' own volume makes them quieter; alarms keep theirs."""

    def peak(name: str, percent: int) -> int:
        pcm = s.ClipLibrary(Sounds(volume_percent=percent)).clip(name)
        return max(
            int.from_bytes(pcm[i : i + 2], "little", signed=True) for i in (range(0, len(pcm), 2))
        )

    assert peak("error", 50) < peak("error", 100) / 6
    assert peak("alarm", 10) == peak("alarm", 100)


def test_moment_is_decided_by_what_shows() -> None:
    """The chooser reads the derived state alone: the same moment has the same sounds."""
    derived = Derived(DeviceState.OFFLINE, "quota", None)
    moment = s.Moment(heard(), derived, derived, Facts())
    assert s.choose(moment) == ("quota",)
    unknown = replace(moment, after=Derived(DeviceState.FATAL, "no_speaker", None), before=derived)
    assert s.choose(replace(unknown, before=unknown.after)) == ()
