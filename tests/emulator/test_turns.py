"""Turns: utterances in, answers out, interruption, tools; all on a virtual clock."""

from __future__ import annotations

from typing import Any

import pytest

from live_emulator.audio import resample
from live_emulator.clock import Agenda
from live_emulator.models import Backend
from live_emulator.turns import MOVES, Phase, TurnEngine
from tests.emulator.harness import (
    Peer,
    blob,
    handles,
    kinds,
    make_service,
    reply_pcm,
    said,
    silence,
    voice,
)

V25 = "gemini-2.5-flash-native-audio-preview-12-2025"
V31 = "gemini-3.1-flash-live-preview"
BOTH: dict[str, Any] = {
    "inputAudioTranscription": {},
    "outputAudioTranscription": {},
    "sessionResumption": {},
}
TOOLS = [{"functionDeclarations": [{"name": "lamp"}, {"name": "slow", "behavior": "NON_BLOCKING"}]}]


def ready(backend: Backend = Backend.DEVELOPER, model: str = V25, **given: Any) -> Peer:
    """A connection after setup; keys of ``setup`` go into the setup, others are options."""
    setup = given.pop("setup", {})
    turns = given.pop("turns", None)
    peer = (
        Peer(backend=backend, service=None, **given)
        if turns is None
        else scripted(turns, backend, **given)
    )
    peer.setup(model, **setup)
    assert peer.kinds[0] == "setupComplete"
    return peer


def scripted(turns: list[dict[str, Any]], backend: Backend, **options: Any) -> Peer:
    """A connection to a service with a script."""
    from live_emulator.clock import ManualClock

    clock = ManualClock()
    return Peer(make_service(clock, turns, **options), clock, backend)


def test_a_parrot_turn_on_the_developer_api_has_the_recorded_shape() -> None:
    """Input transcription, answer, generationComplete, turnComplete with usage, new handle."""
    peer = ready(setup=BOTH, transcripts=["Front center"])
    pcm = voice(1.0)
    frames = peer.turn(1.0)
    assert kinds(frames)[:3] == [
        "inputTranscription",
        "sessionResumptionUpdate",
        "outputTranscription",
    ]
    assert kinds(frames)[-3:] == ["generationComplete", "turnComplete", "sessionResumptionUpdate"]
    assert reply_pcm(frames) == resample(pcm, 16_000, 24_000)
    assert said(frames, "inputTranscription") == "Front center"
    assert said(frames) == "Front center"
    complete = next(f for f in frames if "usageMetadata" in f)
    assert complete["serverContent"] == {"turnComplete": True}
    assert complete["usageMetadata"] == {
        "promptTokenCount": 25,
        "responseTokenCount": 25,
        "totalTokenCount": 50,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 25}],
        "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 25}],
    }


def test_vertex_shapes_differ_as_recorded() -> None:
    """Session id, finished transcriptions, audio without a rate, candidates, grounding."""
    peer = ready(Backend.VERTEX, "gemini-live-2.5-flash-native-audio", setup=BOTH)
    assert peer.frames[0]["setupComplete"]["sessionId"]
    frames = peer.turn()
    texts = [
        f["serverContent"]["outputTranscription"]
        for f in frames
        if "outputTranscription" in f.get("serverContent", {})
    ]
    assert texts[0] == {}
    assert texts[-1] == {"finished": True}
    audio = next(f for f in frames if "modelTurn" in f.get("serverContent", {}))
    turn = audio["serverContent"]["modelTurn"]
    assert turn["role"] == "model"
    assert turn["parts"][0]["inlineData"]["mimeType"] == "audio/pcm"
    complete = next(f for f in frames if "usageMetadata" in f)
    assert complete["serverContent"] == {"turnComplete": True, "groundingMetadata": {}}
    assert complete["usageMetadata"]["candidatesTokenCount"] == 25
    assert complete["usageMetadata"]["trafficType"] == "ON_DEMAND"
    assert "responseTokenCount" not in complete["usageMetadata"]


