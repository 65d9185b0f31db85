"""Planned switches and handovers, on a path of 50 ms in network namespaces.

    program ── wlan0 / wwan0 ── router: relay (25 ms each way) ── service

Gaps are what the service sees: from the end of one connection, or from the moment at which the
other route is there, to setupComplete on the next. They are divided by one dial on the same path
(TCP, TLS, WebSocket, setup), by raw websockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from websockets.asyncio.client import connect

from benchmarks.bench import Bench, Said, received, recording, said_at, start_saying, tell
from benchmarks.match import find
from benchmarks.references.floor import PATH
from benchmarks.service import Entry, Service, kind
from benchmarks.speech import utterance
from benchmarks.systems import AGENTD, FLOOR, System, started
from rig.netns import SERVICE_V4, Uplinks, reason_to_skip
from rig.relay import Quality, Relay

ONE_WAY_S = 0.025
SETTLE_S = 3.0
INTO_SPEECH_S = 1.2
SPEECH_S = 3.5
ROUTE_BACK_S = 3.0
DEADLINE_S = 15.0
LATE_S = 20.0
QUIET_DBFS = -50.0
TIME_LEFT_S = 10.0


def measure(bench: Bench) -> None:
    """Measure agentd, and once the floor."""
    if reason := reason_to_skip():
        bench.results.skip(f"handovers and switches on a path: {reason}")
        return
    for system in (FLOOR, AGENTD):
        if system in bench.systems and not (bench.effort.is_quick and system is FLOOR):
            tell(f"switches and handovers on a 50 ms path: {system.name}")
            _Path(bench, system).measure()


async def _dial_ms(url: str, ca_file: str) -> float:
    context = ssl.create_default_context(cafile=ca_file)
    begin_s = time.monotonic()
    async with connect(
        url + PATH, ssl=context, additional_headers={"x-goog-api-key": "x" * 20}, compression=None
    ) as ws:
        await ws.send(json.dumps({"setup": {"model": "models/gemini-3.8-live"}}))
        await ws.recv()
        return 1000 * (time.monotonic() - begin_s)


@dataclass
class _Path:
    """One system on the path."""

    bench: Bench
    system: System

    def measure(self) -> None:
        """Build the path, start the system, break things one after the other."""
        with contextlib.ExitStack() as stack:
            self.net = stack.enter_context(Uplinks())
            self.service = stack.enter_context(
                Service(
                    inside=self.net.router.command(),
                    san=[SERVICE_V4],
                    reply="tone",
                    tone_s=self.bench.effort.reply_s,
                    resume_while_open="takeover",
                )
            )
            with self.net.router.entered():
                relay = Relay(self.service.port, listen=SERVICE_V4)
                stack.enter_context(relay)
            quality = Quality(delay_s=ONE_WAY_S)
            relay.set_quality(quality, quality)
            self.dial_ms = self._probe(relay.port)
            self.bench.results.add("dial_ms", self.system.name, self.dial_ms)
            self.recorder = stack.enter_context(recording(self.bench.rig))
            environment = self.bench.rig.child_env(
                **self.service.environment(SERVICE_V4, relay.port)
            )
            stack.enter_context(
                started(
                    self.system,
                    environment,
                    inside=self.net.speaker.command(),
                    keep=self.bench.log,
                )
            )
            self._run()

    def _probe(self, port: int) -> float:
        url = f"wss://{SERVICE_V4}:{port}"
        with self.net.speaker.entered():
            values = [asyncio.run(_dial_ms(url, self.service.ca_file)) for _ in range(5)]
        return statistics.median(values)

    def _run(self) -> None:
        try:
            self._talk()  # gives the session something to resume
            for number in range(self.bench.effort.breaks):
                self._switch_idle()
                self._switch_in_reply()
                self._switch_in_speech(number)
                if not self._handover_idle() or not self._handover_in_speech(number):
                    break
                self._handover_back()
        except (LookupError, TimeoutError) as problem:
            self.bench.results.skip(f"switches of {self.system.name}: {problem}")

    # --- doing -------------------------------------------------------------------------------

    def _add(self, key: str, value: float | None) -> None:
        self.bench.results.add(key, self.system.name, value)

    def _say(self, number: int, duration_s: float) -> Said:
        said, saying = start_saying(self.bench, utterance(number, duration_s))
        saying.wait()
        return said

    def _talk(self) -> None:
        if self.service.wait(kind("setupComplete", "out")) is None:
            raise LookupError("no connection")
        time.sleep(SETTLE_S)
        seq = self.service.seq()
        self._say(0, 1.5)
        self._turn_over(seq)

    def _turn_over(self, seq: int) -> None:
        self.service.wait(kind("turnComplete", "out"), since=seq, timeout_s=DEADLINE_S)
        self.recorder.wait_for_silence("spk", for_s=0.6)
        time.sleep(1.0)

    def _next_setup(self, seq: int, timeout_s: float = DEADLINE_S) -> Entry | None:
        return self.service.wait(kind("setupComplete", "out"), since=seq, timeout_s=timeout_s)

    def _ratio(self, gap_s: float) -> float:
        return max(0.0, 1000 * gap_s) / self.dial_ms

    # --- planned switches --------------------------------------------------------------------

    def _switch_idle(self) -> None:
        seq = self.service.seq()
        self.service.fault("go_away", time_left_s=TIME_LEFT_S)
        opened = self._next_setup(seq)
        if opened is None:
            raise LookupError("GoAway was not followed")
        closed = self.service.wait(kind("closed"), since=seq)
        if closed is not None:
            self._add("switch_ratio", self._ratio(opened.at_s - closed.at_s))
        time.sleep(1.0)

    def _switch_in_reply(self) -> None:
        seq = self.service.seq()
        self._say(1, 1.5)
        sent = self.service.wait(kind("audio", "out"), since=seq)
        if sent is None:
            raise LookupError("no reply")
        begin_s = self.recorder.wait_for_sound("spk", after_s=sent.at_s - 0.05)
        time.sleep(0.8)
        self.service.fault("go_away", time_left_s=TIME_LEFT_S)
        time.sleep(self.bench.effort.reply_s)
        end_s = self.recorder.wait_for_silence("spk", for_s=0.6)
        heard_s = end_s - begin_s
        self._add("switch_reply_cut_ms", max(0.0, 1000 * (self.bench.effort.reply_s - heard_s)))
        self._next_setup(seq)
        time.sleep(1.0)

    def _switch_in_speech(self, number: int) -> None:
        seq = self.service.seq()
        said = self._break_speech(number, lambda: self.service.fault("go_away", time_left_s=8.0))
        self._next_setup(seq)
        self._add("switch_speech_lost_ms", self._lost_ms(said))

    def _break_speech(self, number: int, strike: Callable[[], object]) -> Said:
        seq = self.service.seq()
        said, saying = start_saying(self.bench, utterance(2 + number, SPEECH_S))
        self.recorder.wait_for_sound("mic", after_s=said.asked_s)
        time.sleep(INTO_SPEECH_S)
        strike()
        saying.wait()
        self._turn_over(seq)
        return said

    def _lost_ms(self, said: Said) -> float:
        begin_s = said_at(said, self.recorder.track("mic"))
        wire = received(self.service, self.service.entries(), self.bench.folder)
        arrived = wire.between(begin_s, begin_s + said.clip.duration_s + LATE_S)
        return find(said.clip.samples, arrived.samples).missing_ms

    # --- handovers ---------------------------------------------------------------------------

    def _handover_idle(self) -> bool:
        seq = self.service.seq()
        self.net.wlan0.down()
        gone_s = time.monotonic()
        opened = self._next_setup(seq)
        self.net.wlan0.up()
        if opened is None:
            for key in ("handover_ratio", "handover_back_ratio"):
                self.bench.results.say(key, self.system.name, f"not in {DEADLINE_S:.0f} s")
            self.bench.results.say("handover_lost_ms", self.system.name, "the rest")
            return False
        self._add("handover_ratio", self._ratio(opened.at_s - gone_s))
        time.sleep(4.0)  # it may go back to the preferred path
        return True

    def _handover_in_speech(self, number: int) -> bool:
        said = self._break_speech(4 + number, self.net.wlan0.down)
        self._add("handover_lost_ms", self._lost_ms(said))
        self.net.wlan0.up()
        time.sleep(4.0)
        return True

    def _handover_back(self) -> None:
        self.net.wwan0.down()
        time.sleep(1.0)
        self.net.wlan0.down()
        time.sleep(ROUTE_BACK_S)
        seq = self.service.seq()
        self.net.wwan0.up()
        there_s = time.monotonic()
        opened = self._next_setup(seq)
        if opened is not None:
            self._add("handover_back_ratio", self._ratio(opened.at_s - there_s))
        self.net.wlan0.up()
        time.sleep(4.0)
