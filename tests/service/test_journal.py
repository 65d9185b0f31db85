"""The journal as a whole: levels, context, limits, libraries, crashes, and its outlets."""

import asyncio
import fcntl
import io
import json
import logging
import os
import socket
import struct
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.clock import FakeClock
from agentd.config.settings import Log, Settings
from agentd.events import BadFrame, Connecting, Event, Muted, Resumed, SessionFresh, TurnStarted
from agentd.service.entry import JournalEntry, text_line
from agentd.service.journal import Journal
from agentd.service.journald import BACKLOG, JournaldOutlet, datagram
from agentd.service.logbridge import LogBridge, crash_entry, describe, install, install_loop_handler
from agentd.service.outlets import MemoryOutlet, StreamOutlet, choose_outlet
from agentd.service.ratelimit import BURST, WINDOW_S, RateLimit
from agentd.text import VALUE_LIMIT

KEY = "AIza" + "SyD3adB33f_-0123456789abcdefghijklm"
FRESH = SessionFresh(connection=1, cause="first", restored_turns=0, gap_ms=0.0)
MUTED = Muted(by="button")


class Bench:
    """A journal into memory, on a virtual clock."""

    def __init__(self, level: str = "info") -> None:
        self.clock = FakeClock()
        self.outlet = MemoryOutlet()
        self.journal = Journal(self.outlet, clock=self.clock, level=level)

    @property
    def names(self) -> list[str]:
        return [entry.name for entry in self.outlet.entries]


@pytest.mark.anyio
async def test_events_below_the_level_are_not_logged() -> None:
    """At info, debug events stay out; the level changes on reload."""
    bench = Bench()
    quiet = TurnStarted(turn=1)
    bench.journal.on_event(quiet)
    bench.journal.on_event(MUTED)
    await bench.journal.configure(Settings(log=Log(level="debug")))
    bench.journal.on_event(quiet)
    await bench.journal.configure(Settings(log=Log(level="error")))
    bench.journal.on_event(MUTED)
    assert bench.names == ["muted", "turn_started"]


def test_every_entry_says_in_which_session_and_connection_it_happened() -> None:
    """Also when the event that began them is below the level."""
    bench = Bench()
    events: list[Event] = [
        MUTED,
        FRESH,
        MUTED,
        Connecting(connection=2, rung="newest"),
        MUTED,
        Resumed(connection=2, gap_ms=1.0, handle_age_s=1.0, rung="newest"),
        SessionFresh(connection=3, cause="handle_expired", restored_turns=2, gap_ms=1.0),
        MUTED,
    ]
    for event in events:
        bench.journal.on_event(event)
    shown = [(e.fields.get("session"), e.fields.get("connection")) for e in bench.outlet.entries]
    assert shown == [(None, None), (1, 1), (1, 1), (1, 2), (1, 2), (2, 3), (2, 3)]


def test_a_flood_is_bounded_and_its_size_told() -> None:
    """C1/L8: of ten thousand bad frames a minute thirty entries remain, and the number."""
    bench = Bench()
    for count in range(10_000):
        bench.journal.on_event(BadFrame(problem="not JSON", count=count))
    bench.journal.on_event(MUTED)  # another event is not held up by it
    assert bench.names == ["bad_frame"] * BURST + ["muted"]
    bench.clock.advance(WINDOW_S)
    bench.journal.tick()
    last = bench.outlet.entries[-1]
    assert last.message == f"{10_000 - BURST} more bad_frame entries were suppressed"
    assert last.fields["count"] == 10_000 - BURST
    bench.journal.on_event(BadFrame(problem="not JSON", count=1))
    assert bench.names[-2:] == ["suppressed", "bad_frame"]


def test_what_was_suppressed_is_told_at_the_end_too() -> None:
    """Stopping within the window does not hide the number; nothing suppressed tells nothing."""
    bench = Bench()
    bench.journal.on_event(MUTED)
    bench.journal.close()
    for _ in range(BURST + 1):
        bench.journal.on_event(MUTED)
    bench.journal.close()
    assert bench.names == ["muted"] * (BURST + 1) + ["suppressed"]