def test_newer_models_put_audio_and_its_text_into_one_frame() -> None:
    """On 3.1 and later a transcription piece travels with the audio."""
    frames = ready(model="gemini-3.8-live", setup=BOTH).turn()
    together = [
        f for f in frames if {"modelTurn", "outputTranscription"} <= set(f.get("serverContent", {}))
    ]
    assert together
    assert said(frames) == "(1.0 s of speech)"


def test_transcriptions_are_sent_only_when_asked_for() -> None:
    """Without the config fields no transcription is sent, and no handle either."""
    assert set(ready().turn()[0]["serverContent"]) == {"modelTurn"}
    assert set(kinds(ready().turn())) == {"audio", "generationComplete", "turnComplete"}


def test_3_1_sends_handles_unasked() -> None:
    """3.1 was recorded to send resumption updates although setup did not ask."""
    assert handles(ready(model=V31).turn())


def test_turn_complete_waits_for_playback() -> None:
    """Audio goes out faster than real time; turnComplete comes when it has been played."""
    peer = ready(latency_s=0.5, pace=4.0, playback_hold=1.0)
    peer.turn(2.0)
    times = dict(zip(map(str, range(len(peer.frames))), peer.times, strict=True))
    assert len(times) == len(peer.frames)
    by_kind = {k: t for f, t in zip(peer.frames, peer.times, strict=True) for k in kinds([f])}
    first_audio = next(
        t for f, t in zip(peer.frames, peer.times, strict=True) if kinds([f]) == ["audio"]
    )
    assert first_audio == pytest.approx(0.5)
    assert by_kind["generationComplete"] == pytest.approx(0.5 + 1.96 / 4)
    assert by_kind["turnComplete"] == pytest.approx(2.5)


def test_burst_and_chunk_size() -> None:
    """A burst goes out at once, the rest at the pace; chunks have the length asked for."""
    peer = ready(latency_s=0.0, pace=1.0, burst_s=0.5, chunk_ms=100)
    peer.say(1.0)
    peer.advance(0.0)
    audio = [f for f in peer.frames if kinds([f]) == ["audio"]]
    assert len(audio) == 6
    assert len(reply_pcm(audio[:1])) == 4_800
    peer.advance(0.1)
    assert len(reply_pcm(peer.frames)) == 7 * 4_800


def test_pace_zero_sends_everything_at_once() -> None:
    """Pace 0 has no pacing at all."""
    peer = ready(latency_s=0.0, pace=0.0)
    peer.say(3.0)
    peer.advance(0.0)
    assert len(reply_pcm(peer.frames)) == 3 * 48_000
    assert "generationComplete" in peer.kinds


def test_speech_interrupts_the_answer() -> None:
    """interrupted, then turnComplete, and no generationComplete in that turn."""
    peer = ready(pace=1.0, setup=BOTH)
    peer.say(2.0)
    peer.advance(1.2)
    heard = len(reply_pcm(peer.frames)) / 48_000
    assert 0.9 < heard < 1.1
    assert kinds(peer.start()) == ["interrupted", "turnComplete", "sessionResumptionUpdate"]
    assert "generationComplete" not in peer.kinds
    assert peer.advance(10.0) == []
    session = peer.core.session
    assert session is not None
    assert session.history[-1].role == "model"
    assert session.history[-1].audio_tokens == round(heard * 25)


def test_interruption_during_playback_comes_after_generation_complete() -> None:
    """The playback phase can be interrupted too."""
    peer = ready(pace=0.0)
    peer.say(2.0)
    peer.advance(1.0)
    assert peer.kinds[-1] == "generationComplete"
    assert kinds(peer.start()) == ["interrupted", "turnComplete"]


def test_interruption_before_the_first_audio() -> None:
    """A turn can be interrupted before anything was said."""
    peer = ready(latency_s=5.0)
    peer.say()
    peer.advance(1.0)
    assert kinds(peer.start()) == ["interrupted", "turnComplete"]
    session = peer.core.session
    assert session is not None
    assert [t.role for t in session.history] == ["user"]


