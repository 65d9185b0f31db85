"""What the model answers, and in which frames and at what pace it goes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from live_emulator.audio import OUTPUT_HZ, amplify, read_wav, resample, tone
from live_emulator.models import Backend
from live_emulator.options import EmulatorOptions
from live_emulator.scenario import ScriptedCall, ScriptedTurn
from live_emulator.setup import Setup
from live_emulator.wire import JsonObject, encode_base64, model_part, server_content

BYTES_PER_S = OUTPUT_HZ * 2


@dataclass(frozen=True, slots=True)
class UserTurn:
    """What the user contributed: audio, text, or both."""

    number: int
    pcm: bytes = b""
    rate_hz: int = 16_000
    text: str = ""
    remembered: bool = False
    """Its contents are in the history already, as ``clientContent`` put them there."""

    @property
    def seconds(self) -> float:
        """Return the length of the audio."""
        return len(self.pcm) / (2 * self.rate_hz)


@dataclass(frozen=True, slots=True)
class ReplyPart:
    """One stretch of the answer, ending in its own turnComplete."""

    pcm: bytes = b""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer: tool calls first, then one or more parts."""

    heard: str = ""
    parts: tuple[ReplyPart, ...] = ()
    thought: str = ""
    calls: tuple[ScriptedCall, ...] = ()
    latency_s: float = 0.0
    silent: bool = False
    turn_complete_reason: str = ""
    empty_turn: bool = False
    idle_after_s: float | None = None
    grounding: Mapping[str, Any] | None = None
    say_after: str = ""


@dataclass(frozen=True, slots=True)
class Timed:
    """A frame and when it goes out, in seconds from the reply's start."""

    offset_s: float
    message: JsonObject = field(default_factory=dict)
    audio_s: float = 0.0
    """Reply audio sent once this frame is out."""


def describe(seconds: float) -> str:
    """Say honestly what was heard: the emulator recognises no words."""
    return f"({seconds:.1f} s of speech)"


def heard_text(turn: UserTurn, script: ScriptedTurn | None, transcripts: tuple[str, ...]) -> str:
    """Return the user's words: scripted, typed, or just their length."""
    if turn.text:
        return turn.text
    if script is not None and script.heard:
        return script.heard
    if turn.number <= len(transcripts):
        return transcripts[turn.number - 1]
    return describe(turn.seconds) if turn.pcm else ""


def _audio(turn: UserTurn, script: ScriptedTurn | None, options: EmulatorOptions) -> bytes:
    """Choose the reply's sound: script first, then the reply mode."""
    mode = options.reply
    if script is not None:
        if script.audio is not None:
            return read_wav(script.audio)
        if script.tone_s is not None:
            return tone(script.tone_s)
        if script.parrot is not None:
            mode = "parrot" if script.parrot else "silent"
        elif script.say and not turn.pcm:
            mode = "tone"
    if mode == "parrot" and turn.pcm:
        return resample(turn.pcm, turn.rate_hz, OUTPUT_HZ)
    if mode == "silent" or not (turn.pcm or turn.text):
        return b""
    return tone(options.tone_s if turn.pcm else min(max(0.06 * len(turn.text), 0.3), 10.0))


def compose(turn: UserTurn, script: ScriptedTurn | None, options: EmulatorOptions) -> Reply:
    """Decide what the model answers to a user turn.

    Raises:
        OSError, ValueError: a scripted WAV cannot be read.
    """
    heard = heard_text(turn, script, tuple(options.transcripts))
    pcm = _audio(turn, script, options)
    if script is not None and script.gain_db:
        pcm = amplify(pcm, script.gain_db)
    says = script.say if script is not None and script.say else (heard if pcm else "",)
    share = len(pcm) // len(says) & ~1
    parts = tuple(
        ReplyPart(pcm[n * share : None if n == len(says) - 1 else (n + 1) * share], text)
        for n, text in enumerate(says)
    )
    if script is None:
        return Reply(heard, parts, latency_s=options.latency_s, silent=options.reply == "silent")
    return Reply(
        heard=heard,
        parts=parts,
        thought=script.thought,
        calls=script.tool_calls,
        latency_s=options.latency_s if script.latency_s is None else script.latency_s,
        silent=script.silent,
        turn_complete_reason=script.turn_complete_reason
        or ("NEED_MORE_INPUT" if script.need_more_input else ""),
        empty_turn=script.empty_turn,
        idle_after_s=script.idle_after_s,
        grounding=script.grounding,
        say_after=script.say_after,
    )


