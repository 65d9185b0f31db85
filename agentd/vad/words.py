"""Wake words on disk: models in the microWakeWord format, `NAME.json` beside its `.tflite`.

Two folders: what the extra `wake` brings, and the household's own. A model that cannot be used is a
problem with file, key, value and remedy; the others go on.

The format is that of microWakeWord, version 2
(https://github.com/esphome/micro-wake-word-models, https://esphome.io/components/micro_wake_word).
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentd.errors import ConfigProblem
from agentd.named_files import FileRefused, read_bytes, read_json
from agentd.text import safe_text

PACKAGE = "pymicro_wakeword"  # of the extra: its library and its models, used without importing it
MAX_JSON_BYTES = 65_536
MAX_MODEL_BYTES = 2_097_152  # the bundled ones have 80 kB
MAX_MODELS = 64  # in a folder; nobody has so many words
TFLITE_MARK = b"TFL3"  # at byte 4: the file identifier of the flat buffer
STEP_MS = 10  # between the features that the models here are made for
RATE_HZ = 16_000
INSTALL = "Install the extra: pip install 'agentd[wake]'"


@dataclass(frozen=True, slots=True)
class WordModel:
    """One word: what its description says, and the network itself."""

    name: str  # of the files, and in the settings
    phrase: str
    languages: tuple[str, ...]
    cutoff: float  # 0..1, as its makers recommend
    window: int  # scores of 30 ms that are averaged
    network: bytes
    is_bundled: bool


@dataclass(frozen=True, slots=True)
class Shelf:
    """Every word that could be read, and what is wrong with the others."""

    models: Mapping[str, WordModel]
    problems: tuple[ConfigProblem, ...] = ()


class ModelRefused(ValueError):
    """A model cannot be used; `problem` says why."""

    def __init__(self, problem: ConfigProblem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def package_folder() -> Path | None:
    """Return where the extra `wake` is installed, None where it is not."""
    with contextlib.suppress(ImportError, ValueError):
        found = importlib.util.find_spec(PACKAGE)
        if found is not None and found.submodule_search_locations:
            return Path(next(iter(found.submodule_search_locations)))
    return None


def read_shelf(own: Path, package: Path | None) -> Shelf:
    """Return the words of both folders; of two with one name or phrase the household's own counts.

    Args:
        own: the household's folder; one that is not there holds nothing.
        package: where the extra is installed, None where it is not.
    """
    problems: list[ConfigProblem] = []
    models: dict[str, WordModel] = {}
    for folder, is_bundled in ((own, False), (package / "models" if package else None, True)):
        for path in _descriptions(folder, problems):
            try:
                model = read_model(path, is_bundled=is_bundled)
                _check_collision(path, model, models)
            except ModelRefused as error:
                problems.append(error.problem)
            else:
                models.setdefault(model.name, model)
    return Shelf(models, tuple(problems))


def _descriptions(folder: Path | None, problems: list[ConfigProblem]) -> Sequence[Path]:
    if folder is None:
        return ()
    try:
        found = sorted(path for path in folder.iterdir() if path.name.endswith(".json"))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or "no name of a folder"
        problems.append(
            _problem(folder, "(folder)", "", f"cannot be read ({cause})", "Let agentd read it")
        )
        return ()
    if len(found) > MAX_MODELS:
        what = f"holds {len(found)} models; the first {MAX_MODELS} count"
        problems.append(_problem(folder, "(folder)", "", what, "Remove what is not used"))
    return found[:MAX_MODELS]


def _check_collision(path: Path, model: WordModel, known: Mapping[str, WordModel]) -> None:
    for other in known.values():
        if other.name == model.name and model.is_bundled:
            return  # replaced by one of the household's own
        if other.phrase.casefold() == model.phrase.casefold() and other.name != model.name:
            raise ModelRefused(
                _problem(
                    path,
                    "wake_word",
                    model.phrase,
                    f"is the word of {other.name}.json already",
                    "Remove one of the two, or give it another wake_word",
                )
            )


def read_model(path: Path, *, is_bundled: bool = False) -> WordModel:
    """Read the description `path` and the network that it names.

    Raises:
        ModelRefused: one of them cannot be used.
    """
    try:
        document = read_json(path, MAX_JSON_BYTES)
    except FileRefused as error:
        key = "(syntax)" if error.syntax else "(file)"
        raise ModelRefused(_problem(path, key, "", error.problem, error.remedy)) from None
    reader = _Reader(path, document)
    reader.exactly((), "type", "micro", "is no microWakeWord model")
    micro = ("micro",)
    if reader.get(micro, "feature_step_size") is not None:
        reader.exactly(micro, "feature_step_size", STEP_MS, "is a step agentd does not compute")
    for place in ((), micro):
        if reader.get(place, "sample_rate") is not None:
            reader.exactly(place, "sample_rate", RATE_HZ, "is another sample rate (Hz)")
    phrase = reader.text("wake_word", 64)
    languages = reader.get((), "trained_languages")
    return WordModel(
        name=path.stem,
        phrase=phrase,
        languages=tuple(str(tag)[:16] for tag in languages[:32])
        if isinstance(languages, list)
        else (),
        cutoff=reader.number(micro, "probability_cutoff", 0.01, 0.999),
        window=round(reader.number(micro, "sliding_window_size", 1, 100)),
        network=_read_network(path, reader.text("model", 128)),
        is_bundled=is_bundled,
    )


def _read_network(description: Path, name: str) -> bytes:
    remedy = "Put the .tflite file beside its .json, as they came"
    if "/" in name or name in {"..", "."}:
        raise ModelRefused(
            _problem(description, "model", name, "is no name of a file beside it", remedy)
        )
    path = description.parent / name
    try:
        network = read_bytes(path, MAX_MODEL_BYTES)
    except FileRefused as error:
        raise ModelRefused(
            _problem(description, "model", name, f"{path.name} {error.problem}", remedy)
        ) from None
    if network[4:8] != TFLITE_MARK:
        what = "is no TensorFlow Lite model"
        raise ModelRefused(_problem(path, "(file)", "", what, "Copy the .tflite file again"))
    return network


class _Reader:
    """Takes values out of a description, each checked."""

    def __init__(self, path: Path, document: object) -> None:
        self._path = path
        if not isinstance(document, dict):
            raise ModelRefused(
                _problem(path, "(file)", "", "is no table", "Use the .json of the model")
            )
        self._document: dict[str, Any] = document

    def get(self, place: tuple[str, ...], key: str) -> object:
        table: object = self._document
        for part in place:
            table = table.get(part) if isinstance(table, dict) else None
        return table.get(key) if isinstance(table, dict) else None

    def exactly(self, place: tuple[str, ...], key: str, wanted: object, what: str) -> None:
        value = self.get(place, key)
        if value != wanted or isinstance(value, bool):
            raise self._refused(place, key, value, what, f"Allowed: {wanted}")

    def text(self, key: str, limit: int) -> str:
        value = self.get((), key)
        if not isinstance(value, str) or not value.strip() or len(value) > limit:
            what = "must be a text"
            raise self._refused((), key, value, what, f"Allowed: 1 to {limit} characters")
        return safe_text(value.strip(), limit)

    def number(self, place: tuple[str, ...], key: str, low: float, high: float) -> float:
        value = self.get(place, key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:  # type: ignore[operator]
            raise self._refused(
                place, key, value, "is out of range", f"Allowed: {low:g} to {high:g}"
            )
        return float(value)  # type: ignore[arg-type]

    def _refused(
        self, place: tuple[str, ...], key: str, value: object, what: str, remedy: str
    ) -> ModelRefused:
        return ModelRefused(_problem(self._path, ".".join((*place, key)), value, what, remedy))


def _problem(file: Path, key: str, value: object, what: str, remedy: str) -> ConfigProblem:
    shown = "" if value == "" else safe_text(repr(value), 80)
    return ConfigProblem(safe_text(str(file)), key, shown, what, remedy)
