"""The lists of packages hold what the code opens, runs and imports; README's commands are tried.

What a machine happens to have hides what a list lacks, so each path and program is looked up in
dpkg's own records, and must come with a package that the list brings: by name, or as a dependency.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path for package in ("agentd", "live_emulator") for path in (ROOT / package).rglob("*.py")
)
# Programs that a machine may lack, because the code does without and says so.
WITHOUT_SYSTEMD = {"systemctl", "systemd-creds", "journalctl"}

pytestmark = pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="no dpkg here")


# ── what the lists bring ──────────────────────────────────────────────────────────────────────


@functools.cache
def installed() -> dict[str, tuple[bool, frozenset[str]]]:
    """Return for each package: whether every Debian has it, and what it needs."""
    form = "${Package}\t${Essential}\t${Priority}\t${Pre-Depends}, ${Depends}\t${Provides}\n"
    shown = subprocess.run(
        ["dpkg-query", "-W", f"-f={form}"], check=True, capture_output=True, text=True
    ).stdout
    found: dict[str, tuple[bool, frozenset[str]]] = {}
    for line in shown.splitlines():
        name, essential, priority, needs, provides = line.split("\t")
        always = essential == "yes" or priority == "required"
        found[name] = always, frozenset(names_in(needs))
        for virtual in names_in(provides):
            found.setdefault(virtual, (always, frozenset({name})))
    return found


def names_in(relations: str) -> set[str]:
    """Return the packages in a field such as `a (>= 1), b | c`; of alternatives the first."""
    firsts = (part.split("|")[0] for part in relations.split(","))
    return {re.split(r"[ (:\[]", name.strip())[0] for name in firsts} - {""}


def closure(names: set[str]) -> set[str]:
    """Return `names` with all that they need, and what every Debian has."""
    known = installed()
    reached: set[str] = set()
    waiting = [*names, *(name for name, (always, _) in known.items() if always)]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += known.get(name, (False, frozenset()))[1]
    return reached


def checkout_packages() -> set[str]:
    """Return what `scripts/setup runtime` brings."""
    text = (ROOT / "requirements/debian-runtime.txt").read_text(encoding="utf-8")
    return closure({word for line in text.splitlines() for word in line.split("#")[0].split()})


def control_field(name: str) -> set[str]:
    """Return the packages that debian/control names in one field."""
    control = (ROOT / "debian/control").read_text(encoding="utf-8")
    found = re.search(rf"(?m)^{name}:(.*\n(?: .*\n)*)", control)
    assert found is not None
    return {name for name in names_in(found[1]) if not name.startswith("$")}


def package_packages() -> set[str]:
    """Return what `apt install --no-install-recommends ./agentd.deb` brings."""
    return closure({*control_field("Depends"), "python3"})


BRINGS = {"checkout": checkout_packages, "package": package_packages}


def pinned(lock: str) -> set[str]:
    """Return the distributions of a lock."""
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    return {normal(name) for name in re.findall(r"(?m)^([A-Za-z0-9._-]+)==", text)}


def normal(name: str) -> str:
    """Return a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


# ── what the code wants ───────────────────────────────────────────────────────────────────────


