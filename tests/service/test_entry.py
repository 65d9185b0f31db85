"""The three forms of an entry, and that none of them can carry anything private."""

import json
import logging
import re
import typing
from dataclasses import fields, replace
from typing import Any

import pytest

from agentd.clock import WallTime
from agentd.events import (
    Disconnected,
    EndReason,
    Event,
    HandleStored,
    LinkChanged,
    Resumed,
    UtteranceHeard,
    event_types,
)
from agentd.service.catalog import MESSAGE_IDS
from agentd.service.entry import (
    PRIORITIES,
    JournalEntry,
    entry_of,
    journal_fields,
    json_line,
    safe_value,
    text_line,
)

NOW = WallTime(1_800_000_000.25, synchronised=True)
RESUMED = Resumed(connection=3, gap_ms=640.25, handle_age_s=12.0, rung="newest")
ALL_EVENTS = event_types()
HOSTILE = "a\nMESSAGE_ID=0\x1b[2J\u202e key=0123456789 " + "x" * 5000
RESERVED = {"time", "level", "event", "message", "traceback", "session"}


def sample(kind: type[Event], text: str) -> Event:
    """Return an event with `text` in every text field."""
    hints = typing.get_type_hints(kind)
    values: dict[str, object] = {}
    for field in fields(kind):
        hint = hints[field.name]
        if isinstance(hint, type) and hint.__module__ == "agentd.events":
            values[field.name] = next(iter(hint))  # type: ignore[call-overload]
        else:
            plain = {str: text, int: 7, float: 1.5, float | None: 1.5, bool: True}
            values[field.name] = plain[hint]
    return kind(**values)


@pytest.mark.parametrize("kind", ALL_EVENTS, ids=lambda kind: kind.name)
def test_no_event_can_carry_speech_or_secrets(kind: type[Event]) -> None:
    """Fields are numbers, flags, enums and short words; none is meant for what was said."""
    names = {field.name for field in fields(kind)}
    assert not names & {
        "text", "pcm", "audio", "transcript", "content", "instruction", "arguments", "args",
        "result", "key_value", "token", "secret", "credential", "url", "uri", "address", "password",
    }  # fmt: skip
    hints = typing.get_type_hints(kind)
    assert {hints[name] for name in names} <= {str, int, float, float | None, bool, EndReason}


@pytest.mark.parametrize("kind", ALL_EVENTS, ids=lambda kind: kind.name)
def test_hostile_text_is_tamed_in_every_field_of_every_event(kind: type[Event]) -> None:
    """Whatever a peer or a device puts into a text field: bounded, one line, no credential."""
    entry = entry_of(sample(kind, HOSTILE))
    forms = (entry.message, *map(str, entry.fields.values()))
    for text in forms:
        assert len(text) <= 1000
        assert not re.search(r"[\x00-\x1f\x7f\u202e]", text)
        assert "0123456789" not in text
    assert sum(len(text) for text in journal_fields(entry).values()) < 4096
    assert len(text_line(entry, NOW).splitlines()) == 1
    assert json.loads(json_line(entry, NOW))["event"] == kind.name


@pytest.mark.parametrize("kind", ALL_EVENTS, ids=lambda kind: kind.name)
def test_every_event_has_its_own_place_in_the_journal(kind: type[Event]) -> None:
    """A MESSAGE_ID, a priority, a message, and field names that journald accepts."""
    entry = entry_of(sample(kind, "word"))
    shown = journal_fields(entry)
    assert re.fullmatch(r"[0-9a-f]{32}", shown["MESSAGE_ID"])
    assert shown["PRIORITY"] in {str(number) for number in PRIORITIES.values()}
    assert shown["MESSAGE"]
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name) for name in shown)
    assert not {field.name for field in fields(kind)} & RESERVED


def test_message_ids_are_unique_and_there_is_none_too_many() -> None:
    """One id per event, and for the three entries that are none."""
    assert len(set(MESSAGE_IDS.values())) == len(MESSAGE_IDS)
    assert set(MESSAGE_IDS) == {kind.name for kind in ALL_EVENTS} | {"log", "crash", "suppressed"}


def test_the_journal_form_follows_the_contract() -> None:
    """`journalctl AGENTD_EVENT=resumed` finds it, with the gap in its own field."""
    assert journal_fields(entry_of(RESUMED)) == {
        "MESSAGE": "connection 3: resumed in 640 ms",
        "MESSAGE_ID": MESSAGE_IDS["resumed"],
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "agentd",
        "AGENTD_EVENT": "resumed",
        "AGENTD_CONNECTION": "3",
        "AGENTD_GAP_MS": "640.25",
        "AGENTD_HANDLE_AGE_S": "12",
        "AGENTD_RUNG": "newest",
    }