def test_no_interruption_queues_the_next_utterance() -> None:
    """NO_INTERRUPTION lets the answer finish, then answers what was said meanwhile."""
    activity = {
        "automaticActivityDetection": {"disabled": True},
        "activityHandling": "NO_INTERRUPTION",
    }
    peer = ready(setup={"realtimeInputConfig": activity})
    peer.say(1.0)
    peer.advance(0.3)
    peer.say(0.5)
    frames = peer.advance(30.0)
    assert kinds(frames).count("turnComplete") == 2
    assert "interrupted" not in peer.kinds
    assert len(reply_pcm(peer.frames)) == 72_000


def test_late_audio_after_interrupted_on_demand() -> None:
    """The fault lets audio of the cancelled turn follow the interruption."""
    peer = ready(pace=1.0)
    peer.fault(do="audio_after_interrupted", chunks=2)
    peer.say(2.0)
    peer.advance(1.0)
    frames = peer.start()
    assert [kinds([f])[0] for f in frames] == ["interrupted", "audio", "audio", "turnComplete"]


def test_activity_signals_out_of_place_are_ignored() -> None:
    """A second start, an end without start and stray audio do nothing."""
    peer = ready()
    peer.end()
    peer.send(blob(voice(0.1)))
    peer.send(blob(voice(0.1)))
    peer.start()
    peer.start()
    assert [n["why"] for n in peer.noted("ignored")] == [
        "activityEnd outside an activity",
        "audio outside an activity",
        "activityStart inside an activity",
    ]
    peer.send(blob(voice(0.2)))
    peer.end()
    assert peer.utterances[0].seconds == pytest.approx(0.2)


def test_the_exact_audio_of_each_utterance_is_handed_over() -> None:
    """What went in between activityStart and activityEnd comes out byte for byte."""
    peer = ready()
    pcm = peer.say(0.7)
    (utterance,) = peer.utterances
    assert (utterance.pcm, utterance.complete, utterance.explicit, utterance.number) == (
        pcm,
        True,
        True,
        1,
    )


def test_audio_stream_end_means_nothing_under_manual_signals() -> None:
    """AudioStreamEnd belongs to automatic detection only."""
    peer = ready()
    assert peer.send({"realtime_input": {"audioStreamEnd": True}}) == []
    assert peer.noted("ignored")


def test_media_chunks_are_audio_too() -> None:
    """The deprecated mediaChunks form carries audio and images."""
    peer = ready()
    peer.start()
    data = blob(voice(0.1))["realtime_input"]["audio"]
    image = {"data": "AAAA", "mime_type": "image/jpeg"}
    peer.send({"realtime_input": {"mediaChunks": [data, image]}})
    peer.send({"realtime_input": {"video": image}})
    peer.end()
    peer.advance(10.0)
    session = peer.core.session
    assert session is not None
    assert session.history[0].video_tokens == 2 * 258
    assert session.history[0].audio_tokens == 2


@pytest.mark.parametrize(
    "message",
    [
        {"realtimeInput": {"audio": {"data": "AAAA", "mimeType": "text/plain"}}},
        {"realtimeInput": {"audio": {"data": "*", "mimeType": "audio/pcm"}}},
        {"realtimeInput": {"audio": "x"}},
        {"realtimeInput": {"nonsense": 1}},
        {"setup": {"model": "models/" + V25}},
    ],
)
def test_bad_messages_close_1007(message: dict[str, Any]) -> None:
    """Malformed input after setup closes 1007; so does a second setup (litellm#31494)."""
    peer = ready()
    peer.send(message)
    assert peer.closes[0][0] == 1007
    assert peer.send({"realtimeInput": {"text": "x"}}) == []


def test_nothing_may_come_before_setup() -> None:
    """The first message must be setup."""
    peer = Peer()
    peer.send({"realtimeInput": {"text": "x"}})
    assert peer.closes == [(1007, "Request contains an invalid argument.")]


