"""The budget of replies (DESIGN 4, *Loops*)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monsal.store.budget import ReplyBudget


@given(st.lists(st.floats(0, 7200), max_size=50))
def test_the_budget_counts_the_last_hour(waits: list[float]) -> None:
    budget, now, times = ReplyBudget(), 0.0, []
    for wait in waits:
        now += wait
        budget.add("ann", now)
        times.append(now)
        assert budget.count("ann", now) == sum(at > now - 3600 for at in times)


def test_the_budget_is_bounded() -> None:
    budget = ReplyBudget(size=10)
    for number in range(1000):
        budget.add(f"p{number}", 1.0)
    assert sum(budget.count(f"p{number}", 1.0) for number in range(1000)) == 10
    for _ in range(5000):
        budget.add("loop", 1.0)
    assert budget.count("loop", 1.0) == 1000
