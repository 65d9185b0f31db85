"""A machine with two uplinks, in network namespaces: real netlink, real link and route changes.

    speaker                                  router
    wlan0  10.55.1.2/24  fd55:1::2/64 ─────  rwlan0  10.55.1.1  fd55:1::1
                                                                            lo  10.55.0.1  fd55::1
    wwan0  10.55.2.2/24  fd55:2::2/64 ─────  rwwan0  10.55.2.1  fd55:2::1       (the service)

wlan0 is preferred (metric 600 against 700). The namespaces belong to two sleeping processes and
vanish with them, so nothing needs a name in the machine and several of these may exist at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

SERVICE_V4: Final = "10.55.0.1"
SERVICE_V6: Final = "fd55::1"
START_S: Final = 20.0
_CLONE_NEWNET: Final = 0x40000000


def reason_to_skip() -> str | None:
    """Return why namespaces cannot be made here, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "unshare", "nsenter", "setpriv"):
        if shutil.which(program) is None:
            return f"{program} is missing (scripts/setup dev installs it)"
    probe = subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "name", "probe0", "type", "veth"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if probe.returncode == 0 else f"no veth in a namespace: {probe.stderr.strip()}"


class Namespace:
    """A network namespace, held by a process that sleeps in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"],
            stdin=subprocess.DEVNULL,
        )
        self.path = Path(f"/proc/{self._holder.pid}/ns/net")
        self._wait_made()

    @property
    def pid(self) -> int:
        """Process id of the holder; `ip link set X netns PID` takes it."""
        return self._holder.pid

    def _wait_made(self) -> None:
        deadline = time.monotonic() + START_S
        ours = Path("/proc/self/ns/net").readlink()
        while self.path.readlink() == ours:
            if self._holder.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"cannot make the network namespace {self.name}")
            time.sleep(0.005)

    def command(self, *command: str) -> list[str]:
        """Return a command line that runs a program inside."""
        return ["nsenter", f"--net={self.path}", "--", *command]

    def run(self, *command: str, check: bool = True) -> str:
        """Run a program inside and return its output; raise `RuntimeError` with its message."""
        done = subprocess.run(
            self.command(*command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program inside; options as of `subprocess.Popen`."""
        return subprocess.Popen(self.command(*command), **options)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Put this thread inside: sockets and threads made here belong to the namespace for good.

        Leaves again at the end. A whole `asyncio.run()` may go in here.
        """
        with contextlib.ExitStack() as stack:
            home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, home)
            inside = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, inside)
            _setns(inside)
            stack.callback(_setns, home)
            yield

    def close(self) -> None:
        """Let the namespace go; what still runs inside keeps it alive."""
        self._holder.kill()
        self._holder.wait()


def _setns(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns is of Python 3.12
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


@dataclass(frozen=True, slots=True)
class Uplink:
    """One way from the speaker to the service, and what can happen to it."""

    name: str
    network: int
    metric: int
    speaker: Namespace
    router: Namespace

    @property
    def address(self) -> str:
        """The speaker's IPv4 address on it."""
        return f"10.55.{self.network}.2"

    @property
    def address_v6(self) -> str:
        """The speaker's IPv6 address on it."""
        return f"fd55:{self.network}::2"

    @property
    def _far(self) -> str:
        return f"r{self.name}"

    def _ip(self, *arguments: str, check: bool = True) -> str:
        return self.speaker.run("ip", *arguments, check=check)

    def make(self) -> None:
        """Create the pair of interfaces and bring it up."""
        self._ip(
            "link", "add", self.name, "type", "veth",
            "peer", "name", self._far, "netns", str(self.router.pid),
        )  # fmt: skip
        self.router.run("ip", "link", "set", self._far, "up")
        self._address_far_end()
        self.up()

    def _address_far_end(self) -> None:
        # IPv6 addresses go when a link goes down, so this is repeated whenever it comes back.
        ip = ("ip", "address", "replace")
        self.router.run(*ip, f"10.55.{self.network}.1/24", "dev", self._far)
        v6 = f"fd55:{self.network}::1/64"
        self.router.run(*ip, v6, "dev", self._far, "nodad", check=False)

    def up(self) -> None:
        """Take the link up, with its addresses and default routes."""
        self._ip("link", "set", self.name, "up")
        self.add_address(f"{self.address}/24")
        self._ip(
            "address", "replace", f"{self.address_v6}/64", "dev", self.name, "nodad", check=False
        )
        self.restore_route()

    def down(self) -> None:
        """Take the link down, as `ip link set down` and rfkill do; its routes go."""
        self._ip("link", "set", self.name, "down")

    def lose_carrier(self) -> None:
        """Take the far end down: the interface stays up without carrier, as when Wi-Fi is lost."""
        self.router.run("ip", "link", "set", self._far, "down")

    def restore_carrier(self) -> None:
        """End `lose_carrier`."""
        self.router.run("ip", "link", "set", self._far, "up")
        self._address_far_end()

    def swallow(self) -> None:
        """Let every answer vanish without any event here: a dead router, a lost NAT entry."""
        self.router.run("ip", "route", "replace", "blackhole", f"{self.address}/32")
        self.router.run(
            "ip", "route", "replace", "blackhole", f"{self.address_v6}/128", check=False
        )

    def pass_again(self) -> None:
        """End `swallow`."""
        self.router.run("ip", "route", "del", "blackhole", f"{self.address}/32")
        self.router.run("ip", "route", "del", "blackhole", f"{self.address_v6}/128", check=False)

    def drop_route(self) -> None:
        """Remove the default routes through this link; the link stays up."""
        self._ip("route", "del", "default", "dev", self.name, check=False)
        self._ip("-6", "route", "del", "default", "dev", self.name, check=False)

    def restore_route(self) -> None:
        """Put the default routes through this link back."""
        tail = ("dev", self.name, "metric", str(self.metric))
        self._ip("route", "replace", "default", "via", f"10.55.{self.network}.1", *tail)
        self._ip(
            "-6",
            "route",
            "replace",
            "default",
            "via",
            f"fd55:{self.network}::1",
            *tail,
            check=False,
        )

    def add_address(self, address: str) -> None:
        """Add an address, "10.55.1.9/24" or "fd55:1::9/64"."""
        nodad = ["nodad"] if ":" in address else []
        self._ip("address", "replace", address, "dev", self.name, *nodad)

    def remove_address(self, address: str) -> None:
        """Remove an address; its routes go with it, and so do later addresses of its network."""
        self._ip("address", "del", address, "dev", self.name)


