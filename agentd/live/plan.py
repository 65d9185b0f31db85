"""Which settings shape a Live session, and what a change of them means for it.

The configuration may change on resume, the model may not (Live API docs, "Session resumption").
"""

from __future__ import annotations

import hashlib
import json

from agentd.config.settings import Settings
from agentd.live.resumption import Identity

# A session ends with a change of these; a handle issued under others is not used.
BINDING = ("backend", "model", "project", "location", "base_url")
# These travel in the setup message and take effect with the next connection.
IN_SETUP = (
    "api_version",
    "voice",
    "language",
    "system_instruction",
    "temperature",
    "thinking_level",
    "activity_detection",
    "transparent_resumption",
    "compression",
    "transcription",
)


def differs(before: Settings, after: Settings) -> set[str]:
    """Return the names of settings in [live] (and `tools`) that need another connection."""
    changed = {
        name
        for name in (*BINDING, *IN_SETUP)
        if getattr(before.live, name) != getattr(after.live, name)
    }
    if before.tools.enabled != after.tools.enabled:
        changed.add("tools")
    for name in ("keepalive_s", "pong_timeout_s", "tcp_user_timeout_ms"):
        if getattr(before.network, name) != getattr(after.network, name):
            changed.add(name)
    return changed


def same_session(before: Settings, after: Settings) -> bool:
    """Tell whether the session can go on under the new settings."""
    return not differs(before, after) & set(BINDING)


def identity(settings: Settings, endpoint: str) -> Identity:
    """Return what a handle issued under these settings is bound to."""
    live = settings.live
    vertex = live.backend == "vertex"
    return Identity(
        live.backend,
        (live.project or "") if vertex else "",
        live.location if vertex else "",
        live.model,
        endpoint,
    )


def digest(settings: Settings, instruction: str | None) -> str:
    """Return a short fingerprint of all that the setup message says, for the log."""
    shaped = {name: settings.live.model_dump(mode="json")[name] for name in (*BINDING, *IN_SETUP)}
    text = json.dumps([shaped, instruction, settings.tools.enabled], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
