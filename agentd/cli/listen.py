"""`agentd events` and `agentd tools`: what programs of your own see, for people."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from agentd.cli.describe import NOT_A_STATUS
from agentd.errors import EXIT_FAILURE, EXIT_OK, ControlError
from agentd.service.client import ControlClient, socket_path
from agentd.text import counted, json_text

Happened = Mapping[str, Any]


def events(arguments: argparse.Namespace) -> int:
    """Show events as they happen, until the daemon stops or Ctrl-C."""
    path = socket_path(os.environ, Path.home())
    wanted: dict[str, object] = {"events": arguments.names or ["*"]}
    if arguments.transcripts:
        from agentd.client import TRANSCRIPTS_GROUP, path_for

        path = path_for(TRANSCRIPTS_GROUP)
        wanted["transcripts"] = True
    with ControlClient(path) as client:
        for method, params in client.stream(**wanted):
            try:
                line = _json_line(method, params) if arguments.json else _LINES[method](params)
            except (LookupError, TypeError, ValueError, OverflowError, AttributeError):
                raise ControlError(NOT_A_STATUS) from None
            print(line, flush=True)
    print("agentd has stopped", file=sys.stderr)
    return EXIT_FAILURE


def _json_line(method: str, params: Happened) -> str:
    return json_text({"kind": method, **params})


def _event_line(params: Happened) -> str:
    at = datetime.fromtimestamp(params["unix_s"]).astimezone()
    message = str(params["message"]).removeprefix(f"{params['name']}: ")
    return f"{at:%H:%M:%S} {params['level']:7} {params['name']}: {message}"


def _transcript_line(params: Happened) -> str:
    return f"{params['speaker']}: {params['text']}"


def _missed_line(params: Happened) -> str:
    return f"({counted(params['count'], 'event')} missed)"


_LINES: Mapping[str, Callable[[Happened], str]] = {
    "event": _event_line,
    "transcript": _transcript_line,
    "missed": _missed_line,
}


def tools(arguments: argparse.Namespace) -> int:
    """List the functions that the model may call, by who offers them."""
    with ControlClient(socket_path(os.environ, Path.home())) as client:
        functions, status = client.call("tools.list"), client.call("status")
    try:
        if arguments.json:
            print(json_text({**status["tools"], "tools": functions["tools"]}, indent=2))
        else:
            print(described(status["tools"], functions["tools"]))
    except (LookupError, TypeError, ValueError, AttributeError):
        raise ControlError(NOT_A_STATUS) from None
    return EXIT_OK


def described(status: Happened, functions: list[Happened]) -> str:
    """Return hosts and functions as lines."""
    lines = [] if status["enabled"] else ["functions are switched off (tools.enabled = false)"]
    hosts = {host["name"]: host for host in status["hosts"]}
    for name in ("", *hosts):
        lines.append(_host_line(hosts[name]) if name else "this device")
        lines += [_tool_line(one) for one in functions if one["host"] == name]
    return "\n".join(lines)


def _host_line(host: Happened) -> str:
    calls = f"{counted(host['calls'], 'call')}, {host['failed']} failed"
    return f"{host['name']} (process {host['pid']}): {calls}"


def _tool_line(tool: Happened) -> str:
    notes = [note for note in ("slow", "confirm") if tool[note]]
    told = f" [{', '.join(notes)}]" if notes else ""
    return f"  {tool['name']}{told}: {tool['description']}"
