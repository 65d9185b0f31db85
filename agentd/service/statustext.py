"""The sentence in `systemctl status` (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from agentd.text import counted


def status_sentence(status: Mapping[str, Any]) -> str:
    """Say in one sentence how things are, from the document of `agentd status --json`.

    "listening; session up 3 h 12 min over 19 connections; last resume 0.6 s". Parts that are
    not known are left out.
    """
    session = _table(status, "session")
    return "; ".join(
        part
        for part in (
            _state(status),
            _devices(status),
            _network(_table(status, "network")),
            _session(session, status.get("uptime_s")),
            _resume(session.get("last_resume_ms")),
        )
        if part
    )


def duration_text(seconds: float) -> str:
    """Return a duration as a person says it: 40 s, 12 min, 3 h 12 min, 5 d 7 h."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if not minutes:
        return f"{whole} s"
    if not hours:
        return f"{minutes} min"
    if not days:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def was_answered(measured_ms: float | None) -> TypeGuard[float]:
    """Return whether a figure of a turn was measured: neither None nor negative."""
    return measured_ms is not None and measured_ms >= 0


def not_working(device: Mapping[str, Any]) -> str:
    """Say why a microphone or speaker does not work and what to do, of `audio.capture` and such.

    Empty while it works, while it is being opened, and when it is closed on purpose.
    """
    cause, remedy = device.get("trouble"), device.get("remedy")
    return f"not working: {cause}. {remedy}" if cause else ""


def session_counts(session: Mapping[str, Any]) -> str:
    """Return how often a session has been connected: 19 connections, 18 resumed, last in 0.61 s."""
    counts = f"{counted(session['connections'], 'connection')}, {session['resumes']} resumed"
    last_ms = session["last_resume_ms"]
    return counts if last_ms is None else f"{counts}, last in {last_ms / 1000:.2f} s"


def _table(status: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = status.get(key)
    return value if isinstance(value, Mapping) else {}


def _state(status: Mapping[str, Any]) -> str:
    state = str(status.get("state", "starting")).replace("_", " ")
    cause = status.get("cause")
    if state in {"fatal", "offline"} and isinstance(cause, str) and cause:
        state += f" ({cause.replace('_', ' ')})"
    return f"{state}, muted" if status.get("muted") and state != "muted" else state


def _devices(status: Mapping[str, Any]) -> str:
    """Name the devices that do not work, unless the state has: a lost speaker may not top it."""
    audio = _table(status, "audio")
    lost = [
        f"silent {name}" if _table(audio, key).get("alive") else f"no {name}"
        for name, key in (("microphone", "capture"), ("speaker", "playback"))
        if _table(audio, key).get("trouble") and status.get("cause") != f"no_{name}"
    ]
    return ", ".join(lost)


def _network(network: Mapping[str, Any]) -> str:
    return "no network" if network.get("online") is False else ""


def _session(session: Mapping[str, Any], uptime_s: object) -> str:
    count = session.get("connections")
    trouble = session.get("trouble")
    why = f" ({trouble.replace('_', ' ')})" if isinstance(trouble, str) and trouble else ""
    if not isinstance(count, int) or count == 0:
        return f"no session yet{why}"
    connections = counted(count, "connection")
    if not session.get("connected"):
        return f"not connected{why}, {connections} so far"
    age_s = session.get("age_s", uptime_s)
    since = f" up {duration_text(age_s)}" if isinstance(age_s, int | float) else ""
    return f"session{since} over {connections}"


def _resume(last_ms: object) -> str:
    if not isinstance(last_ms, int | float) or last_ms < 0:
        return ""
    return f"last resume {last_ms / 1000:.1f} s"
