"""What the kernel knows about a process under test: CPU time, memory, bytes written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident and proportional set size."""

    rss_mib: float
    pss_mib: float


def children(pid: int) -> list[int]:
    """Return a process and all its living descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += children(int(child))
    return found


def parse_stat_cpu_s(stat: str) -> float:
    """Return CPU seconds from a line of /proc/PID/stat: its own and of children it waited for."""
    after_name = stat.rpartition(")")[2].split()
    return sum(int(ticks) for ticks in after_name[11:15]) / TICKS_PER_S


def cpu_s(pid: int) -> float:
    """Return CPU seconds used so far, user and system, descendants included."""
    return sum(parse_stat_cpu_s(Path(f"/proc/{p}/stat").read_text()) for p in children(pid))


def parse_rollup(text: str) -> Memory:
    """Read /proc/PID/smaps_rollup."""
    kib = {
        line.split(":")[0]: int(line.split()[1])
        for line in text.splitlines()
        if line.endswith(" kB")
    }
    return Memory(kib["Rss"] / 1024, kib["Pss"] / 1024)


def memory(pid: int) -> Memory:
    """Return the memory of a process and its descendants."""
    parts = [parse_rollup(Path(f"/proc/{p}/smaps_rollup").read_text()) for p in children(pid)]
    return Memory(sum(m.rss_mib for m in parts), sum(m.pss_mib for m in parts))


def bytes_to_disk(pid: int) -> int:
    """Return bytes a process caused to be written to block devices (not to tmpfs)."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    values = dict(line.split(": ") for line in lines)
    return int(values["write_bytes"])