def test_the_limit_counts_per_name_and_window() -> None:
    """A new window lets entries pass again."""
    limit = RateLimit(burst=2, window_s=10.0)
    assert [limit.allow("a", 0.0) for _ in range(3)] == [True, True, False]
    assert limit.allow("b", 0.0)
    assert limit.expired(9.9) == []
    assert limit.expired(10.0) == [("a", 1)]
    assert limit.allow("a", 10.0)


# ── libraries and crashes ─────────────────────────────────────────────────────────────────────


@pytest.fixture
def installed() -> Iterator[Bench]:
    """A journal that has the process's logging and hooks; all is put back afterwards."""
    root = logging.getLogger()
    quiet = [logging.getLogger(name) for name in ("websockets", "google_genai", "httpx")]
    before = (root.handlers[:], root.level, [logger.level for logger in quiet])
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)
    bench = Bench("debug")
    try:
        install(bench.journal)
        install(bench.journal)  # a reload does not double the entries
        yield bench
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:], root.level = before[0], before[1]
        for logger, level in zip(quiet, before[2], strict=True):
            logger.setLevel(level)
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


def test_library_chatter_stays_out_and_warnings_come_in(installed: Bench) -> None:
    """URLs, frames and payloads of debug and info records never pass, even at level debug."""
    logging.getLogger("httpx").info("HTTP Request: POST https://x/?key=%s", KEY)
    logging.getLogger("websockets.client").debug("< TEXT '%s'", "what was said")
    logging.getLogger("websockets.client").error("data transfer failed")
    logging.getLogger("google_genai.live").warning("received %s", "what was said")
    logging.getLogger("asyncio").debug("poll")
    logging.getLogger("gpiozero").warning("pin %d, key=%s", 25, KEY)
    assert [entry.message for entry in installed.outlet.entries] == [
        "gpiozero: pin 25, key=<secret>"
    ]
    assert installed.outlet.entries[0].fields["logger"] == "gpiozero"


def test_a_broken_log_call_of_a_library_does_no_harm(installed: Bench) -> None:
    """Wrong format arguments are told, not raised."""
    LogBridge(installed.journal).handle(
        logging.LogRecord("lib", logging.WARNING, "f.py", 1, "%d", ("x",), None)
    )
    assert installed.outlet.entries[0].message == "lib: (unreadable record: TypeError)"


def test_a_logged_exception_carries_its_traceback_without_values(installed: Bench) -> None:
    """Where it happened is told; local values and credentials are not."""
    what_was_said = "local speech value"

    def fail(said: str) -> None:
        raise ValueError(f"bad key={KEY}" if said else "")

    try:
        fail(what_was_said)
    except ValueError:
        logging.getLogger("lib").exception("failed")
    entry = installed.outlet.entries[0]
    assert "test_journal.py" in entry.detail
    assert "ValueError: bad key=<secret>" in entry.detail
    assert KEY not in entry.detail
    assert what_was_said not in entry.detail


