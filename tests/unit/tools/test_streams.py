"""Several streams run each test once, whole files in their order, and the quiet ones when nobody else is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tools import second_look
from tools.second_look import Failure, Outcome, together
from tools.streams import Part, Plan

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = "[pytest]\nmarkers =\n  quiet: measures\n  evidence: none of luck\naddopts = -q -ra --strict-markers\n"
PATIENCE = 100.0

LOUD, OTHER = Part(file="a", is_quiet=False, tests=3), Part(file="b", is_quiet=False, tests=3)
QUIET, QUIET_TOO = Part(file="a", is_quiet=True, tests=1), Part(file="b", is_quiet=True, tests=1)

#: `note` writes to a file which process runs what; `meet` waits until two processes have come.
HELPERS = """
    import os
    import signal
    import time
    from pathlib import Path

    import pytest

    ROOT = Path({root!r})

    def note(what):
        with (ROOT / "notes").open("a") as notes:
            notes.write(f"{os.getpid()} {Path(__file__).stem} {what}\\n")

    def noted():
        return [line.split() for line in (ROOT / "notes").read_text().splitlines()]

    def meet():
        note("meets")
        while len({process for process, _, what in noted() if what == "meets"}) < 2:
            time.sleep(0.01)
"""


class Project:
    """A directory with files of tests."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "pytest.ini").write_text(SETTINGS)

    def write(self, **files: str) -> None:
        for name, tests in files.items():
            (self.place / f"test_{name}.py").write_text(
                textwrap.dedent(HELPERS).replace("{root!r}", repr(str(self.place))) + textwrap.dedent(tests)
            )

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tools.second_look", "--streams=2", *options, str(self.place)]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            # Without plugins that nothing here needs, pytest starts three times as fast.
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *options: str) -> tuple[int, str]:
        """The exit code, and all that was said."""
        with self.start(*options) as process:
            said, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, said

    def notes(self) -> list[list[str]]:
        """Process, file and word of each note."""
        path = self.place / "notes"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def closing_line(said: str) -> str:
    return said.strip().splitlines()[-1].partition(" in ")[0]


# -- the plan ------------------------------------------------------------------------------------------------------


def test_each_part_is_given_once_and_the_quiet_ones_last() -> None:
    plan = Plan(1)
    plan.agree([QUIET, LOUD, OTHER, QUIET_TOO])
    assert [plan.take(0) for _ in range(5)] == [LOUD, OTHER, QUIET, QUIET_TOO, None]


def test_the_quiet_parts_are_given_to_the_last_stream_when_the_others_have_ended() -> None:
    # Given two streams at work
    plan = Plan(2)
    for stream in (0, 1):
        plan.agree([LOUD, QUIET, OTHER])
        assert plan.take(stream) in (LOUD, OTHER)
    # When one has nothing left to do but what is quiet, it is sent away
    assert plan.take(1) is None
    # Then the other one waits for its end
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(plan.take, 0)
        with pytest.raises(TimeoutError):
            waiting.result(0.05)
        plan.leave(1)
        assert waiting.result(PATIENCE) == QUIET
    assert plan.take(0) is None
    plan.leave(0)
    assert not plan.stopped


def test_who_ends_before_it_was_sent_away_stops_all() -> None:
    plan = Plan(2)
    plan.agree([LOUD, OTHER, QUIET])
    plan.take(0)
    plan.leave(0)
    assert plan.take(1) is None
    assert plan.stopped == "stream 1 has ended before its tests had"


def test_who_waits_for_quiet_is_told_that_all_is_over() -> None:
    plan = Plan(2)
    plan.agree([QUIET])
    assert plan.take(0) is None
    stopped = threading.Timer(0.01, plan.stop, ["interrupted"])
    stopped.start()
    assert plan.take(1) is None
    stopped.join()


def test_streams_that_find_different_tests_are_stopped() -> None:
    plan = Plan(2)
    plan.agree([LOUD, OTHER])
    plan.agree([LOUD])
    assert plan.take(0) is None
    assert plan.stopped == "the streams have found different tests"


def test_the_share_that_is_done_counts_tests() -> None:
    plan = Plan(1)
    plan.agree([LOUD, OTHER, QUIET, QUIET_TOO])
    assert [plan.ended(part) for part in (LOUD, QUIET, OTHER, QUIET_TOO)] == [37, 50, 87, 100]


