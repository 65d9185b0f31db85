"""Models on disk: good ones are heard, and each bad one is named with its remedy."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentd.audio import formats
from agentd.config.settings import AttentionSection, Word
from agentd.events import Frame
from agentd.vad.cascade import AGGRESSIVENESS
from agentd.vad.clips import read_clip
from agentd.vad.equip import CUTOFFS, cutoff_of, equip, words_of
from agentd.vad.sparks import Sparks
from agentd.vad.spotter import Spotter
from agentd.vad.tflite import EngineFailed, WordEngine, load_frontend, load_library, probe
from agentd.vad.webrtc import WebrtcModel
from agentd.vad.words import (
    MAX_MODEL_BYTES,
    ModelRefused,
    Shelf,
    WordModel,
    package_folder,
    read_model,
    read_shelf,
)

PACKAGE = package_folder()
needs_extra = pytest.mark.skipif(PACKAGE is None, reason="the extra wake is not installed")
GOOD: dict[str, Any] = {
    "type": "micro",
    "wake_word": "Hello House",
    "model": "house.tflite",
    "trained_languages": ["en"],
    "version": 2,
    "micro": {"probability_cutoff": 0.9, "sliding_window_size": 5, "feature_step_size": 10},
}
NETWORK = b"\x1c\x00\x00\x00TFL3" + bytes(64)


def put(
    folder: Path, name: str = "house", document: object = GOOD, network: bytes | None = NETWORK
) -> Path:
    """Write a model; return its description."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_text(text, encoding="utf-8")
    if network is not None:
        (folder / "house.tflite").write_bytes(network)
    return path


def changed(**values: object) -> dict[str, Any]:
    """Return the good description with other values; `micro__x` is in its table."""
    document = json.loads(json.dumps(GOOD))
    for key, value in values.items():
        table, _, name = key.rpartition("__")
        (document[table] if table else document)[name] = value
    return dict(document)


def bundled(name: str) -> Path:
    assert PACKAGE is not None
    return PACKAGE / "models" / f"{name}.json"


def test_a_good_model_is_read(tmp_path: Path) -> None:
    """With what its description says."""
    model = read_model(put(tmp_path))
    assert (model.name, model.phrase, model.languages) == ("house", "Hello House", ("en",))
    assert (model.cutoff, model.window, model.network) == (0.9, 5, NETWORK)


@pytest.mark.parametrize(
    ("document", "key", "said"),
    [
        ("{", "(syntax)", "is not JSON"),
        ("[]", "(file)", "is no table"),
        (changed(type="openwakeword"), "type", "Allowed: micro"),
        (changed(wake_word=7), "wake_word", "Allowed: 1 to 64 characters"),
        (changed(wake_word="x" * 65), "wake_word", "must be a text"),
        (changed(model="../../etc/passwd"), "model", "is no name of a file beside it"),
        (changed(model="other.tflite"), "model", "other.tflite cannot be read"),
        (changed(micro__probability_cutoff=1.5), "micro.probability_cutoff", "0.01 to 0.999"),
        (changed(micro__probability_cutoff="0.9"), "micro.probability_cutoff", "'0.9'"),
        (changed(micro__probability_cutoff=float("nan")), "micro.probability_cutoff", "range"),
        (changed(micro__sliding_window_size=0), "micro.sliding_window_size", "1 to 100"),
        (changed(micro__sliding_window_size=True), "micro.sliding_window_size", "1 to 100"),
        (changed(micro__feature_step_size=20), "micro.feature_step_size", "Allowed: 10"),
        (changed(sample_rate=8000), "sample_rate", "another sample rate"),
        (changed(micro__sample_rate=48000), "micro.sample_rate", "Allowed: 16000"),
        (changed(micro=None), "micro.probability_cutoff", "is out of range"),
    ],
)
def test_a_description_that_lies_is_named(
    tmp_path: Path, document: object, key: str, said: str
) -> None:
    """By file, key, value, allowed range and remedy."""
    path = put(tmp_path, document=document)
    with pytest.raises(ModelRefused) as refused:
        read_model(path)
    problem = refused.value.problem
    assert (problem.file, problem.key) == (str(path), key)
    assert said in str(problem)
    assert problem.remedy


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (b"", "is no TensorFlow Lite model"),
        (b"RIFF" + bytes(100), "is no TensorFlow Lite model"),
        (NETWORK + bytes(MAX_MODEL_BYTES), "is larger than"),
    ],
)
def test_a_file_that_is_no_network_is_named(tmp_path: Path, network: bytes, said: str) -> None:
    """Another format, nothing at all, or far too much."""
    with pytest.raises(ModelRefused, match=said):
        read_model(put(tmp_path, network=network))


