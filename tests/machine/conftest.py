"""One image, one installed disk, one kitchen for the checks that can share a boot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.machine import report as pages
from tests.machine.board import Board
from tests.machine.image import Image, base_image
from tests.machine.install import Installed, installed, package
from tests.machine.kitchen import Kitchen, own_kitchen
from tests.machine.report import Section

_SECTIONS = pytest.StashKey[dict[str, Section]]()
_COUNTS: dict[str, list[int]] = {}
_STARTED = time.monotonic()


@pytest.fixture(scope="session")
def image() -> Image:
    """Kernel, initramfs and disk, from the cache."""
    return base_image()


@pytest.fixture(scope="session")
def product(image: Image) -> Installed:
    """A disk on which apt has installed this tree's package."""
    return installed(image, package())


@pytest.fixture(scope="session")
def shared() -> list[Board]:
    """The machine that checks share, while there is one."""
    return []


@pytest.fixture(scope="module")
def alone(shared: list[Board]) -> None:
    """No other machine is on: two would take each other's time."""
    for board in shared:
        if board.is_on:
            board.switch_off()


@pytest.fixture(scope="session")
def kitchen(image: Image, product: Installed, shared: list[Board]) -> Iterator[Kitchen]:
    """A machine that is on, with the daemon connected."""
    with own_kitchen(image, product.disk) as kitchen:
        board = kitchen.board
        board.switch_on()
        board.wait_booted()
        kitchen.furnish()
        kitchen.start()
        shared.append(board)
        yield kitchen
        if board.is_on:
            board.switch_off()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the checks in the order of the report, whatever their files are called."""

    def place(item: pytest.Item) -> int:
        check = item.path.stem.removeprefix("check_")
        ours = item.path.parent == Path(__file__).parent
        return pages.ORDER.index(check) if ours and check in pages.ORDER else -1

    items.sort(key=place)


@pytest.fixture
def section(request: pytest.FixtureRequest, product: Installed) -> Section:
    """The part of the report that belongs to a check's file."""
    sections = request.config.stash.setdefault(_SECTIONS, {})
    check = request.path.stem.removeprefix("check_")
    if check not in sections:
        title, _, intro = (request.module.__doc__ or check).partition("\n")
        sections[check] = Section(
            check,
            title.strip().rstrip("."),
            " ".join(intro.split()),
            when=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            package=product.package,
            tests=sum(name.startswith("test_") for name in vars(request.module)),
        )
    return sections[check]


@pytest.fixture(scope="module", autouse=True)
def page(request: pytest.FixtureRequest) -> Iterator[None]:
    """When the last test of a check has come to its end, its part of the page is written."""
    yield
    check = request.path.stem.removeprefix("check_")
    section = request.config.stash.get(_SECTIONS, {}).get(check)
    if section is None:
        return
    section.passed, section.failed = _COUNTS.get(check, [0, 0])
    if section.is_whole:
        pages.save(section)
        pages.PAGE.write_text(pages.page(pages.load()), encoding="utf-8")


@pytest.fixture(autouse=True)
def told(request: pytest.FixtureRequest) -> Iterator[None]:
    """When a check fails, the journal since its beginning is in the report."""
    kitchen = request.getfixturevalue("kitchen") if "kitchen" in request.fixturenames else None
    since = kitchen.board.mark() if kitchen else 0
    yield
    if kitchen:
        print(kitchen.board.told()[:4000], "\n…\n", kitchen.board.told(since)[-12000:])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what passed and what failed, by check."""
    if report.when == "call" or report.failed:
        check = Path(report.fspath).stem.removeprefix("check_")
        _COUNTS.setdefault(check, [0, 0])[int(report.failed)] += 1


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the figures."""
    sections = config.stash.get(_SECTIONS, {})
    for check, section in sections.items():
        terminalreporter.section(f"{check}: {section.title}")
        for what, value in section.rows:
            terminalreporter.write_line(f"{what:56} {value}")
        if not section.is_whole:
            terminalreporter.write_line("not all of it was run: the page keeps what it had")
    if sections:
        terminalreporter.write_line(f"{time.monotonic() - _STARTED:.0f} s")
