"""The state table."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.events import SessionMoved
from agentd.live.commands import Emit
from agentd.live.machine import HOLDING, TRANSITIONS, Action, IllegalMove, Machine, Move, State
from agentd.live.outputs import Outputs


def machine_in(state: State) -> Machine:
    """Walk to a state by the shortest way."""
    ways: dict[State, list[Move]] = {State.OFF: []}
    queue = [State.OFF]
    while queue:
        here = queue.pop(0)
        for (before, move), (after, _) in TRANSITIONS.items():
            if before is here and after not in ways:
                ways[after] = [*ways[here], move]
                queue.append(after)
    machine = Machine(Outputs())
    for move in ways[state]:
        machine.move(move)
    return machine


@pytest.mark.parametrize("state", State)
def test_every_state_is_reached(state: State) -> None:
    """No row of the table is dead."""
    assert machine_in(state).state is state


@pytest.mark.parametrize(("state", "move"), list(itertools.product(State, Move)))
def test_illegal_moves_raise_and_change_nothing(state: State, move: Move) -> None:
    """What the table does not know does not happen."""
    machine = machine_in(state)
    if (state, move) in TRANSITIONS:
        assert machine.can(move)
        machine.move(move)
        assert machine.state is TRANSITIONS[state, move][0]
    else:
        assert not machine.can(move)
        with pytest.raises(IllegalMove, match=move.value):
            machine.move(move)
        assert machine.state is state


@pytest.mark.parametrize("state", [state for state in State if state is not State.STOPPED])
def test_stop_leads_from_everywhere_to_the_end(state: State) -> None:
    """At once without a connection, after its end with one."""
    machine = machine_in(state)
    if state is not State.STOPPING:
        machine.move(Move.STOP)
    if state in HOLDING:
        assert machine.state is State.STOPPING
        assert machine.move(Move.LOST) is Action.FINISH
    assert machine.state.value == "stopped"


def test_the_end_is_the_end() -> None:
    """Nothing leads out of STOPPED."""
    assert not [move for move in Move if (State.STOPPED, move) in TRANSITIONS]


@given(st.lists(st.sampled_from(Move)))
def test_changes_are_told_once(moves: list[Move]) -> None:
    """The one setter tells every change, after it, and nothing else."""
    out = Outputs()
    machine = Machine(out)
    for move in moves:
        before = machine.state
        if not machine.can(move):
            continue
        machine.move(move)
        if before is not machine.state:
            moved = SessionMoved(before=before.value, move=move.value, after=machine.state.value)
            assert out.take() == [Emit(moved)]
        assert not out.take()
