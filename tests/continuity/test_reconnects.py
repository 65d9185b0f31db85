"""P5 on the real stack: a thousand connections leave nothing behind."""

from __future__ import annotations

import gc
import resource
import statistics
from pathlib import Path

from agentd import events as e
from tests.continuity.household import FULL, Household, Tables, household, run
from tests.continuity.report import Report, Row

COUNT = 1000 if FULL else 60
"""`make continuity` does a thousand."""


def rss_mib() -> float:
    """Return the memory of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def beginnings(home: Household) -> list[e.Resumed | e.SessionFresh]:
    """Return the connections that were set up since the events were cleared."""
    return [event for event in home.events if isinstance(event, e.Resumed | e.SessionFresh)]


def test_reconnects_leave_nothing_behind(report: Report) -> None:
    """P5: memory and descriptors after many connections are those after the first few."""

    async def main() -> None:
        tables: Tables = {
            "network": {"replay_max_age_s": 300.0},
            "live": {
                "dials_per_min": 120,
                "connect_timeout_s": 120.0,
                "setup_timeout_s": 120.0,
                "reply_timeout_s": 120.0,
            },
        }
        async with household(scale=100.0, tables=tables, record_limit=200) as home:
            gaps, sizes, files = [], [], []
            await home.talk()
            for number in range(COUNT):
                home.events.clear()
                home.emulator.faults.do("reset")
                await home.until(lambda: beginnings(home), "next connection")
                gaps.append(beginnings(home)[0].gap_ms / 100.0)
                if number % 10 == 9:
                    await home.talk()
                    sizes.append(rss_mib())
                    files.append(descriptors())
            quarter = max(1, len(sizes) // 4)
            early = statistics.median(sizes[quarter : 2 * quarter])
            late = statistics.median(sizes[-quarter:])
            assert late - early < 8.0, sizes
            assert max(files) - min(files) <= 8, files
            note = f"RSS {early:.0f} → {late:.0f} MiB, fds {min(files)}–{max(files)}"
            report.add(Row("P5", f"{COUNT} reconnects", gaps, dials=home.dials, note=note))

    run(main())
