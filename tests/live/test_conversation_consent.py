"""What destroys needs a person: who can give the yes, and everything that is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agentd import events as e
from agentd.live import commands as c
from agentd.live.callrates import Limits
from agentd.live.machine import State
from agentd.live.messages import FunctionCall, Interaction, ToolResponse
from agentd.live.tool_rules import Rules
from tests.live.scenes import sent, told_as_conversation
from tests.live.test_conversation_properties import ACTIONS, act
from tests.live.witness import FORGET, GUARDED, RULES, Witness, ask
from tests.live.world import World, settings

CONFIGS: list[dict[str, Any]] = [
    {},
    {"backend": "vertex", "project": "p"},
    {"backend": "vertex", "project": "p", "transparent_resumption": False},
    {"activity_detection": "server"},
    {"model": "gemini-2.5-flash-native-audio-preview-12-2025"},
]
EVERYWHERE = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: ",".join(config) or "-")


def call(world: World, name: str = FORGET, **args: Any) -> World:
    """Have the model call; every call has an id of its own."""
    world.receive(calls=(FunctionCall(f"c{len(world.events)}-{world.now}", name, args),))
    return world


def run(world: World) -> list[str]:
    """What is at work."""
    return [tool.name for tool in world.tools.values()]


def wanted(config: dict[str, Any] | None = None, *, slow: bool = False) -> World:
    """Somebody, or something, has asked the model to forget, and it has called."""
    world = World(settings(**(config or {})), rules=RULES, slow=slow).online()
    world.handle_update()
    world.speak()
    return call(world)


def asked(config: dict[str, Any] | None = None, *, slow: bool = False) -> World:
    """The model has asked whether it should, and the question was heard."""
    world = wanted(config, slow=slow)
    world.reply(1000)
    return world.advance(0.5)


def answer_of(world: World) -> Mapping[str, Any]:
    """What the model was told last."""
    return sent(world, ToolResponse)[-1].response  # type: ignore[no-any-return]


# ── the way it goes ──


@EVERYWHERE
@pytest.mark.parametrize("slow", [False, True])
def test_the_first_call_runs_nothing_and_says_what_to_do(
    config: dict[str, Any], slow: bool
) -> None:
    """It is answered, with the question and what comes after it."""
    world = wanted(config, slow=slow)
    assert not run(world)
    text = answer_of(world)["needs_confirmation"]
    assert "whether they want to forget_conversation it" in text
    assert "call forget_conversation again" in text
    assert "button" not in text, "there is none"
    assert [(told.tool, told.turn) for told in world.told(e.ConfirmationNeeded)] == [(FORGET, 1)]
    assert world.conversation.status(world.now, world.wall).confirming == FORGET


@EVERYWHERE
@pytest.mark.parametrize("slow", [False, True])
def test_an_answer_after_the_question_confirms(config: dict[str, Any], slow: bool) -> None:
    """The user says yes, the model calls again, it is done: once."""
    world = asked(config, slow=slow)
    assert world.told(e.ConfirmationAsked)[0].within_s == 30.0
    world.speak()
    call(world)
    assert run(world) == [FORGET]
    assert [told.by for told in world.told(e.Confirmed)] == ["voice"]
    assert not world.conversation.status(world.now, world.wall).confirming
    world.tools.clear()
    call(world)
    assert not run(world), "one yes is for one call"
    assert len(world.told(e.ConfirmationNeeded)) == 2


def test_what_was_asked_for_is_run_by_the_button() -> None:
    """Without another call; the model hears of it, and says so."""
    world = wanted()
    call(world, "other")  # the first one's answer
    world.give(c.ToolDone(next(iter(world.tools)), "answered", {}))
    world.tools.clear()
    world.reply(1000)
    world.give(c.Confirm())
    ((key, tool),) = world.tools.items()
    assert (tool.name, tool.args) == (FORGET, {})
    assert [told.by for told in world.told(e.Confirmed)] == ["button"]
    world.give(c.ToolDone(key, "answered", {"forgotten": "all"}))
    assert "forgotten" in told_as_conversation(world)[0].turns[0].text
    assert world.told(e.ToolCalled)[-1].outcome == "answered"
    world.tools.clear()
    world.give(c.Confirm())
    assert not run(world), "a second press finds nothing"


def forgetting(world: World) -> int:
    """The yes has come and the function is at work, as the session runs it; return its key."""
    ((key, _tool),) = world.tools.items()
    world.give(c.Forget(asked_by=key))
    assert run(world) == [FORGET], "it does not end itself"
    return key


@EVERYWHERE
@pytest.mark.parametrize("by", ["voice", "button"])
@pytest.mark.parametrize("reply", [{"forgotten": "all"}, {"error": "the card is read-only"}])
@pytest.mark.parametrize("late", [False, True])
def test_the_household_hears_what_became_of_forgetting(
    config: dict[str, Any], by: str, reply: dict[str, Any], late: bool
) -> None:
    """It ends the conversation that asked for it; the one after is told, once, and answers."""
    world = asked(config)
    if by == "voice":
        world.speak()
        call(world)
    else:
        world.give(c.Confirm())
    key = forgetting(world)
    if late:
        world.reconnect()
    world.give(c.ToolDone(key, "answered", reply))
    world.tools.clear()
    if not late:
        world.reconnect()
    (told,) = told_as_conversation(world)
    assert next(iter(reply.values())) in told.turns[0].text
    assert world.wires[-1].received.count(told) == 1, "not on the connection that is given up"
    assert world.told(e.ToolCalled)[-1].outcome == "answered"
    world.reply(500)
    assert not world.told(e.TurnFailed)
    world.end()
    world.reconnect()
    assert len(told_as_conversation(world)) == 1


def test_forgetting_asked_for_elsewhere_stops_the_function_that_does_it() -> None:
    """`agentd forget` in the middle of it says what became of it itself."""
    world = asked()
    world.speak()
    call(world)
    forgetting(world)
    world.give(c.Forget())
    assert not run(world)


def test_a_typed_yes_confirms() -> None:
    """Whoever may type may forget without the model, too."""
    world = wanted()
    world.receive(turn_complete=True)
    world.give_say("yes")
    world.advance(1.0)
    call(world)
    assert run(world) == [FORGET]
    assert [told.by for told in world.told(e.Confirmed)] == ["control"]


def test_a_yes_over_the_last_syllable_counts() -> None:
    """People answer a little before the question is over."""
    world = wanted()
    world.receive(audio=(bytes(48_000),), model_turn=True)
    world.receive(generation_complete=True)
    world.give(e.PlaybackMark(world.last_reply, 950.0, drained=False))
    world.speak()
    call(world)
    assert run(world) == [FORGET]


@EVERYWHERE
def test_the_question_outlives_its_connection(config: dict[str, Any]) -> None:
    """The answer is given on another one."""
    world = asked(config)
    world.end().reconnect()
    world.speak()
    call(world)
    assert run(world) == [FORGET]


@EVERYWHERE
def test_an_answer_that_waits_for_a_connection_counts(config: dict[str, Any]) -> None:
    """It was given after the question, and arrives later."""
    world = asked(config)
    world.end()
    world.speak()
    world.reconnect()
    call(world)
    assert run(world) == [FORGET]


def test_an_answer_that_is_asked_again_counts_under_its_new_number() -> None:
    """The reply to it broke off, and it is repeated."""
    world = asked()
    world.speak()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.end().reconnect()
    call(world)
    assert run(world) == [FORGET]
    assert world.told(e.ToolStarted)[0].turn == 3


def test_the_result_of_a_confirmed_call_serves_a_repeated_question() -> None:
    """The connection breaks after the yes: it does not run twice, nor is it asked for again."""
    world = asked()
    world.speak()
    call(world)
    world.end().reconnect()
    call(world)
    assert run(world) == [FORGET]
    assert len(world.told(e.ConfirmationNeeded)) == 1


# ── what is no yes ──


def _speaks_too_early(world: World) -> None:
    world.receive(audio=(bytes(48_000),), model_turn=True)
    world.receive(generation_complete=True)
    world.give(e.PlaybackMark(world.last_reply, 300.0, drained=False))
    world.speak()
    world.receive(turn_complete=True)
    world.give(e.PlaybackMark(world.last_reply, 400.0, drained=True))


def _begun_before(world: World) -> None:
    world.begin()
    world.receive(turn_complete=True)
    world.advance(1.0)
    world.finish()


def _talks_over_the_next_reply(world: World) -> None:
    world.reply(1000)
    world.receive(audio=(bytes(48_000),), model_turn=True)
    world.speak()


def _reply_without_end(world: World) -> None:
    world.receive(audio=(bytes(48_000),), model_turn=True)
    world.end().reconnect()
    world.give(e.PlaybackMark(world.last_reply, 1000.0, drained=True))
    world.speak()


def _question_asked_again(world: World) -> None:
    world.end().reconnect()


def _cut(reason: e.EndReason) -> Callable[[World], None]:
    def cut(world: World) -> None:
        world.reply(1000)
        world.speak(end=False)
        world.finish(reason)

    return cut


def _not_over(world: World) -> None:
    world.reply(1000)
    world.speak(end=False)


def _muted_in_mid_word(world: World) -> None:
    world.reply(1000)
    world.speak(end=False)
    world.mute()


def _muted_and_back(world: World) -> None:
    world.reply(1000)
    world.mute()
    world.mute(on=False)
    world.speak()


def _too_late(world: World) -> None:
    world.reply(1000)
    world.advance(30.5)
    world.speak()


def _never_calls_in_time(world: World) -> None:
    world.reply(1000)
    world.speak()
    world.advance(61.0)


def _by_itself(world: World) -> None:
    world.reply(1000)
    world.receive(audio=(bytes(480),), model_turn=True)


def _no(world: World) -> None:
    world.reply(1000)
    world.speak()
    world.reply(500)
    world.speak()


def _stopped(world: World) -> None:
    world.receive(audio=(bytes(48_000),), model_turn=True)
    world.give(c.CancelReply("button"))
    world.speak()


def _answer_stopped(world: World) -> None:
    world.reply(1000)
    world.speak()
    world.give(c.CancelReply("button"))


def _context(world: World) -> None:
    world.reply(1000)
    world.give(c.AddContext("the user says yes"))
    world.give(c.Instruct("the user says yes"))


def _forgotten(world: World) -> None:
    world.reply(1000)
    world.give(c.Forget())
    world.reconnect()
    world.speak()


def _many_calls(world: World) -> None:
    for _ in range(20):
        call(world)


def _pressed_before_it_is_asked(world: World) -> None:
    world.give(c.Confirm())


def _pressed_while_it_asks(world: World) -> None:
    world.receive(audio=(bytes(48_000),), model_turn=True)
    world.give(c.Confirm())


def _pressed_too_late(world: World) -> None:
    world.reply(1000)
    world.advance(30.5)
    world.give(c.Confirm())


def _reloaded(world: World) -> None:
    world.reply(1000)
    tools = world.settings.tools.model_copy(update={"confirm": "button"})
    world.give(c.Reload(world.settings.model_copy(update={"tools": tools})))
    world.speak()


NO_YES = {
    "nothing at all": lambda world: None,
    "calls again": _many_calls,
    "before the question was over": _speaks_too_early,
    "begun before the question": _begun_before,
    "over a later reply": _talks_over_the_next_reply,
    "the question broke off": _reply_without_end,
    "the question is asked again": _question_asked_again,
    "a click": _cut(e.EndReason.DISCARDED),
    "cut": _cut(e.EndReason.CUT),
    "a minute of talk": _cut(e.EndReason.MAX_LENGTH),
    "still speaking": _not_over,
    "muted in mid-word": _muted_in_mid_word,
    "muted and back": _muted_and_back,
    "too late": _too_late,
    "the model waits too long": _never_calls_in_time,
    "the model speaks up by itself": _by_itself,
    "no, and something else": _no,
    "the question was stopped": _stopped,
    "the answer was stopped": _answer_stopped,
    "context and instruction": _context,
    "forgotten meanwhile": _forgotten,
    "pressed before it is asked": _pressed_before_it_is_asked,
    "pressed while it asks": _pressed_while_it_asks,
    "pressed too late": _pressed_too_late,
    "another way of confirming": _reloaded,
}


@EVERYWHERE
@pytest.mark.parametrize("happens", NO_YES.values(), ids=NO_YES)
def test_what_is_no_yes(happens: Callable[[World], None], config: dict[str, Any]) -> None:
    """Nothing is run, and the model is told so."""
    world = wanted(config)
    happens(world)
    if world.state is not State.LIVE:
        world.reconnect()
    call(world)
    assert not run(world)
    assert not world.told(e.Confirmed)


def test_the_end_of_a_telling_is_no_answer() -> None:
    """A function's late result asks a turn of its own, which nobody has spoken."""
    world = asked({"tools__timeout_s": 60.0})
    world.speak()
    call(world, "slow")
    world.end()
    world.advance(25.0)  # the question is too old to be asked again
    world.reconnect()
    world.give(c.ToolDone(next(iter(world.tools)), "answered", {}))
    world.tools.clear()
    assert told_as_conversation(world)
    call(world)
    assert not run(world)


