"""The small commands: most of them ask the running daemon over its control socket."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentd.cli.describe import NOT_A_STATUS, describe
from agentd.errors import EXIT_FAILURE, EXIT_OK, ControlError
from agentd.service.client import NotRunning, ask, socket_path
from agentd.text import json_text, safe_text


def _ask(method: str, **params: object) -> Any:
    return ask(socket_path(os.environ, Path.home()), method, **params)


def status(arguments: argparse.Namespace) -> int:
    """Show what the daemon is doing."""
    if arguments.watch:
        from agentd.cli.watch import watch

        return watch(socket_path(os.environ, Path.home()), as_json=arguments.json)
    document = _ask("status")
    print(json_text(document, indent=2) if arguments.json else describe(document))
    return EXIT_OK


def mute(_arguments: argparse.Namespace) -> int:
    """Close the microphone."""
    _ask("mute")
    print("muted: the microphone is closed")
    return EXIT_OK


def unmute(_arguments: argparse.Namespace) -> int:
    """Open the microphone."""
    _ask("unmute")
    print("the microphone is open")
    return EXIT_OK


def volume(arguments: argparse.Namespace) -> int:
    """Show or set the volume."""
    if arguments.percent is None:
        answer = _ask("volume")
    else:
        answer = _ask("volume.set", percent=_percent(arguments.percent))
    print(f"volume {_one(answer, 'percent')} %")
    return EXIT_OK


def _percent(text: str) -> int:
    # Python reads no number of more than 4300 digits (CVE-2020-10735).
    if not (text.isascii() and text.isdecimal() and len(text.lstrip("0")) <= 3) or int(text) > 100:
        raise ControlError(f"volume {safe_text(text, 20)}: give a whole number from 0 to 100")
    return int(text)


def silence(_arguments: argparse.Namespace) -> int:
    """Stop a ringing timer or alarm."""
    print("silenced" if _one(_ask("silence"), "silenced") == "True" else "nothing rings")
    return EXIT_OK


def _outcome(method: str, text: str) -> str:
    return _one(_ask(method, text=text), "outcome")


def _one(answer: object, name: str) -> str:
    """Return one value of an answer; raise `ControlError` if it has none."""
    if not isinstance(answer, Mapping) or not isinstance(answer.get(name), str | int):
        raise ControlError(NOT_A_STATUS)
    return str(answer[name])


def say(arguments: argparse.Namespace) -> int:
    """Send a text as if it had been spoken."""
    print(_outcome("say", arguments.text))
    return EXIT_OK


def instruct(arguments: argparse.Namespace) -> int:
    """Change the system instruction and say by which way."""
    print(_outcome("instruct", arguments.text))
    return EXIT_OK


def context(arguments: argparse.Namespace) -> int:
    """Tell the model something without asking for an answer."""
    print(_outcome("context.add", arguments.text))
    return EXIT_OK


def forget(_arguments: argparse.Namespace) -> int:
    """Delete the conversation; without a daemon, from the disk."""
    try:
        print(f"forgotten: {_one(_ask('forget'), 'forgotten')}")
        return EXIT_OK
    except NotRunning:
        from agentd.cli.forget import directories, forget_on_disk
    found = [
        line
        for directory in directories(os.environ, Path.home())
        for line in forget_on_disk(directory)
    ]
    print("\n".join(f"deleted: {line}" for line in found) or "there was nothing to delete")
    return EXIT_OK


def devices(arguments: argparse.Namespace) -> int:
    """List what can be written into the configuration."""
    from agentd.audio.cards import list_devices

    found = list_devices()
    if arguments.json:
        rows = [
            {"name": d.name, "text": d.text, "capture": d.capture, "playback": d.playback}
            for d in found
        ]
        print(json_text(rows, indent=2))
        return EXIT_OK
    width = max((len(device.name) for device in found), default=0)
    for device in found:
        kind = "mic+speaker" if device.capture and device.playback else ""
        kind = kind or ("mic" if device.capture else "speaker")
        print(f"{device.name:{width}}  {kind:11}  {device.text}")
    if not found:
        print("no sound cards: see hardware.md in /usr/share/doc/agentd/user", file=sys.stderr)
    return EXIT_OK if found else EXIT_FAILURE


def config(arguments: argparse.Namespace) -> int:
    """Check, show or describe the settings."""
    from agentd.config import docs as config_docs
    from agentd.config.files import load

    if arguments.what == "schema":
        print(config_docs.FORMATS[arguments.format](), end="")
        return EXIT_OK
    loaded = load(arguments.config)
    if arguments.what == "show":
        print(config_docs.settings_toml(loaded.settings), end="")
    else:
        files = ", ".join(str(file) for file in loaded.files) or "no file: all defaults"
        print(f"the configuration is good ({files})")
    return EXIT_OK


def leds(arguments: argparse.Namespace) -> int:
    """Switch all configured LEDs off (ExecStopPost)."""
    from agentd.config.files import load
    from agentd.device.leds import turn_off

    turn_off(load(arguments.config).settings.gpio)
    return EXIT_OK
