"""L8: what a service may send that no documentation knows."""

from __future__ import annotations

from typing import Any

import pytest

from agentd import events as e
from tests.continuity.household import BACKENDS, household, run
from tests.continuity.report import Report

ODD: dict[str, dict[str, Any]] = {
    "malformed_json": {},
    "unknown_frame": {},
    "unknown_field": {},
    "error_frame": {"code": 500},
    "phantom_interrupted": {},
    "oversized_frame": {},
    "send_raw": {"data": '{"serverContent": {"modelTurn": {"parts": [{"inlineData": 7}]}}}'},
}
MORE: tuple[Any, ...] = (
    "[]",
    "null",
    '"goAway"',
    {},
    {"goAway": {"timeLeft": "soon"}},
    {"sessionResumptionUpdate": {"newHandle": 7, "resumable": "perhaps"}},
    {"toolCall": {"functionCalls": [{}]}},
    {"toolCallCancellation": {"ids": ["nobody"]}},
    {"serverContent": {"turnComplete": True}},
    {"usageMetadata": {"totalTokenCount": "many"}},
    {"setupComplete": {}},
)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("moment", ["idle", "speech", "reply"])
def test_odd_frames_do_not_end_the_conversation(backend: str, moment: str, report: Report) -> None:
    """Frames of every odd kind, at every moment: the session lives, and every word arrives."""

    async def main() -> None:
        async with household(backend, text_frames=backend == "vertex") as home:
            await home.talk()
            when = {"idle": {}, "speech": {"on": "audio 0.4 s"}, "reply": {"on": "reply 0.1 s"}}
            frames = [("send_raw", {"data": data}) for data in MORE]
            for action, params in [*ODD.items(), *frames]:
                if action == "phantom_interrupted" and moment == "reply":
                    continue  # then it is a real one
                home.emulator.faults.do(action, **params, **when[moment])
                await home.talk()
            assert all(delivery.times >= 1 for delivery in home.deliveries())
            assert not home.told(e.SpeechLost)
            bad = home.session.status().bad_frames
            assert bad
            note = f"{bad} unusable frames"
            report.of("L8", f"odd frames, {moment}, {backend}", home, note=note)

    run(main())


def test_setup_complete_twice(report: Report) -> None:
    """A second setupComplete changes nothing."""

    async def main() -> None:
        async with household() as home:
            home.emulator.faults.do("duplicate_setup_complete")
            await home.talk()
            home.assert_nothing_lost()
            assert home.dials == 1
            report.of("L8", "duplicate setupComplete", home)

    run(main())


def test_late_audio_of_an_interrupted_reply_is_not_heard(report: Report) -> None:
    """Audio that follows `interrupted` belongs to nobody; the new answer is heard whole."""

    async def main() -> None:
        async with household(tone_s=4.0, pace=1.0) as home:
            home.emulator.faults.do("audio_after_interrupted", chunks=5, on="reply #1 1.0 s")
            since = home.mark()
            await home.say()
            await home.emulator.record.wait_for("audio", direction="out")
            await home.say(1.0)
            turn = await home.answered(since)
            assert turn.heard_ms == pytest.approx(4000)
            assert home.session.status().late_pieces >= 0
            home.assert_nothing_lost()
            assert home.dials == 1
            note = f"{home.session.status().late_pieces} late pieces ignored"
            report.of("L8", "audio after interrupted", home, note=note)

    run(main())
