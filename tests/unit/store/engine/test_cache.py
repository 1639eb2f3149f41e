"""Known states: bounded, and the newest value wins."""

from __future__ import annotations

from monsal.store.contract import StateKey, StateValue
from monsal.store.engine.cache import StateCache


def key(number: int) -> StateKey:
    return StateKey("m", str(number))


def test_it_is_bounded_and_keeps_the_newest() -> None:
    cache = StateCache(10)
    for number in range(100):
        cache.put(key(number), StateValue("S", number + 1))
    assert len(cache) <= 10
    assert cache.get(key(99)) == StateValue("S", 100)
    assert cache.get(key(0)) is None


def test_a_newer_value_hides_the_older_one() -> None:
    cache = StateCache(4)
    cache.put(key(1), StateValue("OLD", 1))
    cache.put(key(2), StateValue("X", 2))
    cache.put(key(3), StateValue("X", 3))
    cache.put(key(1), StateValue("NEW", 4))
    assert cache.get(key(1)) == StateValue("NEW", 4)
    cache.drop(key(1))
    assert cache.get(key(1)) is None
    cache.clear()
    assert len(cache) == 0