def test_other_arguments_need_their_own_yes() -> None:
    """A yes is to what was asked; unknown arguments change nothing of it."""
    world = asked()
    world.speak()
    call(world, "cancel_all", kind="timer")
    assert not run(world)
    assert [told.cause for told in world.told(e.ConfirmationLapsed)] == ["replaced"]
    world.reply(1000)
    world.speak()
    call(world, "cancel_all", kind="alarm")
    assert not run(world)
    world.reply(1000)
    world.speak()
    call(world, "cancel_all", kind="alarm", confirmed=True)
    assert run(world) == ["cancel_all"]


def test_one_question_at_a_time() -> None:
    """Two at once: the first is asked for, the second is told to wait."""
    world = wanted()
    call(world, "cancel_all")
    assert "one thing at a time" in answer_of(world)["error"]
    world.reply(1000)
    world.speak()
    call(world)
    assert run(world) == [FORGET]


def test_an_early_answer_is_asked_for_once_more() -> None:
    """And then counts."""
    world = wanted()
    _speaks_too_early(world)
    call(world)
    assert "has not answered" in answer_of(world)["needs_confirmation"]
    world.reply(1000)
    world.speak()
    call(world)
    assert run(world) == [FORGET]


def test_a_question_cannot_be_kept_open_for_ever() -> None:
    """However often the model speaks: two minutes after the call no answer counts any more."""
    world = wanted()
    for _ in range(7):
        world.reply(1000)
        world.advance(20.0)
    assert [told.cause for told in world.told(e.ConfirmationLapsed)] == ["timeout"]
    world.speak()
    call(world)
    assert not run(world)


