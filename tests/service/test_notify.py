"""What systemd is told, and when the watchdog is fed."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentd.clock import FakeClock
from agentd.events import Event, Starving
from agentd.service.notify import Heartbeat, Notifier
from agentd.service.statustext import duration_text, status_sentence
from agentd.service.watchdog import Evidence, Watchdog


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A notify socket as systemd has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(10)
        yield server


def told(manager: socket.socket) -> list[str]:
    """Return what has been sent so far."""
    messages = []
    manager.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            messages.append(manager.recv(4096).decode())
    return messages


def test_systemd_is_told_each_step(manager: socket.socket) -> None:
    """Ready, status, reloading, stopping, watchdog, in the words of sd_notify(3)."""
    notifier = Notifier(manager.getsockname())
    notifier.ready()
    notifier.status("idle\nREADY=1")
    notifier.status("idle\nREADY=1")
    notifier.reloading(1234)
    notifier.feed()
    notifier.stopping()
    assert told(manager) == [
        "READY=1",
        "STATUS=idle READY=1",
        "RELOADING=1\nMONOTONIC_USEC=1234",
        "WATCHDOG=1",
        "STOPPING=1",
    ]
    notifier.close()
    notifier.close()
    notifier.ready()
    assert told(manager) == []


def test_a_reload_carries_the_kernels_monotonic_time(manager: socket.socket) -> None:
    """Systemd compares it with its own clock."""
    Notifier(manager.getsockname()).reloading()
    assert int(told(manager)[0].split("MONOTONIC_USEC=")[1]) > 0


def test_an_abstract_socket_is_reached() -> None:
    """`@name` is systemd's notation for it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        name = f"agentd-test-{os.getpid()}"
        server.bind(f"\0{name}")
        server.settimeout(10)
        Notifier(f"@{name}").ready()
        assert server.recv(100) == b"READY=1"


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    """No variable, or a socket that is gone."""
    silent = Notifier.from_environment({})
    silent.ready()
    assert not silent.active
    gone = Notifier(str(tmp_path / "gone"))
    gone.ready()
    assert gone.active


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_ours_only_if_meant_for_us(
    environ: dict[str, str], watchdog_s: float | None
) -> None:
    """A child process must not feed in our name."""
    assert Notifier.from_environment(environ).watchdog_s == watchdog_s


def test_the_watchdog_is_fed_while_frames_advance() -> None:
    """The first frames, more frames; not the same number again."""
    watchdog = Watchdog()
    assert watchdog.stalled_s(0.0) == 0.0
    counts = [0, 10, 10, 11]
    fed = [watchdog.feed(Evidence(n), 10.0 * i) for i, n in enumerate(counts)]
    assert fed == [True, True, False, True]


def test_a_told_absence_of_frames_is_healthy_and_a_silent_one_is_not() -> None:
    """Muted or without microphone it lives on; deaf without a word it starves."""
    watchdog = Watchdog()
    watchdog.feed(Evidence(5), 0.0)
    assert watchdog.feed(Evidence(5, muted=True), 10.0)
    assert watchdog.feed(Evidence(5, told_lost=True), 10.0)
    assert not watchdog.feed(Evidence(5), 20.0)
    assert watchdog.stalled_s(25.0) == 15.0


def test_a_microphone_that_hangs_is_no_excuse_however_well_it_is_told() -> None:
    """P1: a stuck stream may block every later opening; muted, nobody waits for it."""
    watchdog = Watchdog()
    watchdog.feed(Evidence(5), 0.0)
    assert not watchdog.feed(Evidence(5, told_lost=True, wedged=1), 10.0)
    assert watchdog.feed(Evidence(5, muted=True, told_lost=True, wedged=1), 20.0)
    assert watchdog.feed(Evidence(6, wedged=1), 30.0)


class Life:
    """A heartbeat with evidence that a test sets."""

    def __init__(self, address: str | None, watchdog_s: float | None = 30.0) -> None:
        self.clock = FakeClock()
        self.events: list[Event] = []
        self.evidence = Evidence(0)
        self.sentence = "idle"
        self.heart = Heartbeat(
            Notifier(address, watchdog_s=watchdog_s),
            clock=self.clock,
            emit=self.events.append,
            evidence=lambda: self.evidence,
            sentence=lambda: self.sentence,
        )


def test_a_starving_daemon_says_so_once_before_systemd_acts(manager: socket.socket) -> None:
    """P1: the cause is in the journal; feeding resumes if frames come back in time."""
    life = Life(manager.getsockname())
    for frames in (1, 1, 1, 2):
        life.evidence = Evidence(frames)
        life.heart.beat()
        life.clock.advance(10.0)
    assert told(manager).count("WATCHDOG=1") == 2
    assert life.events == [Starving(stalled_s=10.0)]


