"""`agentd wake`: which words there are, and what is heard in recordings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from agentd.cli.bundle import config_lines
from agentd.cli.main import main
from agentd.config.settings import AttentionSection, Settings
from agentd.doctor.findings import Result
from agentd.doctor.wake_words import check_words
from agentd.vad.clips import FOLDER, read_clip, read_speech
from agentd.vad.words import package_folder

pytestmark = pytest.mark.skipif(package_folder() is None, reason="the extra wake is not installed")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings of their own, so that nothing of this machine counts."""
    path = tmp_path / "agentd.toml"
    path.write_text(f'[attention]\nmode = "wake-word"\nmodels = "{tmp_path / "own"}"\n')
    return path


def test_every_word_is_listed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To people and to scripts, with what is listened for."""
    assert main(["wake", "list", "--config", str(config)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[2:].split()[0] for line in lines] == [
        *("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu"),
    ]
    assert [line[0] for line in lines] == [" ", " ", " ", "*"]
    assert main(["wake", "list", "--json", "--config", str(config)]) == 0
    (nabu,) = [row for row in json.loads(capsys.readouterr().out) if row["listened_for"]]
    assert (nabu["phrase"], nabu["from"]) == ("Okay Nabu", "agentd")


def test_a_bad_model_is_listed_as_what_it_is(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The good ones are there all the same; the exit status says that something is wrong."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "bad.json").write_text("{}")
    assert main(["wake", "list", "--config", str(config)]) == 1
    out, err = capsys.readouterr()
    assert "okay_nabu" in out
    assert "bad.json: type" in err


def test_recordings_are_scored(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One with the word, one with another, one that is no WAV."""
    folder = tmp_path / "wavs"
    folder.mkdir()
    for name in ("okay_nabu", "alexa"):
        shutil.copy(FOLDER / f"{name}.wav", folder)
    assert main(["wake", "score", str(folder), "--json", "--config", str(config)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["name"]: [word for word, _ in row["heard"]] for row in found["recordings"]} == {
        "alexa.wav": [],
        "okay_nabu.wav": ["okay_nabu"],
    }
    assert (found["sums"]["with_a_word"], found["sums"]["without_a_word"]) == (1, 1)
    (folder / "noise.wav").write_bytes(b"RIFF")
    assert main(["wake", "score", str(folder), "--config", str(config)]) == 1
    out, err = capsys.readouterr()
    assert "okay_nabu.wav: okay_nabu 0." in out
    assert "noise.wav: is no WAV" in err


def test_scores_are_shown_as_they_come(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With another word than the one in the settings."""
    wav = str(FOLDER / "alexa.wav")
    assert main(["wake", "test", wav, "--word", "alexa", "--config", str(config)]) == 0
    assert "HEARD" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["score"], "needs a folder of WAVs"),
        (["score", "/nowhere"], "no WAV files"),
        (["test", "/nowhere"], "is no WAV"),
        (["test", "x", "--word", "hey_house"], "no model of hey_house"),
    ],
)
def test_what_cannot_be_done_is_said(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """In one line, with exit status 1."""
    assert main(["wake", *arguments, "--config", str(config)]) == 1
    assert said in capsys.readouterr().err


def test_clips_are_those_of_words_alone() -> None:
    """A name that is a path finds nothing; neither does a file of another kind."""
    assert read_clip("okay_nabu")
    assert read_clip("../said/okay_nabu") is None
    assert read_clip("hello") is None
    assert read_speech(FOLDER) is None


def test_the_doctor_lets_words_hear_themselves(tmp_path: Path) -> None:
    """What they cost, how often they were heard; what is missing, with the remedy."""
    attention = AttentionSection(mode="wake-word", models=str(tmp_path))
    fine = check_words(attention, {"uptime_s": 3600.0, "attention": {"heard": 2}})
    assert fine.result is Result.OK
    assert "okay_nabu" in fine.cause
    assert "heard 2.0 times an hour" in fine.cause
    often = check_words(attention, {"uptime_s": 3600.0, "attention": {"heard": 20}})
    assert (often.result, "low" in often.remedy) == (Result.WARN, True)
    assert check_words(AttentionSection(), None).result is Result.SKIPPED
    none = attention.model_copy(update={"words": ("hey_house",)})
    assert check_words(none, None).result is Result.FAIL
    deaf = AttentionSection.model_validate(
        {"mode": "wake-word", "word": {"okay_nabu": {"threshold": 0.995}}}
    )
    assert check_words(deaf, None).cause == "okay_nabu does not hear its own clip"
    some = attention.model_copy(update={"words": ("okay_nabu", "hey_house")})
    assert "no model of this name" in check_words(some, None).cause


def test_who_answers_to_a_word_is_not_in_the_bundle() -> None:
    """An instruction may hold anything; the words alone help."""
    settings = Settings.model_validate(
        {"attention": {"word": {"okay_nabu": {"system_instruction": "my secret"}}}}
    )
    lines = list(config_lines(settings))
    assert 'attention.word = ["okay_nabu"]' in lines
    assert "secret" not in "\n".join(lines)