def test_a_pipe_in_place_of_a_model_is_refused(tmp_path: Path) -> None:
    """Opening it would wait for a writer."""
    path = put(tmp_path, network=None)
    os.mkfifo(tmp_path / "house.tflite")
    with pytest.raises(ModelRefused, match="is a pipe"):
        read_model(path)


def test_the_others_go_on(tmp_path: Path) -> None:
    """A bad model and two of one phrase leave the good ones on the shelf."""
    put(tmp_path)
    put(tmp_path, "twin")
    put(tmp_path, "bad", changed(type="other"))
    shelf = read_shelf(tmp_path, None)
    assert set(shelf.models) == {"house"}
    assert {Path(problem.file).name: problem.key for problem in shelf.problems} == {
        "bad.json": "type",
        "twin.json": "wake_word",
    }


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    """And one that cannot be read is a problem; so is one with too much in it."""
    assert read_shelf(tmp_path / "none", None) == Shelf({})
    (tmp_path / "file").write_text("")
    (problem,) = read_shelf(tmp_path / "file", None).problems
    assert problem.problem.startswith("cannot be read")
    for index in range(70):
        put(tmp_path / "many", f"m{index:02}", changed(wake_word=f"Word {index}"))
    shelf = read_shelf(tmp_path / "many", None)
    assert len(shelf.models) == 64
    assert "holds 70 models" in shelf.problems[0].problem


@needs_extra
def test_ones_own_model_replaces_a_bundled_one(tmp_path: Path) -> None:
    """By its name; and it may not take the phrase of another one."""
    put(tmp_path, "okay_nabu", changed(wake_word="Okay Nabu"))
    put(tmp_path, "second", changed(wake_word="alexa"))
    shelf = read_shelf(tmp_path, PACKAGE)
    assert not shelf.models["okay_nabu"].is_bundled
    assert shelf.models["hey_mycroft"].is_bundled
    # The household's own counts: the bundled model of that phrase is the one that goes.
    assert [(Path(p.file).name, p.key) for p in shelf.problems] == [("alexa.json", "wake_word")]


def test_sensitivity_is_a_cut_off() -> None:
    """Measured ones for bundled words; around the recommended one for others; a threshold wins."""
    own = read_model_of(0.9)
    assert [round(cutoff_of(own, level), 3) for level in ("low", "medium", "high")] == [
        0.95,
        0.9,
        0.8,
    ]
    for low, medium, high in CUTOFFS.values():
        assert 0.0 < high < medium < low < 1.0
    attention = AttentionSection(
        mode="wake-word",
        words=("house", "gone"),
        word={"house": Word(threshold=0.66, stops=True, sensitivity="low")},
    )
    found, missing = words_of(attention, Shelf({"house": own}))
    ((word, model),) = found
    assert (word.cutoff, word.stops, word.window, model.name) == (0.66, True, 5, "house")
    assert missing == ["gone"]


def read_model_of(cutoff: float) -> WordModel:
    return WordModel("house", "Hello House", (), cutoff, 5, NETWORK, is_bundled=False)


# ── with the library ──────────────────────────────────────────────────────────────────────────


def copied(folder: Path, change: Callable[[bytes], bytes]) -> Path:
    """Put a bundled model into `folder` under another name, its network changed."""
    folder.mkdir(exist_ok=True)
    source = bundled("okay_nabu")
    document = json.loads(source.read_text()) | {"wake_word": "My Own", "model": "house.tflite"}
    return put(folder, "own", document, change(source.with_suffix(".tflite").read_bytes()))


