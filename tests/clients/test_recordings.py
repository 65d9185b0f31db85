"""Recorded sessions are played to the daemon's session; a small one is made here."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.recordings import NotARecording, play, play_all, read

MODEL = "models/gemini-2.5-flash-native-audio-preview-12-2025"


def content(**fields: Any) -> tuple[str, dict[str, Any]]:
    """A serverContent."""
    return "received", {"serverContent": fields}


def sound(data: bytes) -> tuple[str, dict[str, Any]]:
    """A piece of a reply."""
    blob = {"mimeType": "audio/pcm;rate=24000", "data": base64.b64encode(data).decode()}
    return content(modelTurn={"parts": [{"inlineData": blob}]})


SETUP = ("sent", {"setup": {"model": MODEL}})
READY: tuple[str, dict[str, Any]] = ("received", {"setupComplete": {}})
ASKED = (
    "sent",
    {"client_content": {"turns": [{"parts": [{"text": "5, please"}]}], "turnComplete": True}},
)
CALL = {"id": "function-call-7", "name": "record", "args": {"value": 5}}
ANSWER = {"id": "function-call-7", "name": "record", "response": {"output": "recorded"}}
TOOL_ROUND = [
    SETUP,
    READY,
    ASKED,
    ("received", {"toolCall": {"functionCalls": [CALL]}}),
    ("sent", {"tool_response": {"functionResponses": [ANSWER]}}),
    content(outputTranscription={"text": "A value"}),
    content(outputTranscription={"text": " of 5."}),
    sound(bytes(range(33))),  # recordings are cut in the middle of a sample
    sound(bytes(range(100, 133))),
    content(generationComplete=True),
    content(turnComplete=True),
]


def recorded(folder: Path, messages: list[Any], name: str = "round.json") -> Path:
    """Write messages as a recording."""
    interactions = [{"kind": "message", "direction": way, "data": data} for way, data in messages]
    path = folder / name
    path.write_text(json.dumps({"version": 1, "interactions": interactions}), "utf-8")
    return path


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What playing sets is taken back."""
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_recorded_round_comes_out_as_it_was(tmp_path: Path) -> None:
    """Sound to the byte, the words, the function, and the end of the turn."""
    assert asyncio.run(play(read(recorded(tmp_path, TOOL_ROUND)))) == []


def test_what_comes_out_otherwise_is_reported(tmp_path: Path) -> None:
    """An answer in text alone is heard by nobody."""
    messages = [
        SETUP,
        READY,
        ASKED,
        content(modelTurn={"parts": [{"text": "written"}]}),
        content(turnComplete=True),
    ]
    (wrong,) = asyncio.run(play(read(recorded(tmp_path, messages))))
    assert "turns failed" in wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "Expecting"), ("[]", "no `interactions`"), ('{"interactions": []}', "begin")],
)
def test_another_file_is_no_recording(text: str, said: str, tmp_path: Path) -> None:
    """It is named, with what is wrong with it."""
    path = tmp_path / "other.json"
    path.write_text(text, "utf-8")
    with pytest.raises(NotARecording, match=said):
        read(path)


def test_a_folder_without_recordings_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped folder is no success; a file that is none is left out, by name."""
    assert play_all(tmp_path) == 2
    assert "no recordings" in capsys.readouterr().out
    recorded(tmp_path, [READY])
    play_all(tmp_path)
    assert "left out" in capsys.readouterr().out
