"""Token usage, named as each backend names it."""

from __future__ import annotations

from live_emulator.models import Backend
from live_emulator.wire import JsonObject


def _details(**by_modality: int) -> list[JsonObject]:
    return [
        {"modality": name.upper(), "tokenCount": count}
        for name, count in by_modality.items()
        if count
    ]


def usage_metadata(
    backend: Backend,
    *,
    prompt_audio: int,
    prompt_video: int,
    prompt_text: int,
    response_audio: int,
    response_text: int,
) -> JsonObject:
    """Return the ``usageMetadata`` key to merge into the frame of a ``turnComplete``.

    The Developer API calls the answer's tokens ``response…``, Vertex ``candidates…``; each SDK
    mode ignores the other's name.
    """
    prompt = prompt_audio + prompt_video + prompt_text
    response = response_audio + response_text
    name = "response" if backend is Backend.DEVELOPER else "candidates"
    usage: JsonObject = {
        "promptTokenCount": prompt,
        f"{name}TokenCount": response,
        "totalTokenCount": prompt + response,
        "promptTokensDetails": _details(text=prompt_text, audio=prompt_audio, video=prompt_video),
        f"{name}TokensDetails": _details(text=response_text, audio=response_audio),
    }
    if backend is Backend.VERTEX:
        usage["trafficType"] = "ON_DEMAND"
    return {"usageMetadata": usage}