# -- the sum -------------------------------------------------------------------------------------------------------


def outcome(ended: int, collected: int = 5, **counts: int) -> Outcome:
    return Outcome(counts=counts, collected=collected, ended=ended)


def test_the_counts_of_all_streams_are_added() -> None:
    failure = Failure(test="a", is_evidence=False, has_passed=False, said="no")
    one = Outcome(failures=[failure], counts={"passed": 2, "failed": 1, "deselected": 7}, collected=5, ended=3)
    code, whole = together([1, 0], [one, outcome(2, passed=2, deselected=7)])
    assert (code, whole.is_whole, whole.failures) == (1, True, [failure])
    assert whole.closing_line(1.0) == "1 failed, 4 passed, 7 deselected in 1.00s"


@pytest.mark.parametrize(
    ("codes", "outcomes", "expected"),
    [
        ([0, 0], [outcome(2), outcome(3)], 0),
        ([0, 1], [outcome(2), outcome(3)], 1),
        ([0, 0], [outcome(2), outcome(2)], 1),
        ([0, 0], [outcome(5), Outcome()], 1),
        ([0, 0], [Outcome(), Outcome()], 1),
        ([0, -9], [outcome(2), Outcome()], -9),
        ([1, 2], [outcome(2), outcome(3)], 2),
        ([5, 5], [outcome(0, 0), outcome(0, 0)], 5),
    ],
)
def test_the_worst_code_is_that_of_the_run_and_what_was_not_run_has_failed(
    codes: list[int], outcomes: list[Outcome], expected: int
) -> None:
    assert together(codes, outcomes)[0] == expected


# -- real runs -----------------------------------------------------------------------------------------------------


def test_two_files_are_run_at_once_each_in_its_order(project: Project) -> None:
    file = """
    def test_first():
        meet()

    @pytest.mark.parametrize("number", range(5))
    def test_next(number):
        note(number)
    """
    project.write(a=file, b=file)
    code, said = project.run()
    assert code == 0, said
    assert closing_line(said) == "12 passed"
    for name in ("test_a", "test_b"):
        assert [what for _, file, what in project.notes() if file == name] == ["meets", *"01234"]
        assert len({process for process, file, _ in project.notes() if file == name}) == 1
    assert len({process for process, _, _ in project.notes()}) == 2
    # Each file has a line, and each stream what pytest said
    assert "%] test_a.py: 6 passed in " in said
    assert "[100%] test_" in said
    assert said.count("6 passed in ") == 4


def test_quiet_tests_are_run_by_who_is_left_alone(project: Project) -> None:
    file = """
    @pytest.mark.quiet
    def test_measures():
        for process in {process for process, _, what in noted() if what == "meets"} - {str(os.getpid())}:
            with pytest.raises(ProcessLookupError):
                os.kill(int(process), 0)
        note("quiet")

    def test_meets():
        meet()
    """
    project.write(a=file, b=file)
    code, said = project.run()
    assert code == 0, said
    assert closing_line(said) == "4 passed"
    assert [what for _, _, what in project.notes()][-2:] == ["quiet", "quiet"]
    assert "test_b.py (quiet): 1 passed" in said


def test_all_that_a_file_sets_up_is_torn_down_at_its_end(project: Project) -> None:
    (project.place / "conftest.py").write_text(
        textwrap.dedent("""
        import os
        from pathlib import Path
        import pytest

        def note(what):
            with (Path(__file__).parent / "notes").open("a") as notes:
                notes.write(f"{os.getpid()} conftest {what}\\n")

        @pytest.fixture(scope="session")
        def long():
            note("long")
            yield
            note("short")
        """)
    )
    file = """
    @pytest.fixture(scope="module", autouse=True)
    def short():
        note("up")
        yield
        note("down")

    def test_it(long):
        note("test")

    def test_again(long):
        note("again")
    """
    project.write(a=file, b=file, c=file)
    # Two of them are in a directory that has plugins of its own
    (project.place / "inner").mkdir()
    (project.place / "inner" / "conftest.py").write_text("def pytest_runtest_setup(): ...\n")
    for name in ("test_a.py", "test_b.py"):
        (project.place / name).rename(project.place / "inner" / name)
    code, said = project.run()
    assert code == 0, said
    told = project.notes()
    for name in ("test_a", "test_b", "test_c"):
        assert [what for _, file, what in told if file == name] == ["up", "test", "again", "down"]
    assert sorted(what for _, file, what in told if file == "conftest") == ["long"] * 3 + ["short"] * 3
    last = {process: what for process, file, what in told if file == "conftest"}
    assert set(last.values()) == {"short"}


