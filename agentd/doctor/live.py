"""What a running daemon knows: it holds the devices, so its word is taken. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentd.audio.formats import SILENCE_DBFS
from agentd.doctor.findings import Finding, fail, ok, skipped, warn
from agentd.text import counted

Status = Mapping[str, Any]

BY_AGENTD = "as the running agentd sees it"
_STOP_FIRST = "To have it checked: sudo systemctl stop agentd, then run this again"
OFFSET_PERCENT = 0.5  # of full scale: worth a word
_JOURNAL = "journalctl -u agentd -x AGENTD_EVENT="


def of_status(samples: Sequence[Status]) -> list[Finding]:
    """Return the findings on devices and session from some looks at the status."""
    last = samples[-1]
    return [
        *_microphone(samples),
        _speaker(last["audio"]["playback"]),
        skipped("mixer", "agentd sets it"),
        skipped("echo", "agentd holds microphone and speaker", _STOP_FIRST),
        skipped("gpio", "agentd drives the pins; what fails is told as gpio_unavailable"),
    ]


def _microphone(samples: Sequence[Status]) -> list[Finding]:
    last = samples[-1]
    capture = last["audio"]["capture"]
    name = capture["device"]
    if last["muted"]:
        why = "closed: the microphone is muted"
        return [skipped("microphone", why), skipped("level", why), skipped("voice", why)]
    if not capture["alive"]:
        why = f": {capture['trouble']}" if capture.get("trouble") else ""
        lost = fail(
            "microphone",
            f"{name} gives agentd no sound{why}",
            capture.get("remedy") or f"{_JOURNAL}capture_lost says why",
        )
        because = "no sound from the microphone"
        return [lost, skipped("level", because), skipped("voice", because)]
    frames = capture["frames"] - samples[0]["audio"]["capture"]["frames"]
    if len(samples) > 1 and frames <= 0:
        return [
            fail("microphone", f"{name} has stopped", "sudo systemctl restart agentd"),
            skipped("level", "no sound from the microphone"),
            skipped("voice", "no sound from the microphone"),
        ]
    levels = [sample["audio"]["capture"]["level_dbfs"] for sample in samples]
    return [
        ok("microphone", f"{name} works, {BY_AGENTD}", lost_frames=capture["lost_frames"]),
        _level(max(levels), capture),
        ok("voice", f"{counted(last['turns']['count'], 'turn')} since the start"),
    ]


def _level(loudest_dbfs: float, capture: Mapping[str, Any]) -> Finding:
    percent = capture.get("offset_percent") or 0.0
    figures = {"level_dbfs": loudest_dbfs, "offset_percent": percent}
    if capture.get("trouble"):  # it is alive: only its sound is missing
        cause, remedy = capture["trouble"], capture.get("remedy") or ""
        return fail(
            "level", cause.replace("it delivers", "the microphone delivers"), remedy, **figures
        )
    if loudest_dbfs <= SILENCE_DBFS:
        return fail(
            "level",
            "the microphone delivers digital silence",
            "Switch capture on (`alsamixer -V capture`, Space)",
            **figures,
        )
    beside = ""
    if abs(percent) >= OFFSET_PERCENT:
        beside = f"; its constant offset of {percent:.1f} % is taken out"
    return ok("level", f"up to {loudest_dbfs:.0f} dBFS{beside}, {BY_AGENTD}", **figures)


def _speaker(playback: Status) -> Finding:
    name = playback["device"]
    if not playback["alive"]:
        return fail(
            "speaker", f"{name} takes no samples from agentd", f"{_JOURNAL}playback_lost says why"
        )
    return ok("speaker", f"{name} works, {BY_AGENTD}", underruns=playback["underruns"])


def session_of_status(status: Status) -> Finding | None:
    """Return the finding on the session, or None if the daemon cannot tell."""
    session = status["session"]
    if session["connected"]:
        return ok("session", f"connected, {BY_AGENTD}", connections=session["connections"])
    cause = session.get("trouble")
    if not cause:
        return None
    remedy = session.get("remedy") or f"{_JOURNAL}disconnected says what to do"
    if session.get("retry_in_s") is not None:
        told = f"not connected ({cause}), next try in {session['retry_in_s']:.0f} s"
        return fail("session", told, remedy, kind=cause)
    return warn("session", f"connecting again after: {cause}", remedy, kind=cause)
