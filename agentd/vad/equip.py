"""Brings wake words from the disk to the spotter: which, how readily, and what is wrong with them.

It reads files and starts a process for each of the household's own models: call it in a thread.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentd.config.settings import AttentionSection
from agentd.errors import ConfigProblem
from agentd.vad.spotter import Ear, Features, SpotterWord
from agentd.vad.tflite import EngineFailed, WordEngine, load_frontend, load_library, probe
from agentd.vad.words import INSTALL, Shelf, WordModel, package_folder, read_shelf

# Cut-offs for low, medium and high, from the curves in docs/measured/wake.md.
CUTOFFS = {
    "okay_nabu": (0.93, 0.85, 0.75),
    "hey_jarvis": (0.985, 0.97, 0.9),
    "hey_mycroft": (0.99, 0.98, 0.95),
    "alexa": (0.97, 0.9, 0.75),
}
LEVELS = ("low", "medium", "high")
HIGHEST = 0.995


@dataclass(frozen=True, slots=True)
class Equipment:
    """What the spotter needs, or why it gets nothing."""

    extract: Callable[[bytes], Sequence[Features]] | None = None
    ears: tuple[Ear, ...] = ()
    problems: tuple[ConfigProblem, ...] = ()
    cause: str = ""  # why no word that opens the gate can be heard
    remedy: str = ""


def cutoff_of(model: WordModel, sensitivity: str) -> float:
    """Return the mean score that counts as heard at `low`, `medium` or `high` sensitivity.

    For a household's own model the recommended one is `medium`; `low` is halfway to certainty, and
    `high` is twice as far from it.
    """
    level = LEVELS.index(sensitivity)
    if model.is_bundled and model.name in CUTOFFS:
        return CUTOFFS[model.name][level]
    doubt = (1.0 - model.cutoff) * (0.5, 1.0, 2.0)[level]
    return min(HIGHEST, max(0.05, 1.0 - doubt))


def words_of(
    attention: AttentionSection, shelf: Shelf
) -> tuple[list[tuple[SpotterWord, WordModel]], list[str]]:
    """Return the words that are wanted with their models, and the names for which there is none."""
    found, missing = [], []
    for name in attention.words:
        model = shelf.models.get(name)
        if model is None:
            missing.append(name)
            continue
        own = attention.word.get(name)
        sensitivity = (own and own.sensitivity) or attention.sensitivity
        threshold = own.threshold if own else None
        cutoff = cutoff_of(model, sensitivity) if threshold is None else threshold
        found.append((SpotterWord(name, cutoff, model.window, bool(own and own.stops)), model))
    return found, missing


def equip(attention: AttentionSection, package: Path | None = None) -> Equipment:
    """Return what is needed to listen for the words of `[attention]`; never raise.

    A model that cannot be used is a problem, and the others go on. Where no word is left that opens
    the gate, `cause` says why.
    """
    package = package or package_folder()
    folder = Path(attention.models)
    shelf = read_shelf(folder, package)
    problems = list(shelf.problems)
    wanted, missing = words_of(attention, shelf)
    named = {problem.file for problem in problems}
    known = ", ".join(sorted(shelf.models)) or "none"
    for name in missing:
        if not any(Path(file).stem == name for file in named):
            what = "there is no model of this name"
            remedy = f"Allowed: {known}; or put {name}.json and {name}.tflite into {folder}"
            problems.append(ConfigProblem("[attention]", "words", repr(name), what, remedy))
    if package is None:
        return Equipment(None, (), tuple(problems), "the extra wake is not installed", INSTALL)
    try:
        library, extract = load_library(package), load_frontend()
    except EngineFailed as error:
        cause, _, remedy = str(error).partition(". ")
        return Equipment(None, (), tuple(problems), f"the library {cause}", remedy or INSTALL)
    ears = []
    for word, model in wanted:
        try:
            ears.append(_ear(word, model, library, folder))
        except EngineFailed as error:
            remedy = "Copy the model again, or remove it from attention.words"
            file = f"{folder / model.name}.tflite"
            problems.append(ConfigProblem(file, "(file)", "", str(error), remedy))
    if any(not ear.word.stops for ear in ears):
        return Equipment(extract, tuple(ears), tuple(problems))
    cause = f"no model of {', '.join(attention.words)} can be used"
    return Equipment(None, (), tuple(problems), cause, f"Run: agentd wake list; known: {known}")


def _ear(word: SpotterWord, model: WordModel, library: ctypes.CDLL, folder: Path) -> Ear:
    if not model.is_bundled:
        trouble = probe(folder / f"{model.name}.json")
        if trouble:
            raise EngineFailed(trouble)
    return Ear(word, WordEngine(library, model))
