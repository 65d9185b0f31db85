"""Microphone, echo canceller, gate and speaker as one.

    Microphone ──► EchoCanceller ──► Listener ──► speech
                        ▲               ▲
    Player ── far end ──┘           Attention ◄── replies, sounds, button, words, mute

A reload of `[audio]`, `[vad]` or `[attention]` replaces all of it: `SoundStage` holds the one that
runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace

from agentd.audio import formats
from agentd.audio.capture import CaptureStats, Microphone
from agentd.audio.devices import CaptureDevice, PlaybackDevice
from agentd.audio.echo import policy as echo
from agentd.audio.echo.canceller import EchoCanceller, EchoStats
from agentd.audio.echo.policy import EchoMode, EchoStatus
from agentd.audio.opening import open_devices
from agentd.audio.playback import PlaybackStats, Player
from agentd.clock import Clock
from agentd.config.settings import Audio, Settings
from agentd.events import (
    AttentionChanged,
    CaptureLost,
    ConfirmationAsked,
    DetectorMissing,
    EchoHandled,
    EchoUncancelled,
    Emit,
    Event,
    Frame,
    PlaybackMark,
    ReplyDrained,
    ReplyStarted,
    Speaker,
    Speech,
    TranscriptText,
    WakeModelRefused,
    WakeNearMiss,
    WakeReady,
    WakeUnavailable,
    WakeWord,
)
from agentd.service.watchdog import Evidence
from agentd.stage import Slot, Stage, rounded
from agentd.vad.attention import Attention, Manner, Mode, View
from agentd.vad.cascade import AGGRESSIVENESS
from agentd.vad.courtesy import Courtesy
from agentd.vad.equip import Equipment, equip
from agentd.vad.listener import Listener
from agentd.vad.sparks import Sparks
from agentd.vad.spotter import Heard, Spotter
from agentd.vad.webrtc import WebrtcModel


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where what is heard and played is reported."""

    emit: Emit
    on_speech: Callable[[Speech], None]
    on_mark: Callable[[PlaybackMark], None]


def is_half_duplex(settings: Audio) -> bool:
    """Return whether the gate must be shut while the speaker plays, as far as is known at rest."""
    return echo.choose(settings, installed=echo.is_installed()).mode is EchoMode.HALF_DUPLEX


def manner_of(settings: Settings, *, half_duplex: bool) -> Manner:
    """Return how the device is to attend."""
    wanted = settings.attention
    mode = Mode.OPEN
    if wanted.mode == "wake-word":
        mode = Mode.WAKE_WORD
    elif settings.gpio.button_mode == "push-to-talk":
        mode = Mode.PUSH_TO_TALK
    return Manner(
        mode=mode,
        listen_s=wanted.listen_s,
        follow_up_s=wanted.follow_up_s,
        only_questions=wanted.follow_up_after == "question",
        half_duplex=half_duplex,
        tail_s=settings.audio.half_duplex_tail_ms / 1000,
    )


