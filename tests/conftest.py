"""Fixtures for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from rig.netns import Uplinks, reason_to_skip
from rig.sound import SoundRig, missing_programs

# How long an example takes says how busy the machine is, and nothing else.
settings.register_profile(
    "agentd", settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
)
settings.load_profile("agentd")
# The same examples each time, for a gate that says something of the change before it: .ci/run.
settings.register_profile("ci", settings.get_profile("agentd"), derandomize=True)


@pytest.fixture
def rig() -> Iterator[SoundRig]:
    """A sound rig of the test's own, applied to this process (PyAudio) and ready for children."""
    if missing := missing_programs():
        pytest.skip(f"no sound rig: {', '.join(missing)} missing (scripts/setup dev installs them)")
    with SoundRig() as sound, sound.applied():
        yield sound


@pytest.fixture
def uplinks() -> Iterator[Uplinks]:
    """A speaker with two uplinks and a service behind them, in network namespaces."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    with Uplinks() as net:
        yield net