# -- automatic detection ---------------------------------------------------------------------

AUTO: dict[str, Any] = {"realtimeInputConfig": {}}


def test_explicit_activity_under_automatic_detection_closes_1007() -> None:
    """The documented reason."""
    peer = ready(setup=AUTO)
    peer.start()
    assert peer.closes == [
        (
            1007,
            "Explicit activity control is not supported when automatic activity detection is enabled.",  # noqa: E501
        )
    ]


def test_server_detection_finds_the_utterance() -> None:
    """Speech between silences becomes one utterance with a pre-roll, and is answered."""
    peer = ready(setup=AUTO)
    stream = silence(0.5) + voice(1.0) + silence(1.0)
    for start in range(0, len(stream), 1_280):
        peer.send(blob(stream[start : start + 1_280]))
    (utterance,) = peer.utterances
    assert not utterance.explicit
    assert 1.0 + 0.3 <= utterance.seconds <= 1.0 + 0.3 + 0.5 + 0.05
    assert voice(1.0)[:1_000] in utterance.pcm
    assert "turnComplete" in kinds(peer.advance(30.0))


def test_audio_stream_end_flushes_speech() -> None:
    """A stream that pauses inside speech ends its utterance with audioStreamEnd."""
    peer = ready(setup=AUTO)
    peer.send(blob(voice(0.505)))
    peer.advance(30.0)
    assert peer.utterances == []
    peer.send({"realtime_input": {"audioStreamEnd": True}})
    assert peer.utterances[0].pcm == voice(0.505)
    peer.send({"realtime_input": {"audioStreamEnd": True}})
    assert len(peer.utterances) == 1


def test_a_stream_that_ends_before_it_began() -> None:
    """AudioStreamEnd without audio, and right at a frame's end, do no harm."""
    peer = ready(setup=AUTO)
    peer.send({"realtime_input": {"audioStreamEnd": True}})
    peer.send(blob(voice(0.2)))
    peer.send({"realtime_input": {"audioStreamEnd": True}})
    assert [u.seconds for u in peer.utterances] == [0.2]


def test_text_does_not_interrupt_under_no_interruption() -> None:
    """Typed text waits for the answer under way, too."""
    setup = {"realtimeInputConfig": {"activityHandling": "NO_INTERRUPTION"}}
    peer = ready(setup=setup)
    for text in ("one", "two"):
        peer.send({"realtime_input": {"text": text}})
    peer.advance(30.0)
    assert kinds(peer.frames).count("turnComplete") == 2
    assert "interrupted" not in peer.kinds


def test_speech_interrupts_under_automatic_detection_too() -> None:
    """Barge-in found by the server."""
    peer = ready(setup=AUTO, pace=1.0)
    peer.send(blob(voice(1.0) + silence(1.0)))
    peer.advance(1.0)
    frames = peer.send(blob(voice(0.3)))
    assert kinds(frames) == ["interrupted", "turnComplete"]


def test_explicit_vad_signals_on_vertex() -> None:
    """ExplicitVadSignal lets Vertex tell where speech began and ended, in audio time."""
    setup = AUTO | {"explicitVadSignal": True}
    peer = ready(Backend.VERTEX, "gemini-live-2.5-flash-native-audio", setup=setup)
    peer.send(blob(silence(1.0) + voice(0.5) + silence(1.0)))
    signals = [f["voiceActivity"] for f in peer.frames if "voiceActivity" in f]
    assert signals == [
        {"type": "ACTIVITY_START", "audioOffset": "1s"},
        {"type": "ACTIVITY_END", "audioOffset": "1.500s"},
    ]
    kinds_of = [
        f["voiceActivityDetectionSignal"]["vadSignalType"]
        for f in peer.frames
        if "voiceActivityDetectionSignal" in f
    ]
    assert kinds_of == ["VAD_SIGNAL_TYPE_SOS", "VAD_SIGNAL_TYPE_EOS"]


# -- text and history ------------------------------------------------------------------------


