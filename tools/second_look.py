"""Run the tests, and give what failed a second look.

    python -m tools.second_look tests --ignore=tests/interop            # arguments are those of pytest
    python -m tools.second_look --streams=2 tests                       # in two processes at once (tools/streams.py)

A suite of thousands of tests with real processes, sockets and time limits has, now and then, one that fails for the
machine and not for the code. CPython's regrtest has `--rerun` for that, and this is the same in small: at most three
tests that failed are run once more, each alone in a fresh process. If all pass the run has passed, and its last
section says loudly which they were, with the whole of what they said first: it is to be mended, not to be got used to.

There is no second look for a test that is marked `evidence`: such a test searches for a contradiction of a promise of
durability, and one that was found is not taken back by a run without it. Nor is there one if more failed, if something
fails again, or if not all tests were run.

With `--streams=auto` there is a stream for each processor, but no more than two; the tests marked `quiet` are run when
the others are done, and so is the second look. What each stream has to say comes at the end, whole. Nothing is kept for
`pytest --lf`: each stream would write what it saw over what the other did.

The exit code is pytest's; after a second look that all pass it is 0. The last line is pytest's closing line.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tools import streams

__all__ = ["AT_MOST", "Failure", "Outcome", "main", "streams_for", "together"]

#: If more tests failed than this, the machine is not the reason.
AT_MOST = 3
#: So many streams at once, and no more: they share the disk, too.
AT_ONCE = 2
_FAILED = int(pytest.ExitCode.TESTS_FAILED)
_COUNTS = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warnings", "error")
_OPTION = "--outcome-to"


@dataclass(kw_only=True)
class Failure:
    """A test that failed, in any of its phases: how to name it to pytest, and what is said of it.

    One whose teardown failed may be among those that `has_passed`.
    """

    test: str
    is_evidence: bool
    has_passed: bool
    said: str


@dataclass(kw_only=True)
class Outcome:
    """How a run of pytest ended: the counts of its closing line, how many tests it found, how many of them have ended.

    Of one that left nothing behind the latter is -1, so it is never whole, be it one of several.
    """

    failures: list[Failure] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    collected: int = 0
    ended: int = -1

    @property
    def is_whole(self) -> bool:
        """Whether all tests were run."""
        return self.ended == self.collected

    def closing_line(self, seconds: float) -> str:
        """As pytest has it."""
        parts = [f"{count} {name}" for name, count in self.counts.items() if count]
        return f"{', '.join(parts) or 'no tests ran'} in {seconds:.2f}s"


# -- the part that pytest loads: it writes the outcome to a file ---------------------------------------------------


class _Recorder:
    """Listens to a run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._evidence: dict[str, bool] = {}
        self._ended: set[str] = set()
        self._passed: set[str] = set()
        self._failed: dict[str, list[str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._evidence = {item.nodeid: item.get_closest_marker("evidence") is not None for item in session.items}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            self._ended.add(report.nodeid)
        if report.when == "call" and report.passed:
            self._passed.add(report.nodeid)
        if report.failed:
            parts = [f"({report.when})", report.longreprtext]
            parts += [f"--- {title}\n{text}" for title, text in report.sections]
            self._failed.setdefault(report.nodeid, []).append("\n".join(parts))

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        counts = {name: len(terminalreporter.stats.get(name, ())) for name in _COUNTS}
        outcome = Outcome(
            failures=[
                Failure(
                    test=f"{config.rootpath}/{test}",  # whole: pytest is not always called from its root
                    is_evidence=self._evidence.get(test, True),
                    has_passed=test in self._passed,
                    said="\n".join(said),
                )
                for test, said in self._failed.items()
            ],
            counts=counts,
            collected=len(self._evidence),
            ended=len(self._ended & self._evidence.keys()),
        )
        self._path.write_text(json.dumps(asdict(outcome)), encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(_OPTION, default="", help="where tools.second_look has the outcome written")


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption(_OPTION):
        config.pluginmanager.register(_Recorder(Path(path)))


# -- the part that runs pytest -------------------------------------------------------------------------------------


def _run(arguments: Sequence[str], number: int = 1) -> tuple[int, Outcome]:
    """Run pytest in so many streams; its exit code, and the outcome (an empty one if it did not come so far).

    A run that was ended in the middle, be it by a test and with 0, has failed.
    """
    with tempfile.TemporaryDirectory(prefix="second-look-") as place:
        own = ["-p", "tools.second_look", f"{_OPTION}={place}/{{stream}}.json"]
        if number > 1:
            return _run_streams([*own, *arguments], number, Path(place))
        own = [part.replace("{stream}", "1") for part in own]
        code = subprocess.run([sys.executable, "-m", "pytest", *own, *arguments], check=False).returncode
        return together([code], [_read(Path(place) / "1.json")])


def _run_streams(arguments: Sequence[str], number: int, place: Path) -> tuple[int, Outcome]:
    ended, why = streams.run(arguments, number, place)
    # What cannot be imported, or an option that does not exist, is the same in all of them.
    ended = ended if any(stream.has_begun for stream in ended) else ended[:1]
    for stream in ended:
        print(f"\n=== stream {stream.number + 1} of {number}, which ended with {stream.code}:\n{stream.said()}", end="")
    if why:
        print(f"=== not all tests were run: {why}")
    outcomes = [_read(place / f"{stream.number + 1}.json") for stream in ended]
    return together([stream.code for stream in ended], outcomes)


def together(codes: Sequence[int], outcomes: Sequence[Outcome]) -> tuple[int, Outcome]:
    """One exit code and one outcome of several streams, each of which has collected all tests and run some of them."""
    whole = Outcome(
        failures=[failure for outcome in outcomes for failure in outcome.failures],
        counts={name: sum(outcome.counts.get(name, 0) for outcome in outcomes) for name in _COUNTS},
        collected=max(outcome.collected for outcome in outcomes),
        ended=sum(outcome.ended for outcome in outcomes),
    )
    whole.counts["deselected"] = max(outcome.counts.get("deselected", 0) for outcome in outcomes)
    # A signal before what pytest says of a run without a result, that before tests that failed.
    code = min(codes) if min(codes) < 0 else max(codes)
    return code if whole.is_whole else code or _FAILED, whole


def _read(path: Path) -> Outcome:
    if not path.exists():
        return Outcome()
    found = json.loads(path.read_text(encoding="utf-8"))
    return Outcome(failures=[Failure(**failure) for failure in found.pop("failures")], **found)


def _refusal(code: int, first: Outcome) -> str:
    """Why there is no second look; empty if there is one."""
    if code != _FAILED or not first.failures:
        return f"pytest ended with {code}"
    if not first.is_whole:
        return "not all tests were run"
    if len(first.failures) > AT_MOST:
        return f"{len(first.failures)} tests failed, which is more than {AT_MOST}"
    if evidence := [failure.test for failure in first.failures if failure.is_evidence]:
        return f"what it found is evidence: {', '.join(evidence)}"
    return ""


def _passes_alone(failure: Failure) -> bool:
    print(f"\n=== a second look, alone: {failure.test}", flush=True)
    code, outcome = _run([failure.test])
    # One that is not found, or skipped now, has not passed.
    return code == 0 and outcome.is_whole and outcome.counts.get("passed") == 1


def main(arguments: Sequence[str]) -> int:
    """Run pytest with these arguments, then what failed once more; the exit code."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--streams", default="1")
    options, arguments = parser.parse_known_args(arguments)
    number = streams_for(options.streams)
    code, first = _run(arguments, number)
    if code == 0:
        if number > 1:
            print(first.closing_line(time.monotonic() - began), flush=True)
        return 0
    if refusal := _refusal(code, first):
        print(f"\nno second look: {refusal}", flush=True)
    else:
        again = [failure.test for failure in first.failures if not _passes_alone(failure)]
        if not again:
            _tell(first)
            now = sum(not failure.has_passed for failure in first.failures)
            first.counts |= {"failed": 0, "error": 0, "passed": first.counts["passed"] + now}
            code = 0
        else:
            print(f"\nFAILED AGAIN, ALONE: {', '.join(again)}", flush=True)
    if first.counts:
        print(first.closing_line(time.monotonic() - began), flush=True)
    return code if code >= 0 else 128 - code


def streams_for(asked: str) -> int:
    """How many streams there are to be; says so, if that was left to the machine."""
    if asked != "auto":
        return int(asked)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    number = min(AT_ONCE, processors)
    what = "one stream" if number == 1 else f"{number} streams at once"
    print(f"the tests run in {what}, for the processors of this machine are {processors}", flush=True)
    return number


def _tell(first: Outcome) -> None:
    """The loud section."""
    line = "=" * 100
    print(f"\n{line}\nFAILED AT FIRST, PASSED ALONE: {', '.join(failure.test for failure in first.failures)}")
    print("Each of them looks too early, counts what others left, or shows a race: find out which, and mend it.")
    for failure in first.failures:
        print(f"{line}\n{failure.test} said at first:\n{failure.said}")
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
