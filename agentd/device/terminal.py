"""The status light on a terminal, for `agentd demo` and a look without wires."""

from __future__ import annotations

from typing import TextIO

from agentd.device.patterns import LightKind, Look
from agentd.device.state import DeviceState

_RESET = "\x1b[0m"
_CLEAR_LINE = "\r\x1b[2K"


def dot(look: Look) -> str:
    """Return a coloured dot (24-bit ANSI) for `look`; grey when dark."""
    red, green, blue = (round(60 + 195 * channel) for channel in look.colour)
    return f"\x1b[38;2;{red};{green};{blue}m●{_RESET}"


class TerminalLed:
    """An RGB LED made of one line of text.

    On a terminal the line is painted over and moves as the LED would; into a file or pipe goes
    one line for each new state. Whoever prints other lines calls `clear` first.
    """

    kind = LightKind.RGB

    def __init__(self, stream: TextIO, *, live: bool | None = None) -> None:
        self._stream = stream
        self._live = stream.isatty() if live is None else live
        self._state: DeviceState | None = None

    def show(self, look: Look) -> None:
        """Paint the line."""
        words = look.state.value.replace("_", " ")
        if self._live:
            mute = "  [microphone off]" if look.mute else ""
            self._write(f"{_CLEAR_LINE}{dot(look)} {words}{mute}")
        elif look.state is not self._state:
            self._write(f"* {words}\n")
        self._state = look.state

    def clear(self) -> None:
        """Remove the line; the next `show` paints it below whatever was printed."""
        if self._live:
            self._write(_CLEAR_LINE)

    def close(self) -> None:
        """Remove the line."""
        self.clear()

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal went away; the daemon does not
            return
