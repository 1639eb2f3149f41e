"""Who is waited for, as values: no store, no clock. The senders that are awaited never outlive their word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monsal.store.coming import PATIENCE, Coming, Rhythm

SOON, LATE = PATIENCE / 4, 2 * PATIENCE


def quick_sender(coming: Coming, now: float = 10.0) -> Rhythm:
    """One that has sent two mails without a pause; it was answered at `now`."""
    rhythm = Rhythm(coming)
    for at in (now - 3 * SOON, now - SOON):
        rhythm.began(at)
        rhythm.came(at + SOON / 2)
        rhythm.answered(at + SOON)
    return rhythm


def test_a_sender_that_nobody_knows_is_not_waited_for() -> None:
    coming = Coming()
    rhythm = Rhythm(coming)
    rhythm.began(10.0)
    assert not coming.is_awaited(10.0)
    rhythm.came(10.0)
    rhythm.answered(10.0)
    assert not coming.is_awaited(10.0)


def test_one_that_was_quick_is_waited_for_from_its_answer_until_its_next_mail_is_there() -> None:
    coming = Coming()
    rhythm = quick_sender(coming, 10.0)
    assert coming.is_awaited(10.0 + SOON)
    rhythm.began(10.0 + SOON)
    assert coming.is_awaited(10.0 + SOON)
    rhythm.came(10.0 + 2 * SOON)
    assert not coming.is_awaited(10.0 + 2 * SOON)


def test_a_lone_sender_is_never_waited_for_when_its_own_mail_is_there() -> None:
    coming = Coming()
    rhythm = Rhythm(coming)
    for number in range(50):
        now = 10.0 + number * SOON
        rhythm.began(now)
        rhythm.came(now + SOON / 4)
        assert not coming.is_awaited(now + SOON / 4)
        rhythm.answered(now + SOON / 2)


def test_one_that_pauses_between_its_mails_is_waited_for_only_within_a_mail() -> None:
    coming = Coming()
    rhythm = quick_sender(coming, 10.0)
    rhythm.began(11.0)
    assert coming.is_awaited(11.0)
    rhythm.came(11.0 + SOON)
    rhythm.answered(11.0 + SOON)
    assert not coming.is_awaited(11.0 + SOON)


def test_one_that_is_far_away_is_not_waited_for() -> None:
    coming = Coming()
    rhythm = Rhythm(coming)
    for number in range(5):
        now = 10.0 + number
        rhythm.began(now)
        assert not coming.is_awaited(now)
        rhythm.came(now + LATE)
        rhythm.answered(now + LATE)
        assert not coming.is_awaited(now + LATE)


@pytest.mark.rule("state.B11")
def test_one_that_breaks_its_word_costs_the_patience_once() -> None:
    coming = Coming()
    rhythm = quick_sender(coming, 10.0)
    assert coming.is_awaited(10.0 + 0.9 * PATIENCE)
    assert not coming.is_awaited(10.0 + 1.01 * PATIENCE)
    # It comes later; from then on it is like one that is far away.
    rhythm.began(11.0)
    rhythm.came(11.0 + LATE)
    for number in range(12, 20):
        rhythm.answered(number)
        assert not coming.is_awaited(number)
        rhythm.began(number + LATE)
        assert not coming.is_awaited(number + LATE)
        rhythm.came(number + 2 * LATE)


def test_one_that_leaves_is_forgotten() -> None:
    coming = Coming()
    rhythm = quick_sender(coming, 10.0)
    rhythm.left()
    rhythm.left()
    assert (coming.senders, coming.is_awaited(10.0)) == (0, False)


@pytest.mark.rule("state.B11")
def test_a_thousand_that_break_their_word_are_waited_for_no_longer_than_the_last_of_them() -> None:
    coming = Coming()
    senders = [quick_sender(coming, 10.0 + number * PATIENCE / 2000) for number in range(1000)]
    assert coming.senders == len(senders)
    assert coming.is_awaited(10.0)
    assert coming.is_awaited(10.0 + PATIENCE)
    assert not coming.is_awaited(10.0 + 1.5 * PATIENCE)
    assert coming.senders == 0


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4), st.sampled_from(["began", "came", "answered", "left", "asked"]), st.floats(0.0, 2 * LATE)
        ),
        max_size=200,
    )
)
def test_whatever_senders_do_nobody_is_awaited_longer_than_the_patience(
    steps: list[tuple[int, str, float]],
) -> None:
    coming = Coming()
    senders = [Rhythm(coming) for _ in range(5)]
    now = 100.0
    for sender, what, passed in steps:
        now += passed
        if what == "asked":
            coming.is_awaited(now)
        elif what == "left":
            senders[sender].left()
        else:
            getattr(senders[sender], what)(now)
        assert coming.senders <= len(senders)
    assert not coming.is_awaited(now + 1.01 * PATIENCE)
    assert coming.senders == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["began", "came", "answered"])), max_size=100))
def test_when_all_have_left_nobody_is_awaited(steps: list[tuple[int, str]]) -> None:
    coming = Coming()
    senders = [Rhythm(coming) for _ in range(5)]
    for number, (sender, what) in enumerate(steps):
        getattr(senders[sender], what)(10.0 + number * SOON / 10)
    for rhythm in senders:
        rhythm.left()
    assert coming.senders == 0
