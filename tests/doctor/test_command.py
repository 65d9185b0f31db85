"""`agentd doctor` as it is typed: one screen, JSON, exit status, loopback, and a running daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentd import events as e
from agentd.demo.room import write_user
from agentd.demo.script import SPEECH_DIRECTORY, SpokenLine
from agentd.doctor import findings as f
from agentd.doctor import live
from agentd.doctor.loopback import Witness, judge
from live_emulator import Emulator, EmulatorOptions
from rig.sound import SoundRig
from tests.e2e.sounds import needs_words

KEY = "AIza-this-key-must-never-be-seen"
ROOT = Path(__file__).parents[2]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a device of its own."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "STATE_DIRECTORY": str(folder / "state"),
        "RUNTIME_DIRECTORY": str(folder),
        "GPIOZERO_PIN_FACTORY": "mock",
        "GEMINI_API_KEY": KEY,
        "PYTHONPATH": str(ROOT),
        **more,
    }


def doctor(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "agentd", "doctor", *arguments],
        env=env,
        cwd=env["HOME"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert KEY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def configure(folder: Path, **tables: dict[str, Any]) -> str:
    lines = []
    for table, keys in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    file = folder / "agentd.toml"
    file.write_text("\n".join(lines))
    return str(file)


@contextlib.asynccontextmanager
async def service() -> AsyncIterator[Emulator]:
    async with Emulator(EmulatorOptions(accept_credentials=frozenset({KEY}))) as emulator:
        yield emulator


def test_a_bad_configuration_ends_with_78(tmp_path: Path) -> None:
    """Every problem is a line; nothing else is looked at."""
    file = configure(tmp_path, vad={"aggressiveness": 9, "hangover_ms": 1})
    done = doctor("--config", file, env=environment(tmp_path))
    assert done.returncode == 78
    lines = done.stdout.splitlines()
    assert sum(line.startswith("fail     configuration") for line in lines) == 2
    assert "vad.aggressiveness = 9" in done.stdout
    as_json = doctor("--json", "--config", file, env=environment(tmp_path))
    assert as_json.returncode == json.loads(as_json.stdout)["exit_status"] == 78


@pytest.mark.rig
def test_a_healthy_device(rig: SoundRig, tmp_path: Path) -> None:
    """Real PCMs, real pins (mock), a real setup: all in one screen, and exit status 0."""

    async def test() -> None:
        async with service() as emulator:
            file = configure(
                tmp_path,
                live={"base_url": emulator.base_url},
                gpio={"button": 5, "status_rgb": [17, 27, 22]},
                vad={"detector": "webrtc"},
            )
            env = environment(tmp_path, **rig.env, **emulator.client_environment())
            env["HOME"] = rig.env["HOME"]
            with rig.echo(gain_db=-20.0):
                done = await asyncio.to_thread(doctor, "--json", "--config", file, env=env)
            document = json.loads(done.stdout)
            found = {finding["check"]: finding for finding in document["findings"]}
            # The rig's room is digitally silent until somebody speaks; everything else is well.
            failed = {name for name, finding in found.items() if finding["result"] == "fail"}
            assert failed == {"level"}, document
            for check in ("configuration", "state", "credential", "microphone", "speaker", "gpio"):
                assert found[check]["result"] == "ok", found[check]
            for check in ("dns", "tls", "session"):
                assert found[check]["result"] == "ok", found[check]
            assert found["echo"]["figures"]["attenuation_db"] == pytest.approx(20.0, abs=4.0)
            await emulator.record.wait_for("closed", 60)

    asyncio.run(asyncio.wait_for(test(), 150))


@needs_words
def test_loopback(tmp_path: Path) -> None:
    """Recorded speech goes through microphone, gate, service and speaker, and is heard again."""
    lines = [SpokenLine(3.0 * number, ("Front_Center",), "") for number in range(4)]
    write_user(tmp_path / "room.wav", SPEECH_DIRECTORY, lines)
    speaker = tmp_path / "speaker.wav"
    file = configure(
        tmp_path,
        audio={
            "capture_device": f"file:{tmp_path}/room.wav",
            "playback_device": f"file:{speaker}",
        },
        vad={"detector": "webrtc"},
    )
    env = environment(tmp_path)
    del env["GEMINI_API_KEY"]  # none is needed
    done = doctor("--loopback", "--config", file, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of speech came back" in done.stdout
    assert "say something" in done.stderr
    assert speaker.stat().st_size > 48_000
    assert any(speaker.read_bytes()[44:])


def test_a_loopback_that_fails_says_why() -> None:
    """Nothing heard, nothing played, a lost device."""

    async def test() -> list[f.Finding]:
        silent, mute, lost = (Witness(lambda _text: None) for _ in range(3))
        mute.on_event(
            e.TurnEnded(
                turn=1,
                speech_ms=900,
                first_audio_ms=300,
                reply_ms=900,
                heard_ms=0,
                interrupted=False,
                prompt_tokens=0,
                response_tokens=0,
            )
        )
        lost.on_event(e.CaptureLost(device="mic", cause="is not there", remedy="Plug it in"))
        await lost.wait()
        return [judge(witness) for witness in (silent, mute, lost)]

    found = asyncio.run(test())
    assert [finding.result for finding in found] == [f.Result.FAIL] * 3
    assert "Speak louder" in found[0].remedy
    assert "nothing was played" in found[1].cause
    assert ("mic lost" in found[2].cause, found[2].remedy) == (True, "Plug it in")


# ── beside a running daemon ───────────────────────────────────────────────────────────────────


@needs_words
def test_a_running_daemon_is_asked_instead(tmp_path: Path) -> None:
    """It holds the devices and the session: its word is taken, and said to be."""

    async def test() -> None:
        async with service() as emulator:
            write_user(
                tmp_path / "room.wav", SPEECH_DIRECTORY, [SpokenLine(0.5, ("Front_Center",), "")]
            )
            file = configure(
                tmp_path,
                live={"base_url": emulator.base_url},
                audio={
                    "capture_device": f"file:{tmp_path}/room.wav",
                    "playback_device": f"file:{tmp_path}/speaker.wav",
                },
                vad={"detector": "webrtc"},
            )
            env = environment(tmp_path, **emulator.client_environment())
            daemon = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "agentd", "run"),
                *("--config", file),
                env=env,
                cwd=ROOT,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                await emulator.record.wait_for("setup", 60)
                await emulator.record.wait_for("turnComplete", 60)
                done = await asyncio.to_thread(doctor, "--config", file, env=env)
                setups = len(emulator.record.select("setup"))
                refused = await asyncio.to_thread(doctor, "--loopback", "--config", file, env=env)
            finally:
                daemon.terminate()
                await daemon.communicate()
            assert "as the running agentd sees it" in done.stdout
            assert "ok       session        connected" in done.stdout
            assert "ok       microphone" in done.stdout
            assert "agentd holds microphone and speaker" in done.stdout
            assert setups == 1
            assert refused.returncode == 1
            assert "agentd holds the devices" in refused.stdout

    asyncio.run(asyncio.wait_for(test(), 150))


STATUS: dict[str, Any] = {
    "muted": False,
    "session": {"connected": True, "connections": 1, "trouble": "", "retry_in_s": None},
    "audio": {
        "capture": {
            "device": "mic",
            "frames": 100,
            "level_dbfs": -40.0,
            "alive": True,
            "lost_frames": 0,
        },
        "playback": {"device": "spk", "alive": True, "underruns": 0},
    },
    "turns": {"count": 3},
}


def status(**capture: Any) -> dict[str, Any]:
    """The status with another microphone."""
    audio = {**STATUS["audio"], "capture": {**STATUS["audio"]["capture"], **capture}}
    return {**STATUS, "audio": audio}


@pytest.mark.parametrize(
    ("samples", "check", "result", "word"),
    [
        ([status(), status(frames=150)], "microphone", f.Result.OK, "mic works"),
        ([status(), status()], "microphone", f.Result.FAIL, "has stopped"),
        ([status(alive=False)], "microphone", f.Result.FAIL, "capture_lost"),
        (
            [status(alive=False, trouble="it has no clock", remedy="Choose another")],
            "microphone",
            f.Result.FAIL,
            "no sound: it has no clock Choose another",
        ),
        (
            [status(trouble="it delivers the same value", remedy="Set the channel")],
            "level",
            f.Result.FAIL,
            "the microphone delivers the same value Set the channel",
        ),
        ([status(offset_percent=-5.04)], "level", f.Result.OK, "offset of -5.0 % is taken out"),
        ([{**STATUS, "muted": True}], "microphone", f.Result.SKIPPED, "muted"),
        ([status(level_dbfs=-120.0)], "level", f.Result.FAIL, "digital silence"),
        ([status()], "level", f.Result.OK, "-40 dBFS"),
        ([status()], "gpio", f.Result.SKIPPED, "drives the pins"),
    ],
)
def test_what_a_status_says(
    samples: list[dict[str, Any]], check: str, result: f.Result, word: str
) -> None:
    """Stopped, lost, muted and silent microphones are told apart."""
    found = {finding.check: finding for finding in live.of_status(samples)}
    assert found[check].result is result
    assert word in f"{found[check].cause} {found[check].remedy}"


def test_what_a_status_says_of_the_speaker_and_the_session() -> None:
    """A speaker that stands still; a session that is refused, is on its way, or rests."""
    silent = {**STATUS["audio"], "playback": {"device": "spk", "alive": False, "underruns": 0}}
    found = {finding.check: finding for finding in live.of_status([{**STATUS, "audio": silent}])}
    assert found["speaker"].result is f.Result.FAIL

    def session(**changes: Any) -> f.Finding | None:
        return live.session_of_status({**STATUS, "session": {**STATUS["session"], **changes}})

    remedy = "Store another key: sudo agentd-set-key"
    refused = session(
        connected=False, trouble="credential refused", remedy=remedy, retry_in_s=200.0
    )
    assert refused is not None
    assert (refused.result, refused.remedy) == (f.Result.FAIL, remedy)
    again = session(connected=False, trouble="connection lost")
    assert again is not None
    assert again.result is f.Result.WARN
    assert "AGENTD_EVENT=disconnected" in again.remedy
    assert session(connected=False) is None
    stands = session()
    assert stands is not None
    assert stands.result is f.Result.OK


# ── findings ──────────────────────────────────────────────────────────────────────────────────


def test_findings_are_lines() -> None:
    """One for what is well, a second one for what to do; a last one counts."""
    found = [f.ok("a", "good"), f.warn("b", "so so", "look"), f.fail("c", "bad", "act")]
    assert f.line(found[0], 4) == "ok       a     good"
    assert f.line(found[2], 4) == "fail     c     bad\n               → act"
    assert f.summary(found) == "1 failed, 1 to know"
    assert f.summary(found[:1]) == "nothing is wrong"
    assert [f.exit_status(found[:2]), f.exit_status(found)] == [0, 1]
    assert f.exit_status([f.fail(f.CONFIGURATION, "x", "y")]) == 78


def test_findings_as_a_document() -> None:
    """What `--json` prints: every finding with its figures, and the status."""
    document = f.document([f.ok("a", "good", level_dbfs=-40.0), f.fail("b", "bad", "act")])
    assert document["exit_status"] == 1
    assert document["findings"] == [
        {
            "check": "a",
            "result": "ok",
            "cause": "good",
            "remedy": "",
            "figures": {"level_dbfs": -40.0},
        },
        {"check": "b", "result": "fail", "cause": "bad", "remedy": "act", "figures": {}},
    ]


def test_findings_hold_no_secrets_and_no_line_breaks() -> None:
    """Whatever a peer or a library says."""
    found = f.fail("x", f"refused:\nkey={KEY}-and-more\x1b[31m", "y")
    assert "\n" not in found.cause
    assert "\x1b" not in found.cause
    assert "this-key" not in found.cause