# ── ways of confirming ──


def test_where_only_the_button_confirms_no_words_do() -> None:
    """Neither spoken nor typed; the button does, also after they were said."""
    world = asked({"tools__confirm": "button"})
    world.speak()
    call(world)
    world.reply(500)
    world.give_say("yes")
    call(world)
    assert not run(world)
    assert "only the button" in answer_of(world)["needs_confirmation"]
    world.reply(500)
    world.give(c.Confirm())
    assert run(world) == [FORGET]


@pytest.mark.parametrize("confirm", ["voice", "button"])
@pytest.mark.parametrize(
    ("mode", "press"), [("tap", "press the button on"), ("push-to-talk", "press the button twice")]
)
def test_the_model_is_told_how_the_button_says_yes(confirm: str, mode: str, press: str) -> None:
    """Once, or twice where a press alone is how one speaks; also after a reload."""
    gpio = {"gpio__button": 5, "gpio__button_mode": mode}
    world = wanted({"tools__confirm": confirm, **gpio})
    assert press in answer_of(world)["needs_confirmation"]
    world = World(settings(), rules=RULES).online()
    world.give(c.Reload(settings(tools__confirm=confirm, **gpio)))
    world.speak()
    call(world)
    assert press in answer_of(world)["needs_confirmation"]


