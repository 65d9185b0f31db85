"""``live-emulator``, ``agentd emulator``: run the Live API server until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from live_emulator.options import EmulatorOptions

_UNSET: Any = argparse.SUPPRESS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``agentd emulator``; those left out keep the emulator's defaults."""
    where = parser.add_argument_group("where")
    where.add_argument("--host", default=_UNSET, help="address to listen on (127.0.0.1)")
    where.add_argument("--port", type=int, default=_UNSET, help="TLS port (a free one)")
    where.add_argument("--ca-file", type=Path, default=_UNSET, help="write the CA here")
    where.add_argument(
        "--san", action="append", default=_UNSET, help="another name or address in the certificate"
    )
    where.add_argument(
        "--log", dest="log_file", type=Path, default=_UNSET, help="write every frame as JSON lines"
    )
    where.add_argument(
        "--audio-dir", type=Path, default=_UNSET, help="write every utterance received as a WAV"
    )
    where.add_argument(
        "--control", dest="control_path", type=Path, default=_UNSET, help="Unix socket for faults"
    )
    where.add_argument(
        "--state", dest="state_file", type=Path, default=_UNSET, help="keep handles across restarts"
    )
    replies = parser.add_argument_group("replies")
    replies.add_argument(
        "--scenario", type=Path, help="what to say and which faults (TOML), or a name of the list"
    )
    replies.add_argument(
        "--list-scenarios", action="store_true", help="name the hostile services, and end"
    )
    replies.add_argument("--reply", choices=("parrot", "tone", "silent"), default=_UNSET)
    replies.add_argument(
        "--transcript",
        dest="transcripts",
        action="append",
        default=_UNSET,
        help="what the next utterance says; repeat it",
    )
    replies.add_argument(
        "--latency", dest="latency_s", type=float, default=_UNSET, help="seconds to the answer"
    )
    replies.add_argument("--chunk-ms", type=int, default=_UNSET, help="audio per frame")
    replies.add_argument("--pace", type=float, default=_UNSET, help="times real time; 0: at once")
    replies.add_argument("--burst", dest="burst_s", type=float, default=_UNSET)
    session = parser.add_argument_group("session")
    session.add_argument(
        "--time-scale", type=float, default=_UNSET, help="60: ten minutes in ten seconds"
    )
    session.add_argument(
        "--no-limits",
        dest="connection_limits",
        action="store_false",
        default=_UNSET,
        help="no GoAway, no end of connection or session",
    )
    session.add_argument("--go-away-after", dest="go_away_after_s", type=float, default=_UNSET)
    session.add_argument("--go-away-left", dest="go_away_time_left_s", type=float, default=_UNSET)
    session.add_argument("--handle-lifetime", dest="handle_lifetime_s", type=float, default=_UNSET)
    session.add_argument("--consume-lag", dest="consume_lag_s", type=float, default=_UNSET)
    session.add_argument(
        "--resume-while-open", choices=("refuse", "takeover", "allow"), default=_UNSET
    )
    session.add_argument("--any-model", action="store_true", default=_UNSET)
    session.add_argument(
        "--trait",
        dest="traits",
        action="append",
        default=_UNSET,
        metavar="NAME=VALUE",
        help="set a trait of every model against the table, e.g. client_content=seed_only",
    )
    session.add_argument(
        "--list-models", action="store_true", help="show the table of models, and end"
    )
    session.add_argument(
        "--accept",
        dest="accept_credentials",
        action="append",
        default=_UNSET,
        help="accept only this key or token; repeat it",
    )
    session.add_argument("--max-sessions", type=int, default=_UNSET)
    wire = parser.add_argument_group("wire")
    wire.add_argument(
        "--certificate",
        choices=("valid", "expired", "not_yet_valid", "wrong_host", "unknown_ca"),
        default=_UNSET,
    )
    wire.add_argument("--text-frames", action="store_true", default=_UNSET)
    wire.add_argument("--no-deflate", dest="deflate", action="store_false", default=_UNSET)
    wire.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="TOML",
        help="""e.g. 'do = "close", code = 1011, on = "reply 1.0 s"'; repeat it""",
    )


def options_from(args: argparse.Namespace) -> EmulatorOptions:
    """Turn parsed arguments into options.

    Raises:
        ValueError, OSError: an argument, the scenario or a fault cannot be used.
    """
    import tomllib
    from dataclasses import fields, replace

    from live_emulator.faults import make_fault
    from live_emulator.options import EmulatorOptions, with_scenario
    from live_emulator.scenario import load_scenario

    names = {item.name for item in fields(EmulatorOptions)}
    given = {name: value for name, value in vars(args).items() if name in names - {"scenario"}}
    for name, kind in (("san", tuple), ("accept_credentials", frozenset)):
        if name in given:
            given[name] = kind(given[name])
    options = EmulatorOptions()
    if getattr(args, "scenario", None) is not None:
        options = with_scenario(options, load_scenario(args.scenario))
    if "traits" in given:
        given["traits"] = {**options.traits, **traits_from(given["traits"])}
    faults = tuple(
        make_fault(tomllib.loads(f"fault = {{ {text} }}")["fault"]) for text in args.fault
    )
    return replace(options, faults=faults, **given)


def traits_from(given: list[str]) -> dict[str, str]:
    """Read ``NAME=VALUE``, repeated.

    Raises:
        ValueError: there is no ``=``.
    """
    for text in given:
        if "=" not in text:
            raise ValueError(f"--trait {text!r}: write NAME=VALUE, e.g. client_content=seed_only")
    return {name.strip(): value.strip() for name, _, value in (t.partition("=") for t in given)}


async def serve(options: EmulatorOptions) -> None:
    """Run an emulator until SIGTERM or SIGINT; print where it is as one JSON line."""
    from live_emulator.server import Emulator

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with Emulator(options) as emulator:
        place = {"event": "ready", "base_url": emulator.base_url, "port": emulator.port}
        print(json.dumps(place | {"environment": emulator.client_environment()}), flush=True)
        waiting = [asyncio.ensure_future(stopped.wait())]
        waiting.append(asyncio.ensure_future(emulator.stop_requested.wait()))
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()


def _printable(error: Exception) -> str:
    """Return an error's words for a terminal: what somebody else wrote may be in them."""
    return str(error).encode("unicode_escape").decode("ascii")[:1000]


def list_scenarios() -> int:
    """Print the scenarios that come with the package."""
    from live_emulator.scenario import shipped_scenarios

    for name, scenario in shipped_scenarios().items():
        print(f"{name:22}{scenario.about}")
    return 0


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    if args.list_scenarios:
        return list_scenarios()
    if args.list_models:
        from live_emulator.models import traits_table

        print(traits_table(), end="")
        return 0
    try:
        options = options_from(args)
    except (ValueError, OSError) as exc:
        print(f"agentd emulator: {_printable(exc)}", file=sys.stderr)
        return 2
    try:
        asyncio.run(serve(options))
    except (OSError, OverflowError, ValueError) as exc:  # no port or host is called that
        words = _printable(exc)
        print(f"agentd emulator: {words}; choose another --port, --host or path", file=sys.stderr)
        return 1
    return 0
