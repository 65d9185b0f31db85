"""What people, disks and cables get wrong: the daemon says what and how to mend it, and lives."""

from __future__ import annotations

import asyncio
import signal
import socket
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agentd.cli.describe import describe
from agentd.service.client import SOCKET_NAME, CallFailed
from live_emulator import Emulator, EmulatorOptions
from rig.sound import SoundRig
from tests.e2e.driver import (
    PLAIN,
    Home,
    Speaker,
    clean_environment,
    files,
    home,
    merged,
    run,
    speaking,
)
from tests.e2e.sounds import Room, needs_words, word

pytestmark = pytest.mark.slow

QUICK = EmulatorOptions(latency_s=0.1, reply="tone", tone_s=0.3, connection_limits=False)


@pytest.mark.rig
@needs_words
def test_without_a_microphone_it_runs_and_says_so_until_there_is_one(
    rig: SoundRig, tmp_path: Path
) -> None:
    """Ready and fatal; once the device appears, the next word is answered without a restart."""

    async def main() -> None:
        rig.unplug("mic")
        async with Emulator(QUICK) as emulator:
            with home(tmp_path, emulator, rig=rig) as house:
                async with speaking(house) as speaker:
                    lost = await speaker.wait_event("capture_lost")
                    await speaker.wait_notified("READY=1")
                    status = await speaker.state("fatal")
                    assert status["cause"] == "no_microphone"
                    assert status["audio"]["capture"]["trouble"] == lost["cause"]
                    assert status["audio"]["capture"]["remedy"] == lost["remedy"]
                    assert f"rig_mic: not working: {lost['cause']}" in describe(status)
                    assert "rig_mic" in lost["message"]
                    assert lost["remedy"]
                    rig.plug("mic")
                    back = await speaker.wait_event("capture_back")
                    assert back["outage_s"] > 0
                    await speaker.wait_event("session_fresh")
                    await asyncio.to_thread(rig.speak, word("Front_Center"))
                    await speaker.wait_event("turn", interrupted=False)
            assert len(emulator.utterances) == 1

    run(main())


@pytest.mark.rig
@needs_words
def test_a_speaker_that_is_unplugged_and_replugged_is_told_by_status_and_works_again(
    rig: SoundRig, tmp_path: Path
) -> None:
    """The conversation goes on without it: what is said meanwhile is heard, its reply is not."""

    async def main() -> None:
        async with Emulator(QUICK) as emulator:
            with home(tmp_path, emulator, rig=rig) as house:
                async with speaking(house) as speaker:
                    await speaker.wait_event("playback_back")
                    await speaker.wait_event("session_fresh")
                    await asyncio.to_thread(rig.unplug, "spk")
                    lost = await speaker.wait_event("playback_lost", device="rig_spk")
                    status = await speaker.state("fatal")
                    assert status["cause"] == "no_speaker"
                    assert status["audio"]["playback"]["trouble"]
                    assert lost["remedy"]
                    assert "speaker     rig_spk: not working: rig_spk " in describe(status)
                    await asyncio.to_thread(rig.speak, word("Front_Center"))
                    unheard = await speaker.wait_event("turn")
                    assert unheard["heard_ms"] == 0
                    since = speaker.mark()
                    await asyncio.to_thread(rig.plug, "spk")
                    await speaker.wait_event("playback_back", since=since)
                    status = await speaker.control("status")
                    assert status["audio"]["playback"]["trouble"] == ""
                    since = speaker.mark()
                    await asyncio.to_thread(rig.speak, word("Front_Center"))
                    heard = await speaker.wait_event("turn", since=since)
                    assert heard["heard_ms"] > 0

    run(main())


def _no_device(folder: Path) -> Mapping[str, Any]:
    return {"capture_device": "plughw:CARD=NoSuchCard"}


def _no_file(folder: Path) -> Mapping[str, Any]:
    return {"capture_device": f"file:{folder / 'absent.wav'}"}


def _no_wav(folder: Path) -> Mapping[str, Any]:
    (folder / "text.wav").write_text("this is a text")
    return {"capture_device": f"file:{folder / 'text.wav'}"}


