"""`make bench`: measure agentd beside its references and print a table."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from agentd.audio.echo.policy import is_installed as installed
from benchmarks import (
    barge_in,
    measure_breaks,
    measure_paths,
    measure_scene,
    measure_start,
    measure_talk,
    micro,
)
from benchmarks.bench import FULL, QUICK, Bench, Effort, tell
from benchmarks.report import conditions, plain, sentence, stage_rows, write_docs, write_json
from benchmarks.results import Results, rows
from benchmarks.service import Service
from benchmarks.speech import words
from benchmarks.systems import SYSTEMS, System, reason_to_skip
from benchmarks.voice_gate import audio_directory
from rig.sound import SoundRig, missing_programs

ROOT = Path(__file__).resolve().parent.parent
PARTS: dict[str, Callable[[Bench], None]] = {
    "talk": measure_talk.measure,
    "start": measure_start.measure,
    "scene": measure_scene.measure,
    "breaks": measure_breaks.measure,
    "paths": measure_paths.measure,
}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about three minutes, one round")
    parser.add_argument("--rounds", type=int, metavar="N", help="conversations with each system")
    parser.add_argument(
        "--only", choices=[*PARTS, "stages", "echo"], action="append", help="repeat it"
    )
    parser.add_argument("--systems", choices=SYSTEMS, action="append", help="repeat it")
    parser.add_argument(
        "--json", type=Path, default=ROOT / "benchmarks" / "results" / "last.json", metavar="FILE"
    )
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help="put the tables into docs/developer/performance.md",
    )
    return parser.parse_args(argv)


def chosen(names: Sequence[str] | None, results: Results, effort: Effort) -> list[System]:
    """Return the systems to measure, with a word about those that cannot be."""
    systems = []
    for system in SYSTEMS.values():
        if names and system.name not in names:
            continue
        if reason := reason_to_skip(system):
            results.skip(f"{system.title}: {reason}")
        elif not names and effort.is_quick and system.name == "agentd-aec":
            results.skip("agentd + AEC: not in the quick run")
        else:
            systems.append(system)
    return systems


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    args = arguments(argv)
    results = Results()
    effort = QUICK if args.quick else FULL
    effort = replace(effort, rounds=args.rounds or effort.rounds)
    begin_s, load = time.monotonic(), os.getloadavg()[0]
    parts = args.only or [*PARTS, "stages", *(() if args.quick else ("echo",))]
    systems = chosen(args.systems, results, effort)
    if missing := missing_programs():
        results.skip(f"everything with sound: {', '.join(missing)} missing")
    elif not words():
        results.skip("everything with speech: alsa-utils' spoken WAVs are missing")
    else:
        _with_sound(systems, effort, parts, results)
    costs = micro.measure(results) if "stages" in parts else []
    run = conditions(effort.name, load, time.monotonic() - begin_s)
    titles = {system.name: system.title for system in systems}
    print(sentence(run))
    print("\nMedian of several, worst in brackets where it matters. ✓ ≈ ✗: agentd and its goal.\n")
    print(plain(rows(results, titles)))
    if costs:
        print("\n" + plain(stage_rows(costs)))
    if "echo" in parts:
        print("\nSomebody speaks over replies that the microphone hears (virtual clock):\n")
        print(plain(barge_in.table()))
        if audio_directory() and installed():
            from benchmarks import echo

            print("\nThe same with recorded rooms and voices:\n")
            echo.main()
    for why in results.skipped:
        print(f"not measured: {why}")
    write_json(args.json, run, results, costs)
    tell(f"\nsamples: {args.json}")
    if args.write_docs:
        write_docs(ROOT / "docs" / "developer" / "performance.md", run, results, titles, costs)
    return 0


def _with_sound(
    systems: Sequence[System], effort: Effort, parts: Sequence[str], results: Results
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        SoundRig() as rig,
        Service(reply="tone", tone_s=effort.reply_s) as service,
    ):
        log = ROOT / "benchmarks" / "results" / "output.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        bench = Bench(rig, service, results, effort, systems, Path(name), log)
        for part, measure in PARTS.items():
            if part not in parts:
                continue
            try:
                measure(bench)
            except (LookupError, OSError, RuntimeError, TimeoutError) as problem:
                # Twenty minutes of samples are worth more than a clean end.
                results.skip(f"the rest of part {part}: {problem!r}")


if __name__ == "__main__":
    raise SystemExit(main())
