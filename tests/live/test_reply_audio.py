"""What the service calls sound: played right, or refused and reported, never played as noise."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
from google.genai import types
from google.genai.live import AsyncSession
from hypothesis import given
from hypothesis import strategies as st

from agentd import events as e
from agentd.audio import formats
from agentd.live.google.connection import GenaiConnection
from agentd.live.google.websocket import LiveWebSocket
from agentd.live.messages import ServerMessage
from agentd.live.reply_audio import (
    MAX_CHANGES,
    Layout,
    ReplyDecoder,
    Unplayable,
    is_sound,
    layout_of,
)
from tests.live.world import World

RATES_HZ = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000]


def tone(rate_hz: int, hz: float = 500.0, seconds: float = 0.5, channels: int = 1) -> bytes:
    """A sine of amplitude 8000."""
    values = [
        round(8_000 * math.sin(math.tau * hz * i / rate_hz))
        for i in range(round(seconds * rate_hz))
    ]
    return formats.to_pcm([value for value in values for _ in range(channels)])


def decoded(mime: str | None, data: bytes, cuts: Sequence[int] = ()) -> bytes:
    """What comes of a turn whose sound is cut at the given places."""
    decoder = ReplyDecoder()
    places = [0, *sorted(cuts), len(data)]
    out = b"".join(
        piece
        for begin, end in itertools.pairwise(places)
        for piece in decoder.feed(mime, data[begin:end])
    )
    return out + b"".join(decoder.rest())


def crossings(pcm: bytes) -> int:
    """How often a tone goes through zero upwards."""
    values = formats.samples(pcm)
    return sum(a < 0 <= b for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 961, 1_920, 4_799])
def test_pieces_may_be_cut_anywhere(piece_bytes: int) -> None:
    """Half a sample waits for its other half: what is played is what was sent."""
    pcm = tone(24_000)
    cuts = range(piece_bytes, len(pcm), piece_bytes)
    assert decoded("audio/pcm;rate=24000", pcm, cuts) == pcm


@given(
    rate_hz=st.sampled_from([16_000, 24_000, 48_000]),
    channels=st.integers(1, 3),
    cuts=st.lists(st.integers(0, 4_000), max_size=12),
)
def test_how_it_is_cut_changes_nothing(rate_hz: int, channels: int, cuts: list[int]) -> None:
    """The filter keeps its phase, and torn samples their halves, over any pieces."""
    pcm = tone(rate_hz, seconds=0.05, channels=channels)
    mime = f"audio/pcm;rate={rate_hz};channels={channels}"
    assert decoded(mime, pcm, [cut for cut in cuts if cut <= len(pcm)]) == decoded(mime, pcm)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("channels", [1, 2])
def test_rates_and_channels_are_converted(rate_hz: int, channels: int) -> None:
    """The same pitch, length and level at the speaker's 24 kHz."""
    heard = decoded(
        f"audio/pcm; rate={rate_hz}; channels={channels}", tone(rate_hz, 500, 0.4, channels)
    )
    assert abs(len(heard) // 2 - 9_600) <= 24
    assert abs(crossings(heard) - 200) <= 1
    assert formats.level_dbfs(heard) == pytest.approx(formats.level_dbfs(tone(24_000)), abs=0.1)


@pytest.mark.parametrize(
    ("mime", "layout"),
    [
        (None, Layout()),
        ("", Layout()),
        ("audio/pcm", Layout()),  # Vertex AI leaves the rate out
        ("AUDIO/PCM;RATE=24000", Layout()),
        (' Audio/PCM ; Rate = "16000" ; Channels=2', Layout(16_000, 2)),
        ("audio/pcm;rate=16000;rate=48000", Layout(16_000)),
        ("audio/pcm;rate=;channels=", Layout()),
        ("audio/L16;codec=pcm;rate=24000", Layout()),  # as Google's speech generation says it
        ("audio/pcm;bits=16;encoding=signed-int;endian=little-endian", Layout()),
        ("audio/pcm;whatever", Layout()),
    ],
)
def test_types_that_are_played(mime: str | None, layout: Layout) -> None:
    """Names and values count in any case, quoted or not; what is not said is as usual."""
    assert layout_of(mime) == layout


@pytest.mark.parametrize(
    ("mime", "cause"),
    [
        ("audio/mpeg", "sound of type audio/mpeg"),
        ("audio/ogg;codecs=opus", "sound of type audio/ogg"),
        ("audio/wav", "sound of type audio/wav"),
        ("application/octet-stream", "sound of type application/octet-stream"),
        ("audio/L16;rate=24000", "sound of type audio/l16"),
        ("audio/pcm;codec=alaw", "audio/pcm whose codec is not that of"),
        ("audio/pcm;bits=24", "audio/pcm whose bits is not"),
        ("audio/pcm;endian=big", "audio/pcm whose endian is not"),
        ("audio/pcm;rate=0", "samples per second is not one from 8000 to 48000"),
        ("audio/pcm;rate=7999", "samples per second"),
        ("audio/pcm;rate=48001", "samples per second"),
        ("audio/pcm;rate=-24000", "samples per second"),
        ("audio/pcm;rate=24000.5", "samples per second"),
        ("audio/pcm;rate=²", "samples per second"),
        ("audio/pcm;rate=" + "9" * 40, "samples per second"),
        ("audio/pcm;rate=23999", "PCM of 23999 samples per second, which is no usual rate"),
        ("audio/pcm;channels=0", "channels is not one from 1 to 8"),
        ("audio/pcm;channels=9", "channels"),
        ("audio", "sound of a type that cannot be read"),
        ("audio/\x1b]0;x\x07", "sound of a type that cannot be read"),
        ("audio/pcm;" + "x" * 300, "sound of a type that cannot be read"),
    ],
)
def test_types_that_are_refused(mime: str, cause: str) -> None:
    """With a cause that is short and holds nothing of the peer's but a well-formed type."""
    with pytest.raises(Unplayable) as refused:
        layout_of(mime)
    assert cause in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 120
    decoder = ReplyDecoder()
    assert list(decoder.feed(mime, tone(24_000))) == []


@given(st.text(max_size=300))
def test_any_text_is_a_layout_or_a_refusal(mime: str) -> None:
    """No MIME type does anything else, and its words stay short and printable."""
    decoder = ReplyDecoder()
    heard = list(decoder.feed(mime, bytes(200)))
    refusal = decoder.take_refusal()
    assert bool(heard) != bool(refusal)
    assert refusal.isprintable()
    assert len(refusal) < 120


@pytest.mark.parametrize(
    ("mime", "heard"),
    [(None, True), ("audio/mpeg", True), ("IMAGE/png", False), ("text/plain", False)],
)
def test_what_is_meant_to_be_heard(mime: str | None, heard: bool) -> None:
    """Pictures and texts beside the sound are no failure."""
    assert is_sound(mime) is heard


def test_half_a_sample_does_not_outlive_its_turn() -> None:
    """It would turn the next reply into noise."""
    for forget in (ReplyDecoder.new_turn, lambda decoder: list(decoder.rest())):
        decoder = ReplyDecoder()
        assert list(decoder.feed("audio/pcm", b"\x01\x02\x03")) == [b"\x01\x02"]
        forget(decoder)
        assert list(decoder.feed("audio/pcm", b"\x05\x06")) == [b"\x05\x06"]


def test_a_type_that_changes_within_a_turn() -> None:
    """What came before is finished, but for half a sample; one that never rests is refused."""
    decoder = ReplyDecoder()
    first = list(decoder.feed("audio/pcm;rate=48000", tone(48_000, seconds=0.1) + b"x"))
    second = list(decoder.feed("audio/pcm", tone(24_000, seconds=0.1)))
    assert second[-1] == tone(24_000, seconds=0.1)
    assert abs(len(b"".join(first + second[:-1])) // 2 - 2_400) <= 48
    for index in range(MAX_CHANGES):
        list(decoder.feed(f"audio/pcm;channels={2 - index % 2}", b"abcdefgh"))
    assert decoder.take_refusal() == "sound that keeps changing its type"


def test_a_refusal_is_reported_once_a_turn() -> None:
    """However many pieces it has; other sound of the same turn is played."""
    decoder = ReplyDecoder()
    told = []
    for mime in ("audio/mpeg", "audio/ogg", "audio/pcm", "audio/mpeg"):
        heard = list(decoder.feed(mime, b"abcd"))
        assert heard == ([b"abcd"] if mime == "audio/pcm" else [])
        told.append(decoder.take_refusal())
    assert told == ["sound of type audio/mpeg", "", "", ""]
    decoder.new_turn()
    list(decoder.feed("audio/ogg", b"abcd"))
    assert decoder.take_refusal() == "sound of type audio/ogg"


# ── through the SDK's values, and on to the household ─────────────────────────────────────────


class Script:
    """An SDK session that says what it is given."""

    def __init__(self, frames: list[dict[str, Any]]) -> None:
        self._frames = frames

    async def receive(self) -> AsyncIterator[types.LiveServerMessage]:
        for frame in self._frames:
            yield types.LiveServerMessage.model_validate({"server_content": frame})


def received(*frames: dict[str, Any]) -> list[ServerMessage]:
    """What becomes of frames on the way in."""

    async def main() -> list[ServerMessage]:
        async def leave(*_args: object) -> None:
            """Nothing is open."""

        session = cast(AsyncSession, Script(list(frames)))
        link = GenaiConnection(session, cast(LiveWebSocket, None), leave)
        return [await link.receive() for _ in frames]

    return asyncio.run(main())


def sound(*pieces: bytes, mime: str = "audio/pcm;rate=24000") -> dict[str, Any]:
    """Server content with so many parts of sound."""
    parts = [{"inline_data": {"mime_type": mime, "data": piece}} for piece in pieces]
    return {"model_turn": {"parts": parts}}


def test_a_torn_sample_is_mended_over_parts_and_frames() -> None:
    """Three bytes in one frame, one each in two parts of the next, and the rest: all of it."""
    found = received(sound(b"abc"), sound(b"d", b"e"), sound(b"f"))
    assert b"".join(piece for message in found for piece in message.audio) == b"abcdef"


@pytest.mark.parametrize("flag", ["interrupted", "turn_complete", "generation_complete"])
def test_a_torn_sample_ends_with_the_turn(flag: str) -> None:
    """The next reply begins with a whole sample."""
    _, after = received(sound(b"abc") | {flag: True}, sound(b"de"))
    assert after.audio == (b"de",)


def test_the_end_of_a_converted_reply_is_heard() -> None:
    """Its generationComplete brings what the filter still holds; an interruption drops it."""
    for flag, length in (("generation_complete", 12_000), ("interrupted", 11_964)):
        found = received(
            sound(tone(16_000), mime="audio/pcm;rate=16000"), {flag: True}, {"turn_complete": True}
        )
        heard = b"".join(piece for message in found for piece in message.audio)
        assert abs(len(heard) // 2 - length) <= 2


def test_an_mp3_is_reported_once_and_again_in_the_next_turn() -> None:
    """Nothing of it is played."""
    mp3 = sound(b"ID3", mime="audio/mpeg")
    found = received(mp3, mp3, {"turn_complete": True}, mp3)
    assert [message.unplayable for message in found] == [
        "sound of type audio/mpeg",
        "",
        "",
        "sound of type audio/mpeg",
    ]
    assert not any(message.audio for message in found)


def test_the_journal_hears_what_cannot_be_played() -> None:
    """With the turn that it was to answer; what was not asked for has none."""
    world = World().online()
    world.receive(model_turn=True, unplayable="sound of type audio/ogg")
    world.receive(turn_complete=True)
    world.speak()
    (started,) = world.told(e.TurnStarted)
    world.receive(model_turn=True, unplayable="sound of type audio/mpeg")
    assert world.told(e.ReplyUnplayable) == [
        e.ReplyUnplayable(turn=0, cause="sound of type audio/ogg"),
        e.ReplyUnplayable(turn=started.turn, cause="sound of type audio/mpeg"),
    ]