def test_without_a_watchdog_nobody_starves(manager: socket.socket) -> None:
    """The status is kept all the same."""
    life = Life(manager.getsockname(), watchdog_s=None)
    life.heart.beat()
    life.heart.beat()
    assert life.events == []
    assert life.heart.period_s == 30.0


def test_the_heart_beats_three_times_per_watchdog_period(manager: socket.socket) -> None:
    """On the virtual clock; the loop must turn for each beat."""

    async def scenario() -> None:
        life = Life(manager.getsockname())
        enough = asyncio.Event()
        looks: list[float] = []

        def look() -> Evidence:
            looks.append(life.clock.monotonic())
            if len(looks) == 10:
                enough.set()
            return Evidence(0, muted=True)

        life.heart._evidence = look
        task = asyncio.create_task(life.heart.run())
        await asyncio.wait_for(enough.wait(), 30)
        task.cancel()
        assert looks[:10] == [1000.0 + 10.0 * beat for beat in range(10)]

    asyncio.run(scenario())
    assert told(manager).count("WATCHDOG=1") >= 10


def test_a_refresh_renews_the_sentence_between_beats(manager: socket.socket) -> None:
    """The state in `systemctl status` is not ten seconds old."""

    class Still(FakeClock):
        async def sleep(self, seconds: float) -> None:
            await asyncio.Event().wait()

    async def scenario() -> None:
        life = Life(manager.getsockname())
        life.heart._clock = Still()
        task = asyncio.create_task(life.heart.run())
        await asyncio.sleep(0)
        life.sentence = "listening"
        life.heart.refresh()
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(scenario())
    assert told(manager) == ["WATCHDOG=1", "STATUS=idle", "STATUS=listening"]


def test_without_systemd_the_heart_rests() -> None:
    """No timer wakes the machine for nobody."""
    asyncio.run(asyncio.wait_for(Life(None).heart.run(), 10))


STATUS = {
    "state": "listening",
    "muted": False,
    "uptime_s": 90_000,
    "session": {"connected": True, "connections": 19, "age_s": 11_520, "last_resume_ms": 640.0},
    "network": {"interface": "wlan0", "online": True},
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "listening; session up 3 h 12 min over 19 connections; last resume 0.6 s"),
        (
            {"state": "follow_up", "session": {"connected": True, "connections": 1}},
            "follow up; session up 1 d 1 h over 1 connection",
        ),
        (
            {"state": "idle", "muted": True, "session": {"connected": True, "connections": 2},
             "uptime_s": None},
            "idle, muted; session over 2 connections",
        ),
        (
            {"state": "offline", "cause": "no_network", "network": {"online": False},
             "session": {"connected": False, "connections": 3, "last_resume_ms": None}},
            "offline (no network); no network; not connected, 3 connections so far",
        ),
        ({"state": "muted", "muted": True, "session": {}}, "muted; no session yet"),
        ({"state": "offline", "session": {"connections": 2, "trouble": "dns_failure"}},
         "offline; not connected (dns failure), 2 connections so far"),
        ({"state": "fatal", "cause": "no_speaker", "audio": {"playback": {"trouble": "gone"}}},
         "fatal (no speaker); session up 3 h 12 min over 19 connections; last resume 0.6 s"),
        ({"audio": {"playback": {"trouble": "gone"}, "capture": {"trouble": ""}}},
         "listening; no speaker; session up 3 h 12 min over 19 connections; last resume 0.6 s"),
        ({"state": "fatal", "cause": "refused", "session": {},
          "audio": {"playback": {"trouble": "gone"}, "capture": {"trouble": "gone"}}},
         "fatal (refused); no microphone, no speaker; no session yet"),
        ({"state": "fatal", "cause": "refused", "session": None, "network": None},
         "fatal (refused); no session yet"),
    ],
)  # fmt: skip
def test_the_status_is_a_sentence(change: dict[str, object], sentence: str) -> None:
    """What a person reads in `systemctl status`."""
    assert status_sentence(STATUS | change) == sentence


def test_an_empty_status_is_a_sentence_too() -> None:
    """Before anything is known."""
    assert status_sentence({}) == "starting; no session yet"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h 0 min"),
     (86_399, "23 h 59 min"), (86_400 * 3 + 7200, "3 d 2 h"), (-5, "0 s")],
)  # fmt: skip
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    """Two units at most."""
    assert duration_text(seconds) == text