def pieces(text: str, count: int) -> list[str]:
    """Split a text into at most ``count`` pieces at spaces; joined they are the text again."""
    words = text.split(" ")
    words = [word if n == 0 else " " + word for n, word in enumerate(words)]
    count = max(1, min(count, len(words)))
    step, rest = divmod(len(words), count)
    out: list[str] = []
    place = 0
    for n in range(count):
        size = step + (1 if n < rest else 0)
        out.append("".join(words[place : place + size]))
        place += size
    return out


def input_transcription(setup: Setup, heard: str) -> Iterator[JsonObject]:
    """Return the frames that tell what the user said, as each backend shapes them."""
    if not setup.input_transcription or not heard:
        return
    for piece in pieces(heard, 5):
        yield server_content(inputTranscription={"text": piece})
    if setup.backend is Backend.VERTEX:
        yield server_content(inputTranscription={"finished": True})


def audio_part(setup: Setup, pcm: bytes) -> JsonObject:
    """Return a part with audio; Vertex names no rate and gives the turn a role (recorded)."""
    vertex = setup.backend is Backend.VERTEX
    mime_type = "audio/pcm" if vertex else f"audio/pcm;rate={OUTPUT_HZ}"
    blob = {"mimeType": mime_type, "data": encode_base64(pcm)}
    return model_part({"inlineData": blob}, role=vertex)


def send_offset_s(audio_s: float, options: EmulatorOptions) -> float:
    """Return when audio at this position goes out, by burst and pace."""
    if options.pace == 0:
        return 0.0
    return max(0.0, audio_s - options.burst_s) / options.pace


def plan_part(
    part: ReplyPart, thought: str, setup: Setup, options: EmulatorOptions
) -> Iterator[Timed]:
    """Lay one part of the answer out in time.

    Order as recorded: thought, then transcription pieces interleaved with audio.  On models that
    combine, a piece travels in the audio's own frame.
    """
    if thought and setup.include_thoughts:
        yield Timed(0.0, model_part({"text": thought, "thought": True}))
    if setup.text_reply:
        for piece in pieces(part.text, 8):
            yield Timed(0.0, model_part({"text": piece}))
        return
    vertex = setup.backend is Backend.VERTEX
    speaks = setup.output_transcription and bool(part.text)
    step = max(2, BYTES_PER_S * options.chunk_ms // 1000 & ~1)
    chunks = range(0, len(part.pcm), step)
    words = pieces(part.text, max(1, len(chunks))) if speaks else []
    spread = max(1, len(chunks) // max(1, len(words)))
    if speaks and vertex:
        yield Timed(0.0, server_content(outputTranscription={}))
    for number, start in enumerate(chunks):
        offset_s = send_offset_s(start / BYTES_PER_S, options)
        piece = words.pop(0) if words and number % spread == 0 else ""
        if piece and not setup.model.combined_audio_and_text:
            yield Timed(offset_s, server_content(outputTranscription={"text": piece}))
        chunk = part.pcm[start : start + step]
        message = audio_part(setup, chunk)
        if piece and setup.model.combined_audio_and_text:
            message["serverContent"]["outputTranscription"] = {"text": piece}
        yield Timed(offset_s, message, (start + len(chunk)) / BYTES_PER_S)
    end_s = send_offset_s(len(part.pcm) / BYTES_PER_S, options)
    for piece in words:
        yield Timed(end_s, server_content(outputTranscription={"text": piece}))
    if speaks and vertex:
        yield Timed(end_s, server_content(outputTranscription={"finished": True}))
