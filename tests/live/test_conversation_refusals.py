"""The service refuses."""

from __future__ import annotations

from agentd import events as e
from agentd.live import commands as c
from agentd.live.failures import Failure, Kind, Phase
from tests.live.scenes import talked
from tests.live.world import (
    BAD_KEY,
    QUOTA,
    World,
)


def test_a_refused_key_is_not_hammered_and_a_reload_tries_at_once() -> None:
    """Told with its remedy; the next try minutes later."""
    world = World().start()
    world.end(BAD_KEY)
    (refused,) = world.told(e.Refused)
    assert refused.cause == "credential refused"
    assert refused.remedy
    world.speak()
    world.advance(240.0)
    assert len(world.wires) == 1
    world.give(c.Reload(world.settings))
    assert len(world.wires) == 2
    world.connect()


def test_quota_is_backed_off_and_not_hurried() -> None:
    """Not even by somebody speaking; the handle stays."""
    world = talked()
    world.end(QUOTA)
    (told,) = world.told(e.QuotaExhausted)
    assert told.retry_in_s >= 5.0
    world.speak()
    world.advance(4.0)
    assert len(world.wires) == 1
    world.advance(2.0)
    assert world.wire.plan.handle == world.good_handle


def test_the_service_may_name_the_time() -> None:
    """Retry-After is honoured."""
    world = World().start()
    world.end(Failure(Phase.HANDSHAKE, Kind.STATUS, 503, retry_after_s=120.0))
    world.advance(119.0)
    assert len(world.wires) == 1
    world.advance(2.0)
    assert len(world.wires) == 2


def test_a_shell_that_forgets_its_timeouts() -> None:
    """A dial that never ends is ended."""
    world = World().start()
    world.advance(30.0)
    assert world.told(e.Disconnected)[0].phase == "setup"
    assert world.told(e.Disconnected)[0].cause == "timeout"
