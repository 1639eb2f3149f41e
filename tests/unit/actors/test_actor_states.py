"""The states of an actor: numbers and words of the original, and one table of what may follow what."""

from __future__ import annotations

import itertools

import pytest

from monsal.actors import ACTOR_WAYS, ActorState, StateError, check_move

pytestmark = pytest.mark.rule("mailbox.R21")


def test_numbers_and_words_are_those_of_the_original() -> None:
    assert [(state.name, int(state), state.text) for state in ActorState] == [
        ("INITIAL", 0, "initial"),
        ("INACTIVE", 1, "inactive"),
        ("STARTING", 2, "starting"),
        ("RUN", 3, "running"),
        ("STOPPING", 4, "stopping"),
        ("CLOSE", 5, "closed"),
        ("TERMINATE", 6, "terminated"),
    ]
    assert str(ActorState.RUN) == f"{ActorState.RUN}" == "running"


def test_an_ordinary_life_and_one_that_leaves_children_behind() -> None:
    life = [ActorState.INITIAL, ActorState.STARTING, ActorState.RUN, ActorState.STOPPING, ActorState.CLOSE]
    for state, after in itertools.pairwise(life):
        assert check_move(state, after) is after
    assert check_move(ActorState.STOPPING, ActorState.TERMINATE) is ActorState.TERMINATE


def test_a_spare_is_inactive_until_it_is_made_active() -> None:
    assert check_move(ActorState.INITIAL, ActorState.INACTIVE) is ActorState.INACTIVE
    assert check_move(ActorState.INACTIVE, ActorState.STARTING) is ActorState.STARTING


@pytest.mark.parametrize(("state", "target"), list(itertools.product(ActorState, ActorState)))
def test_time_goes_one_way(state: ActorState, target: ActorState) -> None:
    if target in ACTOR_WAYS[state]:
        assert target > state
        assert not state.has_ended
    else:
        with pytest.raises(StateError, match=f"is {state.text} cannot become {target.text}"):
            check_move(state, target)


def test_each_state_that_lives_can_end_suddenly_and_each_is_reached() -> None:
    assert all(ActorState.TERMINATE in ACTOR_WAYS[state] for state in ActorState if not state.has_ended)
    assert {after for found in ACTOR_WAYS.values() for after in found} == {*ActorState} - {ActorState.INITIAL}


def test_predicates() -> None:
    assert [state for state in ActorState if state.is_running] == [ActorState.RUN]
    assert [state for state in ActorState if state.has_started] == list(ActorState)[3:]
    assert [state for state in ActorState if state.is_after_run] == list(ActorState)[4:]
    assert [state for state in ActorState if state.has_ended] == [ActorState.CLOSE, ActorState.TERMINATE]
