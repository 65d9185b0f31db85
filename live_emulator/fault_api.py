"""Faults as methods, for tests: ``emulator.faults.close(1011, on="reply 1.0 s")``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from live_emulator.faults import make_fault

if TYPE_CHECKING:
    from live_emulator.server import Emulator


class Faults:
    """Inject faults into a running emulator.

    Every method takes ``on`` (a moment such as ``"activityStart #2"``) or ``at`` (seconds since
    the start) to strike later, ``times`` (0: for ever) and ``connection``; with neither ``on``
    nor ``at`` it strikes the open connections now.  Those that concern a handshake or a setup
    wait for the next one.
    """

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def do(self, action: str, **params: Any) -> None:
        """Inject any fault of :data:`live_emulator.faults.ACTIONS`.

        Raises:
            ValueError: there is no such fault, moment or duration.
        """
        given = {key: value for key, value in params.items() if value is not None}
        self._emulator.add_fault(make_fault({"do": action, **given}))

    def clear(self) -> None:
        """Forget every scheduled fault."""
        self._emulator.schedule.clear()

    def go_away(self, time_left_s: float | None = None, **when: Any) -> None:
        """Announce the end; close 1008 once the time is over (``close_after_s=0``: never)."""
        self.do("go_away", time_left_s=time_left_s, **when)

    def close(self, code: int = 1011, reason: str | None = None, **when: Any) -> None:
        """Close the WebSocket; 1006 ends the link without a close frame."""
        self.do("close", code=code, reason=reason, **when)

    def reset(self, **when: Any) -> None:
        """Cut with a TCP reset."""
        self.do("reset", **when)

    def freeze(self, **when: Any) -> None:
        """Stop reading and writing; TCP stays up."""
        self.do("freeze", **when)

    def thaw(self, **when: Any) -> None:
        """Undo :meth:`freeze`."""
        self.do("thaw", **when)

    def mute(self, **when: Any) -> None:
        """Accept everything, answer nothing."""
        self.do("mute", **when)

    def unmute(self, **when: Any) -> None:
        """Undo :meth:`mute`."""
        self.do("unmute", **when)

    def refuse_http(self, status: int = 503, body: str | None = None, **when: Any) -> None:
        """Answer the next handshakes with an HTTP status."""
        self.do("refuse_http", status=status, body=body, **when)

    def silent_http(self, **when: Any) -> None:
        """Finish TLS on the next connection and never answer."""
        self.do("silent_http", **when)

    def silent_setup(self, **when: Any) -> None:
        """Never answer the next setup."""
        self.do("silent_setup", **when)

    def delay_setup(self, delay_s: float, **when: Any) -> None:
        """Answer the next setup late."""
        self.do("delay_setup", delay_s=delay_s, **when)

    def duplicate_setup_complete(self, **when: Any) -> None:
        """Answer the next setup twice."""
        self.do("duplicate_setup_complete", **when)

    def quota(self, delay_s: float | None = None, **when: Any) -> None:
        """Let the next setup succeed, then close 1011 for quota."""
        self.do("quota", delay_s=delay_s, **when)

    def poison_handles(self, mode: str = "close", **when: Any) -> None:
        """Let resumed connections fail: close, mute, reject_1007 or reject_1008."""
        self.do("poison_handles", mode=mode, **when)

    def heal_handles(self, **when: Any) -> None:
        """Undo :meth:`poison_handles`."""
        self.do("heal_handles", **when)

    def expire_handles(self, **when: Any) -> None:
        """Expire every handle issued so far."""
        self.do("expire_handles", **when)

    def phantom_interrupted(self, **when: Any) -> None:
        """Send ``interrupted`` although nobody spoke."""
        self.do("phantom_interrupted", **when)

    def audio_after_interrupted(self, chunks: int = 5, **when: Any) -> None:
        """Let late audio follow the next ``interrupted``."""
        self.do("audio_after_interrupted", chunks=chunks, **when)

    def oversized_frame(self, size_bytes: int | None = None, **when: Any) -> None:
        """Send a frame above the client's size limit (default 2 MiB)."""
        self.do("oversized_frame", bytes=size_bytes, **when)

    def malformed_json(self, **when: Any) -> None:
        """Send a frame that is no JSON."""
        self.do("malformed_json", **when)

    def unknown_frame(self, **when: Any) -> None:
        """Send a frame with only an unknown top-level key."""
        self.do("unknown_frame", **when)

    def unknown_field(self, **when: Any) -> None:
        """Send a known frame with unknown fields in and beside it."""
        self.do("unknown_field", **when)

    def error_frame(self, code: int = 429, **when: Any) -> None:
        """Send a flat ``{code, status, message}`` frame."""
        self.do("error_frame", code=code, **when)

    def send_raw(self, data: Any, **when: Any) -> None:
        """Send a frame as given: text, or a value to be written as JSON."""
        self.do("send_raw", data=data, **when)

    def flood(self, data: Any, count: int = 0, **params: Any) -> None:
        """Send a frame ``count`` times (0: for ever); ``{n}`` in it is a number that grows."""
        self.do("flood", data=data, count=count, **params)

    def send_bytes(self, hex: str, count: int = 1, **when: Any) -> None:  # noqa: A002
        """Write bytes beside the WebSocket's own."""
        self.do("send_bytes", hex=hex, count=count, **when)

    def deafen(self, **when: Any) -> None:
        """Stop reading, go on sending."""
        self.do("deafen", **when)

    def raw_http(self, data: str, **params: Any) -> None:
        """Answer the next handshakes with bytes; ``drip_s`` between them one by one."""
        self.do("raw_http", data=data, **params)

    def certificate(self, kind: str = "unknown_ca", **when: Any) -> None:
        """Serve another certificate on new connections."""
        self.do("certificate", kind=kind, **when)

    def refuse_tcp(self, **when: Any) -> None:
        """Close the listening port."""
        self.do("refuse_tcp", **when)

    def accept_tcp(self, **when: Any) -> None:
        """Open the listening port again."""
        self.do("accept_tcp", **when)
