"""Run a client that knows only the service's own name: in namespaces where that name is ours.

``unshare --mount --net python -m tests.clients.namespace GIVEN COMMAND…`` gives the client one
emulator after the other on port 443, each under the name of Firebase's service.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from live_emulator import Emulator, EmulatorOptions
from tests.clients.__main__ import EMULATORS, command

NAME = "firebasevertexai.googleapis.com"
CHECKS = {
    "plain": ("setup", "text", "audio, automatic", "transcripts"),
    "tools": ("tools",),
    "short": ("going away",),
}


def redirect(folder: Path) -> None:
    """Make the name ours, in this mount namespace alone."""
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {NAME}\n", "ascii")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)


async def main() -> None:
    """Run the client's command on each emulator; print all results as one."""
    given, words = json.loads(sys.argv[1]), sys.argv[2:]
    result: dict[str, Any] = {"version": "", "found": {}}
    with tempfile.TemporaryDirectory(prefix="clients-") as name:
        folder = Path(name)
        redirect(folder)
        for kind, checks in CHECKS.items():
            place: dict[str, Any] = {"port": 443, "san": (NAME,), "time_scale": 20.0}
            async with Emulator(EmulatorOptions(**(place | EMULATORS[kind]))) as emulator:
                env = os.environ | {"NODE_EXTRA_CA_CERTS": str(emulator.ca_file)}
                asked = json.dumps(given | {"checks": checks})
                part = json.loads(await command(*words, asked, env=env))
            result["version"] = part["version"]
            result["found"] |= part["found"]
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main())
