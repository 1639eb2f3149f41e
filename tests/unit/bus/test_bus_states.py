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
def test_between_the_states_there_are_the_ways_of_the_contract_and_no_others() -> None:
    ways = {(before.state, after.state) for before in Phase for after in WAYS[before]}
    assert {(before.name, after.name) for before, after in ways if before is not after} == {
        ("STOPPED", "STARTING"),
        ("STARTING", "STARTED"),
        ("STARTING", "STOPPING"),
        ("STARTED", "STOPPING"),
        ("STOPPING", "STOPPED"),
        ("STOPPED", "EXITING"),
        # An exit of a bus that never started stops it, and one whose stop failed goes on.
        ("STOPPED", "STOPPING"),
        ("STOPPING", "EXITING"),
    }


@pytest.mark.rule("bus.B1")
def test_each_way_is_taken_by_a_wish_or_by_the_end_of_a_step() -> None:
    """What the table of ways allows beyond the table of wishes are the ends of steps and the phases within them."""
    wished = {(phase, way) for phase, wishes in ASKED.items() for way in wishes.values() if isinstance(way, Phase)}
    assert {(before, after) for before in Phase for after in WAYS[before]} - wished == {
        (Phase.STARTING, Phase.STARTED),
        (Phase.STARTING, Phase.INTERRUPTED),
        (Phase.STARTED, Phase.RELOADING),
        (Phase.RELOADING, Phase.STARTED),
        (Phase.STOPPING, Phase.DRAINING),
        (Phase.STOPPING, Phase.STOPPED),
        (Phase.STOPPING, Phase.FAILED),
        (Phase.DRAINING, Phase.STOPPING),
        (Phase.DRAINING, Phase.FAILED),
        (Phase.EXITING, Phase.EXITED),
    }


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
