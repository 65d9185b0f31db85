"""What outlasts the sound that a reload replaces: mute, and the volume."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from agentd.config.settings import Audio, Network, Settings, Vad
from agentd.sound import Sound, SoundStage
from tests.virtual import run_virtually


class Stub:
    """Stands for a sound and its player, and notes what is asked of it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.asked: list[str] = []
        self.player: Any = self

    async def run(self) -> None:
        self.asked.append("run")
        await asyncio.Event().wait()

    def __getattr__(self, name: str) -> Any:
        return lambda *given: self.asked.append(" ".join([name, *map(str, given)]))


class Sounds:
    """A stage, and every sound that it has made."""

    def __init__(self) -> None:
        self.made: list[Stub] = []
        self.stage = SoundStage(Settings(), self.make)

    def make(self, settings: Settings) -> Sound:
        self.made.append(Stub(settings))
        return cast(Sound, self.made[-1])


def test_only_what_is_about_sound_replaces_it() -> None:
    """Another debounce of the network closes no microphone."""

    async def main() -> None:
        sounds = Sounds()
        running = asyncio.create_task(sounds.stage.run())
        await asyncio.sleep(0.1)
        await sounds.stage.configure(Settings(network=Network(debounce_ms=7)))
        assert len(sounds.made) == 1
        other = Settings(audio=Audio(capture_gain_db=3.0))
        await sounds.stage.configure(other)
        assert [one.settings for one in sounds.made] == [Settings(), other]
        assert sounds.made[0].asked == ["run", "cut"]
        running.cancel()

    run_virtually(main())


def test_volume_and_mute_outlast_a_reload() -> None:
    """The next player is as loud as the last one, and a closed microphone stays closed."""

    async def main() -> None:
        sounds = Sounds()
        running = asyncio.create_task(sounds.stage.run())
        sounds.stage.set_gain(35)
        sounds.stage.close_microphone()
        await asyncio.sleep(0.1)
        await sounds.stage.configure(Settings(vad=Vad(aggressiveness=3)))
        await asyncio.sleep(0.1)
        assert sounds.made[1].asked == ["close_microphone", "set_volume 35", "run"]
        sounds.stage.open_microphone()
        await sounds.stage.configure(Settings())
        await asyncio.sleep(0.1)
        assert sounds.made[2].asked == ["set_volume 35", "run"]
        running.cancel()

    run_virtually(main())
