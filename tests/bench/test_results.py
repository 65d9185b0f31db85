"""Medians, verdicts, tables and /proc readings of the benchmarks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.metrics import BY_KEY, METRICS
from benchmarks.process import (
    bytes_to_disk,
    children,
    cpu_s,
    memory,
    parse_rollup,
    parse_stat_cpu_s,
)
from benchmarks.report import BEGIN, END, conditions, markdown, plain, write_docs, write_json
from benchmarks.results import Results, reached, rows, shown

SYSTEMS = {"floor": "floor", "quickstart": "quickstart", "agentd": "agentd"}


def results() -> Results:
    """Return a small run."""
    made = Results()
    for value in (0.2, 0.3, 0.9):
        made.add("setup_s", "quickstart", value)
    made.add("setup_s", "agentd", 0.35)
    made.say("reconnect_s", "quickstart", "never (dies)")
    made.add("reconnect_s", "agentd", 0.4)
    return made


def test_every_metric_has_its_own_key() -> None:
    """No two rows share a key."""
    assert len(BY_KEY) == len(METRICS)


def test_worst_is_shown_where_it_matters() -> None:
    """A latency shows its median and its worst case, a memory size only its median."""
    assert shown(BY_KEY["barge_in_ms"], [100.0, 300.0, 110.0]) == "110 (300)"
    assert shown(BY_KEY["rss_idle_mib"], [50.0, 70.0, 51.0]) == "51"
    assert shown(BY_KEY["barge_in_ms"], []) == "–"


def test_goals_relative_to_a_reference() -> None:
    """Agentd's 0.35 s is within 1.2 times the quickstart's median of 0.3 s."""
    made = results()
    assert reached(BY_KEY["setup_s"], made, "agentd") == "✓"
    made.add("setup_s", "agentd", 0.5)
    assert reached(BY_KEY["setup_s"], made, "agentd") == "✗"


def test_near_a_goal_is_within_the_noise() -> None:
    """A median a little above its goal is neither reached nor missed."""
    made = Results()
    made.add("cpu_silence", "quickstart", 1.5)
    made.add("cpu_silence", "agentd", 1.7)
    assert reached(BY_KEY["cpu_silence"], made, "agentd") == "≈"
    made.add("missing_ms", "agentd", 20.0)
    assert reached(BY_KEY["missing_ms"], made, "agentd") == "✗"


def test_absolute_goals_and_none() -> None:
    """A goal in seconds needs no reference; without a sample or a goal there is no verdict."""
    made = results()
    assert reached(BY_KEY["reconnect_s"], made, "agentd") == "✗"
    assert reached(BY_KEY["cpu_speech"], made, "agentd") == ""
    assert reached(BY_KEY["first_frame_s"], made, "agentd") == ""


def test_table_has_words_where_there_are_no_numbers() -> None:
    """What dies shows so; rows without any sample are left out."""
    table = rows(results(), SYSTEMS)
    by_title = {row[0]: row for row in table}
    assert by_title[BY_KEY["reconnect_s"].title][2:5] == ["–", "never (dies)", "0.40"]
    assert BY_KEY["cpu_reply"].title not in by_title
    assert {len(row) for row in table} == {len(table[0])}


def test_tables_hold_every_cell() -> None:
    """Both renderings show every row."""
    table = rows(results(), SYSTEMS)
    assert len(plain(table).splitlines()) == len(table) + 1
    assert len(markdown(table).splitlines()) == len(table) + 1


def test_documents_keep_what_is_around_the_table(tmp_path: Path) -> None:
    """Writing the table leaves the prose alone and can be repeated."""
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", "utf-8")
    for _ in range(2):
        write_docs(page, conditions("quick", 0.0, 60.0), results(), SYSTEMS, [])
    text = page.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("never (dies)") == 1


def test_documents_without_a_place_are_refused(tmp_path: Path) -> None:
    """A page without the marks is not overwritten."""
    page = tmp_path / "performance.md"
    page.write_text("prose", "utf-8")
    with pytest.raises(ValueError, match="no place for the table"):
        write_docs(page, conditions("quick", 0.0, 60.0), results(), SYSTEMS, [])
    assert page.read_text("utf-8") == "prose"


def test_json_holds_every_sample(tmp_path: Path) -> None:
    """The JSON file has the samples, not only their median."""
    path = tmp_path / "deep" / "last.json"
    write_json(path, conditions("full", 1.0, 600.0), results(), [])
    document = json.loads(path.read_text("utf-8"))
    assert document["metrics"]["setup_s"]["quickstart"]["samples"] == [0.2, 0.3, 0.9]
    assert document["metrics"]["setup_s"]["quickstart"]["median"] == 0.3
    assert document["instead_of_a_number"]["reconnect_s"]["quickstart"] == "never (dies)"


def test_cpu_of_a_process_with_a_strange_name() -> None:
    """A process may be called anything; user, system and waited-for children count."""
    ticks = os.sysconf("SC_CLK_TCK")
    stat = f"7 (a) b (c) S 1 1 1 0 -1 0 0 0 0 0 {ticks} {2 * ticks} {3 * ticks} {4 * ticks} 20 0"
    assert parse_stat_cpu_s(stat) == 10.0


def test_memory_from_the_rollup() -> None:
    """RSS and PSS come from smaps_rollup."""
    held = parse_rollup("5-7 ---p 0 00:00 0 [rollup]\nRss:  2048 kB\nPss:  1024 kB\n")
    assert (held.rss_mib, held.pss_mib) == (2.0, 1.0)


def test_own_process_can_be_read() -> None:
    """What is read from /proc of this process is plausible."""
    assert os.getpid() in children(os.getpid())
    assert cpu_s(os.getpid()) > 0.0
    assert memory(os.getpid()).rss_mib > 5.0
    assert bytes_to_disk(os.getpid()) >= 0
