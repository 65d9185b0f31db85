"""What may import what: no circles, one direction, and one list of what is pure.

Everything counts: imports inside of functions and those for types alone. A reader follows both.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("agentd", "live_emulator", "rig")

LAYERS = (
    ("text", "environment"),
    ("errors", "events"),
    ("clock",),
    ("waiting", "named_files"),
    ("net",),
    ("config", "eventbus"),
    ("stage",),
    ("state", "audio"),
    ("vad", "service"),
    ("live", "client"),
    ("device",),
    ("tools", "sound"),
    ("network", "stages", "status", "methods", "touch", "calling"),
    ("daemon",),
    ("doctor",),
    ("cli",),
    ("demo", "provision"),
)
"""Rooms of `agentd/`, from the ground up: each may use those below it, and none beside it."""

IMPURE = frozenset(
    (
        "asyncio concurrent ctypes http io multiprocessing os queue random select selectors"
        " shutil signal socket ssl subprocess tempfile threading time urllib.request"
    ).split()
)
"""What reaches outside or waits: a pure module takes time, chance and files as values."""


@cache
def modules() -> dict[str, Path]:
    """Return every module of the packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@cache
def imports(name: str) -> frozenset[str]:
    """Return what a module imports, anywhere in it; our own as the module, others as written."""
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules() else node.module)
    return frozenset(found - {name})


def of_ours(name: str) -> list[str]:
    """Return the modules of the packages that a module imports."""
    return sorted(found for found in imports(name) if found in modules())


def circles() -> Iterator[list[str]]:
    """Yield each set of modules that import each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(name: str) -> Iterator[list[str]]:
        index[name] = low[name] = len(index)
        stack.append(name)
        for found in of_ours(name):
            if found not in index:
                yield from visit(found)
                low[name] = min(low[name], low[found])
            elif found in stack:
                low[name] = min(low[name], index[found])
        if low[name] == index[name]:
            circle = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(circle) > 1:
                yield sorted(circle)

    for name in modules():
        if name not in index:
            yield from visit(name)


def room(name: str) -> str:
    """Return the room of `agentd/` that a module is in; empty for the package itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else ""


def pure() -> list[str]:
    """Return the modules of the pure core."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        listed = tomllib.load(file)["tool"]["agentd"]["pure-core"]
    return [path.removesuffix(".py").replace("/", ".") for path in listed]


def test_no_modules_import_each_other() -> None:
    """Each can be read, and tested, before those that use it."""
    assert list(circles()) == []


def test_every_room_has_its_layer() -> None:
    """A new folder or file at the top is put somewhere on purpose."""
    rooms = {room(name) for name in modules() if name.startswith("agentd.")} - {""}
    layers = [name for layer in LAYERS for name in layer]
    assert len(layers) == len(set(layers))
    assert rooms == set(layers)


def test_imports_go_down() -> None:
    """From a room to those below it: never up, never to its neighbour."""
    height = {name: place for place, layer in enumerate(LAYERS) for name in layer}
    climbs = [
        f"{name} imports {found}"
        for name in modules()
        if name.startswith("agentd.") and room(name)
        for found in of_ours(name)
        if found.startswith("agentd.") and room(found) not in {"", room(name)}
        if height[room(found)] >= height[room(name)]
    ]
    assert climbs == []


def test_the_emulator_is_a_neighbour() -> None:
    """It knows nothing of agentd; only what needs a service of its own knows the emulator."""
    foreign = [
        f"{name} imports {found}"
        for name in modules()
        if name.startswith("live_emulator")
        for found in imports(name)
        if found.split(".")[0] in {"agentd", "rig", "tests"}
    ]
    assert foreign == []
    users = {
        room(name)
        for name in modules()
        if name.startswith("agentd.")
        for found in imports(name)
        if found.split(".")[0] == "live_emulator"
    }
    assert users <= {"cli", "demo", "doctor"}


def test_the_product_knows_neither_rig_nor_tests() -> None:
    """What only tests need is not in the package."""
    wrong = [
        f"{name} imports {found}"
        for name in modules()
        if not name.startswith("rig")
        for found in imports(name)
        if found.split(".")[0] in {"rig", "tests", "benchmarks"}
    ]
    assert wrong == []


ALLOWED = {
    "agentd.clock": {"asyncio", "ctypes", "time"},  # here time itself comes from
    "agentd.net.path": {"socket"},  # the names of address families
    "agentd.net.rtnetlink": {"os", "socket"},  # names of families and errors, addresses as text
}


@pytest.mark.parametrize("name", pure())
def test_the_pure_core_is_pure(name: str) -> None:
    """No loop, no socket, no file, no clock of its own; paths are values."""
    outside = {found.split(".")[0] for found in imports(name)} & IMPURE
    assert outside == ALLOWED.get(name, set())


def test_what_says_that_it_is_pure_is_listed() -> None:
    """A docstring whose first paragraph says "Pure." is a promise that the list holds."""

    def claims(path: Path) -> bool:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        return re.search(r"\bPure\.", docstring.split("\n\n")[0]) is not None

    claiming = {name for name, path in modules().items() if claims(path)}
    assert sorted(claiming - set(pure())) == []
