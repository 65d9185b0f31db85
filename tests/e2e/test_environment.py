"""The environment never grows once there are threads: libraries read it without a lock."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from live_emulator import Emulator, EmulatorOptions
from rig.sound import SoundRig
from tests.e2e.driver import home, run, speaking
from tests.e2e.sounds import needs_words, word

pytestmark = [pytest.mark.rig, pytest.mark.slow, needs_words]

# Python loads a module of this name before anything else. What it writes is a stray line, which
# `speaking` does not forgive.
WATCHMAN = """\
import os, sys, threading

def watch(event, arguments):
    if event == "os.putenv" and threading.active_count() > 1:
        name = os.fsdecode(arguments[0])
        if name not in os.environ:
            os.write(2, f"the environment grew by {name}\\n".encode())
        os.write(seen, f"{name}\\n".encode())

# Written at once: the daemon leaves without a word to the interpreter.
seen = os.open(os.environ["WATCHMAN"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.addaudithook(watch)
"""


def test_no_variable_is_added_while_threads_run(rig: SoundRig, tmp_path: Path) -> None:
    """Both devices, the neural detector and a whole turn; only values of known names change."""
    watchman = tmp_path / "watchman"
    watchman.mkdir()
    (watchman / "sitecustomize.py").write_text(WATCHMAN, encoding="utf-8")
    changed = watchman / "changed"

    async def main() -> None:
        async with Emulator(EmulatorOptions(reply="tone", tone_s=0.3)) as emulator:
            config = {"vad": {"detector": "cascade"}}
            with home(tmp_path, emulator, config, rig=rig) as house:
                house.environment |= {"PYTHONPATH": str(watchman), "WATCHMAN": str(changed)}
                async with speaking(house) as speaker:
                    await speaker.wait_event("session_fresh")
                    await speaker.hears()
                    await asyncio.to_thread(rig.speak, word("Front_Left"))
                    await speaker.wait_event("turn")

    run(main())
    # The watchman was awake: these two change with every opening.
    assert {"AGENTD_CAPTURE_PCM", "AGENTD_PLAYBACK_PCM"} <= set(changed.read_text().split())
