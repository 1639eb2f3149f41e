"""What failed is run again alone, but for evidence; each case is a real run of pytest on a few tests, some of them in
two streams, too (more of these: test_streams.py)."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = "[pytest]\nmarkers =\n  evidence: a contradiction is none of luck\naddopts = -q --strict-markers\n"

#: `flaky()` fails the first time it is called in a test; `runs` has a line for each test that was run.
HELPERS = """
    import os
    import unittest
    from pathlib import Path

    import pytest

    HERE = Path(__file__).parent

    def flaky(name):
        with (HERE / "runs").open("a") as runs:
            runs.write(name + "\\n")
        print("seen by", name)
        assert (HERE / "runs").read_text().split().count(name) > 1, "too early"

    def test_fine():
        pass
"""


class Project:
    """A directory with a few tests, run in so many streams."""

    def __init__(self, place: Path, streams: int) -> None:
        self.place = place
        self.streams = streams
        (place / "pytest.ini").write_text(SETTINGS)

    def run(self, tests: str, *options: str) -> tuple[int, str, list[str]]:
        """The exit code, all that was said, and which tests called `flaky`, in this order."""
        (self.place / "test_it.py").write_text(textwrap.dedent(HELPERS + tests))
        command = [sys.executable, "-m", "tools.second_look", f"--streams={self.streams}", "-p", "no:cacheprovider"]
        command += [*options, str(self.place)]
        # Without plugins that nothing here needs, pytest starts three times as fast.
        environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=200)
        runs = self.place / "runs"
        return done.returncode, done.stdout + done.stderr, runs.read_text().split() if runs.exists() else []


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Project:
    return Project(tmp_path, getattr(request, "param", 1))


in_one_and_two_streams = pytest.mark.parametrize("project", [1, 2], indirect=True, ids=["one stream", "two streams"])


def closing_line(said: str) -> str:
    return said.strip().splitlines()[-1].partition(" in ")[0]


@in_one_and_two_streams
def test_where_all_pass_there_is_nothing_to_add(project: Project) -> None:
    code, said, _ = project.run("")
    assert code == 0
    assert closing_line(said) == "1 passed"
    assert "second look" not in said


@in_one_and_two_streams
def test_what_passes_alone_is_told_loudly_with_what_it_said_at_first(project: Project) -> None:
    code, said, runs = project.run("""
    def test_early():
        flaky("early")

    @pytest.mark.parametrize("way", ["a//b", "x y"])
    def test_odd_names(way):
        if way == "x y":
            flaky("odd")
    """)
    assert code == 0, said
    assert runs == ["early", "odd", "early", "odd"]
    section = said.partition("FAILED AT FIRST, PASSED ALONE: ")[2]
    assert "::test_early, " in section.splitlines()[0]
    assert "::test_odd_names[x y]" in section.splitlines()[0]
    for part in ("AssertionError: too early", "seen by early", "def test_early():"):
        assert part in section
    assert closing_line(said) == "4 passed"


def test_what_fails_again_fails_the_run(project: Project) -> None:
    code, said, runs = project.run("""
    def test_early():
        flaky("early")

    def test_broken():
        flaky("broken")
        assert False
    def test_broken_again():
        assert False, "always"
    """)
    assert code == 1
    assert sorted(runs) == ["broken", "broken", "early", "early"]
    assert "FAILED AGAIN, ALONE: " in said
    assert "::test_early" not in said.partition("FAILED AGAIN, ALONE: ")[2]
    assert "PASSED ALONE" not in said
    assert closing_line(said) == "3 failed, 1 passed"


@pytest.mark.parametrize("how", ["@pytest.mark.evidence", "pytestmark = pytest.mark.evidence\n"])
def test_evidence_is_not_run_again_nor_is_what_failed_beside_it(project: Project, how: str) -> None:
    code, said, runs = project.run(f"""
    {how}
    def test_proof():
        flaky("proof")
    def test_early():
        flaky("early")
    """)
    assert code == 1
    assert runs == ["proof", "early"]
    assert "no second look: what it found is evidence: " in said
    assert closing_line(said) == "2 failed, 1 passed"


@in_one_and_two_streams
def test_four_are_too_many(project: Project) -> None:
    code, said, runs = project.run("""
    @pytest.mark.parametrize("number", range(4))
    def test_early(number):
        flaky(f"early{number}")
    """)
    assert code == 1
    assert runs == ["early0", "early1", "early2", "early3"]
    assert "no second look: 4 tests failed, which is more than 3" in said
    assert closing_line(said) == "4 failed, 1 passed"


@pytest.mark.parametrize("phase", ["setup", "teardown"])
def test_a_fixture_that_fails_is_a_failure_of_its_test(project: Project, phase: str) -> None:
    code, said, runs = project.run(f"""
    @pytest.fixture
    def thing():
        if {phase!r} == "setup":
            flaky("setup")
        yield
        if {phase!r} == "teardown":
            flaky("teardown")

    def test_it(thing):
        pass
    """)
    assert code == 0, said
    assert runs == [phase, phase]
    assert closing_line(said) == "2 passed"


@in_one_and_two_streams
@pytest.mark.parametrize(
    ("tests", "options", "expected", "why"),
    [
        ('def test_early():\n        flaky("early")', ["-x"], 1, ""),
        ('def test_early():\n        flaky("early")\n    def test_more(): ...', ["-x"], 1, "not all tests were run"),
        ("raise ValueError('not importable')", [], 2, "pytest ended with 2"),
        ("def test_ends():\n        os._exit(0)", [], 1, "pytest ended with 1"),
        ("def test_ends():\n        os.kill(os.getpid(), 9)", [], 137, "pytest ended with -9"),
        ("", ["-k", "nothing"], 5, "pytest ended with 5"),
    ],
    ids=["the last one", "the first one", "not importable", "ended with 0", "killed", "no tests"],
)
def test_a_run_that_is_not_whole_has_no_second_look(
    project: Project, tests: str, options: list[str], expected: int, why: str
) -> None:
    code, said, _ = project.run(f"\n    {tests}\n", *options)
    if not why:  # it was the last one of all, so all were run
        assert code == 0
        return
    assert code == expected, said
    assert f"no second look: {why}" in said


def test_what_is_skipped_when_it_is_alone_has_not_passed(project: Project) -> None:
    code, said, _ = project.run("""
    def test_early():
        if (HERE / "runs").exists():
            raise unittest.SkipTest("not alone")
        flaky("early")
    """)
    assert code == 1
    assert closing_line(said) == "1 failed, 1 passed"
