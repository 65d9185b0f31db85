"""What the scripts of several clients share: what is given, a second of sound, and the report.

Run by the interpreters of the clients' own environments, beside the scripts; standard library only.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
from array import array
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

CHECK_S = 60.0
RATE_HZ = 16_000
PIECE = 3_200  # bytes, 100 ms


def given() -> Any:
    """Return what the run was given: URLs by emulator, backend, model."""
    return json.loads(sys.argv[1])


def tone(seconds: float = 1.0) -> bytes:
    """Return a tone as int16 mono 16 kHz."""
    count = round(RATE_HZ * seconds)
    return array("h", (round(9000 * math.sin(0.118 * n)) for n in range(count))).tobytes()


def pieces(pcm: bytes) -> Iterator[bytes]:
    """Yield sound in pieces of 100 ms."""
    for start in range(0, len(pcm), PIECE):
        yield pcm[start : start + PIECE]


def hold(condition: object, what: object) -> None:
    """Fail a check.

    Raises:
        AssertionError: it does not hold; `what` says what was found.
    """
    if not condition:
        raise AssertionError(f"not so: {what}")


def report(checks: Mapping[str, Callable[[], Awaitable[None]]], version: str) -> None:
    """Run every check; print what each found: "ok", "not here", or what happened."""

    async def all_of_them() -> dict[str, str]:
        found = {}
        for name, check in checks.items():
            try:
                await asyncio.wait_for(check(), CHECK_S)
                found[name] = "ok"
            except NotImplementedError:
                found[name] = "not here"
            except Exception as exc:  # noqa: BLE001 - whatever a client raises is a result
                found[name] = f"{type(exc).__name__}: {exc}"[:200].replace("\n", " ")
        return found

    print("\n" + json.dumps({"version": version, "found": asyncio.run(all_of_them())}))


async def not_here() -> None:
    """Stand for a check of what the client has not."""
    raise NotImplementedError