def test_libraries_repeat_little_of_what_a_peer_said(installed: Bench) -> None:
    """A record, a warning, an exception of many lines and its cause: 240 characters of each."""
    said = "what a peer said\n" * 1_000
    logging.getLogger("lib").warning(said)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn(said, stacklevel=1)

    def fail() -> None:
        raise ValueError(said) from KeyError(said)

    with pytest.raises(ValueError) as told:  # noqa: PT011 - the words are what is tested
        fail()
    logging.getLogger("lib").error(said, exc_info=told.value)
    crash = crash_entry(told.value, "here")
    entries = [*installed.outlet.entries, crash]
    assert len(entries) == 4
    for entry in entries:
        assert len(entry.message) <= VALUE_LIMIT
        assert entry.detail.count("a peer") <= 2 * (VALUE_LIMIT // len("what a peer said ") + 1)
    assert "ValueError: what a peer said" in crash.detail
    assert 'test_journal.py", line' in crash.detail


def test_python_warnings_are_entries(installed: Bench) -> None:
    """The warnings module writes no raw lines to stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("something odd", stacklevel=1)
    assert "something odd" in installed.outlet.entries[-1].message


class Unraisable:
    """What sys.unraisablehook gets."""

    def __init__(self, error: BaseException | None) -> None:
        self.exc_type = type(error)
        self.exc_value = error
        self.exc_traceback = None
        self.err_msg = None
        self.object = None


def test_uncaught_exceptions_of_main_threads_and_destructors_are_entries(
    installed: Bench,
) -> None:
    """P1: whatever nobody caught is in the journal with its traceback."""
    error = RuntimeError("boom")
    sys.excepthook(RuntimeError, error, None)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    thread = threading.Thread(target=lambda: 1 / 0, name="capture")
    thread.start()
    thread.join()
    sys.unraisablehook(Unraisable(ValueError("late")))  # type: ignore[arg-type]
    assert [entry.message for entry in installed.outlet.entries] == [
        "main: RuntimeError: boom",
        "thread capture: ZeroDivisionError: division by zero",
        "destructor: ValueError: late",
    ]
    assert "ZeroDivisionError" in installed.outlet.entries[1].detail
    assert installed.names == ["crash"] * 3


def test_errors_of_the_event_loop_are_entries() -> None:
    """A callback that raises, and a message without exception."""
    bench = Bench()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        install_loop_handler(loop, bench.journal)
        loop.call_soon(list[int]().pop)
        await asyncio.sleep(0)
        loop.call_exception_handler({"message": "something odd"})

    asyncio.run(scenario())
    assert bench.names == ["crash", "log"]
    assert "IndexError" in bench.outlet.entries[0].message


def test_a_traceback_is_bounded_even_in_endless_recursion() -> None:
    """The end, which names the error, remains."""

    def recurse(depth: int) -> None:
        recurse(depth + 1)

    with pytest.raises(RecursionError) as caught:
        recurse(0)
    detail = describe(caught.value)
    assert len(detail) < 20_000
    assert "RecursionError" in detail.splitlines()[-1]
    chain: Exception = ValueError("first")
    for number in range(200):
        following = ValueError(f"{number} " + "y" * 200)
        following.__cause__ = chain
        chain = following
    assert len(describe(chain)) <= 16_385
    assert crash_entry(chain, "main").message.startswith("main: ValueError: 199 yyy")


# ── outlets ───────────────────────────────────────────────────────────────────────────────────


class Journald:
    """A journald that reads when it is told to, on a socket of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "socket")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(20)

    def read(self) -> dict[str, str]:
        """Return the fields of the next entry, as the protocol's document has them."""
        data, fds, _flags, _address = socket.recv_fds(self.socket, 1 << 20, 1)
        if fds:
            assert data == b""
            seals = fcntl.fcntl(fds[0], fcntl.F_GET_SEALS)
            assert seals & fcntl.F_SEAL_WRITE
            assert seals & fcntl.F_SEAL_SHRINK
            with os.fdopen(fds[0], "rb") as file:
                file.seek(0)
                data = file.read()
        return fields_of(data)


def fields_of(data: bytes) -> dict[str, str]:
    found = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, assigned, value = line.partition(b"=")
        if not assigned:
            (length,) = struct.unpack("<Q", data[:8])
            value, end, data = data[8 : 8 + length], data[8 + length], data[9 + length :]
            assert end == ord("\n")
        found[name.decode()] = value.decode()
    return found


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True), st.text()))
def test_any_text_arrives_as_it_is(fields: dict[str, str]) -> None:
    """Line feeds, equal signs and what no encoding has, which becomes a question mark."""
    expected = {k: v.encode("utf-8", "replace").decode() for k, v in fields.items()}
    assert fields_of(datagram(fields)) == expected


def test_journald_gets_the_fields_as_they_are(tmp_path: Path) -> None:
    """One datagram per entry, in order; a value of several lines is one value."""
    journald = Journald(tmp_path)
    outlet = JournaldOutlet(journald.path)
    outlet.put(JournalEntry("muted", logging.INFO, "muted by button", {"by": "button"}))
    outlet.put(JournalEntry("crash", logging.CRITICAL, "boom", {}, "one\ntwo"))
    first, second = journald.read(), journald.read()
    assert (first["MESSAGE"], first["AGENTD_BY"]) == ("muted by button", "button")
    assert (second["MESSAGE"], second["AGENTD_TRACEBACK"]) == ("boom", "one\ntwo")
    outlet.close()
    assert outlet.dropped == 0


