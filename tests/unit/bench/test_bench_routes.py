"""The suite of the routes: what it asks, and that its probe runs."""

from __future__ import annotations

import pytest
from bench.harness import Absent, Failed, Sample, run_table
from bench.probes.routes import FAMILIES, TABLES, addresses
from bench.suites.routes import SUITE
from bench.together import together


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [1, 10, 1000, 3000])
def test_what_is_asked_matches_one_route_or_none(family: str, size: int) -> None:
    asked = addresses(FAMILIES[family], size)
    known = {FAMILIES[family].sample.format(k=number) for number in range(size)}
    assert set(asked["last"]) <= known
    assert not set(asked["miss"]) & known
    assert set(asked["any"]) <= known
    assert len(set(asked["any"])) == min(size, 1000)


@pytest.mark.parametrize("family", FAMILIES)
def test_our_table_finds_them(family: str) -> None:
    took, match = TABLES["monsal"](FAMILIES[family], 20)
    assert took > 0
    asked = addresses(FAMILIES[family], 20)
    assert [len(match(address)) for address in asked["any"]] == [1] * 20
    assert match(asked["miss"][0]) == []


def test_the_suite_of_the_routes_runs() -> None:
    """Very short; what it finds is looked at by nobody, only that it finds it."""
    (table,) = SUITE.tables(0.001, False)
    found = run_table(table, 1, 1, lambda line: None)
    assert len(found.rows) == 4 * len(FAMILIES)
    for row in found.rows:
        assert not row.note
        assert set(row.figures) == {column.key for column in table.columns}


def test_one_measurement_gives_the_samples_of_all() -> None:
    def measure(turn: int) -> dict[str, Sample]:
        return {"a": {"us": float(turn)}, "b": {"us": 2.0 * turn}}

    played = together(("a", "b"), measure)(2, 1)
    assert played.samples == {"a": [{"us": 1.0}, {"us": 2.0}], "b": [{"us": 2.0}, {"us": 4.0}]}
    assert not played.notes


@pytest.mark.parametrize(
    ("reason", "note"), [(Absent("not there"), "not there"), (Failed("it fell"), "failed: it fell")]
)
def test_if_one_measurement_fails_no_contestant_has_figures(reason: Exception, note: str) -> None:
    def measure(turn: int) -> dict[str, Sample]:
        if turn == 2:
            raise reason
        return {"a": {"us": 1.0}, "b": {"us": 1.0}}

    played = together(("a", "b"), measure)(3, 1)
    assert played.samples == {"a": [], "b": []}
    assert played.notes == {"a": note, "b": note}
