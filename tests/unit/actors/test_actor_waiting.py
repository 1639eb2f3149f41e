"""Circles of actors that wait for one another are found when they close."""

from __future__ import annotations

import pytest

from monsal.actors import Hop, Probe, WaitingCircle, Waits, extend, find_circle
from monsal.errors import RemoteError

pytestmark = pytest.mark.rule("mailbox.B3")

A, B, C = (Hop(name) for name in "abc")


def test_the_chain_grows_with_each_call() -> None:
    chain = extend((), A, B)
    assert chain == (A,)
    assert extend(chain, B, C) == (A, B)


def test_a_call_that_would_wait_for_itself_is_not_made() -> None:
    with pytest.raises(WaitingCircle, match="a -> b -> c -> a") as caught:
        extend((A, B), C, A)
    assert caught.value.circle == (A, B, C, A)
    assert isinstance(caught.value, RemoteError)
    with pytest.raises(WaitingCircle, match=r"a\[k\] -> a\[k\]"):
        extend((), Hop("a", "k"), Hop("a", "k"))


def test_only_the_circle_is_told_not_what_leads_to_it() -> None:
    assert find_circle((A, B, C), B) == (B, C, B)
    assert find_circle((A, B), C) is None


def test_turns_of_another_key_are_no_circle() -> None:
    assert extend((Hop("a", "k1"),), B, Hop("a", "k2")) == (Hop("a", "k1"), B)


def test_two_that_ask_each_other_at_the_same_time() -> None:
    """No message goes round: each of them waits in the mailbox of the other, whose turn waits."""
    a, b = Waits("a"), Waits("b")
    a.ask("", 1, B)
    b.ask("", 1, A)
    probes = a.held_up((B,), "")
    assert probes == [Probe((B, A), B)]
    with pytest.raises(WaitingCircle, match="b -> a -> b"):
        b.passed(probes[0])


def test_a_question_ends_with_the_first_who_does_not_wait() -> None:
    a, b = Waits("a"), Waits("b")
    a.ask("", 1, B)
    (probe,) = a.held_up((C,), "")
    assert b.passed(probe) == []
    a.answered("", 1)
    assert a.waits_for("") == ()
    assert a.held_up((C,), "") == []


def test_a_turn_that_waits_for_several_asks_each() -> None:
    a = Waits("a")
    a.ask("k", 1, B)
    a.ask("k", 2, C)
    assert a.waits_for("k") == (B, C)
    assert [probe.target for probe in a.held_up((), "k")] == [B, C]
    assert a.held_up((), "another") == []
    a.answered("k", 1)
    a.answered("k", 1)
    assert a.waits_for("k") == (C,)


def test_a_message_that_comes_back_to_the_turn_that_sent_it() -> None:
    a = Waits("a")
    a.ask("", 1, B)
    with pytest.raises(WaitingCircle, match="a -> b -> a"):
        a.held_up((A, B), "")
