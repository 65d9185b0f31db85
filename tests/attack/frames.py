"""What a Live service may send, honest and hostile: every field of the protocol by its form.

The forms follow the Live API reference (`BidiGenerateContentServerMessage`) and recordings of real
sessions; the hostile ones replace any part of them by something else.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from tests.attack import values

Make = Callable[[random.Random], Any]
Json = dict[str, Any]


def either(*choices: Any) -> Make:
    """Return a maker of one of the values."""
    return lambda rng: rng.choice(choices)


def audio(rng: random.Random) -> str:
    """Return base64 audio of some length, now and then an odd one or none at all."""
    size = rng.choice((0, 1, 2, 481, 960, 1920, 9600, 48_000))
    return base64.b64encode(bytes(size)).decode()


def _blob(rng: random.Random) -> Json:
    kinds = ("audio/pcm;rate=24000", "audio/pcm", "audio/pcm;rate=0", "image/png", "", None)
    return {"mimeType": rng.choice(kinds), "data": audio(rng)}


def _part(rng: random.Random) -> Json:
    part: Json = rng.choice(({"inlineData": _blob(rng)}, {"text": values.text(rng)}))
    if rng.random() < 0.2:
        part["thought"] = rng.choice((True, False, "yes"))
    if rng.random() < 0.05:
        part[rng.choice(("functionCall", "executableCode", "fileData"))] = values.anything(rng, 1)
    return part


def _model_turn(rng: random.Random) -> Json:
    return {"role": "model", "parts": [_part(rng) for _ in range(rng.choice((0, 1, 1, 1, 2, 40)))]}


def _transcription(rng: random.Random) -> Json:
    return {"text": values.text(rng), "finished": rng.choice((True, False, None))}


def _call(rng: random.Random) -> Json:
    names = ("get_time", "set_volume", "set_timer", "forget_conversation", values.text(rng))
    args = {"percent": values.number(rng), "confirmed": True, "text": values.text(rng)}
    call: Json = {"name": rng.choice(names), "args": rng.choice((args, {}, None))}
    if rng.random() < 0.9:
        call["id"] = rng.choice(("call-1", "call-2", values.text(rng)))
    return call


def _counts(rng: random.Random) -> list[Json]:
    kinds = ("AUDIO", "TEXT", "MODALITY_UNSPECIFIED", values.text(rng))
    pairs = range(rng.choice((0, 1, 2, 30)))
    return [{"modality": rng.choice(kinds), "tokenCount": values.number(rng)} for _ in pairs]


CONTENT: Mapping[str, Make] = {
    "modelTurn": _model_turn,
    "inputTranscription": _transcription,
    "outputTranscription": _transcription,
    "interrupted": either(True, False),
    "generationComplete": either(True, False),
    "turnComplete": either(True, False),
    "turnCompleteReason": either("NEED_MORE_INPUT", "MALFORMED_FUNCTION_CALL", "?"),
    "interactionStatus": either("IN_PROGRESS", "IDLE", "REQUIRES_ACTION", "UNHEARD_OF", None),
    "waitingForInput": either(True, False),
    "groundingMetadata": lambda rng: {"webSearchQueries": [values.text(rng)]},
    "urlContextMetadata": lambda rng: values.anything(rng, 2),
}


def _content(rng: random.Random) -> Json:
    names = rng.sample(sorted(CONTENT), rng.choice((0, 1, 1, 1, 2, 3)))
    return {name: CONTENT[name](rng) for name in names}


def _usage(rng: random.Random) -> Json:
    counts = ("promptTokenCount", "responseTokenCount", "candidatesTokenCount", "totalTokenCount")
    more = ("cachedContentTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount")
    usage: Json = {n: values.number(rng) for n in rng.sample(counts + more, 3)}
    if rng.random() < 0.6:
        usage[rng.choice(("promptTokensDetails", "responseTokensDetails"))] = _counts(rng)
    return usage


def _update(rng: random.Random) -> Json:
    handles = ("", "h-1", "h-2", values.text(rng), "h" * rng.choice((10, 9000)))
    update: Json = {"newHandle": rng.choice(handles), "resumable": rng.choice((True, True, False))}
    if rng.random() < 0.4:
        update["lastConsumedClientMessageIndex"] = rng.choice(("0", "3", values.number(rng)))
    return update


FRAMES: Mapping[str, Make] = {
    "setupComplete": lambda rng: rng.choice(({}, {"sessionId": values.text(rng)})),
    "serverContent": _content,
    "toolCall": lambda rng: {"functionCalls": [_call(rng) for _ in range(rng.choice((0, 1, 70)))]},
    "toolCallCancellation": lambda rng: {"ids": [rng.choice(("call-1", values.text(rng)))]},
    "usageMetadata": _usage,
    "goAway": lambda rng: {"timeLeft": rng.choice(("50s", "9.5s", "0s", "-1s", values.text(rng)))},
    "sessionResumptionUpdate": _update,
    "voiceActivityDetectionSignal": lambda rng: {"vadSignalType": values.text(rng)},
    "voiceActivity": lambda rng: {"voiceActivityType": values.text(rng)},
    "interactionStatus": either("IDLE", "IN_PROGRESS", 3),
    "code": either(429, 500, "429", None),
}
_WEIGHTS = (1, 14, 3, 1, 2, 1, 3, 1, 1, 1, 1)


def honest(rng: random.Random) -> Json:
    """Return a frame of the right form, with odd values in it."""
    names = rng.choices(sorted(FRAMES, key=list(FRAMES).index), _WEIGHTS, k=1)
    if rng.random() < 0.15:
        names.append(rng.choice(list(FRAMES)))
    return {name: FRAMES[name](rng) for name in names}


def hostile(rng: random.Random) -> str:
    """Return the text of a frame: of the right form, with one part wrong, or no JSON at all."""
    frame: Any = honest(rng)
    shape = rng.random()
    if shape < 0.35:
        replace_one(frame, rng)
    written = json.dumps(frame, ensure_ascii=rng.random() < 0.8)
    if shape > 0.93:
        return values.spoilt(written, rng)
    return rng.choice(_NO_FRAMES)(rng) if shape > 0.89 else written


def replace_one(frame: Any, rng: random.Random) -> None:
    """Put something else in one place of the tree."""
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            places.append((value, key))
            if isinstance(inner, dict | list):
                walk(inner)

    walk(frame)
    if places:
        holder, key = rng.choice(places)
        holder[key] = values.anything(rng, 2)


def _bomb(rng: random.Random) -> str:
    depth = rng.choice(values.DEPTHS)
    opening = rng.choice(("[", '{"serverContent":', '{"a":['))
    return opening * depth


_NO_FRAMES: tuple[Callable[[random.Random], str], ...] = (
    either("", "{}", "null", "[]", "17", '"text"', "\x00", "{", "NaN", '{"a":1,"a":2}'),
    lambda rng: json.dumps(values.anything(rng)),
    _bomb,
    lambda rng: json.dumps({values.text(rng): values.anything(rng, 2)}),
    lambda rng: '{"usageMetadata":{"promptTokenCount":%s}}' % ("9" * rng.choice((20, 4301, 9000))),
)


# ── a service that behaves, to be hostile in the middle of ────────────────────────────────────────


def _say(ms: int, text: str = "") -> Json:
    blob = {"mimeType": "audio/pcm;rate=24000", "data": base64.b64encode(bytes(48 * ms)).decode()}
    content: Json = {"modelTurn": {"parts": [{"inlineData": blob}]}}
    if text:
        content["outputTranscription"] = {"text": text}
    return {"serverContent": content}


_END: list[Json] = [
    {"serverContent": {"generationComplete": True}},
    {"serverContent": {"turnComplete": True}, "usageMetadata": {"totalTokenCount": 321}},
    {"sessionResumptionUpdate": {"newHandle": "h-9", "resumable": True}},
]
ANSWERS: Mapping[str, list[Json]] = {
    "native audio of 2.5": [
        {"serverContent": {"inputTranscription": {"text": " What is"}}},
        {"serverContent": {"inputTranscription": {"text": " it?"}}},
        {"sessionResumptionUpdate": {}},
        _say(40), _say(40, "It is"), _say(200, " noon."), *_END,
    ],
    "3.1, everything in few frames": [
        {
            "serverContent": {
                **_say(480)["serverContent"],
                "inputTranscription": {"text": "Time?", "finished": True},
                "generationComplete": True,
            }
        },
        {"serverContent": {"turnComplete": True, "interactionStatus": "IDLE"}},
    ],
    "thinking, two turns for one question": [
        {"serverContent": {"modelTurn": {"parts": [{"text": "Hm.", "thought": True}]}}},
        _say(100, "Let me look."),
        {"serverContent": {"turnComplete": True, "interactionStatus": "IN_PROGRESS"}},
        _say(100, "Found it."),
        {"serverContent": {"generationComplete": True}},
        {"serverContent": {"turnComplete": True}},
        {"serverContent": {"interactionStatus": "IDLE"}},
    ],
    "a call of a function on Vertex AI": [
        {"toolCall": {"functionCalls": [{"id": "f-1", "name": "get_time", "args": {}}]}},
        {"serverContent": {"generationComplete": True}},
        {"serverContent": {"turnComplete": True}},
        _say(150, "Noon."), *_END,
    ],
    "interrupted": [
        _say(500, "A long story"),
        {"serverContent": {"interrupted": True}},
        _say(20),
        {"serverContent": {"turnComplete": True}},
        {"sessionResumptionUpdate": {"newHandle": "h-8", "resumable": True}},
    ],
    "the end of a connection": [
        {"goAway": {"timeLeft": "50s"}},
        {"voiceActivity": {"voiceActivityType": "ACTIVITY_START"}},
        _say(60), *_END,
    ],
}  # fmt: skip
"""Answers as services were recorded to give them."""


def interjected(rng: random.Random) -> list[str]:
    """Return a recorded answer with frames put in, left out, doubled or swapped."""
    story = [json.dumps(frame) for frame in rng.choice(list(ANSWERS.values()))]
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        at = rng.randrange(len(story) + 1)
        if rng.random() < 0.6 or len(story) < 2:
            story.insert(at, hostile(rng))
        elif rng.random() < 0.5:
            story[at:at] = story[max(0, at - 2) : at]
        else:
            a, b = rng.sample(range(len(story)), 2)
            story[a], story[b] = story[b], story[a]
    return story
