"""Which place a relay connects to next."""

from __future__ import annotations

from monsal.delivery.places import Places
from monsal.delivery.route import Target
from monsal.smtp.endpoint import parse_endpoint

A, B, C = (Target(parse_endpoint(f"smtp://{name}.example:25")) for name in "abc")


def test_one_that_failed_comes_last_for_a_while_and_the_one_that_failed_first_before_the_others() -> None:
    places = Places(60.0)
    places.set([A, B, C])
    assert places.in_turn(0.0) == [A, B, C]
    places.shun(B, 0.0)
    places.shun(A, 1.0)
    assert places.in_turn(2.0) == [C, B, A]
    assert places.in_turn(60.5) == [B, C, A]
    assert places.in_turn(61.0) == [A, B, C]


def test_the_only_place_is_never_shunned() -> None:
    places = Places(60.0)
    places.set([A])
    places.shun(A, 0.0)
    places.set([A, B])
    assert places.in_turn(1.0) == [A, B]


def test_whether_another_may_be_asked() -> None:
    places = Places(60.0)
    places.set([A])
    assert not places.has_another(0.0)
    places.set([A, B])
    assert places.has_another(0.0)
    assert places.has_another(0.0, beside={A})
    assert not places.has_another(0.0, beside={A, B})
    places.shun(B, 0.0)
    assert not places.has_another(1.0, beside={A})
    assert places.has_another(60.0, beside={A})
