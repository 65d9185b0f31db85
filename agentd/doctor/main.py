"""The command `agentd doctor`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from agentd.audio.alsa import silence_libraries
from agentd.config.files import Loaded, load
from agentd.doctor import findings as f
from agentd.doctor.examine import Examination, Host
from agentd.errors import ConfigError, ControlError
from agentd.service.client import ControlClient, socket_path
from agentd.text import json_text


def main(arguments: argparse.Namespace) -> int:
    """Examine and report; return 0, 1 if something failed, or 78 for a bad configuration."""
    silence_libraries()
    as_json: bool = arguments.json
    tell: Callable[[f.Finding], None] = _nothing if as_json else _show
    try:
        loaded = load(arguments.config)
    except ConfigError as error:
        found = configuration_findings(error)
        for finding in found:
            tell(finding)
    else:
        tell(of_files(loaded))
        found = [of_files(loaded), *_examine(loaded, tell, loopback=arguments.loopback)]
    if as_json:
        print(json_text(f.document(found), indent=2))
    else:
        print(f"{f.summary(found)}")
    return f.exit_status(found)


def _examine(
    loaded: Loaded, tell: Callable[[f.Finding], None], *, loopback: bool
) -> list[f.Finding]:
    machine = Host()
    if not loopback:
        return asyncio.run(Examination(loaded.settings, machine, tell).run())
    if _daemon_runs():
        finding = f.fail(
            "loopback", "agentd holds the devices", "sudo systemctl stop agentd, then run it again"
        )
    else:
        from agentd.doctor.loopback import loopback as converse

        finding = asyncio.run(converse(loaded.settings, machine.clock, _say))
    tell(finding)
    return [finding]


def _daemon_runs() -> bool:
    try:
        with ControlClient(socket_path(os.environ, Path.home()), timeout_s=5.0) as client:
            client.call("status")
    except ControlError:
        return False
    return True


def configuration_findings(error: ConfigError) -> list[f.Finding]:
    """Return a finding for every wrong value."""
    found = []
    for problem in error.problems:
        value = f" = {problem.value}" if problem.value else ""
        cause = f"{problem.file}: {problem.key}{value}: {problem.problem}"
        found.append(f.fail(f.CONFIGURATION, cause, problem.remedy))
    return found


def of_files(loaded: Loaded) -> f.Finding:
    """Return the finding for a good configuration."""
    files = ", ".join(str(file) for file in loaded.files)
    return f.ok(f.CONFIGURATION, files or "no file: all defaults")


def _show(finding: f.Finding) -> None:
    print(f.line(finding), flush=True)


def _say(text: str) -> None:
    print(f"         {text}", file=sys.stderr, flush=True)


def _nothing(_finding: f.Finding) -> None:
    pass
