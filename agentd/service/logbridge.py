"""Brings what libraries log, and what nobody caught, into the journal.

Libraries get no free hand: their debug and info records name URLs with keys and print frames
with speech in them, so only warnings pass, redacted and bounded, whatever `log.level` says. A
message may repeat what a peer said, as an exception's does, so it gets no more room than any other
word of a peer.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

from agentd.service.entry import DETAIL_LIMIT, JournalEntry
from agentd.service.journal import Journal
from agentd.text import safe_text

LIBRARY_LEVEL = logging.WARNING
# Their warnings are about what we handle and log ourselves.
QUIET = {
    "websockets": logging.CRITICAL,
    "google_genai": logging.ERROR,
    "google.auth": logging.ERROR,
    "httpx": logging.ERROR,
    "httpcore": logging.ERROR,
    "urllib3": logging.ERROR,
}
_FRAMES = 40
_FRAME = re.compile(r'[ |+-]*File "')


class LogBridge(logging.Handler):
    """A logging handler that writes to the journal."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(LIBRARY_LEVEL)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record`; never raise."""
        try:
            message = record.getMessage()
        except Exception as broken:  # noqa: BLE001  a library's broken format string
            message = f"(unreadable record: {type(broken).__name__})"
        error = record.exc_info[1] if record.exc_info else None
        self._journal.put(
            JournalEntry(
                "log",
                record.levelno,
                safe_text(f"{record.name}: {message}"),
                {"logger": safe_text(record.name)},
                describe(error) if error else "",
            )
        )


def describe(error: BaseException) -> str:
    """Return the traceback of `error` without local values; messages redacted and bounded."""
    lines: list[str] = []
    for line in traceback.TracebackException.from_exception(
        error, limit=-_FRAMES, capture_locals=False, compact=True
    ).format():
        # the place of a frame has lines of its own; what an exception says is one, however long
        parts = line.rstrip("\n").split("\n") if _FRAME.match(line) else [line]
        lines += [_safe_line(part) for part in parts]
    text = "\n".join(lines)
    # The end names the error.
    return text if len(text) <= DETAIL_LIMIT else "…" + text[-DETAIL_LIMIT:]


def crash_entry(error: BaseException, where: str) -> JournalEntry:
    """Return the entry of an exception that nobody caught."""
    message = safe_text(f"{where}: {type(error).__name__}: {error}")
    return JournalEntry("crash", logging.CRITICAL, message, {"where": where}, describe(error))


def install(journal: Journal) -> None:
    """Route logging, warnings and uncaught exceptions of the process into `journal`."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, LogBridge):
            root.removeHandler(handler)
    root.addHandler(LogBridge(journal))
    root.setLevel(LIBRARY_LEVEL)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(capture=True)

    def on_exception(
        _kind: type[BaseException], error: BaseException, _trace: TracebackType | None
    ) -> None:
        if not isinstance(error, KeyboardInterrupt):
            journal.put(crash_entry(error, "main"))

    def on_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            name = args.thread.name if args.thread else "?"
            journal.put(crash_entry(args.exc_value, f"thread {name}"))

    def on_unraisable(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            journal.put(crash_entry(args.exc_value, "destructor"))

    sys.excepthook = on_exception
    threading.excepthook = on_thread
    sys.unraisablehook = on_unraisable


def install_loop_handler(loop: asyncio.AbstractEventLoop, journal: Journal) -> None:
    """Route exceptions of callbacks and forgotten tasks of `loop` into `journal`."""

    def on_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        message = str(context.get("message", "event loop"))
        if isinstance(error, BaseException):
            journal.put(crash_entry(error, message))
        else:
            journal.put(JournalEntry("log", logging.ERROR, safe_text(message)))

    loop.set_exception_handler(on_error)


def _safe_line(line: str) -> str:
    indent = len(line) - len(line.lstrip(" "))
    return " " * indent + safe_text(line)
