"""The harness: who is measured when, and what is made of the samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from bench.document import Column
from bench.harness import (
    Absent,
    Contest,
    Failed,
    Goal,
    Played,
    Sample,
    Table,
    TimesBetter,
    TimesOf,
    in_turn,
    order,
    paired,
    run_contest,
    run_table,
    spread,
    verdict_word,
)

NS = Column(key="ns", heading="ns")
RATE = Column(key="rate", heading="a second", more_is_better=True)


def table(samples: Mapping[str, list[Sample]], *, column: Column = NS, goals: tuple[Goal, ...] = ()) -> Table:
    """A table of one contest that was measured already."""
    return Table(
        name="t",
        title="A table",
        text="",
        columns=(column,),
        contests=[Contest("c", lambda rounds, seed: Played({name: list(found) for name, found in samples.items()}))],
        ratios=(TimesOf("of the loop", "loop", column), TimesBetter("ours is", "ours", column)),
        goals=goals,
    )


def goal(**given: object) -> Goal:
    return Goal(**{"contest": "c", "contestant": "ours", "of": "ns", **given})  # type: ignore[arg-type]  # as given


def test_the_median_is_shown_with_the_least_and_the_greatest() -> None:
    found = spread([3.0, 1.0, 100.0])
    assert (found.median, found.least, found.most, found.samples) == (3.0, 1.0, 100.0, 3)
    assert spread([123456.0]).median == 123500.0


def test_a_ratio_is_that_of_the_rounds_and_not_that_of_the_medians() -> None:
    # Given a machine that was ten times slower in the second round, and a stray figure in the third
    ours, theirs = [10.0, 100.0, 10.0], [20.0, 200.0, 900.0]
    # Then what both saw cancels out
    assert paired(ours, theirs) == 0.5
    assert paired([1.0], [0.0]) is None


def test_each_contestant_has_each_place_equally_often() -> None:
    names = ["a", "b", "c"]
    places = Counter((name, place) for turn in range(6) for place, name in enumerate(order(names, turn, seed=7)))
    assert set(places.values()) == {2}
    assert len(places) == 9


def test_the_seed_alone_decides_the_order() -> None:
    names = list("abcdefgh")
    assert order(names, 3, seed=1) == order(names, 3, seed=1)
    assert order(names, 0, seed=1) != order(names, 0, seed=2)
    assert order([], 3, seed=1) == []


def test_rounds_are_interleaved() -> None:
    # Given contestants that write down when they are measured
    seen: list[tuple[int, str]] = []

    def measure(name: str, turn: int) -> Sample:
        seen.append((turn, name))
        return {"ns": float(turn)}

    contestants = {name: lambda turn, name=name: measure(name, turn) for name in "abc"}
    # When three rounds are played with a warm one before
    played = in_turn(contestants, warm=True)(3, 1)
    # Then each round takes all of them before the next begins
    assert [turn for turn, _ in seen] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert all({name for turn, name in seen if turn == one} == set("abc") for one in range(4))
    # And the warm one leaves no sample
    assert played.samples == {name: [{"ns": 1.0}, {"ns": 2.0}, {"ns": 3.0}] for name in "abc"}
    assert not played.notes


def test_who_is_absent_or_fails_has_a_note_and_the_others_go_on() -> None:
    def absent(turn: int) -> Sample:
        raise Absent("not installed")

    def fails_later(turn: int) -> Sample:
        if turn == 2:
            raise Failed("exit code 70")
        return {"ns": 1.0}

    played = in_turn({"here": lambda turn: {"ns": 1.0}, "gone": absent, "weak": fails_later})(3, 1)
    assert played.notes == {"gone": "not installed", "weak": "failed: exit code 70"}
    assert [len(played.samples[name]) for name in ("here", "gone", "weak")] == [3, 0, 0]


def test_a_mistake_of_the_bench_itself_is_no_note() -> None:
    def broken(turn: int) -> Sample:
        raise KeyError("cpu")

    with pytest.raises(KeyError):
        in_turn({"a": broken})(1, 1)


def test_ratios_say_how_many_times_better_ours_is() -> None:
    samples: dict[str, list[Sample]] = {
        "loop": [{"ns": 10.0}, {"ns": 12.0}],
        "ours": [{"ns": [20.0, 20.0, 90.0]}, {"ns": 24.0}],
        "theirs": [{"ns": 60.0}, {"ns": 72.0}],
        "gone": [],
    }
    one = table(samples)
    rows = {row.contestant: row for row in run_contest(one, one.contests[0], 2, 1)}
    assert rows["loop"].ratios == {"ours is": 0.5}
    assert rows["ours"].ratios == {"of the loop": 2.0}
    assert rows["theirs"].ratios == {"of the loop": 6.0, "ours is": 3.0}
    assert (rows["gone"].figures, rows["gone"].ratios) == ({}, {})
    assert rows["ours"].figures["ns"].samples == 4


def test_of_rates_more_is_better() -> None:
    one = table({"ours": [{"rate": 300.0}], "theirs": [{"rate": 100.0}]}, column=RATE)
    rows = {row.contestant: row for row in run_contest(one, one.contests[0], 1, 1)}
    assert rows["theirs"].ratios == {"ours is": 3.0}


def test_who_has_no_such_figure_is_not_compared_by_it() -> None:
    samples: dict[str, list[Sample]] = {"loop": [{"ns": 10.0}], "ours": [{"ns": 20.0}], "theirs": [{"rate": 1.0}]}
    one = table(samples)
    rows = {row.contestant: row for row in run_contest(one, one.contests[0], 1, 1)}
    assert (rows["theirs"].figures, rows["theirs"].ratios) == ({}, {})
    assert rows["ours"].ratios == {"of the loop": 2.0}


@pytest.mark.parametrize(
    ("given", "words", "word"),
    [
        (goal(at_most=24.0), "ns <= 24", "met"),
        (goal(at_most=23.0), "ns <= 23", "short"),
        (goal(at_most=24.0, always=True), "ns <= 24", "short"),
        (goal(of="of the loop", at_most=2.0), "of the loop <= 2x", "met"),
        (goal(of="ours is", contestant="theirs", at_least=3.5), "ours is >= 3.5x", "short"),
        (goal(contestant="gone", at_least=3.5), "ns >= 3.5", "not measured"),
    ],
)
def test_a_goal_is_met_or_short_or_was_not_measured(given: Goal, words: str, word: str) -> None:
    samples: dict[str, list[Sample]] = {
        "loop": [{"ns": 12.0}] * 3,
        "ours": [{"ns": 24.0}, {"ns": 23.0}, {"ns": 30.0}],
        "theirs": [{"ns": 72.0}] * 3,
        "gone": [],
    }
    one = table(samples, goals=(given,))
    verdicts = [verdict for row in run_contest(one, one.contests[0], 3, 1) for verdict in row.verdicts]
    assert [(verdict.goal, verdict_word(verdict)) for verdict in verdicts] == [(words, word)]


def test_a_goal_without_a_bound_is_a_mistake() -> None:
    one = table({"ours": [{"ns": 1.0}]}, goals=(goal(),))
    with pytest.raises(ValueError, match="no bound"):
        run_contest(one, one.contests[0], 1, 1)


def test_progress_is_told_line_by_line() -> None:
    said: list[str] = []
    report = run_table(table({"ours": [{"ns": 1.0}], "loop": [{"ns": 2.0}]}), 1, 1, said.append)
    assert said[0] == "A table"
    assert "ours" in said[1]
    assert "of the loop 0.50x" in said[1]
    assert [row.contestant for row in report.rows] == ["ours", "loop"]
    assert report.ratios == ["of the loop", "ours is"]