def test_flags_and_enums_are_words_in_the_journal() -> None:
    """Yes and no, and the value of an enum."""
    link = journal_fields(entry_of(LinkChanged(interface="wlan0", online=False)))
    assert link["AGENTD_ONLINE"] == "no"
    heard = UtteranceHeard(utterance=1, speech_ms=900.0, reason=EndReason.MAX_LENGTH)
    assert journal_fields(entry_of(heard))["AGENTD_REASON"] == "max_length"
    assert entry_of(heard).message == "heard 900 ms of speech (max_length)"


def test_the_text_form_is_for_people() -> None:
    """Time, level, name, message; details are indented below."""
    assert text_line(entry_of(RESUMED), NOW) == (
        "2027-01-15T08:00:00.250+00:00 info     resumed: connection 3: resumed in 640 ms"
    )
    crash = JournalEntry("crash", logging.CRITICAL, "boom", detail="one\ntwo")
    assert text_line(crash, NOW).endswith("critical crash: boom\n    one\n    two")


def test_the_json_form_is_for_programs() -> None:
    """Key `event`, ISO time, fields by their names, numbers as numbers."""
    assert json.loads(json_line(entry_of(RESUMED), NOW)) == {
        "time": "2027-01-15T08:00:00.250+00:00",
        "level": "info",
        "event": "resumed",
        "message": "connection 3: resumed in 640 ms",
        "connection": 3,
        "gap_ms": 640.25,
        "handle_age_s": 12.0,
        "rung": "newest",
    }


def test_json_stays_json_with_numbers_that_json_does_not_know() -> None:
    """Infinity becomes null."""
    line = json_line(JournalEntry("log", logging.INFO, "m", {"a": float("inf")}, "trace"), NOW)
    assert (json.loads(line)["a"], json.loads(line)["traceback"]) == (None, "trace")
    assert "Infinity" not in line


def test_a_traceback_is_a_field_of_its_own() -> None:
    """With its line breaks; a field without a value is left out."""
    fields = journal_fields(
        JournalEntry("crash", logging.CRITICAL, "boom", {"none": None}, "one\ntwo")
    )
    assert fields["AGENTD_TRACEBACK"] == "one\ntwo"
    assert fields["PRIORITY"] == "2"
    assert "AGENTD_NONE" not in fields


def test_a_handle_that_slips_into_an_event_is_logged_as_a_fingerprint() -> None:
    """Defence in depth: the real value never passes, a fingerprint does."""
    secret = "CihjNnl4ZGFkYmFi"  # shorter than what redaction by name needs
    shown = entry_of(HandleStored(handle=secret))
    assert secret not in shown.message
    assert re.fullmatch(r"[0-9a-f]{8}", str(shown.fields["handle"]))
    assert safe_value("handle", "0a1b2c3d") == "0a1b2c3d"


def test_an_entry_outside_the_table_has_no_message_id() -> None:
    """An unknown name and level still make an entry."""
    shown = journal_fields(JournalEntry("other", 25, "m"))
    assert "MESSAGE_ID" not in shown
    assert shown["PRIORITY"] == "5"


def test_the_peers_words_are_bounded() -> None:
    """A close reason of the service cannot flood the journal."""
    event = Disconnected(
        connection=1, phase="live", cause="closed", close_code=1008, reason="r" * 9000, retry_in_s=0
    )
    assert len(str(entry_of(event).fields["reason"])) == 240


@pytest.mark.parametrize("kind", ALL_EVENTS, ids=lambda kind: kind.name)
def test_no_line_says_its_name_twice_or_counts_one_as_several(kind: type[Event]) -> None:
    """It was "echo: echo: …", and "1 turns restored"."""
    event = sample(kind, "x")
    hints = typing.get_type_hints(kind)
    one: dict[str, Any] = {item.name: 1 for item in fields(kind) if hints[item.name] is int}
    line = text_line(entry_of(replace(event, **one)), NOW)
    words = line.split(f" {kind.name}: ", 1)[1]
    assert not words.startswith(f"{kind.name}:")
    assert not re.search(r"(?<![\d.])1 (?!ms|is|was|rings)[a-z]+s\b", words), line
    assert "(s)" not in words
