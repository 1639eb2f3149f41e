"""How often a process that serves looks for circles; `memory_of` is of real processes (tests/process)."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from monsal.memory import collect_seldom


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before, enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.set_threshold(*before)
    (gc.enable if enabled else gc.disable)()


@pytest.mark.parametrize("default", [(700, 10, 10), (2000, 10, 10)])
def test_what_python_begins_with_is_too_often(default: tuple[int, int, int]) -> None:
    gc.enable()
    gc.set_threshold(*default)
    collect_seldom()
    assert gc.get_threshold() == (10_000, 20, 50)


def test_what_the_application_says_stays() -> None:
    gc.set_threshold(50_000, 5, 5)
    collect_seldom()
    assert gc.get_threshold() == (50_000, 5, 5)


def test_who_switched_it_off_knows_why() -> None:
    gc.set_threshold(700, 10, 10)
    gc.disable()
    collect_seldom()
    assert gc.get_threshold() == (700, 10, 10)