def content(text: str = "hello", *, role: str = "user", complete: bool = True) -> dict[str, Any]:
    turn = {"parts": [{"text": text}], "role": role}
    return {"client_content": {"turns": [turn], "turnComplete": complete}}


def test_realtime_text_is_answered() -> None:
    """realtimeInput.text is a turn of its own, spoken by a tone as long as the text."""
    peer = ready(setup=BOTH)
    peer.send({"realtime_input": {"text": "turn on the light"}})
    frames = peer.advance(30.0)
    assert said(frames) == "turn on the light"
    assert reply_pcm(frames)


def test_text_inside_an_activity_belongs_to_it() -> None:
    """Text between activityStart and activityEnd is part of the utterance."""
    peer = ready(setup=BOTH)
    peer.start()
    peer.send({"realtime_input": {"text": "typed"}})
    peer.end()
    assert peer.utterances[0].text == "typed"
    assert said(peer.advance(30.0)) == "typed"


def test_client_content_waits_for_turn_complete() -> None:
    """Context without turnComplete is only remembered; turnComplete asks for the answer."""
    peer = ready(setup=BOTH)
    assert peer.send(content("a", complete=False)) == []
    assert peer.advance(5.0) == []
    peer.send({"client_content": {"turnComplete": True}})
    assert said(peer.advance(30.0)) == "a"
    session = peer.core.session
    assert session is not None
    assert session.history[0].text == "a"


def test_client_content_interrupts() -> None:
    """Any clientContent interrupts the answer under way."""
    peer = ready(pace=1.0)
    peer.say(2.0)
    peer.advance(1.0)
    assert kinds(peer.send(content()))[:2] == ["interrupted", "turnComplete"]


def test_system_role_updates_the_instruction_on_vertex_only() -> None:
    """Vertex takes role system mid-session without interrupting; the Developer API refuses it."""
    update = content("Be brief.", role="system", complete=False)
    vertex = ready(Backend.VERTEX, "gemini-live-2.5-flash-native-audio", pace=1.0)
    vertex.say(2.0)
    vertex.advance(1.0)
    assert vertex.send(update) == []
    session = vertex.core.session
    assert session is not None
    assert session.system_instruction == "Be brief."
    developer = ready()
    developer.send(update)
    assert developer.closes == [(1007, "Please use a valid role: user, model.")]


def test_history_is_seeded_without_an_answer() -> None:
    """historyConfig: the first clientContent up to turnComplete is history, not a question."""
    setup = {"historyConfig": {"initialHistoryInClientContent": True}}
    peer = ready(model=V31, setup=setup, traits={"client_content": "seed_only"})
    peer.send(content("earlier", complete=False))
    peer.send(content("answer", role="model", complete=True))
    assert peer.advance(10.0) == []
    session = peer.core.session
    assert session is not None
    assert [(t.role, t.text) for t in session.history] == [("user", "earlier"), ("model", "answer")]
    peer.send(content("later"))
    assert peer.closes == [(1007, "Request contains an invalid argument.")]


def test_3_1_takes_client_content_unless_told_to_be_as_it_was() -> None:
    """Since September 2026 all session long; before only as a seed (mastra#18363)."""
    peer = ready(model=V31)
    peer.send(content())
    assert "turnComplete" in kinds(peer.advance(10.0))
    before = ready(model=V31, traits={"client_content": "seed_only"})
    before.send(content())
    assert before.closes[0][0] == 1007


def test_context_update_where_the_model_knows_it() -> None:
    """3.8 takes a new instruction and new tools mid-session; older models refuse."""
    peer = ready(model="gemini-3.8-live", setup={"tools": TOOLS})
    text = {"systemInstruction": {"parts": [{"text": "You are concise."}], "role": "user"}}
    assert peer.send({"contextUpdate": text}) == []
    assert peer.send({"contextUpdate": {"tools": {"tools": []}}}) == []
    engine = peer.core.engine
    assert engine is not None
    assert (engine.session.system_instruction, engine.calls.functions) == ("You are concise.", {})
    older = ready()
    older.send({"contextUpdate": text})
    assert older.closes[0][0] == 1007


