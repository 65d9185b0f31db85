"""A GPIO chip without a chip: gpiozero's own mock factory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory, MockPin, MockPWMPin

from agentd.events import Event

os.environ.setdefault("LG_WD", tempfile.gettempdir())  # where lgpio leaves its pipe


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A mock chip with PWM on every pin."""
    yield from _chip(MockPWMPin, monkeypatch)


@pytest.fixture
def plain_chip(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A mock chip as `GPIOZERO_PIN_FACTORY=mock` gives it: no PWM."""
    yield from _chip(MockPin, monkeypatch)


def _chip(pin_class: type, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    before = gpiozero.Device.pin_factory
    gpiozero.Device.pin_factory = MockFactory(pin_class=pin_class)
    yield gpiozero.Device.pin_factory
    gpiozero.Device.pin_factory.reset()
    gpiozero.Device.pin_factory = before


@pytest.fixture
def events() -> list[Event]:
    """What was emitted; `events.append` is the emitter."""
    return []


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as the daemon does."""
    return "asyncio"