class Uplinks:
    """A speaker with `wlan0` and `wwan0`, and a router with the service's address behind both."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.router = Namespace("router")
            stack.callback(self.router.close)
            self.speaker = Namespace("speaker")
            stack.callback(self.speaker.close)
            self.wlan0 = Uplink("wlan0", 1, 600, self.speaker, self.router)
            self.wwan0 = Uplink("wwan0", 2, 700, self.speaker, self.router)
            for namespace in (self.router, self.speaker):
                namespace.run("ip", "link", "set", "lo", "up")
            self.router.run("ip", "address", "add", f"{SERVICE_V4}/32", "dev", "lo")
            v6 = ("ip", "address", "add", f"{SERVICE_V6}/128", "dev", "lo", "nodad")
            self.router.run(*v6, check=False)
            self.wlan0.make()
            self.wwan0.make()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def has_ipv6(self) -> bool:
        """Whether this kernel does IPv6."""
        return self.wlan0.address_v6 in self.speaker.run("ip", "-6", "address")

    def interface_to_service(self) -> str | None:
        """Return the interface that the speaker's kernel would take to the service, if any."""
        answer = self.speaker.run("ip", "route", "get", SERVICE_V4, check=False).split()
        return answer[answer.index("dev") + 1] if "dev" in answer else None
