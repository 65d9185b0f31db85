"""A booted Debian container: systemd-nspawn over a throw-away layer on a cached root.

Everything is inside private namespaces of mounts, network and control groups, so several machines
run beside each other and nothing of the host is touched. There is no machined: commands enter the
namespaces of the container's first process.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from rig.guest import ENVIRONMENT, Guest

BOOT_S: Final = 120.0
T = TypeVar("T")

# The unified hierarchy is mounted afresh: hosts that still have the old one boot containers too.
_BOOT = """\
set -e
mount --make-rprivate /
umount -l /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/{name}
echo $$ > /sys/fs/cgroup/{name}/cgroup.procs
mount -t overlay overlay -o lowerdir={lower},upperdir={work}/upper,workdir={work}/work {work}/root
ip link set lo up
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --boot --register=no --keep-unit --console=pipe --network-veth \\
    --link-journal=no --machine={name} {binds} -D {work}/root </dev/null
"""


def wait_until(what: str, question: Callable[[], T], timeout_s: float = 60.0) -> T:
    """Ask until the answer is true, and return it; fail with `what` when it never is.

    systemd and dpkg in another process give nothing to wait on, so this asks again and again. The
    deadline is generous on purpose: it ends a test that has failed, it never paces one.
    """
    deadline = time.monotonic() + timeout_s
    while not (answer := question()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.1)
    return answer


class Machine(Guest):
    """A container; use as a context manager. It is on when entered and gone when left."""

    def __init__(self, root: Path, *, binds: Mapping[Path, str] | None = None) -> None:
        self._root = root
        self._binds = dict(binds or {})
        self._folder = tempfile.TemporaryDirectory(prefix="agentd-machine-")
        self.work = Path(self._folder.name)
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self.boot_s = 0.0

    def __enter__(self) -> Self:
        for name in ("upper", "work", "root"):
            (self.work / name).mkdir()
        try:
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._leader:  # nothing on it will be wanted again: the plug is pulled
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGKILL)
        self.off()
        self._folder.cleanup()

    # ── power ───────────────────────────────────────────────────────────────────────────────────

    def boot(self) -> None:
        """Switch on and wait until systemd has started everything."""
        # Short: the network interface is named after it.
        name = "ag" + self.work.name[-8:].replace("_", "0").replace("-", "0")
        binds = " ".join(
            shlex.quote(f"--bind-ro={source}:{target}") for source, target in self._binds.items()
        )
        script = _BOOT.format(name=name, work=self.work, lower=self._root, binds=binds)
        started = time.monotonic()
        with (self.work / "console").open("ab") as console:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--net", "--propagation=private", "bash", "-c", script],
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        try:
            self._leader = wait_until("a first process", self._find_leader, BOOT_S)
            wait_until("the end of booting", self._is_up, BOOT_S)
        except AssertionError as error:
            text = (self.work / "console").read_text(errors="replace")[-3000:]
            self.off()
            raise AssertionError(f"{error}\n{text}") from None
        self.boot_s = time.monotonic() - started
        self.run("ip addr add 192.0.2.2/24 dev host0 && ip link set host0 up")
        host = f"ve-{name}"
        self._outside(f"ip addr add 192.0.2.1/24 dev {host} && ip link set {host} up")
        self.run("ip route add default via 192.0.2.1")

    def off(self) -> None:
        """Switch off in an orderly way; pull the plug when that takes too long."""
        if self._process is None:
            return
        if self._leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGRTMIN + 4)
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process, self._leader = None, 0

    def reboot(self) -> None:
        """Switch off and on; what is on the disk stays."""
        self.off()
        self.boot()

    def _find_leader(self) -> int:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"systemd-nspawn exited with {self._process.returncode}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        for child in children.split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text().strip() in {"systemd", "init"}:
                    return int(child)
        return 0

    def _is_up(self) -> bool:
        state = self.ask("systemctl is-system-running")
        return state.stdout.strip() in {"running", "degraded"}

    # ── commands ────────────────────────────────────────────────────────────────────────────────

    def _outside(self, script: str) -> None:
        assert self._process is not None
        subprocess.run(
            ["nsenter", "-t", str(self._process.pid), "-n", "sh", "-c", script], check=True
        )

    def _enter(
        self,
        script: str,
        *,
        stdin: bytes | None = None,
        timeout_s: float = 300.0,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        environment = {**ENVIRONMENT, **(env or {})}
        command = ["nsenter", "-t", str(self._leader), *"-m -u -i -n -p -C -r -w --".split()]
        command += ["env", "-i", *(f"{key}={value}" for key, value in environment.items())]
        done = subprocess.run(
            [*command, "sh", "-c", script],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            timeout=timeout_s,
            check=False,
            start_new_session=True,
        )
        return subprocess.CompletedProcess(
            script,
            done.returncode,
            done.stdout.decode(errors="replace"),
            done.stderr.decode(errors="replace"),
        )

    def ask(self, script: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a shell script as root; return status and output whatever they are."""
        return self._enter(script, **options)

    def read(self, path: str) -> str:
        """Return a text file."""
        return self.run(f"cat {shlex.quote(path)}")

    def exists(self, path: str) -> bool:
        """Tell whether something is at `path`, a broken link included."""
        quoted = shlex.quote(path)
        return self.ask(f"test -e {quoted} || test -L {quoted}").returncode == 0

    def apt(self, arguments: str, **options: Any) -> str:
        """Run apt-get without questions."""
        return self.run(f"apt-get -q -y -o Dpkg::Use-Pty=0 {arguments} 2>&1", **options)

    def fetch(self, path: str) -> bytes:
        """Return a file, whatever is in it."""
        return base64.b64decode(self.run(f"base64 -w0 {shlex.quote(path)}"))

    # ── the journal ─────────────────────────────────────────────────────────────────────────────

    def cursor(self) -> str:
        """Return the present end of the journal."""
        text = self.run("journalctl --no-pager -q -n 0 --show-cursor")
        return text.rpartition("-- cursor: ")[2].strip()

    def journal(self, *matches: str, after: str = "") -> list[dict[str, Any]]:
        """Return entries that match (as for journalctl), oldest first, after a cursor."""
        # Not --after-cursor: with a match, journalctl 252 takes the first entry for the cursor's.
        since = f"--cursor={shlex.quote(after)}" if after else ""
        words = " ".join(shlex.quote(match) for match in matches)
        text = self.run(f"journalctl --no-pager -q -o json --all {since} {words}")
        return [entry for entry in _entries(text) if entry["__CURSOR"] != after]

    def events(self, name: str = "", after: str = "") -> list[dict[str, Any]]:
        """Return agentd's own events, all of them or those of one name."""
        entries = self.journal("-u", "agentd.service", after=after)
        return [
            entry
            for entry in entries
            if "AGENTD_EVENT" in entry and name in {"", entry["AGENTD_EVENT"]}
        ]

    def wait_event(self, name: str, after: str = "", timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait for an event after a cursor and return its entry."""
        found = wait_until(
            f"the event {name}", lambda: self.events(name, after=after), timeout_s=timeout_s
        )
        return found[-1]

    # ── services ────────────────────────────────────────────────────────────────────────────────

    def active(self, unit: str) -> bool:
        """Tell whether a unit is active."""
        return self.show(unit, "ActiveState")["ActiveState"] == "active"


def _entries(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def words(values: Sequence[str]) -> str:
    """Return shell words."""
    return " ".join(shlex.quote(value) for value in values)
