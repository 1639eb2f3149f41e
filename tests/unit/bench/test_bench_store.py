"""The suite of the store: its probe runs, with the store in its own process and with two workers."""

from __future__ import annotations

from bench.harness import run_table
from bench.suites.store import ALONE, SUITE


def test_the_suite_of_the_store_runs() -> None:
    """Very short; what it finds is looked at by nobody, only that it finds it."""
    table, _ = SUITE.tables(0.1, False)
    found = run_table(table, 1, 1, lambda line: None)
    for row in found.rows:
        assert not row.note
        assert set(row.figures) == {column.key for column in table.columns}
        assert row.figures["rate"].median > 0
        assert (row.figures["store_us"].median > 0) == (row.contestant != ALONE)


def test_turns_in_batches_are_measured() -> None:
    _, table = SUITE.tables(0.001, False)
    (row,) = run_table(table, 1, 1, lambda line: None).rows
    assert not row.note
    assert row.figures["rate"].median > 0
