"""Button and switch on mock pins, with gpiozero's own threads and callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import pytest

from agentd import events as e
from agentd.clock import FakeClock, SystemClock
from agentd.config.settings import GpioPins
from agentd.device.button import Button, Contact
from agentd.device.gestures import ButtonAction
from agentd.device.state import Facts
from tests.device.builders import READY
from tests.device.waiting import Told

FACTS = Facts().after(READY, 0.0)


pytestmark = pytest.mark.anyio


class Finger:
    """A button that runs, on a mock pin, and what it was taken for."""

    def __init__(self, chip: Any, pins: GpioPins) -> None:
        self.chip, self.pins = chip, pins
        self.actions: Told[ButtonAction] = Told()
        self.emitted: list[e.Event] = []
        self.clock = SystemClock()

    async def __aenter__(self) -> Self:
        button = Button(
            self.pins,
            clock=self.clock,
            facts=lambda: FACTS,
            act=self.actions.append,
            emit=self.emitted.append,
        )
        self.task = asyncio.ensure_future(button.run())
        await asyncio.sleep(0)  # the pin is claimed before the task first waits
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    @property
    def pin(self) -> Any:
        return self.chip.pin(self.pins.button)


async def test_tap_on_a_pin(chip: Any) -> None:
    """An edge down and up on the pin is a tap: talk now, and it is told."""
    async with Finger(chip, GpioPins(button=5)) as finger:
        await asyncio.to_thread(finger.pin.drive_low)
        await asyncio.to_thread(finger.pin.drive_high)
        await finger.actions.until(ButtonAction.TALK)
    assert finger.emitted == [e.ButtonUsed(gesture="tap", action="talk")]


async def test_hold_on_a_pin(chip: Any) -> None:
    """A finger that stays for three seconds mutes while it is still down."""
    finger = Finger(chip, GpioPins(button=5))
    finger.clock = SystemClock(scale=60.0)
    async with finger:
        finger.pin.drive_low()
        await finger.actions.until(ButtonAction.MUTE)
        finger.pin.drive_high()


async def test_push_to_talk_on_a_pin(chip: Any) -> None:
    """Push to talk begins with the press and ends with the release."""
    async with Finger(chip, GpioPins(button=5, button_mode="push-to-talk")) as finger:
        finger.pin.drive_low()
        await finger.actions.until(ButtonAction.TALK_BEGIN)
        finger.pin.drive_high()
        await finger.actions.until(ButtonAction.TALK_BEGIN, ButtonAction.TALK_END)


async def test_pin_is_free_after_the_button_stopped(chip: Any) -> None:
    """A stopped button lets go of its pin."""
    async with Finger(chip, GpioPins(button=5)):
        pass
    async with Finger(chip, GpioPins(button=5)) as finger:
        assert finger.emitted == []


async def test_no_button_is_fine(events: list[e.Event]) -> None:
    """Without a pin `run` returns at once."""
    button = Button(
        GpioPins(), clock=FakeClock(), facts=Facts, act=lambda _: None, emit=events.append
    )
    await button.run()
    assert events == []


async def test_button_pin_in_use(chip: Any, events: list[e.Event]) -> None:
    """A pin that is taken is told once and `run` returns; the daemon goes on."""
    import gpiozero

    with gpiozero.LED(5):
        button = Button(
            GpioPins(button=5),
            clock=FakeClock(),
            facts=Facts,
            act=lambda _: None,
            emit=events.append,
        )
        await button.run()
    assert [event.name for event in events] == ["gpio_unavailable"]


def contact(
    on_edge: Callable[[bool, float], None], emit: e.Emit, loop: asyncio.AbstractEventLoop
) -> Contact:
    """Return a switch on pin 6."""
    return Contact(
        "mute_switch", 6, chip=None, clock=FakeClock(), loop=loop, on_edge=on_edge, emit=emit
    )


async def test_switch_position_at_boot(chip: Any, events: list[e.Event]) -> None:
    """The position of a switch can be read before it ever moved."""
    chip.pin(6).pull = "up"
    switch = contact(lambda *_: None, events.append, asyncio.get_running_loop())
    positions = [switch.closed_contact]
    chip.pin(6).drive_low()
    positions.append(switch.closed_contact)
    switch.close()
    positions.append(switch.closed_contact)
    assert positions == [False, True, None]
    assert not switch.available
    switch.close()


async def test_switch_moves(chip: Any, events: list[e.Event]) -> None:
    """Each movement of the switch arrives on the loop with its time."""
    edges: Told[tuple[bool, float]] = Told()
    switch = contact(lambda *edge: edges.append(edge), events.append, asyncio.get_running_loop())
    await asyncio.to_thread(chip.pin(6).drive_low)
    await asyncio.to_thread(chip.pin(6).drive_high)
    await edges.until((True, 1000.0), (False, 1000.0))
    switch.close()


async def test_edge_on_its_way_while_closing(chip: Any, events: list[e.Event]) -> None:
    """An edge that was under way when the contact was closed is dropped."""
    edges: list[tuple[bool, float]] = []
    switch = contact(lambda *edge: edges.append(edge), events.append, asyncio.get_running_loop())
    chip.pin(6).drive_low()
    switch.close()
    await asyncio.sleep(0)
    assert edges == []


async def test_edge_after_the_loop(chip: Any, events: list[e.Event]) -> None:
    """An edge after the loop has ended harms nobody."""
    loop = asyncio.new_event_loop()
    switch = contact(lambda *_: pytest.fail("edge after the end"), events.append, loop)
    loop.close()
    chip.pin(6).drive_low()
    switch.close()
