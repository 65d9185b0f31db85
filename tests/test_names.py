"""One word, one thing: in the code, and in the pages that link to each other."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GLOSSARY = ROOT / "docs" / "developer" / "glossary.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELVES = {"user", "operator", "developer", "measured", "images"}


def twice(named: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the names with more than one place."""
    return {name: places for name, places in named.items() if len(places) > 1}


def test_no_class_is_there_twice() -> None:
    """Whoever reads a name in agentd/ knows which class it is."""
    found = defaultdict(list)
    for path in sorted((ROOT / "agentd").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(ROOT)))
    assert twice(found) == {}


def test_a_file_name_that_is_there_twice_has_a_reason() -> None:
    """The glossary says why, for exactly those that are."""
    found = defaultdict(list)
    for path in sorted((ROOT / "agentd").rglob("*.py")):
        if path.name not in {"__init__.py", "__main__.py"}:
            found[path.name].append(str(path.relative_to(ROOT / "agentd")))
    table = GLOSSARY.read_text(encoding="utf-8").partition("more than once")[2]
    reasons = {
        Path(names[0]).name: sorted(names)
        for row in table.splitlines()
        if len(names := re.findall(r"`([a-z/]+\.py)`", row)) > 1
    }
    assert reasons == {name: sorted(places) for name, places in twice(found).items()}


def _anchor(heading: str) -> str:
    """Return what GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _headings(page: Path) -> set[str]:
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    return {_anchor(heading) for heading in re.findall(r"(?m)^#+ (.*)$", text)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading that it has."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    lost = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in _headings(path)):
            lost.append(f"{target}#{anchor}")
    assert lost == []


def test_every_page_has_its_shelf_and_is_listed() -> None:
    """README.md leads to each page that people read; what runs wrote is beside that order."""
    docs = ROOT / "docs"
    assert {path.name for path in docs.iterdir() if path.is_dir()} == SHELVES
    assert [path.name for path in docs.glob("*.md")] == ["install.md"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    unlisted = [
        str(page.relative_to(ROOT))
        for page in PAGES[1:]
        if page.parent.name != "measured" and f"({page.relative_to(ROOT)})" not in readme
    ]
    assert unlisted == []
