"""How fast mail may leave for one domain."""

from __future__ import annotations

import pytest

from monsal.conversation.pacing import MAX_DOMAINS, Pacer


def test_a_rate_holds_however_much_waits() -> None:
    # Given 500 mails for one domain, that may get 60 a minute
    pacer = Pacer(60)
    waiting = [(0.0, number) for number in range(500)]
    left: list[float] = []
    puts_off = 0
    # When each comes again when it was told to
    while waiting:
        waiting.sort()
        now, number = waiting.pop(0)
        again = pacer.admit(f"c{number}@X.example", now)
        if again:
            assert again > now
            puts_off += 1
            waiting.append((again, number))
        else:
            left.append(now)
    # Then no minute has more than the rate and the first few, and each was put off about once
    assert len(left) == 500
    for begin in left:
        assert sum(begin <= at < begin + 60.0 for at in left) <= 66
    assert left[-1] <= 520.0
    assert puts_off <= 520


def test_domains_do_not_wait_for_each_other() -> None:
    pacer = Pacer(1)
    assert pacer.admit("a@x", 0.0) == 0.0
    assert pacer.admit("b@X", 0.0) == 60.0
    assert pacer.admit("a@y", 0.0) == 0.0
    assert pacer.admit("b@x", 60.0) == 0.0


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    pacer = Pacer(60)
    for _ in range(100):
        pacer.admit("a@x", 1_000_000.0)
    assert pacer.admit("a@x", 0.0) <= 2.0


def test_what_is_remembered_is_bounded() -> None:
    pacer = Pacer(1)
    for number in range(MAX_DOMAINS + 100):
        assert pacer.admit(f"a@{number}", float(number)) == 0.0
    assert len(pacer._buckets) <= MAX_DOMAINS
    with pytest.raises(ValueError, match="above 0"):
        Pacer(0)