class Sound:
    """The two devices and the gate between them. Call `run` as a task."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        outlets: Outlets,
        devices: tuple[CaptureDevice, PlaybackDevice] | None = None,
        attenuation_db: float | None = None,
        installed: Callable[[], bool] = echo.is_installed,
        load: Callable[[Audio], EchoCanceller] = echo.load,
        settled: Callable[[], Awaitable[object]] | None = None,
        find_words: Callable[[], Equipment] | None = None,
    ) -> None:
        """Prepare; `attenuation_db` is what `agentd doctor` has measured of the echo.

        What takes long to import waits for `settled`, so as not to hold up the first connection.
        """
        capture, playback = devices or open_devices(settings.audio, clock)
        self._clock = clock
        self._emit = outlets.emit
        self._audio = settings.audio
        self._load = load
        self._settled = settled
        self._plan = echo.choose(
            settings.audio, installed=installed(), attenuation_db=attenuation_db
        )
        self._canceller: EchoCanceller | None = None
        self._wanted = settings.attention
        self._find_words = find_words or (lambda: equip(settings.attention))
        # Until the canceller is there the gate is shut during replies.
        attention = Attention(manner_of(settings, half_duplex=self._plan.mode is not EchoMode.OPEN))
        self._shown: View | None = None
        self._last_word: dict[str, object] | None = None
        self._courtesy = Courtesy()
        self.spotter: Spotter | None = None
        if attention.manner.mode is Mode.WAKE_WORD:
            sentry = WebrtcModel(AGGRESSIVENESS)
            self.spotter = Spotter(Sparks(sentry, settings.vad.level_floor_dbfs))
        self._listener = Listener(
            settings.vad,
            emit=outlets.emit,
            on_speech=outlets.on_speech,
            attention=attention,
            spotter=self.spotter,
            on_heard=self._heard,
            keep_word=settings.attention.keep_word,
        )
        self._microphone = Microphone(
            settings.audio,
            clock=clock,
            emit=outlets.emit,
            on_frame=self._hear,
            device=capture,
        )
        self.player = Player(
            settings.audio,
            clock=clock,
            emit=outlets.emit,
            on_mark=outlets.on_mark,
            device=playback,
        )

    async def run(self) -> None:
        """Capture and play until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._microphone.run(), name="microphone")
            tasks.create_task(self.player.run(), name="speaker")
            tasks.create_task(self._prepare(), name="echo")
            if self.spotter is not None:
                tasks.create_task(self._equip(self.spotter), name="wake words")

    async def _prepare(self) -> None:
        """Load what may be slow or missing, beside devices that work already; say what was found.

        The canceller's imports take as long as everything else of the start together.
        """
        if self._listener.warning:
            cause, _, remedy = self._listener.warning.partition(". ")
            self._emit(
                DetectorMissing(detector=self._listener.detector, cause=cause, remedy=remedy)
            )
        if self._plan.mode is EchoMode.CANCEL:
            if self._settled:
                await self._settled()
            try:
                canceller = await asyncio.to_thread(self._load, self._audio)
            except (ImportError, OSError) as error:
                self._plan = echo.without_canceller(self._audio, str(error))
            else:
                self._cancel_with(canceller)
        plan = self._plan
        if plan.is_degraded:
            self._emit(EchoUncancelled(cause=plan.cause, remedy=plan.remedy))
        else:
            self._emit(EchoHandled(by=plan.mode.value, cause=plan.cause))

    def _cancel_with(self, canceller: EchoCanceller) -> None:
        self._canceller = canceller
        self.player.tell_far_end(canceller.played, canceller.torn)
        attention = self.attention
        self._attend(replace(attention, manner=replace(attention.manner, half_duplex=False)))

    async def _equip(self, spotter: Spotter) -> None:
        """Load the words; without one the gate stays shut, or the button alone opens it."""
        found = await asyncio.to_thread(self._find_words)
        for problem in found.problems:
            shown = f"{problem.key} = {problem.value}" if problem.value else problem.key
            self._emit(
                WakeModelRefused(
                    file=problem.file, key=shown, problem=problem.problem, remedy=problem.remedy
                )
            )
        if found.extract is not None:
            spotter.equip(found.extract, found.ears)
            self._emit(WakeReady(words=", ".join(ear.word.name for ear in found.ears)))
            return
        deaf = self._wanted.without_words == "deaf"
        instead = "nothing opens the gate" if deaf else "only the button opens the gate"
        self._emit(WakeUnavailable(cause=found.cause, instead=instead, remedy=found.remedy))
        if deaf:
            manner = replace(self.attention.manner, mode=Mode.DEAF)
            self._attend(self.attention.behaving(manner))

    def _hear(self, frame: Frame) -> None:
        self._listener.hear(self._canceller.clean(frame) if self._canceller else frame)
        self._show_attention()

    def _heard(self, heard: Heard) -> None:
        word = heard.word
        if heard.is_near:
            self._emit(WakeNearMiss(word=word.name, score=heard.score, cutoff=word.cutoff))
            return
        self._last_word = {"word": word.name, "score": round(heard.score, 3)}
        self._emit(
            WakeWord(
                word=word.name,
                score=heard.score,
                cutoff=word.cutoff,
                stops=word.stops,
                tone=self._wanted.ready_tone,
            )
        )
        if word.stops:
            self._attend(self.attention.stopped())

    def hear_text(self, text: TranscriptText) -> None:
        """Take a piece of the transcript: who thanks is done, who is asked may answer."""
        self._courtesy = self._courtesy.after(text)
        if text.speaker is Speaker.USER:
            if self._courtesy.is_thanks:
                self._attend(self.attention.thanks())
        else:
            self._attend(self.attention.answer(asks=self._courtesy.is_question))

    @property
    def attention(self) -> Attention:
        """Return who may open the gate."""
        return self._listener.attention

    @property
    def view(self) -> View:
        """Return how the device attends now."""
        return self.attention.at(self._clock.monotonic())

    def attention_status(self) -> dict[str, object]:
        """Return the `attention` part of the status."""
        now = self._clock.monotonic()
        view, spotter = self.attention.at(now), self.spotter
        return {
            "mode": self.attention.manner.mode.value,
            "stance": view.stance.value,
            "reason": view.reason,
            "until_in_s": None if view.until_s is None else round(max(0.0, view.until_s - now), 1),
            "words": {word.name: word.cutoff for word in spotter.words} if spotter else {},
            "heard": spotter.heard if spotter else 0,
            "last": self._last_word,
            "near_misses": list(spotter.near_misses) if spotter else [],
        }

    def _attend(self, attention: Attention) -> None:
        self._listener.attend(attention)
        self._show_attention()

    def _show_attention(self) -> None:
        """Announce how the device attends, when that has changed."""
        now = self._clock.monotonic()
        view = self.attention.at(now)
        if view != self._shown:
            self._shown = view
            for_s = 0.0 if view.until_s is None else max(0.0, view.until_s - now)
            self._emit(AttentionChanged(stance=view.stance.value, reason=view.reason, for_s=for_s))

    def on_event(self, event: Event) -> None:
        """Keep attention: shut or heard while a reply plays, and open for a while after it."""
        now = self._clock.monotonic()
        if isinstance(event, CaptureLost):
            self._listener.cut()
        elif isinstance(event, ReplyStarted):
            self._attend(self.attention.reply_began(event.turn))
        elif isinstance(event, ReplyDrained):
            heard = event.heard_ms > 0
            self._attend(self.attention.reply_ended(event.turn, now, heard=heard))
        elif isinstance(event, ConfirmationAsked):
            self._attend(self.attention.confirmation_asked(now, event.within_s))

    def play(self, pcm: bytes) -> None:
        """Play an earcon (int16 mono 24 kHz); half duplex: unheard by the gate."""
        length_s = len(pcm) / formats.SAMPLE_BYTES / formats.PLAYBACK_RATE_HZ
        self._attend(self.attention.sounded(self._clock.monotonic(), length_s))
        self.player.sound(pcm)

    def hush(self) -> None:
        """Stop earcons and alarms; a reply goes on."""
        self.player.hush()
        self._attend(self.attention.hushed(self._clock.monotonic()))

    def call(self) -> None:
        """Listen without the word: the button was pressed."""
        self._listener.call("button")
        self._show_attention()

    def hold(self) -> None:
        """Push to talk: from here on everything is one utterance, whatever else plays."""
        self._attend(self.attention.hold(True))

    def release(self) -> None:
        """End what `hold` began."""
        self._attend(self.attention.hold(False))

    def cut(self) -> None:
        """End an open utterance now."""
        self._listener.cut()

    def close_microphone(self) -> None:
        """Mute: nothing more is heard; the device is closed."""
        self._microphone.pause()
        self._listener.cut()
        self._attend(self.attention.mute(True))

    def open_microphone(self) -> None:
        """Unmute."""
        self._microphone.resume()
        self._attend(self.attention.mute(False))

    @property
    def capture(self) -> CaptureStats:
        """Return what is known of the microphone."""
        return self._microphone.stats

    @property
    def playback(self) -> PlaybackStats:
        """Return what is known of the speaker."""
        return self.player.stats

    @property
    def echo(self) -> EchoStats | None:
        """Return what is known of the canceller, if there is one."""
        return self._canceller.stats if self._canceller else None

    @property
    def echo_status(self) -> EchoStatus:
        """Return what is done about echo, why, and how well."""
        return EchoStatus(self._plan.mode.value, self._plan.cause, self.echo)


