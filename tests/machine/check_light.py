"""A light and a button on real pins.

The status light is line 6 of the machine's PL061, driven by gpiozero over lgpio and
`/dev/gpiochip0` under the sandbox. Its level is read out of the chip's data register through QEMU's
monitor, on the same clock as the record of the wire. The button is line 5; the test sets its level.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

from tests.machine.board import Board
from tests.machine.kitchen import LED_LINE, Kitchen, sentence
from tests.machine.qemu import BUTTON_LINE, Qemu
from tests.machine.report import Section


@dataclass
class Probe:
    """A probe on the pin: its level at many moments, by the clock of this machine."""

    qemu: Qemu
    line: int
    samples: list[tuple[float, bool]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.005):
            lit = bool(self.qemu.pins() >> self.line & 1)
            self.samples.append((time.time(), lit))

    def lit_at(self, wall_s: float) -> bool:
        """Tell whether the light was on at the last look before a time."""
        return next(lit for at_s, lit in reversed(self.samples) if at_s <= wall_s)

    def stretches(self) -> list[tuple[float, float, bool]]:
        """Return begin, end and level of each stretch without a change."""
        edges = [self.samples[0]]
        edges += [after for before, after in pairwise(self.samples) if before[1] != after[1]]
        ends = [at_s for at_s, _ in edges[1:]] + [self.samples[-1][0]]
        return [(at_s, end_s, lit) for (at_s, lit), end_s in zip(edges, ends, strict=True)]

    def gap_s(self) -> float:
        """Return the longest time between two looks."""
        return max(after[0] - before[0] for before, after in pairwise(self.samples))


def test_the_light_is_on_a_real_pin(kitchen: Kitchen, section: Section) -> None:
    """The kernel shows the line as an output of the daemon, and nothing was refused."""
    board = kitchen.board
    text = board.run("cat /sys/kernel/debug/gpio")
    mine = [row.strip() for row in text.splitlines() if "lg" in row]
    section.note("/sys/kernel/debug/gpio", "; ".join(mine))
    assert any(" out " in row for row in mine)
    assert not board.events("gpio_unavailable")


def test_it_shines_steadily_while_audio_leaves_and_only_then(
    kitchen: Kitchen, section: Section
) -> None:
    """Dark before; on at every audio message that the service received; never steady otherwise."""
    board, service = kitchen.board, kitchen.service
    wire, mark = service.mark(), board.mark()
    with Probe(board.qemu, LED_LINE) as probe:
        begun_s = time.time()
        kitchen.converse(sentence(2, 3.0))
        board.wait_event("reply_drained", since=mark)
    audio = [entry["wall"] for entry in service.record("audio", wire) if entry["direction"] == "in"]
    steady, *blinks = sorted(
        ((begin, end) for begin, end, level in probe.stretches() if level),
        key=lambda stretch: stretch[0] - stretch[1],
    )
    longest_blink_s = max((end - begin for begin, end in blinks), default=0.0)
    dark = [at_s for at_s in audio if not probe.lit_at(at_s)]
    section.note("audio messages on the wire", f"{len(audio)} in {audio[-1] - audio[0]:.2f} s")
    section.note("of them while the light was dark", str(len(dark)))
    section.note("light before the first of them", f"{(audio[0] - steady[0]) * 1000:.0f} ms")
    section.note("light after the last of them", f"{(steady[1] - audio[-1]) * 1000:.0f} ms")
    section.note(
        "looks at the pin", f"{len(probe.samples)}, at most {probe.gap_s() * 1000:.0f} ms apart"
    )
    section.note(
        "lit while audio left, longest blink afterwards",
        f"{steady[1] - steady[0]:.1f} s, {longest_blink_s:.1f} s by this machine's clock",
    )
    section.note("states in the journal", " → ".join(states(kitchen, mark)))
    assert not probe.lit_at(begun_s + probe.gap_s())
    assert not dark
    assert steady[0] <= audio[0]
    assert steady[1] >= audio[-1]
    # The machine's seconds are not those of the probe, so steady is what no blink comes near.
    assert longest_blink_s < (steady[1] - steady[0]) / 3


def test_a_tap_stops_the_reply(kitchen: Kitchen, section: Section) -> None:
    """Press and release during a reply: an edge on the pin ends it."""
    board = kitchen.board
    speech = kitchen.say_until("reply_started", sentence(3, 4.0))
    mark = speech.mark
    press(board, 0.3)
    pressed = board.wait_event("button", since=mark)
    turn = board.wait_event("turn", since=mark)
    speech.end()
    section.note("tap during a reply", f"{pressed['MESSAGE']}; {turn['MESSAGE']}")
    section.excerpt(board.told(mark))
    assert pressed["AGENTD_GESTURE"] == "tap"
    assert turn["AGENTD_INTERRUPTED"] == "yes"


def test_a_long_press_mutes(kitchen: Kitchen, section: Section) -> None:
    """Held for four seconds the button mutes; held again it unmutes."""
    board = kitchen.board
    mark = board.mark()
    press(board, 4.5)
    board.wait_event("muted", since=mark)
    wire = kitchen.service.mark()
    kitchen.say(sentence(4, 1.5)).end()
    assert not kitchen.service.record("audio", wire)
    mark = board.mark()
    press(board, 4.5)
    board.wait_event("unmuted", since=mark)
    section.note("held 4.5 s", "muted; nothing of what was then said was sent; held again: unmuted")


def test_a_killed_daemon_leaves_no_light_behind(kitchen: Kitchen, section: Section) -> None:
    """Killed while the light says that audio leaves: the light goes out."""
    board = kitchen.board
    speech = kitchen.say_until("uplink_opened", sentence(5, 4.0))
    mark = speech.mark
    assert board.qemu.pins() >> LED_LINE & 1
    with Probe(board.qemu, LED_LINE) as probe:
        board.run("systemctl kill -s KILL agentd")
        killed_s = time.time()
        board.wait_event("ready", since=mark)
    speech.end()
    kitchen.wait_connected(mark)
    dark = next(at_s for at_s, lit_ in probe.samples if at_s > killed_s - 1 and not lit_)
    section.note("kill -9 to darkness", f"{max(0.0, dark - killed_s):.1f} s")


def press(board: Board, seconds: float) -> None:
    """Hold the button, which connects the pin to ground, for so long by the machine's clock."""
    board.qemu.set_pin(BUTTON_LINE, high=False)
    board.run(f"sleep {seconds}")
    board.qemu.set_pin(BUTTON_LINE, high=True)


def states(kitchen: Kitchen, since: int) -> list[str]:
    """Return the device's states since a mark."""
    return [entry["AGENTD_AFTER"] for entry in kitchen.board.events("state", since=since)]
