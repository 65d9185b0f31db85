"""Function calls the client has not answered yet."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace

from live_emulator.models import Backend
from live_emulator.reasons import INVALID_ARGUMENT
from live_emulator.replies import Reply, ReplyPart
from live_emulator.setup import Setup
from live_emulator.wire import JsonObject, WireError


class UnknownCall(Exception):
    """A response to a call that nobody made."""

    def __init__(self, call_id: str) -> None:
        super().__init__(call_id)
        self.call_id = call_id


@dataclass(frozen=True, slots=True)
class PendingCall:
    """One call; a blocking one holds the answer up."""

    name: str
    blocking: bool
    say_after: str = ""


class Calls:
    """The calls of one connection. A resumed session does not know those of the one before."""

    def __init__(self, connection: int, setup: Setup) -> None:
        self._connection = connection
        self._setup = setup
        self.functions = dict(setup.functions)
        self._pending: dict[str, PendingCall] = {}
        self._count = 0

    @property
    def blocking(self) -> bool:
        """Return whether the answer waits for a response."""
        return any(call.blocking for call in self._pending.values())

    def begin(self, reply: Reply) -> list[JsonObject]:
        """Make the calls of a reply; return their wire form."""
        model = self._setup.model
        made: list[JsonObject] = []
        for scripted in reply.calls:
            self._count += 1
            digits = self._connection * 10**9 + self._count
            call_id = f"{model.tool_ids}{digits}" if model.tool_ids else str(uuid.uuid4())
            spec = self.functions.get(scripted.name)
            blocking = spec.blocking if spec else not model.non_blocking_default
            self._pending[call_id] = PendingCall(scripted.name, blocking, reply.say_after)
            made.append({"id": call_id, "name": scripted.name, "args": dict(scripted.args)})
        return made

    def spoken(self, reply: Reply) -> tuple[Reply, list[str]]:
        """Return the reply with the calls that the model speaks instead, and their names.

        Some models say the call of a function that was declared by JSON Schema.
        """
        model = self._setup.model
        said = [call for call in reply.calls if self._json_schema(call.name)]
        if model.json_schema_calls or not said:
            return reply, []
        words = "; ".join(f"{call.name}({json.dumps(dict(call.args))})" for call in said)
        kept = tuple(call for call in reply.calls if call not in said)
        parts = (ReplyPart(reply.parts[0].pcm if reply.parts else b"", words), *reply.parts[1:])
        return replace(reply, calls=kept, parts=parts), [call.name for call in said]

    def _json_schema(self, name: str) -> bool:
        spec = self.functions.get(name)
        return spec is not None and spec.json_schema

    def cancel(self) -> list[str]:
        """Drop the calls that an interruption cancels, all blocking ones; return their ids."""
        ids = [call_id for call_id, call in self._pending.items() if call.blocking]
        for call_id in ids:
            del self._pending[call_id]
        return ids

    def take(self, response: JsonObject) -> PendingCall:
        """Return the call that a response belongs to; with its last response it is over.

        Raises:
            WireError: no id, on the Developer API. Vertex AI goes by the name then.
            UnknownCall: nobody made it, or it is over.
        """
        call_id = response.get("id")
        if not call_id and self._setup.backend is Backend.DEVELOPER:
            raise WireError(1007, INVALID_ARGUMENT)
        if not call_id:
            named = (k for k, c in self._pending.items() if c.name == response.get("name"))
            call_id = next(named, None)
        call = self._pending.get(str(call_id))
        if call is None:
            raise UnknownCall(str(call_id))
        if response.get("willContinue") is not True:
            del self._pending[str(call_id)]
        return call
