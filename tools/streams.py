"""One run of pytest in several processes at once: each takes the next file of tests when it has ended one.

    streams, why = run(["tests"], 2, place)   # the arguments are those of pytest; place is for what it writes

The tests of a file stay together and in their order; a file is run by one stream alone, with all that pytest has for
one process: its own capture, time limits, signals and temporary directories. Tests marked `quiet` measure what company
disturbs (who is woken, processor time): they come last, when one stream is left and the others have ended.

A line is printed for each file that has ended, and for each test that failed at once; what pytest has to say is kept
for the end. A stream is a session of its own, so Ctrl-C reaches it through this process, once.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Part", "Plan", "Stream", "run"]

_OPTION = "--stream-on"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Tests of one file that are run one after the other: those that are `quiet`, or the others."""

    file: str
    is_quiet: bool
    tests: int


class Plan:
    """Which parts are left, and which streams are at work; may be asked from several threads."""

    def __init__(self, streams: int) -> None:
        self._change = threading.Condition()
        self._parts: list[Part] | None = None
        self._left: deque[Part] = deque()
        self._alive = set(range(streams))
        self._at_work = set(range(streams))
        self._ended = 0
        #: Why no more parts are given to anybody; empty as long as they are.
        self.stopped = ""

    def agree(self, parts: list[Part]) -> None:
        """A stream has collected its tests: all have to find the same."""
        with self._change:
            if self._parts is None:
                self._parts = parts
                self._left = deque(sorted(parts, key=lambda part: part.is_quiet))
            elif parts != self._parts:
                self.stop("the streams have found different tests")

    def take(self, stream: int) -> Part | None:
        """The next part for a stream, or None if there is none for it: then it is to end.

        With quiet parts only left, a stream is sent away while others are at work; the last one of them waits for the
        end of all others, and has these parts.
        """
        with self._change:
            if self._left and self._left[0].is_quiet and self._at_work == {stream}:
                self._change.wait_for(lambda: self._alive == {stream} or self.stopped)
            if self.stopped or not self._left or (self._left[0].is_quiet and self._alive != {stream}):
                self._at_work.discard(stream)
                return None
            return self._left.popleft()

    def ended(self, part: Part) -> int:
        """A part has been run: how many percent of all tests are done."""
        with self._change:
            self._ended += part.tests
            return self._ended * 100 // max(1, sum(part.tests for part in self._parts or ()))

    def leave(self, stream: int) -> None:
        """The process of a stream has ended; of its own accord if it was not sent away."""
        with self._change:
            if stream in self._at_work:
                self.stop(f"stream {stream + 1} has ended before its tests had")
            self._alive.discard(stream)
            self._change.notify_all()

    def stop(self, why: str) -> None:
        """Give no more parts to anybody; the first reason is kept."""
        with self._change:
            self.stopped = self.stopped or why
            self._change.notify_all()


# -- the part that hands out ---------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Stream:
    """One process of pytest: its number (from 0), its exit code, whether it came so far as to run tests, and its
    output, whole."""

    number: int
    process: subprocess.Popen[bytes]
    output: Path
    has_begun: bool = False

    @property
    def code(self) -> int:
        """As of subprocess: negative if a signal ended it."""
        return self.process.wait()

    def said(self) -> str:
        """All that it wrote."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def interrupt(self, number: int) -> None:
        """Send a signal to it and to what it has started, as a terminal does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)


def run(arguments: Sequence[str], number: int, place: Path) -> tuple[list[Stream], str]:
    """Run pytest in so many streams, and wait for their end. `{stream}` in an argument is the number of the stream,
    from 1; `place` is a directory for what they write.

    Returns the streams, and why not all tests were handed out: that is empty if they were. Ctrl-C, or a request to end
    (SIGTERM, SIGHUP), is passed to all streams; a second one kills them.
    """
    plan, lock = Plan(number), threading.Lock()
    streams, threads = [], []
    with _requests_to_end():
        try:
            for index in range(number):
                stream, connection = _start(arguments, index, place)
                streams.append(stream)
                threads += [
                    threading.Thread(target=_serve, args=(plan, stream, connection, lock)),
                    threading.Thread(target=_await_end, args=(plan, stream, connection)),
                ]
                for thread in threads[-2:]:
                    thread.start()
            _join(threads)
        except KeyboardInterrupt:
            plan.stop("interrupted")
            _end(streams, threads)
    return streams, plan.stopped


