"""What was said, the key and the handles are nowhere but where they must be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from live_emulator import Emulator, EmulatorOptions
from tests.e2e.driver import API_KEY, files, home, run, speaking
from tests.e2e.sounds import Room, needs_words
from tests.e2e.test_life import handles_issued

pytestmark = [pytest.mark.slow, needs_words]

HEARD = "my marmalade password is zanzibar"
TYPED = "remember the xylophone under the staircase"
CONTEXT = "the neighbour is called Quillfeather"
INSTRUCTION = "Answer as Grandmother Wobblethorpe would."
SECRET_WORDS = ("marmalade", "zanzibar", "xylophone", "staircase", "Quillfeather", "Wobblethorpe")


def test_no_word_key_or_handle_is_in_any_log_or_status(tmp_path: Path) -> None:
    """At level debug, over a break and a restart; the documents on disk are their owner's alone."""

    async def main() -> None:
        room = Room(tmp_path / "mic.wav", (0.2, ("Front_Center",)))
        options = EmulatorOptions(latency_s=0.1, transcripts=[HEARD], connection_limits=False)
        documents: list[str] = []
        async with Emulator(options) as emulator:
            with home(tmp_path, emulator, files(room.path, tmp_path / "spk.wav")) as house:
                async with speaking(house) as speaker:
                    await speaker.wait_event("turn")
                    since = speaker.mark()
                    await speaker.control("say", text=TYPED)
                    await speaker.wait_event("turn", since=since)
                    await speaker.control("context.add", text=CONTEXT)
                    await speaker.control("instruct", text=INSTRUCTION)
                    emulator.faults.do("malformed_json")
                    emulator.faults.do("reset")
                    await speaker.wait_event("resumed")
                    documents.append(json.dumps(await speaker.control("status")))
                async with speaking(house) as again:
                    await again.wait_event("resumed")
                    documents.append(json.dumps(await again.control("status")))
                handles = handles_issued(emulator)
                assert handles
                said = [*speaker.output, *speaker.notified, *again.output, *again.notified]
                everything = "\n".join(said + documents)
                for secret in (*SECRET_WORDS, API_KEY, *handles):
                    assert secret.casefold() not in everything.casefold(), secret
                assert_kept_only_where_it_must_be(house.state, handles)

    run(main())


def assert_kept_only_where_it_must_be(state: Path, handles: list[str]) -> None:
    """Words are in the transcript, handles and the instruction in the session, the key nowhere."""
    allowed = {
        "transcript.json": {"marmalade", "zanzibar", "xylophone", "staircase"},
        "session.json": {"Wobblethorpe", *handles},
    }
    for path in state.rglob("*"):
        if path.is_dir():
            continue
        text = path.read_text(encoding="utf-8")
        assert path.stat().st_mode & 0o777 == 0o600, path
        for secret in (*SECRET_WORDS, API_KEY, *handles):
            assert secret not in text or secret in allowed.get(path.name, ()), (path.name, secret)
    assert "zanzibar" in (state / "transcript.json").read_text(encoding="utf-8")
