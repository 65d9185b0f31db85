"""L6, L7, L9, L10: the way in is closed, silent, or closed again at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agentd import events as e
from agentd.clock import WallTime
from rig.relay import Relay
from tests.continuity.household import ElsewhereClock, Household, Tables, household, run
from tests.continuity.report import Report

PATIENT: Tables = {
    "live": {"connect_timeout_s": 120.0, "setup_timeout_s": 120.0, "reply_timeout_s": 300.0},
    "network": {"replay_max_age_s": 300.0},
}
"""On a clock a hundred times as fast, 20 s for a dial are not enough for this machine."""
SHORT = {"live": {"connect_timeout_s": 1.0, "setup_timeout_s": 1.0}}


class Dials:
    """When it was dialled, by the household's clock."""

    def __init__(self, home: Household) -> None:
        self.at_s: list[float] = []
        self._clock = home.clock
        home.watch(self._on_event)

    def _on_event(self, event: e.Event) -> None:
        if isinstance(event, e.Connecting):
            self.at_s.append(self._clock.monotonic())

    @property
    def most_per_min(self) -> int:
        """The greatest number of dials in any minute."""
        return max(
            (sum(at <= other < at + 60.0 for other in self.at_s) for at in self.at_s), default=0
        )


# ── L6 ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("moment", ["before setupComplete", "after setupComplete"])
def test_a_service_that_closes_at_once_is_not_hammered(moment: str, report: Report) -> None:
    """In three minutes of it the dials stay under the cap; then the conversation goes on."""

    async def main() -> None:
        async with household(tables=PATIENT, scale=30.0) as home:
            dials = Dials(home)
            await home.talk()
            if moment == "before setupComplete":
                home.emulator.faults.do("close", code=1011, on="setup", times=0)
            else:
                home.emulator.faults.do(
                    "quota", delay_s=0.2, reason="Internal error encountered.", times=0
                )
            home.emulator.faults.do("reset")
            await home.clock.sleep(180.0)
            most = dials.most_per_min
            home.emulator.faults.clear()
            await home.talk()
            home.assert_nothing_lost()
            assert 3 < most <= home.settings.live.dials_per_min
            note = f"{most} dials in the worst minute, cap {home.settings.live.dials_per_min}"
            report.of("L6", f"closed at once, {moment}", home, note=note)

    run(main())


# ── L7 ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", ["after TLS", "after the setup message"])
def test_a_service_that_says_nothing_is_dialled_again(where: str, report: Report) -> None:
    """Silence in the handshake or in the setup is noticed within its bound."""

    async def main() -> None:
        async with household(tables=SHORT, scale=1.0, tone_s=0.2, playback_hold=0.0) as home:
            await home.talk(0.4)
            since, seq = home.mark(), home.seq
            if where == "after TLS":
                home.emulator.faults.do("silent_http")
            else:
                home.emulator.faults.do("silent_setup")
            home.emulator.faults.do("reset")
            await home.wait_told(e.Resumed, since)
            await home.talk(0.4)
            home.assert_nothing_lost()
            assert [event.cause for event in home.told(e.Disconnected, since)][1:] == ["timeout"]
            report.of("L7", f"mute {where}", home, [await home.gap_ms(seq)])

    run(main())


@pytest.mark.parametrize("fault", ["freeze", "mute"])
def test_a_question_without_any_answer_ends_the_connection(fault: str, report: Report) -> None:
    """A live connection that shows no sign of life after a question is replaced."""

    async def main() -> None:
        tables = {"live": {"reply_timeout_s": 15.0}}
        async with household(resume_while_open="takeover", tables=tables) as home:
            await home.talk()
            seq = home.seq
            home.emulator.faults.do(fault)
            await home.talk()
            home.assert_nothing_lost()
            assert home.told(e.Disconnected)[0].cause == "mute"
            gap_ms = await home.gap_ms(seq)
            report.of("L7", f"{fault} before a turn", home, [gap_ms], "clock x10")

    run(main())