@needs_extra
def test_bundled_words_are_ready_to_be_heard() -> None:
    """All four at once, with the cut-offs of the sensitivity."""
    found = equip(AttentionSection(mode="wake-word", words=tuple(CUTOFFS), sensitivity="high"))
    assert (found.cause, found.problems) == ("", ())
    assert {ear.word.name: ear.word.cutoff for ear in found.ears} == {
        name: high for name, (_, _, high) in CUTOFFS.items()
    }


@needs_extra
def test_ones_own_model_is_tried_and_used(tmp_path: Path) -> None:
    """In a process of its own first."""
    path = copied(tmp_path, lambda network: network)
    assert probe(path) == ""
    found = equip(AttentionSection(mode="wake-word", words=("own",), models=str(tmp_path)))
    assert [ear.word.name for ear in found.ears] == ["own"]


@needs_extra
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_network_is_refused_before_it_harms(tmp_path: Path, share: float) -> None:
    """The card was full while it was copied. Another word is heard all the same."""
    copied(tmp_path, lambda network: network[: int(len(network) * share)])
    words = ("own", "okay_nabu")
    found = equip(AttentionSection(mode="wake-word", words=words, models=str(tmp_path)))
    assert [ear.word.name for ear in found.ears] == ["okay_nabu"]
    (problem,) = found.problems
    assert problem.file.endswith("own.tflite")
    assert "damaged" in problem.problem or "cannot" in problem.problem
    assert problem.remedy


@needs_extra
def test_a_word_without_a_model_is_named_with_those_that_have_one(tmp_path: Path) -> None:
    """And where none is left, nothing is listened for, with the reason."""
    found = equip(AttentionSection(mode="wake-word", words=("hey_hosue",), models=str(tmp_path)))
    assert found.extract is None
    assert "no model of hey_hosue" in found.cause
    (problem,) = found.problems
    assert "okay_nabu" in problem.remedy
    assert (problem.key, problem.value) == ("words", "'hey_hosue'")


def test_without_the_extra_there_is_a_reason_and_a_remedy(tmp_path: Path) -> None:
    """Nobody is listened to instead."""
    (tmp_path / "models").mkdir()
    found = equip(AttentionSection(mode="wake-word"), tmp_path)
    assert found.extract is None
    assert "cannot be run" in found.cause
    assert "agentd[wake]" in found.remedy


@needs_extra
def test_the_library_refuses_what_is_no_network() -> None:
    """It says so, and the process lives."""
    assert PACKAGE is not None
    library = load_library(PACKAGE)
    with pytest.raises(EngineFailed):
        WordEngine(library, read_model_of(0.9))
    with pytest.raises(EngineFailed):
        load_library(PACKAGE / "nowhere")


@needs_extra
@pytest.mark.parametrize("name", sorted(CUTOFFS))
def test_every_bundled_word_is_heard_in_its_clip(name: str) -> None:
    """Spoken by espeak-ng, behind the sparks, and by no other model."""
    found = equip(AttentionSection(mode="wake-word", words=tuple(CUTOFFS)))
    assert found.extract is not None
    spotter = Spotter(Sparks(WebrtcModel(AGGRESSIVENESS), -60.0))
    spotter.equip(found.extract, found.ears)
    pcm = read_clip(name)
    assert pcm is not None
    heard = []
    sound = bytes(640 * 100) + pcm + bytes(640 * 50)
    for index in range(len(sound) // 640):
        piece = sound[index * 640 : index * 640 + 640]
        frame = Frame(index, index * 0.02, piece)
        heard += [h for h in spotter.hear(frame, formats.level_dbfs(piece)) if not h.is_near]
    assert [value.word.name for value in heard] == [name]


@needs_extra
def test_features_come_every_10_ms() -> None:
    """40 of them, whatever the length of the pieces."""
    extract = load_frontend()
    features = [values for _ in range(10) for values in extract(bytes(640))]
    assert 17 <= len(features) <= 20
    assert {len(values) for values in features} == {40}
