"""The table of what was measured, printed at the end of the run."""

from __future__ import annotations

import pytest

from tests.continuity.household import FULL
from tests.continuity.report import Report

_REPORT = pytest.StashKey[Report]()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what the faults cost, where time was real."""
    report = config.stash.get(_REPORT, None)
    if not FULL or report is None or not report.rows:
        return
    terminalreporter.section("faults, injected and measured (real milliseconds)")
    for line in report.lines():
        terminalreporter.write_line(line)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Where a test writes down what it measured."""
    stash = request.config.stash
    if _REPORT not in stash:
        stash[_REPORT] = Report()
    return stash[_REPORT]
