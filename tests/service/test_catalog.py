"""Every entry of the journal is explained, in both languages, and the document is up to date."""

import re
import runpy
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from agentd.events import event_types
from agentd.service.catalog import MESSAGE_IDS

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "systemd"
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "events_table.py"))
OTHERS: dict[str, tuple[str, tuple[str, ...]]] = SCRIPT["OTHERS"]
parse_catalog: Callable[[str], dict[str, tuple[str, str]]] = SCRIPT["parse_catalog"]
CATALOGS = {
    "agentd.catalog": ("To do:", "Nothing needs to be done."),
    "agentd.id.catalog": ("Yang perlu dilakukan:", "Tidak ada yang perlu dilakukan."),
}


def shapes() -> dict[str, set[str]]:
    """Return what a catalog text may refer to, by event."""
    known = {kind.name: {field.name for field in fields(kind)} for kind in event_types()}
    known |= {name: set(names) for name, (_, names) in OTHERS.items()}
    always = {"MESSAGE_ID", "AGENTD_SESSION", "AGENTD_CONNECTION"}
    return {name: always | {f"AGENTD_{f.upper()}" for f in found} for name, found in known.items()}


@pytest.mark.parametrize("file", CATALOGS)
def test_every_entry_is_explained(file: str) -> None:
    """What happened, what it means, and what to do, for each MESSAGE_ID and for no other."""
    found = parse_catalog((SYSTEMD / file).read_text())
    missing = {name for name, id_ in MESSAGE_IDS.items() if id_ not in found}
    assert not missing, f"{file} lacks {missing}"
    assert set(found) == set(MESSAGE_IDS.values())
    for name, id_ in MESSAGE_IDS.items():
        subject, body = found[id_]
        assert subject, name
        assert any(advice in body for advice in CATALOGS[file]), f"{name}: no advice"


@pytest.mark.parametrize("file", CATALOGS)
def test_explanations_refer_to_fields_that_the_entry_has(file: str) -> None:
    """A renamed field shows here, not as @AGENTD_OLD@ on somebody's screen."""
    found = parse_catalog((SYSTEMD / file).read_text())
    for name, known in shapes().items():
        used = set(re.findall(r"@(\w+)@", "".join(found[MESSAGE_IDS[name]])))
        assert used <= known, f"{file}: {name}"


def test_journalctl_accepts_the_catalogs(tmp_path: Path) -> None:
    """Systemd's own parser takes both languages and finds every id."""
    if shutil.which("journalctl") is None:
        pytest.skip("journalctl is not installed (systemd)")
    source = tmp_path / "usr/lib/systemd/catalog"
    source.mkdir(parents=True)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    for file in CATALOGS:
        shutil.copy(SYSTEMD / file, source)
    update = ["journalctl", f"--root={tmp_path}", "--update-catalog"]
    done = subprocess.run(update, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    shown = ["journalctl", f"--root={tmp_path}", "--list-catalog"]
    listed = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in listed.splitlines()} == set(MESSAGE_IDS.values())


def test_the_document_lists_every_event() -> None:
    """docs/operator/service.md is what scripts/events_table.py writes."""
    document = (ROOT / "docs" / "operator" / "service.md").read_text()
    assert SCRIPT["renewed"](document) == document, "run scripts/events_table.py"
