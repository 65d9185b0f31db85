"""The functions that need nothing but the status: the time, and how the device is doing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from agentd.live.toolbox import Tool, builtin_tools
from agentd.stage import Stage


class AboutTools(Stage):
    """The stage that offers them; `brief` is what the model may know of the device."""

    def __init__(self, brief: Callable[[], Mapping[str, object]]) -> None:
        self._brief = brief

    def tools(self) -> Iterable[Tool]:
        """Return them, ready for the toolbox."""
        return builtin_tools(self._brief)
