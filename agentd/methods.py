"""What can be asked of the daemon over its control socket: one row per method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agentd.device.mute import Mute
from agentd.device.ringer import Ringer
from agentd.device.volume import Volume
from agentd.live.session import LiveSession
from agentd.service.reload import Reloader
from agentd.service.rpc import REFUSED, Method, Param, Params, RpcError
from agentd.stage import Stage

BY = "control"
TEXT = {"text": Param(str, low=1, high=16_384)}
PERCENT = {"percent": Param(int, low=0, high=100)}


@dataclass(frozen=True, slots=True)
class Requests(Stage):
    """The stage that answers; each handler takes checked parameters and returns plain JSON."""

    whole: Callable[[], Mapping[str, object]]
    session: LiveSession
    mute: Mute
    volume: Volume
    ringer: Ringer
    reloader: Reloader

    def methods(self) -> dict[str, Method]:
        """Return the methods by name."""
        return {
            "status": Method(self.get_status, for_guests=True),
            "mute": Method(self.close_microphone, changing=True),
            "unmute": Method(self.open_microphone, changing=True),
            "volume": Method(self.get_volume),
            "volume.set": Method(self.set_volume, PERCENT, changing=True),
            "silence": Method(self.silence, changing=True),
            "say": Method(self.say, TEXT, changing=True),
            "instruct": Method(self.instruct, TEXT, changing=True),
            "context.add": Method(self.add_context, TEXT, changing=True),
            "forget": Method(self.forget, changing=True),
            "reload": Method(self.reload, changing=True),
        }

    def get_status(self, _params: Params) -> object:
        """Return the document of `agentd status --json`."""
        return self.whole()

    def close_microphone(self, _params: Params) -> object:
        """Close the microphone."""
        return _done(self.mute.ask(True, by=BY), {"muted": True})

    def open_microphone(self, _params: Params) -> object:
        """Open the microphone."""
        return _done(self.mute.ask(False, by=BY), {"muted": False})

    def get_volume(self, _params: Params) -> object:
        """Return the volume."""
        return {"percent": self.volume.percent}

    async def set_volume(self, params: Params) -> object:
        """Set the volume."""
        return {"percent": await self.volume.set(params["percent"], by=BY)}

    def silence(self, _params: Params) -> object:
        """Stop a ringing timer or alarm."""
        return {"silenced": self.ringer.silence(BY)}

    async def say(self, params: Params) -> object:
        """Send a typed question."""
        return {"outcome": await self.session.say(params["text"])}

    async def instruct(self, params: Params) -> object:
        """Change the system instruction."""
        return {"outcome": await self.session.instruct(params["text"])}

    async def add_context(self, params: Params) -> object:
        """Tell the model something in passing."""
        return {"outcome": await self.session.add_context(params["text"])}

    async def forget(self, _params: Params) -> object:
        """Delete the conversation."""
        return {"forgotten": await self.session.forget()}

    async def reload(self, _params: Params) -> object:
        """Read the configuration again."""
        return _done(await self.reloader.reload(), {"reloaded": True})


def _done(refusal: str, result: object) -> object:
    """Return `result`, or raise the sentence that says why not."""
    if refusal:
        raise RpcError(REFUSED, refusal)
    return result
