"""Which keys of [live] a model takes, and how large its window is: one table, sources named.

Sources: [doc] model pages and guides on ai.google.dev (3.8, thinking, live-transcribe,
live-translate; read November 2026): vocabulary and mode are named for the transcription model
alone; 2.5 thinks by a budget, not by levels. [obs] published probes of 29 September 2026 and
openclaw/openclaw#152413: 3.8 closes 1007 on any thinking level, extended thinking without one and
on MINIMAL; sierra-research/tau2-bench#544: 3.1 takes a language hint; google/adk-python#5542:
native audio is given hints and does not heed them.

What agentd does differently from model to model is in `agentd.live.capabilities`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

LEVELS = ("minimal", "low", "medium", "high")


@dataclass(frozen=True, slots=True)
class ModelKeys:
    """What a model takes of what [live] can say."""

    window_tokens: int = 128_000  # of an unknown model: the API's own upper bound
    thinking_levels: tuple[str, ...] = LEVELS
    thinking_level: str = ""  # set where the model demands one and the settings name none
    languages: bool = True  # live.transcription.languages
    vocabulary: bool = True  # live.transcription.vocabulary
    transcription_mode: bool = True  # live.transcription.mode
    instead: str = ""  # why it is no model for a conversation


_UNKNOWN = ModelKeys()

# The first name that the model's begins with counts.
_ROWS: tuple[tuple[str, ModelKeys], ...] = (
    (
        "gemini-3.8-live-extended-thinking",
        ModelKeys(
            131_072,
            ("low", "medium", "high"),
            "low",  # the least: a household waits
            vocabulary=False,
            transcription_mode=False,
        ),
    ),
    ("gemini-3.8-live", ModelKeys(131_072, (), vocabulary=False, transcription_mode=False)),
    ("gemini-3.5-transcribe", ModelKeys(131_072, (), instead="writes down what it hears")),
    (
        "gemini-3.5-live-translate",
        ModelKeys(32_768, (), vocabulary=False, transcription_mode=False),
    ),
    ("gemini-3.1", ModelKeys(vocabulary=False, transcription_mode=False)),
    (
        "gemini-live-2.5-flash-native-audio",
        ModelKeys(128_000, (), languages=False, vocabulary=False, transcription_mode=False),
    ),
    (
        "gemini-live-2.5-flash-preview-native-audio",
        ModelKeys(128_000, (), languages=False, vocabulary=False, transcription_mode=False),
    ),
    (
        "gemini-live-2.5",
        ModelKeys(32_000, (), languages=False, vocabulary=False, transcription_mode=False),
    ),
    (
        "gemini-2.5",
        ModelKeys(128_000, (), languages=False, vocabulary=False, transcription_mode=False),
    ),
)


def model_keys(model: str) -> ModelKeys:
    """Return what `model` takes; one that the table does not know is believed to take all."""
    name = model.rsplit("/", 1)[-1]
    return next((row for prefix, row in _ROWS if name.startswith(prefix)), _UNKNOWN)


def refusals(model: str, given: Mapping[str, object]) -> Iterator[tuple[str, object, str, str]]:
    """Yield key, value, what is wrong and the remedy for each setting that `model` does not take.

    Args:
        given: by key, the settings that depend on the model; false values are not set.
    """
    keys = model_keys(model)
    if keys.instead:
        remedy = "Choose a model that answers, such as gemini-3.8-live"
        yield "live.model", model, f"{keys.instead} and never answers", remedy
    level = given.get("live.thinking_level")
    if level and level not in keys.thinking_levels:
        allowed = ", ".join(keys.thinking_levels)
        remedy = f"Allowed: {allowed}" if allowed else "Remove it, or choose another live.model"
        what = f"{model} takes no such level" if allowed else f"{model} takes no thinking level"
        yield "live.thinking_level", level, what, remedy
    for key, takes in (
        ("live.transcription.languages", keys.languages),
        ("live.transcription.vocabulary", keys.vocabulary),
        ("live.transcription.mode", keys.transcription_mode),
    ):
        if given.get(key) and not takes:
            remedy = "Remove it, or choose another live.model"
            yield key, given[key], f"{model} does not take it", remedy
