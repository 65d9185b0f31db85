"""The command line. Nothing heavy is imported before the command is known.

`agentd status` on a Pi must answer at once, so each command names its handler as `module:function`
and only that module is loaded.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from agentd import __version__, environment
from agentd.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_OK, AgentdError, ConfigError
from agentd.service import terminal
from agentd.service.departure import leave_at_once
from agentd.text import safe_text

MESSAGE_LIMIT = 1000

# What a command may lack: the modules that Debian's package does not force on a device.
DEBIAN_PACKAGES = {
    "cryptography": "python3-cryptography",
    "gpiozero": "python3-gpiozero",
    "pyaudio": "python3-pyaudio",
    "rich": "python3-rich",
}


class Parser(argparse.ArgumentParser):
    """Argparse's parser; what was typed comes back in its messages on one line."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and `message`, and exit with 2."""
        super().error(safe_text(message, MESSAGE_LIMIT))


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand: its help line, where its handler lives, and what it takes."""

    help: str
    handler: str  # module:function, called with the parsed arguments, returning the exit status
    arguments: Callable[[Parser], None] | None = None


def _config_option(parser: Parser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="default: /etc/agentd/agentd.toml and conf.d"
    )


def _run(parser: Parser) -> None:
    _config_option(parser)
    parser.add_argument("--time-scale", type=float, default=1.0, help=argparse.SUPPRESS)


def _demo(parser: Parser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--live", action="store_true", help="your microphone and speaker, no key")
    how.add_argument("--real", action="store_true", help="the real service, with your key")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the two files go")
    parser.add_argument("--seed", type=int, default=1, help=argparse.SUPPRESS)


def _json_option(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def _doctor(parser: Parser) -> None:
    _config_option(parser)
    _json_option(parser)
    parser.add_argument(
        "--loopback", action="store_true", help="speak, and hear yourself through everything"
    )


def _bundle(parser: Parser) -> None:
    _config_option(parser)
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="default: agentd-bundle-DATE.tar.gz"
    )


def _status(parser: Parser) -> None:
    _json_option(parser)
    parser.add_argument("--watch", action="store_true", help="keep showing it until interrupted")


def _events(parser: Parser) -> None:
    _json_option(parser)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="events to show, such as turn; default: all"
    )
    parser.add_argument(
        "--transcripts", action="store_true", help="also what is said (group agentd-transcripts)"
    )


def _config(parser: Parser) -> None:
    _config_option(parser)
    parser.add_argument("what", choices=("check", "show", "schema"))
    parser.add_argument(
        "--format",
        choices=("json", "markdown", "toml"),
        default="json",
        help="of the schema (default: json)",
    )


def _text(parser: Parser) -> None:
    parser.add_argument("text", metavar="TEXT")


def _volume(parser: Parser) -> None:
    parser.add_argument("percent", nargs="?", metavar="N", help="0 to 100; left out: show it")


def _context(parser: Parser) -> None:
    parser.add_argument("what", choices=("add",))
    parser.add_argument("text", metavar="TEXT")


def _wake(parser: Parser) -> None:
    _config_option(parser)
    _json_option(parser)
    parser.add_argument("what", choices=("list", "test", "score"))
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="PATH",
        help="score: a folder of WAVs; test: a WAV, or - for int16 mono 16 kHz on standard input",
    )
    parser.add_argument("--word", metavar="NAME", help="instead of those in the settings")


def _leds(parser: Parser) -> None:
    _config_option(parser)
    parser.add_argument("what", choices=("off",))


def _emulator(parser: Parser) -> None:
    from live_emulator.cli import add_arguments

    add_arguments(parser)


COMMANDS: dict[str, Command] = {
    "run": Command("run the daemon", "agentd.daemon:main", _run),
    "demo": Command("show a conversation; no key, no sound card", "agentd.demo.show:main", _demo),
    "doctor": Command("find out what is wrong", "agentd.doctor.main:main", _doctor),
    "bundle": Command(
        "collect what helps, without speech or keys", "agentd.cli.bundle:main", _bundle
    ),
    "devices": Command(
        "list microphones and speakers", "agentd.cli.commands:devices", _json_option
    ),
    "status": Command("what the daemon is doing", "agentd.cli.commands:status", _status),
    "events": Command("show what happens until interrupted", "agentd.cli.listen:events", _events),
    "tools": Command("list the functions of the model", "agentd.cli.listen:tools", _json_option),
    "config": Command(
        "check, show or describe the settings", "agentd.cli.commands:config", _config
    ),
    "mute": Command("close the microphone", "agentd.cli.commands:mute"),
    "unmute": Command("open the microphone", "agentd.cli.commands:unmute"),
    "volume": Command("show or set the volume", "agentd.cli.commands:volume", _volume),
    "silence": Command("stop a ringing timer or alarm", "agentd.cli.commands:silence"),
    "say": Command("send a text as if it had been spoken", "agentd.cli.commands:say", _text),
    "instruct": Command("change the system instruction", "agentd.cli.commands:instruct", _text),
    "context": Command(
        "tell the model something in passing", "agentd.cli.commands:context", _context
    ),
    "forget": Command("delete the conversation", "agentd.cli.commands:forget"),
    "wake": Command("list, test or score wake words", "agentd.cli.wake:main", _wake),
    "leds": Command("switch all configured LEDs off", "agentd.cli.commands:leds", _leds),
    "emulator": Command("run a Live API server", "live_emulator.cli:run", _emulator),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status (0 ok, 1 failure, 2 usage, 78 bad configuration)."""
    environment.reserve()
    argv = [_typed(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    with terminal.plain_streams():
        try:
            try:
                return _run_command(build_parser(argv).parse_args(argv))
            finally:
                sys.stdout.flush()
        except BrokenPipeError:  # `agentd status | head`
            terminal.discard_output()
            return EXIT_FAILURE
        except OSError as error:  # such as a full disk below standard output
            terminal.discard_output()
            return _told(f"{error.filename or 'standard output'}: {error.strerror or error}")


def _run_command(parsed: argparse.Namespace) -> int:
    module, _, function = COMMANDS[parsed.command].handler.partition(":")
    if parsed.command == "run":  # a stop may come while everything is still being imported
        signal.signal(signal.SIGTERM, leave_at_once)
    try:
        handler = getattr(importlib.import_module(module), function)
        return int(handler(parsed))
    except ConfigError as error:
        for problem in error.problems:
            _told(str(problem))
        return EXIT_CONFIG
    except AgentdError as error:
        return _told(str(error))
    except KeyboardInterrupt:
        return (
            EXIT_OK if parsed.command in {"run", "status", "events", "emulator"} else EXIT_FAILURE
        )
    except ModuleNotFoundError as error:
        package = DEBIAN_PACKAGES.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        return _told(f"{parsed.command} needs {package}. Run: sudo apt install {package}")


def _told(message: str) -> int:
    """Print an error in one line, whoever's words are in it; return that it is a failure."""
    print(f"agentd: {safe_text(message, MESSAGE_LIMIT)}", file=sys.stderr)
    return EXIT_FAILURE


def _typed(word: str) -> str:
    """Return an argument as it was typed.

    Where the locale is not that of the terminal, Python holds what it could not decode as lone
    surrogates (PEP 383), which neither JSON nor TOML can carry.
    """
    if word.isascii() or not any("\udc80" <= char <= "\udcff" for char in word):
        return word
    return os.fsencode(word).decode("utf-8", "replace")


def build_parser(argv: Sequence[str]) -> Parser:
    """Return the parser; only the command that is asked for gets its arguments."""
    parser = Parser(prog="agentd", description="A voice agent daemon over the Gemini Live API.")
    parser.add_argument("--version", action="version", version=f"agentd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked = next((word for word in argv if not word.startswith("-")), None)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help)
        if name == asked and command.arguments:
            command.arguments(sub)
    return parser
