"""Choosing a member of a group."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from monsal.actors import HashRing, Roster
from monsal.errors import NotRunning


def roster(*members: str, load: dict[str, float] | None = None) -> Roster:
    group = Roster("workers", lambda name: (load or {}).get(name, 0))
    for member in members:
        group.join(member)
    return group


def test_by_turns() -> None:
    group = roster("a", "b", "c")
    assert [group.choose("round_robin")[0] for _ in range(4)] == ["a", "b", "c", "a"]


def test_the_least_busy_and_by_turns_among_equals() -> None:
    load: dict[str, float] = {"a": 2, "b": 1, "c": 1}
    group = roster("a", "b", "c", load=load)
    assert {group.choose()[0] for _ in range(6)} == {"b", "c"}
    load["a"] = 0
    assert group.choose() == ("a",)


def test_all() -> None:
    assert roster("a", "b").choose("broadcast") == ("a", "b")


def test_nobody_is_an_error_that_says_so() -> None:
    group = roster("a")
    group.leave("a")
    group.leave("a")
    with pytest.raises(NotRunning, match="no member of workers"):
        group.choose()


@pytest.mark.parametrize(("route", "key"), [("hash", None), ("random", "k")])
def test_calls_that_cannot_be(route: Any, key: str | None) -> None:
    with pytest.raises(ValueError, match="route"):
        roster("a").choose(route, key=key)


KEYS = [f"conversation-{number}" for number in range(4000)]


def test_a_key_keeps_its_member_when_others_join_and_leave() -> None:
    group = roster("a", "b", "c")
    before = {key: group.choose("hash", key=key)[0] for key in KEYS}
    assert all(1000 < count < 1700 for count in Counter(before.values()).values()), Counter(before.values())
    group.join("d")
    joined = {key: group.choose("hash", key=key)[0] for key in KEYS}
    assert {joined[key] for key in KEYS if joined[key] != before[key]} == {"d"}, "only the new one takes keys"
    group.leave("d")
    assert {key: group.choose("hash", key=key)[0] for key in KEYS} == before
    group.leave("b")
    left = {key: group.choose("hash", key=key)[0] for key in KEYS}
    assert all(left[key] == before[key] for key in KEYS if before[key] != "b")
    group.join("b")
    group.join("b")
    assert {key: group.choose("hash", key=key)[0] for key in KEYS} == before, "whatever the order of joining"


def test_each_process_chooses_the_same() -> None:
    program = (
        "from monsal.actors import HashRing\n"
        "ring = HashRing()\n"
        "for name in 'cab': ring.join(name)\n"
        "print(''.join(ring.find(f'k{number}') for number in range(50)))"
    )
    ring = HashRing()
    for name in "abc":
        ring.join(name)
    ours = "".join(ring.find(f"k{number}") for number in range(50))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ours


def test_an_empty_ring_is_an_error() -> None:
    with pytest.raises(LookupError):
        HashRing().find("k")
