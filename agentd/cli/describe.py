"""What a person reads of the status document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentd.errors import ControlError
from agentd.service.statustext import (
    duration_text,
    not_working,
    session_counts,
    status_sentence,
    was_answered,
)
from agentd.text import counted

NOT_A_STATUS = (
    "the daemon answers in another form than this command reads. If agentd was upgraded: "
    "sudo systemctl restart agentd"
)


def describe(document: Mapping[str, Any]) -> str:
    """Return the status as lines for a person.

    Raises:
        ControlError: it is not a status; after an upgrade the old daemon may still run.
    """
    try:
        rows = _rows(document)
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError):
        raise ControlError(NOT_A_STATUS) from None
    return "\n".join(f"{name:11} {text}" for name, text in rows if text)


def _rows(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    session, audio = document["session"], document["audio"]
    capture, playback = audio["capture"], audio["playback"]
    network, turns = document["network"], document["turns"]
    return [
        ("agentd", f"{document['version']}, up {duration_text(document['uptime_s'])}"),
        ("state", status_sentence(document)),
        ("microphone", f"{capture['device']}: {_microphone(capture, document['muted'])}"),
        ("speaker", f"{playback['device']}: {_speaker(playback)}"),
        ("echo", _echo(audio["echo"])),
        ("network", network["interface"] or ("?" if network["online"] is None else "none")),
        ("session", _session(session)),
        ("tokens", _tokens(session.get("tokens") or {})),
        ("turns", _turns(turns)),
        ("attention", _attention(document.get("attention") or {})),
    ]


def _microphone(capture: Mapping[str, Any], muted: bool) -> str:
    if muted:
        return "closed (muted)"
    if not capture["alive"]:
        return not_working(capture) or "opening"
    lost = f", {counted(capture['lost_frames'], 'frame')} lost" if capture["lost_frames"] else ""
    return f"{capture['level_dbfs']:.0f} dBFS{lost}"


def _speaker(playback: Mapping[str, Any]) -> str:
    dry = f", ran dry {counted(playback['ran_dry'], 'time')}" if playback.get("ran_dry") else ""
    return not_working(playback) or f"{counted(playback['underruns'], 'underrun')}{dry}"


def _echo(echo: Mapping[str, Any]) -> str:
    canceller = echo["canceller"]
    if not canceller or not canceller["frames"]:
        return f"{echo['by']} ({echo['cause']})"
    return f"{echo['by']}, {_CANCELLER[canceller['known']].format_map(canceller)}"


_CANCELLER = {
    "learning": "learning",
    "cancelled": "takes away {erle_db:.0f} dB",
    "no echo": "no echo heard",
    "by level": "{erle_db:.0f} dB only: what is louder than the echo gets through",
}


def _attention(attention: Mapping[str, Any]) -> str:
    if attention.get("mode", "open") == "open":
        return ""
    text = f"{attention['stance'].replace('_', ' ')} ({attention['reason']})"
    if attention["until_in_s"] is not None:
        text += f", {attention['until_in_s']:.0f} s more"
    text += f"; {', '.join(attention['words']) or 'no word'}"
    if attention["heard"] or sum(attention["near_misses"]):
        nearly = counted(sum(attention["near_misses"]), "time")
        text += f"; heard {counted(attention['heard'], 'time')}, nearly {nearly}"
    return text


def _session(session: Mapping[str, Any]) -> str:
    parts = [session_counts(session)]
    if session["handle_age_s"] is not None:
        parts.append(f"handle {duration_text(session['handle_age_s'])} old")
    if session["go_away_in_s"] is not None:
        parts.append(f"ends in {session['go_away_in_s']:.0f} s")
    if session.get("confirming"):
        parts.append(f"{session['confirming']} waits for a yes")
    return ", ".join(parts)


def _tokens(tokens: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in tokens.items() if count)


def _turns(turns: Mapping[str, Any]) -> str:
    last = turns["last"]
    text = f"{turns['count']}, {turns['interrupted']} interrupted"
    failed = turns.get("last_failed")
    if failed:
        text += f", {turns['failed']} failed (the last: {failed['cause']})"
    if last:
        after_ms = last["first_audio_ms"]
        text += (
            f"; last answered after {after_ms:.0f} ms"
            if was_answered(after_ms)
            else "; the last one was not answered"
        )
    return text