# -- scripts ---------------------------------------------------------------------------------


def test_scripted_turns_in_order() -> None:
    """A scenario says what was heard and what is answered, turn by turn."""
    peer = ready(
        setup=BOTH,
        turns=[
            {"heard": "What time is it?", "say": "Ten past four.", "tone": "500ms"},
            {"heard": "Thanks", "silent": True},
        ],
    )
    frames = peer.turn()
    assert said(frames, "inputTranscription") == "What time is it?"
    assert said(frames) == "Ten past four."
    assert len(reply_pcm(frames)) == 24_000
    assert kinds(peer.turn()) == ["inputTranscription", "sessionResumptionUpdate"]
    assert said(peer.turn()) == "(1.0 s of speech)"


def test_several_parts_are_in_progress_until_idle() -> None:
    """Extended thinking: several turnCompletes, the last one IDLE, one generationComplete."""
    peer = ready(turns=[{"say": ["One moment.", "It is four."]}], setup=BOTH)
    frames = peer.turn(2.0)
    status = [
        f["serverContent"].get("interactionStatus")
        for f in frames
        if "turnComplete" in f.get("serverContent", {})
    ]
    assert status == ["IN_PROGRESS", "IDLE"]
    assert kinds(frames).count("generationComplete") == 1
    assert said(frames) == "One moment.It is four."
    assert len(reply_pcm(frames)) == 96_000


def test_thoughts_are_parts_of_their_own() -> None:
    """Thought parts are sent when setup asks for them."""
    turns = [{"thought": "Hm.", "say": "Yes."}]
    thinking = {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}}
    frames = ready(turns=turns, setup=thinking).turn()
    part = frames[0]["serverContent"]["modelTurn"]["parts"][0]
    assert part == {"text": "Hm.", "thought": True}
    assert "text" not in kinds(ready(turns=turns).turn())


def test_grounding_and_need_more_input() -> None:
    """Grounding metadata and the reason for the end of the turn can be scripted."""
    turns = [{"say": "x", "need_more_input": True, "grounding": {"webSearchQueries": ["q"]}}]
    frames = ready(turns=turns).turn()
    final = next(f["serverContent"] for f in frames if "turnComplete" in f.get("serverContent", {}))
    assert final["turnCompleteReason"] == "NEED_MORE_INPUT"
    assert final["groundingMetadata"] == {"webSearchQueries": ["q"]}


def test_a_rejected_answer() -> None:
    """Any reason can be scripted, and an answer without a sound."""
    turns = [{"parrot": False, "turn_complete_reason": "RESPONSE_REJECTED"}]
    frames = ready(turns=turns).turn()
    final = next(f["serverContent"] for f in frames if "turnComplete" in f.get("serverContent", {}))
    assert final["turnCompleteReason"] == "RESPONSE_REJECTED"
    assert "audio" not in kinds(frames)


def test_an_unreadable_scripted_wav_is_noted_not_fatal() -> None:
    """A missing WAV gives an empty answer and a note."""
    peer = ready(turns=[{"audio": "/does/not/exist.wav"}])
    assert kinds(peer.turn()) == ["generationComplete", "turnComplete"]
    assert peer.noted("scenario_error")


def test_a_script_decides_between_parrot_and_silence() -> None:
    """Parrot = true or false overrides the reply mode for one turn."""
    turns = [{"parrot": True}, {"parrot": False}]
    peer = ready(turns=turns, reply="tone", tone_s=0.1)
    assert len(reply_pcm(peer.turn())) == 48_000
    assert reply_pcm(peer.turn()) == b""


def test_words_left_over_follow_the_audio() -> None:
    """More words than audio frames: the rest is sent when the audio is out."""
    peer = ready(turns=[{"say": "a b c d", "tone": 0.1}, {"say": "e", "parrot": False}], setup=BOTH)
    assert said(peer.turn()) == "a b c d"
    assert said(peer.turn()) == "e"


