"""What a check found, and how a list of that is shown. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agentd import __version__
from agentd.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_OK
from agentd.text import safe_text

CONFIGURATION = "configuration"
LIMIT = 400


class Result(enum.Enum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"  # it works, with a limit that somebody should know
    FAIL = "fail"
    SKIPPED = "skipped"  # could not or need not be looked at; the cause says why


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and the one thing to do about it."""

    check: str
    result: Result
    cause: str
    remedy: str = ""
    figures: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Keep the words of peers and libraries on one line and free of secrets."""
        object.__setattr__(self, "cause", safe_text(self.cause, LIMIT))
        object.__setattr__(self, "remedy", safe_text(self.remedy, LIMIT))

    def as_json(self) -> dict[str, object]:
        """Return it for `--json`."""
        return {
            "check": self.check,
            "result": self.result.value,
            "cause": self.cause,
            "remedy": self.remedy,
            "figures": dict(self.figures),
        }


def ok(check: str, cause: str, **figures: object) -> Finding:
    """Return a finding that nothing is wrong."""
    return Finding(check, Result.OK, cause, figures=figures)


def warn(check: str, cause: str, remedy: str, **figures: object) -> Finding:
    """Return a finding that somebody should know."""
    return Finding(check, Result.WARN, cause, remedy, figures)


def fail(check: str, cause: str, remedy: str, **figures: object) -> Finding:
    """Return a finding that somebody must act upon."""
    return Finding(check, Result.FAIL, cause, remedy, figures)


def skipped(check: str, cause: str, remedy: str = "") -> Finding:
    """Return a finding that this was not looked at."""
    return Finding(check, Result.SKIPPED, cause, remedy)


def line(finding: Finding, width: int = 13) -> str:
    """Return a finding as text: one line, and a second one for what to do."""
    text = f"{finding.result.value:7}  {finding.check:{width}}  {finding.cause}"
    if finding.remedy:
        text += f"\n{'':{width + 11}}→ {finding.remedy}"
    return text


def summary(findings: Iterable[Finding]) -> str:
    """Return the last line: how many of which."""
    results = [finding.result for finding in findings]
    failed, warned = results.count(Result.FAIL), results.count(Result.WARN)
    if not failed and not warned:
        return "nothing is wrong"
    parts = [f"{failed} failed"] if failed else []
    parts += [f"{warned} to know"] if warned else []
    return ", ".join(parts)


def exit_status(findings: Iterable[Finding]) -> int:
    """Return 0 if nothing failed, 78 if it is the configuration, else 1."""
    failed = [finding.check for finding in findings if finding.result is Result.FAIL]
    if CONFIGURATION in failed:
        return EXIT_CONFIG
    return EXIT_FAILURE if failed else EXIT_OK


def document(findings: Iterable[Finding]) -> dict[str, object]:
    """Return the document of `agentd doctor --json`."""
    findings = list(findings)
    return {
        "version": __version__,
        "exit_status": exit_status(findings),
        "findings": [finding.as_json() for finding in findings],
    }