def test_a_call_without_an_id_is_asked_for_as_conversation() -> None:
    """On the Developer API it cannot be answered; the question goes out all the same."""
    world = World(settings(), rules=RULES).online()
    world.speak()
    world.receive(calls=(FunctionCall("", FORGET, {}),))
    assert "needs_confirmation" in told_as_conversation(world)[0].turns[0].text
    world.advance(1.0)
    world.receive(calls=(FunctionCall("", FORGET, {}),))
    assert not run(world)
    world.reply(1000)
    world.speak()
    world.receive(calls=(FunctionCall("", FORGET, {}),))
    assert run(world) == [FORGET]


def test_without_confirmation_it_is_run_at_once() -> None:
    """As set by the owner."""
    assert run(wanted({"tools__confirm": "off"})) == [FORGET]


# ── how often ──


def test_calls_are_bounded_in_number() -> None:
    """By function and in all; the model gets an error that says for how long."""
    limits = Limits(lambda name: 3 if name == "lamp" else None, other=2, total=4)
    world = World(rules=Rules(limits, ask)).online()
    world.speak()
    for number in range(5):
        call(world, "lamp", n=number)
    assert run(world) == ["lamp"] * 3
    assert "3 times a minute" in answer_of(world)["error"]
    for number in range(3):
        call(world, f"made-up-{number}")
    assert len(run(world)) == 4
    assert "functions may be called 4 times a minute" in answer_of(world)["error"]
    told = [(told.tool, told.per_minute) for told in world.told(e.ToolLimited)]
    assert told == [("lamp", 3), ("other", 4)]