def test_text_models_answer_in_text_parts() -> None:
    """Half-cascade models answer in text when asked to."""
    setup = {"generationConfig": {"responseModalities": ["TEXT"]}}
    peer = ready(Backend.VERTEX, "gemini-live-2.5-flash", setup=setup)
    peer.send(content("hello there"))
    frames = peer.advance(30.0)
    texts = [
        f["serverContent"]["modelTurn"]["parts"][0]["text"]
        for f in frames
        if "modelTurn" in f.get("serverContent", {})
    ]
    assert "".join(texts) == "hello there"


def test_silent_and_tone_modes() -> None:
    """The emulator can stay silent or answer with a tone."""
    assert ready(reply="silent").turn() == []
    assert len(reply_pcm(ready(reply="tone", tone_s=0.5).turn())) == 24_000


def test_an_empty_utterance_still_ends_its_turn() -> None:
    """An activity without audio is answered by an empty turn."""
    peer = ready()
    peer.start()
    peer.end()
    assert kinds(peer.advance(5.0)) == ["generationComplete", "turnComplete"]


# -- tools -----------------------------------------------------------------------------------

CALL = [{"tool_call": {"name": "lamp", "args": {"on_off": True}}, "say": "Done."}]


def respond(call_id: str | None, **more: Any) -> dict[str, Any]:
    item = {"name": "lamp", "response": {"result": "ok"}, **more}
    if call_id is not None:
        item["id"] = call_id
    return {"tool_response": {"functionResponses": [item]}}


def called(peer: Peer) -> str:
    call = next(f["toolCall"] for f in reversed(peer.frames) if "toolCall" in f)
    return str(call["functionCalls"][0]["id"])


def test_a_blocking_call_waits_for_its_response() -> None:
    """toolCall, response, answer, one turnComplete; ids in the model's own form."""
    peer = ready(turns=CALL, setup=BOTH | {"tools": TOOLS})
    peer.say()
    assert kinds(peer.advance(30.0)) == ["toolCall"]
    call = peer.frames[-1]["toolCall"]["functionCalls"][0]
    assert call["id"].startswith("function-call-")
    assert call["args"] == {"on_off": True}
    peer.send(respond(call["id"]))
    frames = peer.advance(30.0)
    assert said(frames) == "Done."
    assert kinds(frames)[-3:] == ["generationComplete", "turnComplete", "sessionResumptionUpdate"]


def test_interruption_cancels_a_blocking_call() -> None:
    """ToolCallCancellation names the id; a late response is ignored."""
    peer = ready(turns=CALL, setup={"tools": TOOLS})
    peer.say()
    peer.advance(5.0)
    call_id = called(peer)
    frames = peer.start()
    assert frames[0] == {"toolCallCancellation": {"ids": [call_id]}}
    assert kinds(frames)[1:] == ["interrupted", "turnComplete"]
    peer.send(respond(call_id))
    assert peer.noted("unknown_tool_response") == [{"id": call_id}]
    assert peer.closes == []


def test_unknown_tool_responses_close_by_knob() -> None:
    """unknown_tool_response=close_1008."""
    peer = ready(unknown_tool_response="close_1008")
    peer.send(respond("nope"))
    assert peer.closes == [(1008, "Operation is not implemented, or supported, or enabled.")]


def test_a_response_without_id() -> None:
    """The Developer API refuses it; Vertex matches it by name."""
    peer = ready(turns=CALL, setup={"tools": TOOLS})
    peer.say()
    peer.advance(5.0)
    peer.send(respond(None))
    assert peer.closes[0][0] == 1007
    vertex = ready(
        Backend.VERTEX, "gemini-live-2.5-flash-native-audio", turns=CALL, setup={"tools": TOOLS}
    )
    vertex.say()
    vertex.advance(5.0)
    vertex.send(respond(None))
    assert "turnComplete" in kinds(vertex.advance(30.0))


