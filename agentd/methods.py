"""What can be asked of the daemon over its control socket: one row per method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agentd.device.ringer import Ringer
from agentd.device.volume import Volume
from agentd.live.session import LiveSession
from agentd.service.rpc import REFUSED, Method, Param, Params, RpcError

TEXT = {"text": Param(str, low=1, high=16_384)}
PERCENT = {"percent": Param(int, low=0, high=100)}


class MethodTarget(Protocol):
    """What the methods need of the daemon."""

    session: LiveSession
    volume: Volume
    ringer: Ringer

    def status(self) -> dict[str, object]:
        """Return the document of `agentd status --json`."""

    def set_mute(self, mute: bool, *, by: str) -> str:
        """Mute or unmute; return an empty text, or why not."""

    async def reload(self) -> str:
        """Take the changed configuration into use; return an empty text, or the problems."""


def methods(daemon: MethodTarget) -> dict[str, Method]:
    """Return the methods by name."""
    ask = Requests(daemon)
    return {
        "status": Method(ask.status),
        "mute": Method(ask.mute, changing=True),
        "unmute": Method(ask.unmute, changing=True),
        "volume": Method(ask.volume),
        "volume.set": Method(ask.set_volume, PERCENT, changing=True),
        "silence": Method(ask.silence, changing=True),
        "say": Method(ask.say, TEXT, changing=True),
        "instruct": Method(ask.instruct, TEXT, changing=True),
        "context.add": Method(ask.add_context, TEXT, changing=True),
        "forget": Method(ask.forget, changing=True),
        "reload": Method(ask.reload, changing=True),
    }


@dataclass(frozen=True, slots=True)
class Requests:
    """The handlers; each takes checked parameters and returns a plain JSON value."""

    daemon: MethodTarget

    def status(self, _params: Params) -> object:
        """Tell what the daemon is doing."""
        return self.daemon.status()

    def mute(self, _params: Params) -> object:
        """Close the microphone."""
        return _done(self.daemon.set_mute(True, by="control"), {"muted": True})

    def unmute(self, _params: Params) -> object:
        """Open the microphone."""
        return _done(self.daemon.set_mute(False, by="control"), {"muted": False})

    def volume(self, _params: Params) -> object:
        """Tell the volume."""
        return {"percent": self.daemon.volume.percent}

    async def set_volume(self, params: Params) -> object:
        """Set the volume."""
        return {"percent": await self.daemon.volume.set(params["percent"], by="control")}

    def silence(self, _params: Params) -> object:
        """Stop a ringing timer or alarm."""
        return {"silenced": self.daemon.ringer.silence("control")}

    async def say(self, params: Params) -> object:
        """Send a typed question."""
        return {"outcome": await self.daemon.session.say(params["text"])}

    async def instruct(self, params: Params) -> object:
        """Change the system instruction."""
        return {"outcome": await self.daemon.session.instruct(params["text"])}

    async def add_context(self, params: Params) -> object:
        """Tell the model something in passing."""
        return {"outcome": await self.daemon.session.add_context(params["text"])}

    async def forget(self, _params: Params) -> object:
        """Delete the conversation."""
        return {"forgotten": await self.daemon.session.forget()}

    async def reload(self, _params: Params) -> object:
        """Read the configuration again."""
        return _done(await self.daemon.reload(), {"reloaded": True})


def _done(refusal: str, result: object) -> object:
    """Return `result`, or raise the sentence that says why not."""
    if refusal:
        raise RpcError(REFUSED, refusal)
    return result