@functools.cache
def nodes() -> list[ast.AST]:
    """Return the syntax of the whole program."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES)
    return [node for tree in trees for node in ast.walk(tree)]


def files_opened() -> set[str]:
    """Return the absolute paths below /usr that stand in the code."""
    return {
        node.value
        for node in nodes()
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"/usr/[\w./-]+", node.value)
    }


def programs_run() -> set[str]:
    """Return the programs that the code starts by name."""
    starters = {"run", "Popen", "create_subprocess_exec", "run_command", "check_output"}
    found = set()
    for node in nodes():
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        first = node.args[0]
        if isinstance(first, ast.List) and first.elts:
            first = first.elts[0]
        if called in starters and isinstance(first, ast.Constant) and isinstance(first.value, str):
            found.add(first.value)
    commands = re.compile(r"(?m)^\s*command = \[\"([\w-]+)\"")  # put into a variable first
    for path in SOURCES:
        found |= set(commands.findall(path.read_text(encoding="utf-8")))
    return found


def modules_imported() -> set[str]:
    """Return the modules of others that the code imports anywhere, functions included."""
    found = set()
    for node in nodes():
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    # _typeshed exists for the type checker alone.
    return found - set(sys.stdlib_module_names) - {"agentd", "live_emulator", "_typeshed"}


@functools.cache
def owners(path: str) -> set[str]:
    """Return the Debian packages that brought a file or folder."""
    places = {path, path.removeprefix("/usr"), str(Path(path).resolve())}
    shown = subprocess.run(
        ["dpkg-query", "-S", *places], check=False, capture_output=True, text=True
    ).stdout
    lines = [line for line in shown.splitlines() if not line.startswith("diversion")]
    return {name.split(":")[0] for line in lines for name in line.split(": ")[0].split(", ")}


# ── facts ─────────────────────────────────────────────────────────────────────────────────────


def test_the_search_finds_what_is_known_to_be_there() -> None:
    """Or the tests below would hold nothing against the lists."""
    assert "/usr/share/sounds/alsa" in files_opened()
    assert {"amixer", "systemctl"} <= programs_run()
    assert {"pyaudio", "rich", "google", "cryptography"} <= modules_imported()


@pytest.mark.parametrize("kind", sorted(BRINGS))
def test_every_file_that_is_opened_comes_with_a_listed_package(kind: str) -> None:
    """A demo that speaks the words of a package brings that package."""
    brought = BRINGS[kind]()
    lacking = {path: owners(path) for path in files_opened() if not owners(path) & brought}
    assert lacking == {}


@pytest.mark.parametrize("kind", sorted(BRINGS))
def test_every_program_that_is_run_comes_with_a_listed_package(kind: str) -> None:
    """All but systemd's, which the code does without."""
    brought = BRINGS[kind]()
    lacking = set()
    for program in programs_run() - WITHOUT_SYSTEMD:
        path = shutil.which(program)
        assert path is not None, f"{program} is not on this machine"
        if not owners(path) & brought:
            lacking.add(program)
    assert lacking == set()


@pytest.mark.parametrize(
    ("kind", "lock", "optional"),
    [
        ("checkout", "runtime.lock", ("aec", "vad", "wake")),
        ("package", "device.lock", ("demo", "aec")),
    ],
)
def test_every_module_comes_with_a_list_or_is_an_extra(
    kind: str, lock: str, optional: tuple[str, ...]
) -> None:
    """An import that neither lock nor Debian package brings is of an extra that may be missing."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        normal(re.split(r"[^A-Za-z0-9._-]", wanted)[0])
        for extra in optional
        for wanted in project["optional-dependencies"][extra]
    }
    wheels, brought = pinned(lock), BRINGS[kind]()
    made_by = importlib.metadata.packages_distributions()
    lacking = set()
    for module in modules_imported():
        names = {normal(name) for name in made_by.get(module, [])}
        if names & (wheels | extras):
            continue
        found = importlib.util.find_spec(module)
        origin = found.origin if found is not None else None
        from_debian = {f"python3-{name}" for name in names} | (owners(origin) if origin else set())
        if not from_debian & brought:
            lacking.add(module)
    assert lacking == set()


def test_every_command_of_the_readme_is_tried_or_has_a_reason() -> None:
    """`scripts/fresh-root --each` runs what a bare Debian can."""
    place = ROOT / "scripts/readme_commands.py"
    spec = importlib.util.spec_from_file_location("readme_commands", place)
    assert spec is not None
    assert spec.loader is not None
    readme_commands = importlib.util.module_from_spec(spec)
    sys.modules["readme_commands"] = readme_commands  # dataclasses look their module up
    spec.loader.exec_module(readme_commands)
    assert readme_commands.named() == set(readme_commands.TRIALS)
    tried = [name for name, one in readme_commands.TRIALS.items() if " " not in one.where]
    assert {readme_commands.TRIALS[name].where for name in tried} == {"checkout", "package"}
    assert "make demo" in tried