def test_audio_during_a_blocking_call_closes_by_knob() -> None:
    """Some models close 1008 when audio arrives during a blocking call."""
    activity = {
        "automaticActivityDetection": {"disabled": True},
        "activityHandling": "NO_INTERRUPTION",
    }
    peer = ready(
        turns=CALL,
        setup={"tools": TOOLS, "realtimeInputConfig": activity},
        audio_during_tool_call="close_1008",
    )
    peer.say()
    peer.advance(5.0)
    peer.send(blob(voice(0.1)))
    assert peer.closes[0][0] == 1008


SLOW = [{"tool_call": {"name": "slow"}, "say": "Working on it.", "say_after": "All done."}]


@pytest.mark.parametrize(
    ("scheduling", "after"),
    [("WHEN_IDLE", "All done."), (None, "All done."), ("INTERRUPT", "All done."), ("SILENT", "")],
)
def test_a_non_blocking_call_and_its_scheduling(scheduling: str | None, after: str) -> None:
    """The answer goes on at once; the result is spoken about as its scheduling says."""
    peer = ready(turns=SLOW, setup=BOTH | {"tools": TOOLS})
    frames = peer.turn()
    assert said(frames) == "Working on it."
    more = {} if scheduling is None else {"scheduling": scheduling}
    peer.send(respond(called(peer), **more))
    assert said(peer.advance(30.0)) == after


def test_a_result_during_the_answer() -> None:
    """INTERRUPT breaks the answer off, WHEN_IDLE waits for its end."""
    for scheduling, interrupted in (("INTERRUPT", True), ("WHEN_IDLE", False)):
        peer = ready(turns=SLOW, setup=BOTH | {"tools": TOOLS}, pace=1.0)
        peer.say(2.0)
        peer.advance(1.0)
        peer.send(respond(called(peer), scheduling=scheduling))
        peer.advance(30.0)
        assert ("interrupted" in peer.kinds) is interrupted
        assert "All done." in said(peer.frames)


def test_will_continue_keeps_the_call_open() -> None:
    """A generator function answers more than once."""
    peer = ready(turns=SLOW, setup=BOTH | {"tools": TOOLS})
    peer.turn()
    call_id = called(peer)
    peer.send(respond(call_id, will_continue=True))
    peer.advance(10.0)
    peer.send(respond(call_id))
    peer.advance(10.0)
    assert peer.noted("unknown_tool_response") == []
    peer.send(respond(call_id))
    assert peer.noted("unknown_tool_response")


# -- the machine itself ----------------------------------------------------------------------


@pytest.mark.parametrize("here", list(Phase))
@pytest.mark.parametrize("there", list(Phase))
def test_illegal_moves_raise_and_change_nothing(here: Phase, there: Phase) -> None:
    """The phase changes only along the table."""
    peer = ready()
    engine = peer.core.engine
    assert isinstance(engine, TurnEngine)
    engine._phase = here
    if there in MOVES[here]:
        engine._move(there)
        assert engine.phase is there
    else:
        with pytest.raises(RuntimeError):
            engine._move(there)
        assert engine.phase is here


def test_agenda_keeps_order_and_cancels_by_group() -> None:
    """Due items run in time order, ties in the order added; groups vanish together."""
    agenda, ran = Agenda(), []
    agenda.at(2.0, "a", lambda at: ran.append(("late", at)))
    agenda.at(1.0, "b", lambda at: ran.append(("first", at)))
    agenda.at(1.0, "c", lambda at: ran.append(("second", at)))
    agenda.at(1.0, "x", lambda at: ran.append(("never", at)))
    assert (len(agenda), agenda.pending("x"), agenda.cancel("x", "y")) == (4, True, 1)
    assert (agenda.cancel("x"), agenda.pending("x"), agenda.deadline()) == (0, False, 1.0)
    agenda.run_due(5.0)
    assert ran == [("first", 1.0), ("second", 1.0), ("late", 2.0)]
    assert agenda.deadline() is None