class SoundStage(Stage):
    """Holds the sound that runs; another one after a reload, so nobody else may keep it."""

    def __init__(self, settings: Settings, make: Callable[[Settings], Sound]) -> None:
        """Prepare; `make` builds the sound of some settings, and may fail."""
        self._settings = settings
        self._make = make
        self._closed = False
        self._gain_percent: int | None = None
        self._sounds = Slot(make(settings), self._begins)

    @property
    def current(self) -> Sound:
        """Return the sound that runs, or is ending."""
        return self._sounds.current

    async def run(self) -> None:
        """Capture and play until cancelled."""
        await self._sounds.run()

    async def configure(self, settings: Settings) -> str:
        """Close the devices and open those of the new settings, if any of these is about sound."""
        before = self._settings
        if _concerns_sound(settings) == _concerns_sound(before):
            return ""
        sound = self._make(settings)
        self._settings = settings
        self.current.cut()
        await self._sounds.replace(sound)
        return ""

    def on_event(self, event: Event) -> None:
        """Let the gate know of replies and of the microphone."""
        self.current.on_event(event)

    def status(self) -> object:
        """Return the `audio` part of the status."""
        sound = self.current
        return audio_status(sound.capture, sound.playback, sound.echo_status)

    def _begins(self, sound: Sound) -> None:
        # Mute and stop may have come, and the volume changed, while the one before was closing.
        if self._closed:
            sound.close_microphone()
        if self._gain_percent is not None:
            sound.player.set_volume(self._gain_percent)

    def close_microphone(self) -> None:
        """Mute: nothing more is heard, of this sound and of the next; the device is closed."""
        self._closed = True
        self.current.close_microphone()

    def open_microphone(self) -> None:
        """Unmute."""
        self._closed = False
        self.current.open_microphone()

    def hold(self) -> None:
        """Push to talk: from here on everything is one utterance, whatever else plays."""
        self.current.hold()

    def call(self) -> None:
        """Listen without the word: the button was pressed."""
        self.current.call()

    def hear_text(self, text: TranscriptText) -> None:
        """Take a piece of the transcript."""
        self.current.hear_text(text)

    def attention_status(self) -> dict[str, object]:
        """Return the `attention` part of the status."""
        return self.current.attention_status()

    def release(self) -> None:
        """End what `hold` began."""
        self.current.release()

    def set_gain(self, percent: int) -> None:
        """Set the volume of the player, 0 to 100."""
        self._gain_percent = percent
        self.current.player.set_volume(percent)

    def play(self, pcm: bytes) -> None:
        """Play an earcon (int16 mono 24 kHz)."""
        self.current.play(pcm)

    def hush(self) -> None:
        """Stop earcons and alarms; a reply goes on."""
        self.current.hush()

    def evidence(self, *, muted: bool, told_lost: bool) -> Evidence:
        """Return what speaks for the watchdog: frames that came, or why none can."""
        capture = self.current.capture
        return Evidence(capture.frames, muted=muted, told_lost=told_lost, wedged=capture.wedged)


def audio_status(
    capture: CaptureStats, playback: PlaybackStats, echo: EchoStatus
) -> dict[str, object]:
    """Return the `audio` part of the status."""
    return {"capture": rounded(capture), "playback": rounded(playback), "echo": asdict(echo)}


def _concerns_sound(settings: Settings) -> tuple[object, ...]:
    return settings.audio, settings.vad, settings.attention, settings.gpio.button_mode