def _start(arguments: Sequence[str], index: int, place: Path) -> tuple[Stream, socket.socket]:
    mine, theirs = socket.socketpair()
    output = place / f"stream-{index + 1}.txt"
    # Each would write what it saw for `pytest --lf` over what the others did. What is asked for comes after, and holds.
    command = [sys.executable, "-m", "pytest", "-p", "tools.streams", f"{_OPTION}={theirs.fileno()}"]
    command += ["-p", "no:cacheprovider", "--override-ini=console_output_style=classic"]
    command += [f"--color={'yes' if sys.stdout.isatty() else 'no'}"]
    command += [part.replace("{stream}", str(index + 1)) for part in arguments]
    with theirs, output.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    return Stream(number=index, process=process, output=output), mine


def _serve(plan: Plan, stream: Stream, connection: socket.socket, lock: threading.Lock) -> None:
    """Answer one stream until it ends: each plan and each end of a part with the next part."""
    part: Part | None = None
    with connection, connection.makefile("rw", encoding="utf-8") as lines:
        for line in lines:
            told = json.loads(line)
            if "failed" in told:
                with lock:
                    print(f"       FAILED {told['failed']}", flush=True)
                continue
            if "plan" in told:
                plan.agree([Part(**entry) for entry in told["plan"]])
                stream.has_begun = bool(told["plan"])
            elif part is not None:
                percent = plan.ended(part)
                quiet = " (quiet)" if part.is_quiet else ""
                with lock:
                    print(f"[{percent:3d}%] {part.file}{quiet}: {told['ended']}", flush=True)
            part = plan.take(stream.number)
            try:
                lines.write(json.dumps(asdict(part) if part else None) + "\n")
                lines.flush()
            except OSError:  # it has ended meanwhile: `_await_end` says so to the plan
                return


def _await_end(plan: Plan, stream: Stream, connection: socket.socket) -> None:
    """Wait for the process itself: what a test has forked may hold the connection open for longer."""
    stream.process.wait()
    plan.leave(stream.number)
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # closed already: it was read to its end
        return


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


def _end(streams: Sequence[Stream], threads: Sequence[threading.Thread]) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        for stream in streams:
            stream.interrupt(number)
        try:
            _join(threads)
        except KeyboardInterrupt:
            continue
        return
    _join(threads)


@contextmanager
def _requests_to_end() -> Iterator[None]:
    """Each raises KeyboardInterrupt, unless it is ignored (nohup)."""
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -- the part that pytest loads: it runs the parts it is given -----------------------------------------------------


class _Runner:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._counts: Counter[str] = Counter()

    def _tell(self, **told: Any) -> None:
        self._connection.sendall(json.dumps(told).encode() + b"\n")

    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed or session.config.option.collectonly:
            return None  # pytest's own loop knows what to do
        found: dict[tuple[str, bool], list[pytest.Item]] = {}
        for item in session.items:
            key = (item.nodeid.partition("::")[0], item.get_closest_marker("quiet") is not None)
            found.setdefault(key, []).append(item)
        parts = [Part(file=file, is_quiet=quiet, tests=len(items)) for (file, quiet), items in found.items()]
        with self._connection.makefile("r", encoding="utf-8") as answers:
            self._tell(plan=[asdict(part) for part in parts])
            while part := self._next(session, answers.readline()):
                began = time.monotonic()
                self._counts.clear()
                self._run(session, found[part.file, part.is_quiet])
                said = [f"{count} {name}" for name, count in self._counts.items()]
                self._tell(ended=f"{', '.join(said)} in {time.monotonic() - began:.1f}s")
        return True

    def _next(self, session: pytest.Session, answer: str) -> Part | None:
        if not answer:
            raise session.Interrupted("who hands out the tests is gone")
        part = json.loads(answer)
        return Part(**part) if part else None

    def _run(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        # What comes next is not known yet: after a file all is torn down, what is of the whole session, too.
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._tell(failed=f"{report.nodeid} ({report.when})")
        if report.when == "call" or not report.passed:
            self._counts[report.outcome] += 1

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, tuple[str, str, Any], tuple[str, str, Any]]:
        """No letter for each test: the line of its file says as much."""
        category, _, word = yield
        return category, "", word


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(_OPTION, type=int, help="the descriptor on which tools.streams hands out the files")


def pytest_configure(config: pytest.Config) -> None:
    descriptor = config.getoption(_OPTION)
    if descriptor is not None:
        os.set_inheritable(descriptor, False)
        config.pluginmanager.register(_Runner(socket.socket(fileno=descriptor)))