def _compressed_wav(folder: Path) -> Mapping[str, Any]:
    path = folder / "alaw.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    header = bytearray(path.read_bytes())
    header[20:22] = (6).to_bytes(2, "little")  # A-law
    path.write_bytes(header)
    return {"capture_device": f"file:{path}"}


@pytest.mark.parametrize(
    ("wrong", "name", "remedy"),
    [
        (_no_device, "plughw:CARD=NoSuchCard", "agentd devices"),
        (_no_file, "absent.wav", "Name a WAV file"),
        (_no_wav, "text.wav", "Convert it"),
        (_compressed_wav, "alaw.wav", "Convert it"),
    ],
)
def test_a_wrong_microphone_is_named_with_what_to_do(
    wrong: Any, name: str, remedy: str, tmp_path: Path
) -> None:
    """The daemon stays up, connected and commanded; a corrected configuration makes it hear."""

    async def main() -> None:
        room = Room(tmp_path / "mic.wav")
        async with Emulator(QUICK) as emulator:
            good = files(room.path, tmp_path / "spk.wav")
            with home(tmp_path, emulator, merged(good, {"audio": wrong(tmp_path)})) as house:
                async with speaking(house) as speaker:
                    lost = await speaker.wait_event("capture_lost")
                    assert name in lost["message"]
                    assert remedy in lost["message"]
                    await speaker.wait_notified("READY=1")
                    await speaker.state("fatal")
                    await speaker.wait_event("session_fresh")
                    house.configure(good)
                    assert await speaker.control("reload") == {"reloaded": True}
                    await speaker.wait_event("capture_back")
                    await speaker.state("idle")

    run(main())


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (None, "no API key"),
        (b"", "is empty"),
        (b"\xff\xfe\x00nonsense", "is not UTF-8 text"),
        (b"two words of nonsense\n", "does not look like an API key"),
        (b'{"type": "service_account"}', "does not look like an API key"),
    ],
    ids=["absent", "empty", "binary", "prose", "json"],
)
def test_a_bad_credential_is_refused_with_a_remedy_and_mended_by_a_reload(
    key: bytes | None, said: str, tmp_path: Path
) -> None:
    """Nothing is dialled without a usable key; the file is read anew, so a reload suffices."""

    async def main() -> None:
        room = Room(tmp_path / "mic.wav")
        async with Emulator(QUICK) as emulator:
            with home(tmp_path, emulator, files(room.path, tmp_path / "spk.wav")) as house:
                credential = with_credential_file(house, tmp_path, key)
                async with speaking(house) as speaker:
                    refused = await speaker.wait_event("refused")
                    assert said in refused["message"], refused
                    assert (await speaker.state("fatal"))["cause"] == "refused"
                    assert emulator.info()["connections_total"] == 0
                    credential.write_text("a-good-key-0123456789\n")
                    speaker.signal(signal.SIGHUP)
                    await speaker.wait_event("session_fresh")
                    await speaker.state("idle")
                output = "\n".join(speaker.output)
            assert "nonsense" not in output
            assert "a-good-key" not in output

    run(main())


def with_credential_file(house: Home, folder: Path, key: bytes | None) -> Path:
    """Take the key out of the environment and into a credential of the unit; return its path."""
    directory = folder / "credentials"
    directory.mkdir()
    del house.environment["GEMINI_API_KEY"]
    house.environment["CREDENTIALS_DIRECTORY"] = str(directory)
    if key is not None:
        (directory / "gemini-api-key").write_bytes(key)
    return directory / "gemini-api-key"


