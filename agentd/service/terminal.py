"""Standard output and error as every command has them, whoever reads them.

Three things that one `print` after the other would forget:

- What a peer, a card, a file or a service said must not steer a terminal (ESC, C1, bidirectional
  marks), even by a message that nobody thought of: all that is printed passes `printable_lines`.
- A terminal that does not know a character gets the nearest one it knows, not a traceback: the
  locale may be Latin-1 or POSIX, and Python has its UTF-8 mode only for some of those.
- A descriptor that is closed must not become the next file or socket that is opened.

What paints on purpose (rich, a cleared screen) writes to `raw(stream)` and makes its values safe
with `safe_text` itself.
"""

from __future__ import annotations

import codecs
import contextlib
import importlib.util
import os
import sys
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO, cast

from agentd.text import printable_lines

if TYPE_CHECKING:
    from rich.console import Console

ERRORS = "agentd.nearest"
UNPAINTABLE = frozenset({"", "dumb", "unknown"})  # TERM, as rich sees it

_NEAREST = str.maketrans(
    {
        "→": "->",
        "←": "<-",
        "↔": "<->",
        "…": "...",
        "“": '"',
        "”": '"',
        "„": '"',
        "‘": "'",
        "’": "'",
        "–": "-",
        "—": "--",
        "−": "-",
        "●": "*",
        "•": "*",
        "▮": "#",
        "▯": ".",
        "×": "x",
        "≥": ">=",
        "≤": "<=",
        "±": "+/-",
        "°": " deg ",
        "µ": "u",
        "ß": "ss",
    }
)


def nearest(text: str, encoding: str) -> str:
    """Return `text` in characters that `encoding` has: the nearest ones, else question marks."""
    return "".join(_nearest(char, encoding) for char in text)


def _nearest(char: str, encoding: str) -> str:
    plain = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode("ascii")
    for candidate in (char, char.translate(_NEAREST), plain):
        with contextlib.suppress(UnicodeEncodeError):
            if candidate and candidate.encode(encoding):
                return candidate
    return "?"


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return nearest(error.object[error.start : error.end], error.encoding), error.end


codecs.register_error(ERRORS, _replace)


class PlainStream:
    """A stream through which nothing passes that a terminal would obey."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write `text` with every control character but the ends of lines taken out."""
        self.stream.write(printable_lines(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Pass on everything else, such as `isatty` and `flush`."""
        return getattr(self.stream, name)


def raw(stream: TextIO) -> TextIO:
    """Return the stream that takes control characters as they are."""
    return stream.stream if isinstance(stream, PlainStream) else stream


@contextlib.contextmanager
def plain_streams() -> Iterator[None]:
    """Make standard output and error as this module describes them, and put them back after."""
    _open_what_is_closed()
    before = sys.stdout, sys.stderr
    handlers = [_set_errors(stream, ERRORS) for stream in before]
    sys.stdout, sys.stderr = (cast("TextIO", PlainStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream, errors in zip(before, handlers, strict=True):
            _set_errors(stream, errors)


def _set_errors(stream: TextIO, errors: str | None) -> str | None:
    """Set how `stream` writes what its encoding does not have; return how it did."""
    was = getattr(stream, "errors", None)
    with contextlib.suppress(AttributeError, ValueError, OSError):
        stream.reconfigure(errors=errors)  # type: ignore[attr-defined]
    return was


def _open_what_is_closed() -> None:
    """Give the standard descriptors that were closed (`>&-`) to /dev/null.

    Python leaves them None and free: the control socket would be the standard output of every
    library that writes to a number.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # Python sets them to None, whatever its stubs say.
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: PTH123, SIM115


def discard_output() -> None:
    """Let what is still to be written to standard output go nowhere: its reader has gone.

    Without it Python complains of the broken pipe at its end (docs.python.org, "Note on SIGPIPE").
    """
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def can_be_painted(stream: TextIO) -> bool:
    """Return whether `stream` is a terminal on which the cursor can move."""
    return stream.isatty() and os.environ.get("TERM", "") not in UNPAINTABLE


def console() -> Console | None:
    """Return rich's console on standard output; None without a terminal to paint on or rich."""
    if not can_be_painted(sys.stdout) or importlib.util.find_spec("rich") is None:
        return None
    from rich.console import Console

    return Console(file=raw(sys.stdout), highlight=False)
