"""`python -m bench`: what it writes, and one short run of the bus's suite."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import bench.__main__ as program
import pytest
from bench.document import Column, load
from bench.harness import Contest, Failed, Goal, Sample, Suite, Table, in_turn
from bench.suites import NAMES, suite

NS = Column(key="ns", heading="ns")


def small(title: str, measure: Callable[[int], Sample]) -> Suite:
    """A suite of one contest that costs nothing."""

    def tables(seconds: float, peers: bool) -> Sequence[Table]:
        contests = [Contest("c", in_turn({"one": measure}))]
        return [Table(name="t", title=title, text="Words.", columns=(NS,), contests=contests)]

    return Suite(title=title, about=title, seconds=1.0, rounds=2, tables=tables)


@pytest.fixture
def suites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Suite]:
    """Suites to be changed by the test, in place of those of the house."""
    found = {name: small(f"The {name}", lambda turn: {"ns": 1.0}) for name in NAMES}
    monkeypatch.setattr(program, "suite", found.__getitem__)
    return found


def test_without_names_all_are_run(suites: dict[str, Suite], tmp_path: Path) -> None:
    assert program.main(["--out", str(tmp_path)]) == 0
    document = load(tmp_path / "results.json")
    assert list(document.suites) == list(NAMES)
    assert [document.suites["bus"].seconds, document.suites["bus"].rounds] == [1.0, 2]
    assert document.suites["bus"].tables[0].rows[0].figures["ns"].samples == 2
    assert all(f"## The {name}" in (tmp_path / "RESULTS.md").read_text() for name in NAMES)


def test_a_directory_that_is_not_there_is_made_before_the_measuring(suites: dict[str, Suite], tmp_path: Path) -> None:
    made = tmp_path / "some" / "directory"
    suites["bus"] = small("The bus", lambda turn: {"ns": float(made.is_dir())})
    assert program.main(["bus", "--out", str(made)]) == 0
    assert load(made / "results.json").suites["bus"].tables[0].rows[0].figures["ns"].median == 1.0


def test_one_suite_keeps_what_the_others_found(
    suites: dict[str, Suite], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given results of all
    program.main(["--out", str(tmp_path)])
    before = load(tmp_path / "results.json")
    # When one is run again and finds something else
    suites["bus"] = small("The bus anew", lambda turn: {"ns": 7.0})
    capsys.readouterr()
    assert program.main(["bus", "--rounds", "1", "--json", "--out", str(tmp_path)]) == 0
    # Then only its part has changed, on the page as well
    after = load(tmp_path / "results.json")
    assert after.suites["accept"] == before.suites["accept"]
    assert after.suites["bus"].tables[0].rows[0].figures["ns"].median == 7.0
    text = (tmp_path / "RESULTS.md").read_text()
    assert "## The bus anew" in text
    assert "## The accept" in text
    # And standard output has the document alone
    assert json.loads(capsys.readouterr().out)["suites"]["bus"]["rounds"] == 1


def test_a_contestant_that_fails_is_seen_in_the_exit_code(suites: dict[str, Suite], tmp_path: Path) -> None:
    def fails(turn: int) -> Sample:
        raise Failed("it said nothing")

    suites["bus"] = small("The bus", fails)
    # In a directory that is not there yet.
    place = tmp_path / "some" / "directory"
    assert program.main(["bus", "--out", str(place)]) == 1
    assert "failed: it said nothing" in (place / "RESULTS.md").read_text()


@pytest.mark.parametrize("words", [["buss"], ["--seconds", "0"], ["--seconds", "inf"], ["--rounds", "0"]])
def test_what_is_not_understood_measures_nothing(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        program.main([*words, "--out", str(tmp_path)])
    assert caught.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_list_names_every_suite(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(NAMES)


def test_the_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["--help"])
    assert "python -m bench bus" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_each_goal_belongs_to_a_row(name: str) -> None:
    for table in suite(name).tables(0.3, True):
        contests = [contest.title for contest in table.contests]
        known = {column.key for column in table.columns} | {ratio.heading for ratio in table.ratios}
        goals: Sequence[Goal] = table.goals
        assert all(goal.contest in contests and goal.of in known for goal in goals)
        assert len(set(contests)) == len(contests)
        asked = [picture.column for picture in table.pictures]
        assert set(asked) <= {column.key for column in table.columns}
        assert len(set(asked)) == len(asked)
        assert all(set(picture.contests) <= set(contests) for picture in table.pictures)
        assert all(picture.ratio in known | {""} for picture in table.pictures)


def test_the_suite_of_the_bus_runs(tmp_path: Path) -> None:
    """Very short and without peers; what it finds is looked at by nobody, only that it finds it."""
    assert program.main(["bus", "--seconds", "0.001", "--rounds", "1", "--no-peers", "--out", str(tmp_path)]) == 0
    tables = {table.name: table for table in load(tmp_path / "results.json").suites["bus"].tables}
    assert set(tables) == {"publish", "subscribe", "life", "block", "idle", "process", "restart"}
    for table in tables.values():
        assert all(set(row.figures) == {column.key for column in table.columns} for row in table.rows)
    assert [row.contestant for row in tables["process"].rows] == ["loop", "monsal.bus", "monsal run"]
    assert len(tables["publish"].rows) == 12
