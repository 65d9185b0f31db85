"""``python -m tests.clients``: run other people's clients on the emulator, and write the table.

Each client lives in an environment of its own below ``.cache/clients``, made from PyPI or npm when
it is missing; ``make test-clients`` calls this.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from live_emulator import Emulator, EmulatorOptions
from live_emulator.scenario import read_scenario

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "clients"
PAGE = ROOT / "docs" / "measured" / "clients.md"
DEADLINE_S = 240.0
UNSHARED = ["unshare", "--mount", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
NOT_HERE = "not here"
"""A client's word for what it or the model has not."""

DEVELOPER = ("gemini-3.8-live", "gemini-3.1-flash-live-preview")
VERTEX = ("gemini-3.8-live", "gemini-live-2.5-flash-native-audio")


@dataclass(frozen=True, slots=True)
class Client:
    """A client: what is installed, what is run."""

    name: str
    packages: tuple[str, ...]
    script: str
    node: bool = False
    backends: tuple[str, ...] = ("developer", "vertex")
    by_name: bool = False
    """Knows the service by its own name only: run in namespaces where the name is ours."""


CLIENTS = (
    Client("google-genai newest", ("google-genai",), "genai_client.py"),
    Client("google-genai 3.4", ("google-genai>=3.4,<3.5",), "genai_client.py"),
    Client("google-genai 2.19", ("google-genai==2.19.0",), "genai_client.py"),
    Client("google-genai 1.75", ("google-genai==1.75.0",), "genai_client.py"),
    Client("@google/genai", ("@google/genai",), "genai_client.mjs", node=True),
    Client("firebase", ("firebase",), "firebase_client.mjs", node=True, by_name=True),
)


@dataclass(slots=True)
class Row:
    """What one client did on one model."""

    client: str
    model: str
    version: str = ""
    found: dict[str, str] = field(default_factory=dict)


async def command(*words: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command; return its standard output.

    Raises:
        RuntimeError: it failed or took too long.
    """
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=cwd,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise RuntimeError(f"{words[0]} took longer than {DEADLINE_S:.0f} s") from None
    if process.returncode:
        raise RuntimeError(f"{words[0]} failed: {err.decode(errors='replace')[-400:]}")
    return out.decode()


async def interpreter(client: Client) -> list[str]:
    """Return the command that runs the client's script, its environment made if need be."""
    place = CACHE / "".join(c if c.isalnum() or c in ".-" else "_" for c in client.name)
    script = HERE / client.script
    if client.node:
        if not (place / "node_modules").is_dir():
            place.mkdir(parents=True, exist_ok=True)
            await command("npm", "install", "--no-fund", "--no-audit", *client.packages, cwd=place)
        here = place / script.name  # modules are looked for beside the script
        here.write_text(script.read_text("utf-8"), "utf-8")
        return ["node", "--experimental-websocket", str(here)]  # Node 20 has it behind a flag
    python = place / "bin" / "python"
    if not (place / "made").exists():
        await command(sys.executable, "-m", "venv", str(place))
        await command(str(python), "-m", "pip", "install", "-q", *client.packages)
        (place / "made").touch()
    return [str(python), str(script)]


TOOLS = {
    "turn": [
        {
            "tool_call": {"name": "lamp"},
            "say": "It is on.",
            "say_after": "It is on.",
            "tone": "0.3s",
        }
    ]
}
EMULATORS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tools": {"scenario": read_scenario(TOOLS)},
    "slow": {"reply": "tone", "tone_s": 8.0, "pace": 1.0, "time_scale": 1.0},
    # GoAway half a service minute after the connection, so that a turn is over before.
    "short": {"go_away_after_s": 40.0, "go_away_time_left_s": 10.0},
}


async def run_on(client: Client, backend: str, model: str) -> Row:
    """Run a client on fresh emulators."""
    row = Row(client.name, model + (" (Vertex)" if backend == "vertex" else ""))
    try:
        words = await interpreter(client)
        given: dict[str, Any] = {"vertex": backend == "vertex", "model": model}
        if client.by_name:
            inside = [*UNSHARED, sys.executable, "-m", "tests.clients.namespace"]
            result = json.loads(await command(*inside, json.dumps(given), *words, cwd=ROOT))
            row.version, row.found = result["version"], result["found"]
            return row
        async with AsyncExitStack() as stack:
            urls, bundle = {}, ""
            for name, options in EMULATORS.items():
                chosen = EmulatorOptions(**({"time_scale": 20.0} | options))
                emulator = await stack.enter_async_context(Emulator(chosen))
                urls[name] = emulator.base_url
                bundle += emulator.ca_file.read_text("ascii")
            folder = Path(stack.enter_context(_folder()))
            (folder / "ca.pem").write_text(bundle, "ascii")
            trust = {n: str(folder / "ca.pem") for n in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")}
            env = os.environ | trust | {"no_proxy": "127.0.0.1"}
            given["urls"] = urls
            result = json.loads(await command(*words, json.dumps(given), env=env))
            row.version, row.found = result["version"], result["found"]
    except (RuntimeError, OSError, ValueError) as exc:
        row.found = {"setup": str(exc)}
    return row


def _folder() -> Any:
    import tempfile

    return tempfile.TemporaryDirectory(prefix="clients-")


def page(rows: Iterable[Row]) -> str:
    """Return the page with the table and, below it, what failed."""
    rows, today = list(rows), dt.datetime.now(dt.UTC)
    checks = list(dict.fromkeys(check for row in rows for check in row.found))
    lines = [
        "# Other people's clients on the emulator",
        "",
        "Written by `make test-clients`; unpatched, from PyPI and npm, with nothing set but the",
        f"base URL, the certificate authority and an invented key. {today:%d %B %Y}.",
        "",
        "✓ works, – the client or the model has no such thing, ✗ fails, as told below the table.",
        "",
        f"| client | model | {' | '.join(checks)} |",
        f"| --- | --- | {' | '.join('---' for _ in checks)} |",
    ]
    signs = {"ok": "✓", NOT_HERE: "–", "": "–"}
    failed = []
    for row in rows:
        marks = []
        for check in checks:
            value = row.found.get(check, "")
            marks.append(signs.get(value, "✗"))
            if value not in signs:
                failed.append(f"- {row.client} on {row.model}, {check}: {value}")
        name = f"{row.client.split()[0]} {row.version}".strip()
        lines.append(f"| {name} | {row.model} | {' | '.join(marks)} |")
    if failed:
        lines += ["", "✗:", "", *failed]
    return "\n".join(lines) + "\n"


async def run(names: list[str]) -> int:
    """Run the clients whose names contain one of these words; write the page if all were run."""
    chosen = [c for c in CLIENTS if not names or any(word in c.name for word in names)]
    if not chosen:
        known = ", ".join(client.name for client in CLIENTS)
        print(f"no client is called {' or '.join(names)}; there are {known}", file=sys.stderr)
        return 2
    rows = []
    for client in chosen:
        for backend in client.backends:
            for model in DEVELOPER if backend == "developer" else VERTEX:
                row = await run_on(client, backend, model)
                rows.append(row)
                bad = {k: v for k, v in row.found.items() if v not in ("ok", NOT_HERE)}
                print(client.name, row.version, row.model, bad or "ok", flush=True)
    if not names:
        PAGE.write_text(page(rows), "utf-8")
    return int(any(v not in ("ok", NOT_HERE) for row in rows for v in row.found.values()))


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("names", nargs="*", help="only clients with one of these in their names")
    return asyncio.run(run(parser.parse_args().names))


if __name__ == "__main__":
    sys.exit(main())