def test_garbage_on_the_control_socket_changes_nothing(tmp_path: Path) -> None:
    """Each line is refused or its sender dropped; the daemon answers the next one as before."""
    garbage = (
        b"\x00\xff\xfe garbage\n",
        b"not json\n",
        b"[[[[[[[[\n" * 100,
        b'{"jsonrpc": "2.0", "id": 1, "method": "format_disk"}\n',
        b'{"jsonrpc": "2.0", "id": 1, "method": "volume", "params": {"percent": 1e99}}\n',
        b'{"jsonrpc": "2.0", "id": 1, "method": "mute", "params": {"really": true}}\n',
        b"x" * 3_000_000,
    )

    async def main() -> None:
        room = Room(tmp_path / "mic.wav")
        async with Emulator(QUICK) as emulator:
            with home(tmp_path, emulator, files(room.path, tmp_path / "spk.wav")) as house:
                async with speaking(house) as speaker:
                    await speaker.wait_notified("READY=1")
                    await speaker.wait_event("session_fresh")
                    before = await speaker.control("status")
                    for line in garbage:
                        await asyncio.to_thread(throw, house.runtime / SOCKET_NAME, line)
                    after = await speaker.control("status")
                    for name in ("state", "muted", "session", "turns"):
                        keep = {"connected", "connections", "dials"}
                        a, b = (
                            {k: v for k, v in d[name].items() if k in keep}
                            if isinstance(d[name], dict)
                            else d[name]
                            for d in (before, after)
                        )
                        assert a == b
                    assert await speaker.control("volume") == {"percent": 100}

    run(main())


def throw(path: Path, line: bytes) -> None:
    """Send bytes to a socket and read whatever comes back, until it closes or is answered."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        try:
            client.sendall(line)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65_536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass  # thrown out, which is right


def test_a_wrong_configuration_ends_with_78_and_every_mistake(tmp_path: Path) -> None:
    """File, key, value and range on stderr, the first of them for the service manager."""

    async def main() -> None:
        wrong = merged(PLAIN, {"vad": {"aggressiveness": 9}, "live": {"voise": "Kore"}})
        house = Home(tmp_path, wrong, clean_environment())
        speaker = Speaker(house)
        await speaker.start()
        assert await speaker.exit_status() == 78
        house.close()
        text = "\n".join(speaker.output)
        assert f"{house.config_file}: vad.aggressiveness = 9" in text
        assert "voise" in text
        assert "Traceback" not in text
        assert any(line.startswith("STATUS=bad configuration") for line in speaker.notified)
        assert "READY=1" not in speaker.notified

    run(main())


def test_a_reload_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    """A wrong file on SIGHUP keeps the old voice; with a good one the service gets the new."""

    async def main() -> None:
        room = Room(tmp_path / "mic.wav")
        async with Emulator(QUICK) as emulator:
            with home(tmp_path, emulator, files(room.path, tmp_path / "spk.wav")) as house:
                async with speaking(house) as speaker:
                    await speaker.wait_event("session_fresh")
                    house.configure({"live": {"voice": "Puck"}, "vad": {"hangover_ms": 1}})
                    speaker.signal(signal.SIGHUP)
                    refused = await speaker.wait_event("config_error")
                    assert refused["key"] == "vad.hangover_ms"
                    assert refused["file"] == str(house.config_file)
                    with pytest.raises(CallFailed, match="hangover_ms"):
                        await speaker.control("reload")
                    assert voices(emulator) == ["Kore"]
                    seq = emulator.record.last_seq
                    house.configure({"vad": {"hangover_ms": 700}})
                    speaker.signal(signal.SIGHUP)
                    reloaded = await speaker.wait_event("reloaded")
                    assert set(reloaded["changed"].split(", ")) == {"live", "vad"}
                    await emulator.record.wait_for("setup", 60.0, since=seq)
                    assert voices(emulator) == ["Kore", "Puck"]
                    await speaker.until(
                        lambda: speaker.notified.count("READY=1") >= 3, "READY after reloads"
                    )

    run(main())


def voices(emulator: Emulator) -> list[str]:
    """Return the voice of every setup, in order."""
    setups = [(entry.message or {})["setup"] for entry in emulator.record.select("setup")]
    found = [setup["generationConfig"]["speechConfig"]["voiceConfig"] for setup in setups]
    return [str(voice["prebuiltVoiceConfig"]["voiceName"]) for voice in found]
