"""Reloads, one at a time; those that are asked for meanwhile are one reload after it.

A reload takes as long as a device takes to close. It belongs to the daemon, not to whoever asked:
a client that gives up waiting leaves no half-done reload behind. One that fails, whatever the
reason, is a refusal: it is reported and the settings in force stay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from agentd.config.files import Loaded
from agentd.config.settings import Settings
from agentd.errors import ConfigError, ConfigProblem
from agentd.events import ConfigRefused, Emit, Reloaded
from agentd.service.notify import Notifier
from agentd.stage import Configured, Stage
from agentd.waiting import call_in_daemon_thread

READ_S = 10.0  # for the files; a disk that hangs is a refusal like any other

_log = logging.getLogger("agentd.service.reload")


class Reloader(Stage):
    """Reloads when asked. `ask` and `reload` are for the loop's thread."""

    def __init__(
        self,
        load: Callable[[], Loaded] | None,
        apply: Callable[[Settings], Awaitable[Configured]],
        *,
        notifier: Notifier,
        emit: Emit,
    ) -> None:
        """Prepare: `load` blocks and runs in a thread, `apply` takes settings into use.

        Without `load` there is nothing to read again, and every reload is refused.
        """
        self._load = load
        self._apply = apply
        self._notifier = notifier
        self._emit = emit
        self._asked = asyncio.Event()
        self._waiting: list[asyncio.Future[str]] = []

    def ask(self) -> asyncio.Future[str]:
        """Ask for a reload that begins after now; return its problems (a text, empty if none)."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._asked.set()
        return future

    async def reload(self) -> str:
        """Reload, and wait for it; return its problems as `ask` does."""
        return await self.ask()

    async def run(self) -> None:
        """Reload whenever it was asked for, until cancelled; then whoever waits is cancelled."""
        waiting: list[asyncio.Future[str]] = []
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                waiting, self._waiting = self._waiting, []
                self._notifier.reloading()
                problems = await self._reload()
                self._notifier.ready()
                for future in waiting:
                    if not future.done():
                        future.set_result(problems)
        finally:
            for future in (*waiting, *self._waiting):
                future.cancel()

    async def _reload(self) -> str:
        if self._load is None:
            return "this daemon has no configuration file"
        try:
            async with asyncio.timeout(READ_S):
                loaded = await call_in_daemon_thread(self._load, "reload")
            done = await self._apply(loaded.settings)
        except ConfigError as error:
            return self._refuse(error.problems)
        except TimeoutError:
            what = f"the files could not be read within {READ_S:g} s"
            return self._refuse([_problem(what, "Check the disk that they are on")])
        except Exception as error:  # noqa: BLE001 - a reload must never end the conversation
            _log.error("reload failed", exc_info=error)
            what = f"the reload failed ({type(error).__name__})"
            return self._refuse([_problem(what, "See `journalctl -u agentd`, and report it")])
        self._emit(Reloaded(changed=", ".join(done.changed) or "nothing", how=done.how))
        return ""

    def _refuse(self, problems: Iterable[ConfigProblem]) -> str:
        for one in problems:
            self._emit(
                ConfigRefused(file=one.file, key=one.key, problem=one.problem, remedy=one.remedy)
            )
        return "\n".join(map(str, problems))


def _problem(what: str, remedy: str) -> ConfigProblem:
    return ConfigProblem("(configuration)", "(reload)", "", what, remedy)
