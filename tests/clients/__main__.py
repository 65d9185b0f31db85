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
import re
import shutil
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
DEADLINE_S = 480.0  # of a client on one model; a check has 60 s
INSTALL_S = 1800.0
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
    large: bool = False
    """Hundreds of megabytes: its environment goes when it has run."""
    by_name: bool = False
    """Knows the service by its own name only: run in namespaces where the name is ours."""


CLIENTS = (
    Client("google-genai newest", ("google-genai",), "genai_client.py"),
    Client("google-genai 3.4", ("google-genai>=3.4,<3.5",), "genai_client.py"),
    Client("google-genai 2.19", ("google-genai==2.19.0",), "genai_client.py"),
    Client("google-genai 1.75", ("google-genai==1.75.0",), "genai_client.py"),
    Client("@google/genai", ("@google/genai",), "genai_client.mjs", node=True),
    Client("firebase", ("firebase",), "firebase_client.mjs", node=True, by_name=True),
    Client("pydantic-ai", ("pydantic-ai-slim[google]",), "pydantic_ai_client.py", large=True),
    Client("google-adk", ("google-adk",), "adk_client.py", large=True),
    Client(
        "livekit-agents",
        ("livekit-agents", "livekit-plugins-google"),
        "livekit_client.py",
        large=True,
    ),
    Client("websockets by hand", ("websockets",), "raw_client.py"),
)


@dataclass(slots=True)
class Row:
    """What one client did on one model."""

    client: str
    model: str
    version: str = ""
    found: dict[str, str] = field(default_factory=dict)


async def command(
    *words: str,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    within_s: float = DEADLINE_S,
) -> str:
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
        out, err = await asyncio.wait_for(process.communicate(), within_s)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise RuntimeError(f"{words[0]} took longer than {within_s:.0f} s") from None
    if process.returncode:
        raise RuntimeError(f"{words[0]} failed: {err.decode(errors='replace')[-400:]}")
    return out.decode()


def environment(client: Client) -> Path:
    """Return the folder of a client's environment."""
    return CACHE / "".join(c if c.isalnum() or c in ".-" else "_" for c in client.name)


async def interpreter(client: Client) -> list[str]:
    """Return the command that runs the client's script, its environment made if need be."""
    place = environment(client)
    script = HERE / client.script
    if client.node:
        if not (place / "node_modules").is_dir():
            place.mkdir(parents=True, exist_ok=True)
            install = ("npm", "install", "--no-fund", "--no-audit", *client.packages)
            await command(*install, cwd=place, within_s=INSTALL_S)
        here = place / script.name  # modules are looked for beside the script
        here.write_text(script.read_text("utf-8"), "utf-8")
        return ["node", "--experimental-websocket", str(here)]  # Node 20 has it behind a flag
    python = place / "bin" / "python"
    if not (place / "made").exists():
        await command(sys.executable, "-m", "venv", str(place))
        install = (str(python), "-m", "pip", "install", "-q", *client.packages)
        await command(*install, within_s=INSTALL_S)
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
    row = Row(shown(client.name), model + (" (Vertex)" if backend == "vertex" else ""))
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
            said = await command(*words, json.dumps(given), env=env)
            result = json.loads(said.strip().splitlines()[-1])  # some libraries print as well
            row.version, row.found = result["version"], result["found"]
    except (RuntimeError, OSError, ValueError) as exc:
        row.found = {"setup": str(exc)}
    return row


def _folder() -> Any:
    import tempfile

    return tempfile.TemporaryDirectory(prefix="clients-")


SIGNS = {"ok": "✓", NOT_HERE: "–", "": "–"}


def read_page(text: str) -> list[Row]:
    """Return the rows of a page, as the run that wrote it found them."""
    rows: list[Row] = []
    checks: list[str] = []
    values = {"✓": "ok", "–": NOT_HERE}
    failed = dict(re.findall(r"(?m)^- (.+?: )(.*)$", text))
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| client "):
            checks = cells[2:]
        elif line.startswith("| ") and checks and not line.startswith("| ---"):
            name, model, marks = cells[0], cells[1], cells[2:]
            client, _, version = name.rpartition(" ")
            found = {
                check: values.get(mark) or failed.get(f"{name} on {model}, {check}: ", "failed")
                for check, mark in zip(checks, marks, strict=True)
            }
            rows.append(Row(client, model, version, found))
    return rows


def merged(before: Iterable[Row], found: Iterable[Row]) -> list[Row]:
    """Return the rows of before with those of what was run now in their place.

    A client that is run in one version has its rows replaced; of one that is run in several, those
    of the same version.
    """
    found = list(found)
    names = [shown(client.name) for client in CLIENTS]
    now = {(row.client, row.version if names.count(row.client) > 1 else "") for row in found}
    kept = [row for row in before if not {(row.client, row.version), (row.client, "")} & now]
    order = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return sorted(kept + found, key=lambda row: order.get(row.client, len(order)))


def shown(name: str) -> str:
    """Return a client's name as the table has it: the version is measured, not wished."""
    return re.sub(r" (newest|[0-9.]+)$", "", name)


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
    failed = []
    for row in rows:
        name = f"{row.client} {row.version}".strip()
        marks = []
        for check in checks:
            value = row.found.get(check, "")
            marks.append(SIGNS.get(value, "✗"))
            if value not in SIGNS:
                failed.append(f"- {name} on {row.model}, {check}: {value}")
        lines.append(f"| {name} | {row.model} | {' | '.join(marks)} |")
    if failed:
        lines += ["", "✗:", "", *failed]
    return "\n".join(lines) + "\n"


async def run(names: list[str]) -> int:
    """Run the clients whose names contain one of these words; put what they did on the page."""
    chosen = [c for c in CLIENTS if not names or any(word in c.name for word in names)]
    if not chosen:
        known = ", ".join(client.name for client in CLIENTS)
        print(f"no client is called {' or '.join(names)}; there are {known}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    before = read_page(PAGE.read_text("utf-8")) if names and PAGE.exists() else []
    for client in chosen:
        for backend in client.backends:
            for model in DEVELOPER if backend == "developer" else VERTEX:
                row = await run_on(client, backend, model)
                rows.append(row)
                PAGE.write_text(page(merged(before, rows)), "utf-8")
                bad = {k: v for k, v in row.found.items() if v not in ("ok", NOT_HERE)}
                print(client.name, row.version, row.model, bad or "ok", flush=True)
        if client.large:
            shutil.rmtree(environment(client), ignore_errors=True)
    return int(any(v not in ("ok", NOT_HERE) for row in rows for v in row.found.values()))


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("names", nargs="*", help="only clients with one of these in their names")
    parser.add_argument("--recordings", type=Path, help="play these recorded sessions instead")
    given = parser.parse_args()
    if given.recordings is not None:
        from tests.clients.recordings import play_all

        return play_all(given.recordings)
    return asyncio.run(run(given.names))


if __name__ == "__main__":
    sys.exit(main())
