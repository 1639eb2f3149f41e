"""Where the microseconds go: each call has its stage, and the stages add up to what the process used."""

from __future__ import annotations

import importlib
import inspect
import threading
import time
from pathlib import Path

import bench.stages
import pytest
from bench import stages
from bench.document import Column, Load, Machine, Report, Row, Spread, TableReport
from bench.excerpt import BEGIN, END, with_excerpt
from bench.processes import probe_module
from bench.sampling import LOOP, OTHER, TOTAL, Sampler, calls
from bench.stages import ACCEPT, TURN, stage_of
from bench.suites.stages import by_stage

import monsal

ROOT = Path(monsal.__file__).parent


@pytest.mark.parametrize(
    ("stack", "stage"),
    [
        # The protocol, which is called by the connection.
        ([("smtp/session.py", "mail"), ("smtp/server.py", "receive_data"), ("ingress/connection.py", "x")], "PROTOCOL"),
        # The same code for the relay.
        ([("smtp/reply_parser.py", "feed"), ("delivery/connection.py", "data_received")], "RELAY"),
        # A header is read by whoever needs it.
        ([("mail/header.py", "scan"), ("conversation/spool.py", "accept"), ("ingress/connection.py", "x")], "SPOOL"),
        ([("mail/header.py", "scan"), ("conversation/passage.py", "_mail")], "TURNS"),
        # A line of the log, whoever writes it.
        ([("logs.py", "format"), ("logging/", "emit"), ("conversation/spool.py", "accept")], "LOG"),
        ([("logging/", "makeRecord"), ("conversation/spool.py", "accept")], "LOG"),
        # An operation of the store, by its method and by its own function where it had to queue.
        ([("store/engine/core.py", "begin"), ("store/engine/face.py", "accept")], "STORE_IN"),
        ([("store/engine/spool.py", "accept"), ("store/engine/core.py", "_turn")], "STORE_IN"),
        ([("store/engine/pending.py", "write"), ("store/engine/data.py", "seal")], "ROWS"),
        ([("store/engine/turns.py", "_plan"), ("store/engine/core.py", "_turn")], "COMMIT"),
        ([("store/engine/core.py", "_turn")], "STORE"),
        (
            [("store/engine/data.py", "commit"), ("store/engine/hand.py", "flush"), ("store/engine/core.py", "_x")],
            "FLUSH",
        ),
    ],
)
def test_the_stage_of_a_call(stack: list[tuple[str, str]], stage: str) -> None:
    assert stage_of(stack) == getattr(stages, stage)


def test_a_stack_without_a_stage_has_none() -> None:
    assert stage_of([]) is None
    assert stage_of([("ids.py", "new_token")]) is None


@pytest.mark.parametrize("key", bench.stages.PLACES, ids=":".join)
def test_what_stages_are_told_apart_by_is_there(key: tuple[str, str]) -> None:
    """A file or function that was renamed would silently lose its stage."""
    file, function = key
    assert (ROOT / file).exists()
    if file.endswith(".py") and function:
        module = importlib.import_module("monsal." + file.removesuffix(".py").replace("/", "."))
        assert f"def {function}(" in inspect.getsource(module)


def work(seconds: float) -> None:
    """Use so much CPU on this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(100))


def test_stages_and_threads_add_up_to_what_the_process_used() -> None:
    # Given a sampler that calls what this file does a stage, and a thread with another
    seen, leave = threading.Event(), threading.Event()

    def stage(stack: list[tuple[str, str]]) -> str | None:
        seen.set()
        return "here" if stack else None

    sampler = Sampler(str(Path(__file__).parent) + "/", stage, {"helper": "there"})
    helper = threading.Thread(target=lambda: (work(0.1), leave.wait(30)), name="helper-1")
    # When both work, until the first one was seen at it
    before = time.process_time()
    sampler.begin()
    helper.start()
    end = time.monotonic() + 30
    while not seen.is_set() and time.monotonic() < end:
        work(0.05)
    found = sampler.end()
    used = time.process_time() - before
    leave.set()
    helper.join()
    # Then each has its stage, and together they have it all
    assert found["here"] > 0
    assert found["there"] > 0
    assert sum(value for stage, value in found.items() if stage != TOTAL) == pytest.approx(found[TOTAL])
    assert found[TOTAL] == pytest.approx(used, abs=0.05)


def test_the_calls_of_a_stack_are_those_below_the_root() -> None:
    found = list(calls(inspect.currentframe(), str(Path(__file__).parent) + "/"))
    assert found == [(Path(__file__).name, "test_the_calls_of_a_stack_are_those_below_the_root")]


def test_what_has_no_stage_in_a_table_is_in_its_last_line() -> None:
    found = by_stage(["a", "b", "rest"], {"a": 1.0, "b": 0.5, "c": 0.25, "rest": 0.25, TOTAL: 2.0}, 1000)
    assert {stage: sample["us"] for stage, sample in found.items()} == {"a": 1000, "b": 500, "rest": 500, TOTAL: 2000}
    assert found["a"]["share"] == 50.0


def test_every_stage_is_in_the_table_of_a_turn() -> None:
    assert {LOOP, OTHER} <= set(ACCEPT) < set(TURN)
    assert len(set(TURN)) == len(TURN)


def test_the_stages_of_an_answered_mail_add_up() -> None:
    """Very short; what is found is looked at by nobody, only that it adds up."""
    found = probe_module("stages", "turn", 2, 0.2)
    rows = by_stage(TURN, found["seconds"], found["mails"])
    assert list(rows) == [*TURN, TOTAL]
    assert sum(rows[stage]["us"] for stage in TURN) == pytest.approx(rows[TOTAL]["us"])
    assert all(rows[stage]["us"] > 0 for stage in (stages.HANDLER, stages.FLUSH))


def test_the_table_of_the_page_has_both_ways_beside_one_another() -> None:
    # Given results of a mail that is taken and of one that is answered
    def row(contest: str, stage: str, us: float) -> Row:
        return Row(contest, stage, Load(), {"us": Spread(us, us, us, 1)})

    rows = [row("taken", "protocol", 20.0), row("taken", "all", 20.0)]
    rows += [row("answered", "protocol", 21.04), row("answered", "turn", 9.0), row("answered", "all", 30.0)]
    table = TableReport("stages", "T", "Words.", "stage", [Column(key="us", heading="us")], [], rows)
    machine = Machine("Linux", "a processor", 2, 4.0, "3.11.7", 1024)
    report = Report("Stages", "2026-01-01", "abc", machine, 6.0, 3, [table])
    # When they are put into a page
    text = with_excerpt(f"# Page\n\n{BEGIN}\nold\n{END}\n\nMore.\n", report)
    # Then what was between the marks is the table, and nothing else has changed
    assert text.startswith(f"# Page\n\n{BEGIN}\n`make bench SUITE=stages` on 2026-01-01, commit abc")
    assert text.endswith(f"| protocol | 20.0 | 21.0 |\n| turn |  | 9.0 |\n| all | 20.0 | 30.0 |\n{END}\n\nMore.\n")
    # And doing it again changes nothing
    assert with_excerpt(text, report) == text


def test_a_page_without_marks_is_left_alone() -> None:
    with pytest.raises(ValueError, match="no <!-- stages"):
        with_excerpt("# Page\n", Report("S", "", None, Machine("", "", 1, 1.0, "", 1), 1.0, 1, []))


def test_the_page_of_the_documents_has_the_marks() -> None:
    text = (Path(bench.stages.__file__).parent.parent / "docs" / "performance.md").read_text(encoding="utf-8")
    assert text.index(BEGIN) < text.index(END)
