"""The table of states is complete, and every way in it leads to the end."""

from __future__ import annotations

import pytest

from monsal.bus import ASKED, WAYS, Bus, Phase, State, states


def test_the_five_states_are_distinct_and_say_their_names() -> None:
    assert [state.name for state in states] == ["STOPPED", "STARTING", "STARTED", "STOPPING", "EXITING"]
    assert str(states.STARTED) == repr(states.STARTED) == f"{states.STARTED}" == "states.STARTED"
    assert Bus.states is states
    assert Bus.state is states.STOPPED
    assert Bus.execv is False


@pytest.mark.rule("bus.B1")
def test_each_phase_has_a_state_its_ways_and_an_answer_to_each_wish() -> None:
    assert set(WAYS) == set(ASKED) == set(Phase)
    for phase, wishes in ASKED.items():
        assert phase.state in State
        assert set(wishes) == {"start", "stop", "exit"}
        for way in wishes.values():
            # An exit in the middle of a stop begins when that has ended.
            via = WAYS[phase] | {after for step in WAYS[phase] for after in WAYS[step]}
            assert way in ("nothing", "refused") or way in via


@pytest.mark.rule("bus.B1")
def test_the_end_can_be_reached_from_everywhere_and_nothing_follows_it() -> None:
    assert not WAYS[Phase.EXITED]
    reached = {Phase.EXITED}
    while more := {phase for phase, ways in WAYS.items() if ways & reached} - reached:
        reached |= more
    assert reached == set(Phase)


@pytest.mark.rule("bus.B1")
def test_start_is_refused_while_the_bus_stops_or_exits() -> None:
    assert {phase for phase in Phase if ASKED[phase]["start"] == "refused"} >= {
        phase for phase in Phase if phase.state in (State.STOPPING, State.EXITING)
    }
