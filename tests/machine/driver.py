"""In the machine: run what the host asks for over a virtio serial port.

One JSON object per line each way. A request `{"id", "do": "run", "script", "stdin", "timeout_s"}`
is answered by `{"id", "status", "out", "err", "begun", "ended"}` when it has ended; bytes travel as
base64. `"do": "follow"` sends every line that the script prints as `{"id", "line"}`. Requests run
beside each other: one may play speech while another unplugs something. Standard library only.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
import time
from typing import Any

PORT = "/dev/virtio-ports/driver"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "SYSTEMD_COLORS": "0",
    "SYSTEMD_PAGER": "cat",
}

_writing = threading.Lock()


def answer(port: int, message: dict[str, Any]) -> None:
    """Write one line, whole."""
    data = json.dumps(message).encode() + b"\n"
    with _writing:
        while data:
            data = data[os.write(port, data) :]


def run(port: int, request: dict[str, Any]) -> None:
    """Run a shell script and answer with what came of it."""
    reply: dict[str, Any] = {"id": request["id"], "begun": time.monotonic()}
    try:
        done = subprocess.run(
            ["sh", "-c", request["script"]],
            input=base64.b64decode(request.get("stdin", "")),
            capture_output=True,
            timeout=request.get("timeout_s", 300),
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
            check=False,
        )
        status, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        status, out, err = -1, error.stdout or b"", b"timeout in the machine"
    reply |= {
        "status": status,
        "out": base64.b64encode(out).decode(),
        "err": base64.b64encode(err).decode(),
        "ended": time.monotonic(),
    }
    answer(port, reply)


def follow(port: int, request: dict[str, Any]) -> None:
    """Run a shell script and send each line as it comes; start it again when it ends."""
    while True:
        with subprocess.Popen(
            ["sh", "-c", request["script"]],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=ENVIRONMENT,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                answer(port, {"id": request["id"], "line": line.decode(errors="replace")})
        time.sleep(1)


def main() -> None:
    """Serve until the machine stops."""
    while not os.path.exists(PORT):  # noqa: PTH110 - as small as it can be
        time.sleep(0.05)
    port = os.open(PORT, os.O_RDWR)
    boot = open("/proc/sys/kernel/random/boot_id", encoding="ascii").read().strip()  # noqa: SIM115, PTH123
    answer(port, {"id": 0, "boot": boot})
    pending = b""
    while True:
        data = os.read(port, 65536)
        if not data:  # the host has not opened its end
            time.sleep(0.05)
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            if line.strip():
                request = json.loads(line)
                work = follow if request["do"] == "follow" else run
                threading.Thread(target=work, args=(port, request), daemon=True).start()


if __name__ == "__main__":
    main()
