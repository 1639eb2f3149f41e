"""The document and the page that is made of it."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest
from bench.document import Column, Document, Load, Machine, Report, Row, Spread, TableReport, Verdict, load, save
from bench.machine import Watch, describe, remark
from bench.page import page

MACHINE = Machine("Linux x86_64", "A processor", 2, 4.0, "3.11.7", 1024)
QUIET = Load(0.1, 0.4, 0.02, 0.0)


def report(title: str, *rows: Row, table: str = "Publishing") -> Report:
    columns = [Column(key="ns", heading="ns", spread=True), Column(key="ms", heading="ms", digits=2)]
    one = TableReport("t", table, "What it is.", "contestant", columns, ["of the loop"], list(rows))
    return Report(title, "2026-01-02", "abc1234", MACHINE, 0.3, 5, [one])


def row(**more: object) -> Row:
    given = {"contest": "10 listeners", "contestant": "ours", "load": QUIET, **more}
    return Row(**given)  # type: ignore[arg-type]  # as given


def test_a_new_run_replaces_its_suite_and_keeps_the_others() -> None:
    # Given results of two suites
    old = Document({"accept": report("Accept"), "bus": report("Old")})
    # When one of them was run again
    new = old.merged("bus", report("New"))
    # Then the other is as it was, and the order is kept
    assert [(name, one.title) for name, one in new.suites.items()] == [("accept", "Accept"), ("bus", "New")]
    assert list(new.merged("rpc", report("Rpc")).suites) == ["accept", "bus", "rpc"]
    # Unless the house has one
    assert list(new.merged("rpc", report("Rpc"), ["rpc", "actors", "bus"]).suites) == ["rpc", "bus", "accept"]
    assert old.suites["bus"].title == "Old"


def test_what_is_saved_can_be_loaded(tmp_path: Path) -> None:
    place = tmp_path / "results.json"
    assert load(place) == Document({})
    document = Document(
        {"bus": report("Bus", row(figures={"ns": Spread(2.0, 1.0, 3.0, 9)}, ratios={"of the loop": 2.0}))}
    )
    save(place, document)
    assert load(place) == document
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_something_else_is_not_overwritten_in_silence(tmp_path: Path) -> None:
    place = tmp_path / "results.json"
    place.write_text('{"suites": []}')
    with pytest.raises(msgspec.ValidationError):
        load(place)


def test_the_page_has_each_suite_table_and_row() -> None:
    figures = {"ns": Spread(662.4, 640.0, 701.6, 25), "ms": Spread(0.125, 0.1, 0.2, 25)}
    found = row(figures=figures, ratios={"of the loop": 1.8}, verdicts=[Verdict("of the loop <= 2x", True)])
    short = row(contestant="peer", verdicts=[Verdict("ours is >= 3x", False), Verdict("ns <= 1", None)])
    text = page(Document({"bus": report("The bus", found, short)}))
    assert "## The bus" in text
    assert "### Publishing" in text
    assert "`make bench SUITE=bus` on 2026-01-02, commit abc1234: 5 rounds of 0.3 s" in text
    assert "Load 0.10 to 0.40" in text
    assert "| contest | contestant | ns | ms | of the loop | goal |\n|---|---|---|---|---|---|\n" in text
    assert "| 10 listeners | ours | 662 (640–702) | 0.12 | 1.80x | of the loop <= 2x: met |" in text
    assert "| 10 listeners | peer |  |  |  | ours is >= 3x: short; ns <= 1: not measured |" in text
    assert "not quiet" not in text


def test_who_was_not_there_says_so_in_its_row() -> None:
    text = page(
        Document({"accept": report("Accept", row(contestant="smtp-sink", note="not installed"), table="Accept")})
    )
    assert "| 10 listeners | smtp-sink | not installed |  |  |" in text
    # One table with the title of its suite has no heading of its own.
    assert "### Accept" not in text


def test_a_machine_that_was_not_quiet_is_remarked() -> None:
    loud = Load(2.5, 2.0, 1.2, 0.3, remark(2.5, 1.2, 0.3))
    text = page(Document({"bus": report("The bus", row(load=loud))}))
    assert "The machine was not quiet. 10 listeners: load 2.50 at the beginning, other processes used 1.20 CPUs" in text
    assert "the host took 0.30 CPUs" in text
    assert remark(0.3, 0.1, 0.0) == remark(0.3, None, None) == ""


def test_the_machine_is_described_without_its_name_or_places() -> None:
    facts = msgspec.structs.asdict(describe()).values()
    said = " ".join(map(str, facts))
    assert socket.gethostname() not in facts
    assert str(Path.home()) not in said
    assert str(Path.cwd()) not in said


def test_what_the_bench_itself_uses_is_not_held_against_the_machine() -> None:
    watch = Watch()
    sum(range(2_000_000))
    found = watch.over()
    assert found.before >= 0.0
    assert found.others is None or found.others >= 0.0