def test_a_failure_is_told_at_once_and_whole_at_the_end(project: Project) -> None:
    file = """
    def test_meets():
        meet()
    """
    bad = """
    def test_bad():
        print("heard")
        assert 1 == 2, "no"
    """
    project.write(a=file, b=file + bad)
    code, said = project.run()
    assert code == 1
    assert said.index("FAILED test_b.py::test_bad (call)") < said.index("%] test_b.py: 1 passed, 1 failed")
    whole = said.partition("which ended with 1:")[2]
    assert "AssertionError: no" in whole
    assert "heard" in whole
    assert "FAILED AGAIN, ALONE: " in said
    assert closing_line(said) == "1 failed, 2 passed"


def test_evidence_of_one_stream_takes_the_second_look_from_all(project: Project) -> None:
    file = """
    {mark}
    def test_meets():
        meet()
        note("fails")
        assert [what for _, file, what in noted() if file == Path(__file__).stem].count("fails") > 1
    """
    project.write(a=file.format(mark="@pytest.mark.evidence"), b=file.format(mark=""))
    code, said = project.run()
    assert code == 1
    assert "no second look: what it found is evidence: " in said
    assert closing_line(said) == "2 failed"
    assert [what for _, _, what in project.notes()].count("fails") == 2


def test_a_stream_that_is_killed_fails_the_run_and_no_more_is_handed_out(project: Project) -> None:
    project.write(
        a="""
    def test_killed():
        meet()
        note("killed")
        os.kill(os.getpid(), signal.SIGKILL)
    """,
        b="""
    def test_meets():
        meet()
        while not (killed := [process for process, _, what in noted() if what == "killed"]):
            time.sleep(0.01)
        while Path("/proc", killed[0]).exists():
            time.sleep(0.01)
    """,
        c="""
    @pytest.mark.quiet
    def test_quiet():
        note("quiet")
    """,
    )
    code, said = project.run()
    assert code == 137, said
    assert "=== not all tests were run: stream " in said
    assert "no second look: pytest ended with -9" in said
    assert "quiet" not in [what for _, _, what in project.notes()]


def test_what_cannot_be_imported_is_told_once(project: Project) -> None:
    project.write(a="raise ValueError('not importable')\n", b="def test_fine(): ...\n")
    code, said = project.run()
    assert code == 2
    assert said.count("E   ValueError: not importable") == 1
    assert closing_line(said) == "1 error"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_ends_all_streams(project: Project, number: signal.Signals) -> None:
    file = """
    def test_waits():
        meet()
        try:
            # Within, for the signal may come as soon as the file is there.
            print("ready", file=(ROOT / f"{Path(__file__).stem}.ready").open("w"), flush=True)
            while True:
                time.sleep(0.01)
        finally:
            note("ended")

    def test_more():
        note("more")
    """
    project.write(a=file, b=file)
    with project.start() as process:
        while len(list(project.place.glob("*.ready"))) < 2:
            assert process.poll() is None
        process.send_signal(number)
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, said
    assert sorted(what for _, _, what in project.notes()) == ["ended", "ended", "meets", "meets"]
    assert said.count("KeyboardInterrupt") >= 2
    assert "no second look: pytest ended with 2" in said


@pytest.mark.parametrize(("processors", "expected"), [({0}, 1), ({0, 1}, 2), ({3, 4, 5, 6}, 2)])
def test_there_is_a_stream_for_each_processor_but_no_more_than_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], processors: set[int], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: processors, raising=False)
    assert second_look.streams_for("auto") == expected
    said = capsys.readouterr().out
    assert said.startswith("the tests run in one stream" if expected == 1 else f"the tests run in {expected} streams")
    assert second_look.streams_for("3") == 3
