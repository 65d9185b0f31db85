"""Samples, medians and the verdict against a goal. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.metrics import BY_KEY, METRICS, Metric


@dataclass(slots=True)
class Results:
    """Everything that was measured: samples by metric and system, and why some are missing."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    words: dict[str, dict[str, str]] = field(default_factory=dict)
    """What stands in place of a number: "never", "dies"."""
    skipped: list[str] = field(default_factory=list)

    def add(self, key: str, system: str, value: float | None) -> None:
        """Add a sample; None adds nothing."""
        assert key in BY_KEY, key
        if value is not None:
            self.samples.setdefault(key, {}).setdefault(system, []).append(value)

    def say(self, key: str, system: str, word: str) -> None:
        """Note in a word why there is no number."""
        assert key in BY_KEY, key
        self.words.setdefault(key, {})[system] = word

    def skip(self, why: str) -> None:
        """Note something that was not measured, once."""
        if why not in self.skipped:
            self.skipped.append(why)

    def median(self, key: str, system: str) -> float | None:
        """Return the median of the samples, or None."""
        values = self.samples.get(key, {}).get(system)
        return statistics.median(values) if values else None

    def count(self, key: str, system: str) -> int:
        """Return how many samples there are."""
        return len(self.samples.get(key, {}).get(system, ()))

    def as_json(self) -> dict[str, Any]:
        """Return everything, with medians."""
        return {
            "metrics": {
                key: {
                    system: {
                        "median": round(statistics.median(values), 4),
                        "min": round(min(values), 4),
                        "max": round(max(values), 4),
                        "samples": [round(value, 4) for value in values],
                    }
                    for system, values in by_system.items()
                }
                for key, by_system in self.samples.items()
            },
            "instead_of_a_number": self.words,
            "skipped": self.skipped,
        }


def shown(metric: Metric, values: Iterable[float]) -> str:
    """Return the median, and the worst where the metric asks for it."""
    numbers = sorted(values)
    if not numbers:
        return "–"
    text = f"{statistics.median(numbers):.{metric.digits}f}"
    worst = f"{numbers[-1]:.{metric.digits}f}"
    return f"{text} ({worst})" if metric.worst and len(numbers) > 1 and worst != text else text


def reached(metric: Metric, results: Results, system: str) -> str:
    """Say whether a system is within the metric's goal: ✓, ≈ (within the noise), ✗, or nothing."""
    value = results.median(metric.key, system)
    if metric.bound is None or value is None:
        return ""
    reference, factor, addend = metric.bound
    base = results.median(metric.key, reference) if reference else 0.0
    if base is None:
        return ""
    limit = base * factor + addend
    if value <= limit:
        return "✓"
    return "≈" if value <= limit * (1 + metric.noise) else "✗"


def rows(results: Results, systems: Mapping[str, str]) -> list[list[str]]:
    """Return the table: a header, then a row per metric that has samples."""
    table = [["", "unit", *systems.values(), "agentd goes for", ""]]
    for metric in METRICS:
        by_system = results.samples.get(metric.key, {})
        words = results.words.get(metric.key, {})
        if not by_system and not words:
            continue
        cells = [
            words[system] if system in words else shown(metric, by_system.get(system, ()))
            for system in systems
        ]
        mark = reached(metric, results, "agentd")
        table.append([metric.title, metric.unit, *cells, metric.goal, mark])
    return table