def test_what_does_not_fit_into_a_datagram_comes_as_a_sealed_file(tmp_path: Path) -> None:
    """Larger than the socket's buffer, of any kernel that we know."""
    journald = Journald(tmp_path)
    outlet = JournaldOutlet(journald.path)
    outlet.put(JournalEntry("crash", logging.CRITICAL, "boom", {}, "x" * 2_000_000))
    assert len(journald.read()["AGENTD_TRACEBACK"]) == 2_000_000
    assert outlet.dropped == 0


def test_a_journald_that_does_not_read_blocks_nothing_and_gets_all_that_was_kept(
    tmp_path: Path,
) -> None:
    """In order, the oldest first; what is beyond the backlog is counted."""
    journald = Journald(tmp_path)
    outlet = JournaldOutlet(journald.path)
    for number in range(BACKLOG + 1000):
        outlet.put(JournalEntry("log", logging.INFO, str(number)))
    lost = outlet.dropped
    assert 0 < lost < 1000
    kept = [int(journald.read()["MESSAGE"]) for _ in range(BACKLOG + 1000 - lost)]
    assert kept == list(range(len(kept)))
    outlet.close()
    assert outlet.dropped == lost
    outlet.put(JournalEntry("log", logging.INFO, "and on"))
    assert journald.read()["MESSAGE"] == "and on"


def test_a_journald_that_goes_while_entries_wait_is_survived(tmp_path: Path) -> None:
    """What waited is counted as dropped; the one that comes back gets what comes then."""
    journald = Journald(tmp_path)
    outlet = JournaldOutlet(journald.path)
    entry = JournalEntry("log", logging.INFO, "m")
    for _ in range(BACKLOG // 2):
        outlet.put(entry)
    journald.socket.close()
    outlet.close()
    assert 0 < outlet.dropped < BACKLOG
    Path(journald.path).unlink()
    again = Journald(tmp_path)
    outlet.put(entry)
    assert again.read()["MESSAGE"] == "m"


def test_an_absent_journald_is_survived(tmp_path: Path) -> None:
    """Every refused entry is counted, none raises."""
    outlet = JournaldOutlet(str(tmp_path / "nowhere"))
    outlet.put(JournalEntry("log", logging.INFO, "m"))
    outlet.close()
    assert outlet.dropped == 1


def test_a_closed_pipe_is_survived() -> None:
    """`agentd run | head` does not end the daemon."""
    stream = io.StringIO()
    outlet = StreamOutlet(stream, text_line, clock=FakeClock())
    stream.close()
    outlet.put(JournalEntry("log", logging.INFO, "m"))
    assert outlet.dropped == 1


def test_the_format_is_journal_under_systemd_else_text(tmp_path: Path) -> None:
    """Auto looks whether our very stream is journald's; the variable alone may be inherited."""
    with (tmp_path / "log").open("w") as stream:
        own = (tmp_path / "log").stat()
        ours = {"JOURNAL_STREAM": f"{own.st_dev}:{own.st_ino}"}

        def chosen(format_: str, environ: dict[str, str]) -> str:
            outlet = choose_outlet(
                format_,  # type: ignore[arg-type]
                clock=FakeClock(),
                stream=stream,
                environ=environ,
            )
            return type(outlet).__name__

        assert chosen("auto", ours) == "JournaldOutlet"
        assert chosen("auto", {"JOURNAL_STREAM": "1:2"}) == "StreamOutlet"
        assert chosen("auto", {}) == "StreamOutlet"
        assert chosen("text", ours) == "StreamOutlet"
        assert chosen("journal", {}) == "JournaldOutlet"
    closed = io.StringIO()
    assert isinstance(
        choose_outlet("auto", clock=FakeClock(), stream=closed, environ={}), StreamOutlet
    )


def test_json_lines_go_to_the_stream_at_once() -> None:
    """log.format = "json" writes one object per line, flushed."""
    stream = io.StringIO()
    outlet = choose_outlet("json", clock=FakeClock(), stream=stream, environ={})
    journal = Journal(outlet, clock=FakeClock())
    journal.on_event(MUTED)
    assert json.loads(stream.getvalue())["event"] == "muted"
    assert journal.dropped == 0