# ── whatever happens ──

SERVICE = st.one_of(
    st.tuples(st.just("guarded"), st.sampled_from(GUARDED), st.sampled_from(["", "c1", "c2"])),
    st.tuples(st.just("reply"), st.sampled_from([0, 100, 1500])),
    st.tuples(st.just("audio"), st.integers(1, 3000)),
    st.tuples(st.just("generation_complete")),
    st.tuples(
        st.just("turn_complete"),
        st.sampled_from(list(Interaction)),
        st.sampled_from(["", "NEED_MORE_INPUT"]),
    ),
    st.tuples(st.just("interrupted")),
    st.tuples(st.just("mark"), st.integers(0, 3000), st.booleans()),
    st.tuples(st.just("texts")),
    st.tuples(st.just("connect")),
    st.tuples(st.just("break"), st.just(None)),
    st.tuples(st.just("handle"), st.integers(0, 12)),
    st.tuples(st.just("go_away"), st.sampled_from([0.0, 10.0])),
    st.tuples(st.just("tool_done")),
    st.tuples(st.just("cancel_calls")),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 0.3, 1.0, 5.0, 16.0, 30.0, 70.0])),
)
PERSON = st.one_of(
    st.tuples(st.just("speak"), st.integers(0, 12), st.sampled_from(list(e.EndReason))),
    st.tuples(st.just("speak"), st.integers(0, 12), st.just(e.EndReason.HANGOVER)),
    st.tuples(st.just("begin")),
    st.tuples(st.just("finish"), st.sampled_from(list(e.EndReason))),
    st.tuples(st.just("say")),
    st.tuples(st.just("press")),
    st.tuples(st.just("mute"), st.booleans()),
    st.tuples(st.just("cancel_reply")),
)


def do(world: World, action: tuple[Any, ...]) -> None:
    """Let one thing happen."""
    match action:
        case ("guarded", name, call_id):
            world.receive(calls=(FunctionCall(call_id, name, {"confirmed": True}),))
        case ("press",):
            world.give(c.Confirm())
        case ("break", None):
            wire = world.open_wire
            if wire is not None and not wire.closing:
                world.end()
        case _:
            act(world, action)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: ",".join(config) or "-")
@given(actions=st.lists(SERVICE, max_size=40))
@hypothesis_settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_the_service_alone_confirms_nothing(
    config: dict[str, Any], actions: list[tuple[Any, ...]]
) -> None:
    """No order of calls, replies, broken connections and time does what a person must decide."""
    world = Witness(**config)
    world.online()
    world.speak()
    do(world, ("guarded", FORGET, "c1"))
    for action in actions:
        do(world, action)
    assert world.ran == 0


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: ",".join(config) or "-")
@given(actions=st.lists(st.one_of(SERVICE, PERSON, ACTIONS), max_size=50))
@hypothesis_settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_each_time_a_person_has_spoken_typed_or_pressed_since(
    config: dict[str, Any], actions: list[tuple[Any, ...]]
) -> None:
    """Whatever else happens, in any order."""
    world = Witness(**config)
    world.online()
    for action in actions:
        do(world, action)


def test_the_witness_sees_a_yes() -> None:
    """The properties above are not true because nothing ever happens."""
    world = Witness()
    world.online()
    for action in (
        ("speak", 5, e.EndReason.HANGOVER),
        ("guarded", FORGET, "c1"),
        ("reply", 1500),
        ("speak", 5, e.EndReason.HANGOVER),
        ("guarded", FORGET, "c2"),
    ):
        do(world, action)
    assert world.ran == 1
