"""The rows of the table: name, unit, meaning, and what agentd goes for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One row."""

    key: str
    title: str
    unit: str
    digits: int
    goal: str
    """In words, for people; nothing is asserted."""
    bound: tuple[str, float, float] | None = None
    """(reference or "", factor, addend): reached if agentd ≤ reference × factor + addend."""
    noise: float = 0.1
    """Share by which a median of few samples may be off; within it a goal counts as near."""
    worst: bool = False
    """Show the worst case beside the median."""


METRICS = (
    Metric("first_frame_s", "exec → first frame captured", "s", 2, "—"),
    Metric(
        "setup_s",
        "exec → setup sent",
        "s",
        2,
        "≤ 1.2 × quickstart",
        ("quickstart", 1.2, 0),
    ),
    Metric(
        "first_audio_s",
        "exec → first audio on the wire while somebody speaks",
        "s",
        2,
        "≤ 1.2 × quickstart",
        ("quickstart", 1.2, 0),
    ),
    Metric("cpu_start_s", "CPU used from exec to setup sent", "s", 2, "—"),
    Metric("rss_idle_mib", "RSS idle", "MiB", 0, "—"),
    Metric("pss_idle_mib", "PSS idle", "MiB", 0, "—"),
    Metric(
        "rss_talking_mib",
        "RSS talking",
        "MiB",
        0,
        "≤ 1.15 × quickstart; ≤ 1.6 × with AEC",
        ("quickstart", 1.15, 0),
    ),
    Metric("pss_talking_mib", "PSS talking", "MiB", 0, "—"),
    Metric(
        "cpu_silence",
        "CPU, silence",
        "s/min",
        2,
        "≤ quickstart",
        ("quickstart", 1.0, 0),
        noise=0.25,
    ),
    Metric(
        "cpu_speech", "CPU, user speaks", "s/min", 2, "≤ 1.5 × floor", ("floor", 1.5, 0), noise=0.25
    ),
    Metric(
        "cpu_reply", "CPU, reply plays", "s/min", 2, "≤ 1.3 × floor", ("floor", 1.3, 0), noise=0.25
    ),
    Metric(
        "onset_wire_ms",
        "first speech sample → its audio on the wire",
        "ms",
        0,
        "≤ floor + 20",
        ("floor", 1.0, 20),
        worst=True,
    ),
    Metric(
        "missing_ms", "speech missing on the wire, of a turn", "ms", 0, "0", ("", 0, 0), worst=True
    ),
    Metric(
        "end_ms",
        "end of speech → end of utterance",
        "ms",
        0,
        "≤ 450, no outliers",
        ("", 0, 450),
        worst=True,
    ),
    Metric(
        "reply_sink_ms",
        "first reply byte sent → first sample at the speaker",
        "ms",
        0,
        "≤ 60",
        ("", 0, 60),
        worst=True,
    ),
    Metric(
        "jitter_gap_ms",
        "silence inside a reply at real-time pace with 60 ms of jitter",
        "ms",
        0,
        "0",
        ("", 0, 0),
        worst=True,
    ),
    Metric(
        "barge_in_ms",
        "user's onset in a reply → speaker silent",
        "ms",
        0,
        "≤ floor + 50; ≤ 250 with echo",
        ("floor", 1.0, 50),
        worst=True,
    ),
    Metric(
        "uplink_quiet",
        "audio sent per second of speech, quiet room",
        "s/s",
        2,
        "≤ floor",
        ("floor", 1.0, 0),
    ),
    Metric(
        "uplink_noise",
        "audio sent per second of speech, fan at 15 dB",
        "s/s",
        2,
        "near floor in quiet",
    ),
    Metric(
        "scene_missing_ms", "speech missing on the wire, whole scenes", "ms", 0, "0", ("", 0, 0)
    ),
    Metric(
        "scene_end_ms",
        "end of speech → end of utterance, scenes",
        "ms",
        0,
        "≤ 450, no outliers",
        ("", 0, 450),
        worst=True,
    ),
    Metric(
        "reconnect_s",
        "close 1011 in mid-speech → audio again",
        "s",
        2,
        "≤ 0.3, nothing lost",
        ("", 0, 0.3),
        worst=True,
    ),
    Metric("reconnect_lost_ms", "… speech lost by it", "ms", 0, "0", ("", 0, 0), worst=True),
    Metric(
        "switch_ratio",
        "gap of a planned switch (GoAway, idle) ÷ one dial",
        "×",
        2,
        "—",
    ),
    Metric(
        "switch_reply_cut_ms", "GoAway during a reply: reply cut off", "ms", 0, "0", ("", 0, 60)
    ),
    Metric("switch_speech_lost_ms", "GoAway in mid-speech: speech lost", "ms", 0, "0", ("", 0, 0)),
    Metric("handover_ratio", "handover, other route there: gap ÷ one dial", "×", 2, "—"),
    Metric(
        "handover_back_ratio", "handover after 3 s without a route: gap ÷ one dial", "×", 2, "—"
    ),
    Metric("handover_lost_ms", "handover in mid-speech: speech lost", "ms", 0, "0", ("", 0, 0)),
    Metric("dial_ms", "(one TCP + TLS + WebSocket + setup on that path)", "ms", 0, "—"),
    Metric("dials_per_min", "dials, service accepts and closes", "/min", 0, "bounded"),
    Metric("disk_idle_kib_h", "written to disk, an idle hour", "KiB/h", 0, "—"),
    Metric("disk_turn_kib", "written to disk, a turn", "KiB", 1, "—"),
)
BY_KEY = {metric.key: metric for metric in METRICS}
