"""docs/user/troubleshooting.md speaks of events, settings and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

from agentd.cli.main import COMMANDS
from agentd.config.fields import walk_fields
from agentd.events import event_types

PAGE = (Path(__file__).parents[2] / "docs" / "user" / "troubleshooting.md").read_text(
    encoding="utf-8"
)
SECTIONS = ("live", "audio", "vad", "gpio", "network", "privacy", "sounds", "tools", "log")


def test_every_journal_line_is_of_an_event() -> None:
    """What stands before the colon in the first column is an event's name."""
    cells = re.findall(r"(?m)^\| `([a-z_]+): ", PAGE)
    known = {kind.name for kind in event_types()}
    assert len(cells) >= 15
    assert [name for name in cells if name not in known] == []


def test_every_setting_exists() -> None:
    """Keys of the configuration, with their section."""
    named = set(re.findall(rf"\b((?:{'|'.join(SECTIONS)})\.[a-z_]+)\b", PAGE))
    known = {key for key, _ in walk_fields()}
    assert len(named) >= 6
    assert named <= known, named - known


def test_every_command_exists() -> None:
    """`agentd …` in code."""
    code = "\n".join(re.findall(r"`[^`]+`|(?m:^    .*$)", PAGE))
    named = set(re.findall(r"\bagentd ([a-z]+)\b", code))
    assert len(named) >= 6
    assert named <= set(COMMANDS), named - set(COMMANDS)