@contextmanager
def relayed(port: int) -> Iterator[Relay]:
    """A relay in front of the service."""
    with Relay(port) as relay:
        yield relay


@pytest.mark.parametrize("moment", ["speech", "idle"])
def test_a_half_open_connection_is_found(moment: str, report: Report) -> None:
    """A path that swallows everything is found by the unanswered question, or idle by the ping."""
    # In idle the WebSocket's own ping finds it, and that one keeps real time.
    tables: Tables = {
        "network": {"keepalive_s": 5.0, "pong_timeout_s": 5.0},
        "live": {"reply_timeout_s": 15.0},
    }

    async def main() -> None:
        from live_emulator import Emulator, EmulatorOptions

        options = EmulatorOptions(
            time_scale=10.0, tone_s=0.5, reply="tone", resume_while_open="takeover"
        )
        async with Emulator(options) as server:
            with relayed(server.port) as relay:
                url = f"https://127.0.0.1:{relay.port}"
                async with household(server=server, base_url=url, tables=tables) as home:
                    await home.talk()
                    since = home.mark()
                    loop = asyncio.get_running_loop()
                    relay.vanish()
                    vanished_s = loop.time()
                    if moment == "speech":
                        await home.talk()
                    await home.wait_told(e.Resumed, since)
                    gap_ms = (loop.time() - vanished_s) * 1000.0
                    if moment == "idle":
                        await home.talk()
                    home.assert_nothing_lost()
                    report.of("L7", f"half-open, {moment}", home, [gap_ms])

    run(main(), real_time=True)


# ── L9 ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "cause", "least_s"),
    [
        (401, "credential refused", 270.0),
        (403, "credential refused", 270.0),
        (404, "endpoint not found", 270.0),
        (429, "quota", 5.0),
        (503, "overloaded", 0.0),
    ],
)
def test_a_refused_handshake_is_classed(
    status: int, cause: str, least_s: float, report: Report
) -> None:
    """Causes that a person must fix wait long, the others back off; all recover by themselves."""

    async def main() -> None:
        async with household(tables=PATIENT, scale=100.0) as home:
            await home.talk()
            since, seq = home.mark(), home.seq
            times = 1 if least_s > 200 else 3
            home.emulator.faults.do("refuse_http", status=status, times=times)
            home.emulator.faults.do("reset")
            await home.wait_told(e.Resumed, since)
            await home.talk()
            home.assert_nothing_lost()
            refused = [d for d in home.told(e.Disconnected, since) if d.close_code == status]
            assert [event.cause for event in refused] == [cause] * times
            assert all(event.retry_in_s >= least_s for event in refused)
            assert len(home.told(e.Refused, since)) == (times if least_s > 200 else 0)
            assert len(home.told(e.QuotaExhausted, since)) == (times if status == 429 else 0)
            waits = ", ".join(f"{event.retry_in_s:.0f}" for event in refused)
            note = f"waits {waits} s (clock x100)"
            report.of("L9", f"HTTP {status}", home, [await home.gap_ms(seq)], note)

    run(main())


def test_a_reload_ends_the_long_wait(report: Report) -> None:
    """After a refusal that a person has fixed, a reload dials at once."""

    async def main() -> None:
        async with household() as home:
            await home.talk()
            since, seq = home.mark(), home.seq
            home.emulator.faults.do("refuse_http", status=403)
            home.emulator.faults.do("reset")
            await home.wait_told(e.Refused, since)
            await home.session.configure(home.settings)
            await home.wait_told(e.Resumed, since)
            await home.talk()
            home.assert_nothing_lost()
            report.of("L9", "HTTP 403, then reload", home, [await home.gap_ms(seq)])

    run(main())


