"""`agentd demo`, as a stranger runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from tests.e2e.driver import clean_environment
from tests.e2e.sounds import needs_words

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@needs_words
def test_the_demo_proves_itself_and_leaves_its_two_files(tmp_path: Path) -> None:
    """Exit 0, every utterance whole, the room in stereo, events as JSON, no colour in a pipe."""
    done = subprocess.run(
        [sys.executable, "-m", "agentd", "demo", "--out", str(tmp_path / "out")],
        cwd=ROOT,
        env={**clean_environment(), "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 of 6 utterances arrived whole and once" in done.stdout
    assert "\x1b" not in done.stdout
    assert "Traceback" not in done.stderr
    with wave.open(str(tmp_path / "out" / "room.wav"), "rb") as room:
        assert (room.getnchannels(), room.getframerate()) == (2, 24_000)
        assert room.getnframes() > 24_000 * 30
    lines = (tmp_path / "out" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    names = [json.loads(line)["event"] for line in lines]
    assert {"ready", "utterance", "turn", "go_away", "resumed", "replayed"} <= set(names)