class UnsetClock(ElsewhereClock):
    """A clock that nobody has set since the power came."""

    def wall(self) -> WallTime:
        """Return 1970 and a little."""
        return super().wall() if self.synchronised else WallTime(60.0, synchronised=False)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [("unknown_ca", "certificate"), ("wrong_host", "certificate name"),
     ("expired", "certificate expired"), ("not_yet_valid", "clock not set")],
)  # fmt: skip
def test_a_bad_certificate_is_told_and_survived(kind: str, cause: str, report: Report) -> None:
    """Nothing is sent to it; with an unset clock a certificate of the future is no refusal."""

    async def main() -> None:
        clock = UnsetClock(30.0, synchronised=kind != "not_yet_valid")
        async with household(tables=PATIENT, scale=30.0, clock=clock) as home:
            await home.talk()
            since, seq = home.mark(), home.seq
            home.emulator.faults.do("certificate", kind=kind)
            home.emulator.faults.do("reset")
            await home.until(
                lambda: cause in [d.cause for d in home.told(e.Disconnected, since)], cause
            )
            assert bool(home.told(e.Refused, since)) == (cause != "clock not set")
            assert not home.entries("setup", seq)
            home.emulator.faults.do("certificate", kind="valid")
            await home.wait_told(e.Resumed, since)
            await home.talk()
            home.assert_nothing_lost()
            report.of("L9", f"certificate {kind}", home, [await home.gap_ms(seq)], "clock x30")

    run(main())


class Names:
    """A resolver in front of the loop's own, that may fail."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.works = True
        self._loop = asyncio.get_running_loop()
        self._getaddrinfo = self._loop.getaddrinfo
        self._loop.getaddrinfo = self._answer  # type: ignore[method-assign]

    async def _answer(self, host: Any, port: Any, **rest: Any) -> Any:
        if host != self.host:
            return await self._getaddrinfo(host, port, **rest)
        if not self.works:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return await self._getaddrinfo("127.0.0.1", port, **rest)


def test_a_name_that_cannot_be_resolved_is_tried_again(report: Report) -> None:
    """Without DNS it backs off; when names resolve again it resumes."""

    async def main() -> None:
        from live_emulator import Emulator, EmulatorOptions

        names = Names("service.example")
        options = EmulatorOptions(time_scale=30.0, tone_s=0.5, reply="tone", san=(names.host,))
        async with Emulator(options) as server:
            url = f"https://{names.host}:{server.port}"
            async with household(server=server, base_url=url, scale=30.0, tables=PATIENT) as home:
                await home.talk()
                since, seq = home.mark(), home.seq
                names.works = False
                home.emulator.faults.do("reset")
                await home.wait_told(e.Disconnected, since, count=4)
                names.works = True
                await home.wait_told(e.Resumed, since)
                await home.talk()
                home.assert_nothing_lost()
                causes = [event.cause for event in home.told(e.Disconnected, since)][1:]
                assert set(causes) == {"dns"}
                note = f"{len(causes)} failed dials, clock x30"
                report.of("L9", "DNS failure", home, [await home.gap_ms(seq)], note)

    run(main())


# ── L10 ───────────────────────────────────────────────────────────────────────────────────────


def test_a_quota_storm_is_waited_out(report: Report) -> None:
    """Quota closes right after setup: told, growing waits with jitter, and it recovers."""

    async def main() -> None:
        async with household(tables=PATIENT, scale=100.0) as home:
            dials = Dials(home)
            await home.talk()
            since, seq = home.mark(), home.seq
            home.emulator.faults.do("quota", times=5)
            home.emulator.faults.do("reset")
            await home.wait_told(e.QuotaExhausted, since, count=5)
            await home.wait_told(e.Resumed, since, count=6)
            await home.talk()
            home.assert_nothing_lost()
            waits = [event.retry_in_s for event in home.told(e.QuotaExhausted, since)]
            assert all(wait_s >= 5.0 for wait_s in waits)
            assert len(set(waits)) > 2, "no jitter"
            assert dials.most_per_min <= 12
            assert not home.told(e.SessionFresh, since), "a quota is not the handle's fault"
            note = "waits " + ", ".join(f"{wait_s:.0f}" for wait_s in waits) + " s (clock x100)"
            gap_ms = (
                home.entries("setupComplete", seq)[-1].t - home.entries("fault", seq)[0].t
            ) * 1000
            report.of("L10", "quota right after setup", home, [gap_ms], note)

    run(main())
