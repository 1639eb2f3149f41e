"""Why an actor ended: from what the system says and what its parent knew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import msgspec
import pytest

from monsal.actors import Exit, ExitKind, Knowledge, Status, cause_of

pytestmark = pytest.mark.rule("mailbox.B9")

FINE, ERROR = Status(code=0), Status(code=3)
KILL, TERM, SEGV = (Status(signal=number) for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV))


@pytest.mark.parametrize(
    ("status", "knew", "kind"),
    [
        (FINE, Knowledge(), ExitKind.NORMAL),
        (ERROR, Knowledge(), ExitKind.EXIT),
        (SEGV, Knowledge(), ExitKind.SIGNAL),
        (KILL, Knowledge(), ExitKind.SIGNAL),
        (TERM, Knowledge(), ExitKind.SIGNAL),
        # It was asked to stop: in order, unless it ended in another way.
        (FINE, Knowledge(asked_to_stop=True), ExitKind.SHUTDOWN),
        (TERM, Knowledge(asked_to_stop=True), ExitKind.SHUTDOWN),
        (ERROR, Knowledge(asked_to_stop=True), ExitKind.EXIT),
        (SEGV, Knowledge(asked_to_stop=True), ExitKind.SIGNAL),
        (KILL, Knowledge(asked_to_stop=True), ExitKind.SIGNAL),
        (KILL, Knowledge(asked_to_stop=True, killed=True), ExitKind.KILLED),
        (FINE, Knowledge(asked_to_stop=True, killed=True), ExitKind.SHUTDOWN),
        (FINE, Knowledge(asked_to_stop=True, was_ready=False), ExitKind.SHUTDOWN),
        # Memory ran out: whoever else sent SIGKILL. A crash while memory was short is a crash.
        (KILL, Knowledge(out_of_memory=True), ExitKind.OOM),
        (KILL, Knowledge(out_of_memory=True, asked_to_stop=True, killed=True), ExitKind.OOM),
        (KILL, Knowledge(out_of_memory=True, was_ready=False), ExitKind.OOM),
        (SEGV, Knowledge(out_of_memory=True), ExitKind.SIGNAL),
        # It hung: however it ended then.
        (KILL, Knowledge(hung=True, killed=True), ExitKind.HANG),
        (FINE, Knowledge(hung=True, asked_to_stop=True), ExitKind.HANG),
        # It never was ready.
        (ERROR, Knowledge(was_ready=False), ExitKind.START_FAILED),
        (FINE, Knowledge(was_ready=False), ExitKind.START_FAILED),
        (SEGV, Knowledge(was_ready=False), ExitKind.START_FAILED),
        (KILL, Knowledge(was_ready=False, killed=True), ExitKind.START_FAILED),
        (ERROR, Knowledge(was_ready=False, said=ExitKind.IMPORT_ERROR), ExitKind.IMPORT_ERROR),
        # It said it itself.
        (ERROR, Knowledge(said=ExitKind.PARENT_LOST), ExitKind.PARENT_LOST),
    ],
)
def test_the_kind_of_an_end(status: Status, knew: Knowledge, kind: ExitKind) -> None:
    cause = cause_of(status, knew)
    assert (cause.kind, cause.code, cause.signal) == (kind, status.code, status.signal)


def test_only_two_kinds_are_in_order() -> None:
    assert {kind for kind in ExitKind if not Exit(kind=kind).is_abnormal} == {ExitKind.NORMAL, ExitKind.SHUTDOWN}


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("pass", Status(code=0)),
        ("raise SystemExit(15)", Status(code=15)),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Status(signal=9)),
        ("import os, signal; os.kill(os.getpid(), signal.SIGABRT)", Status(signal=6)),
    ],
)
def test_the_status_of_real_processes(program: str, status: Status) -> None:
    """An exit code is never taken for a signal: 15 is not SIGTERM (B13)."""
    child = subprocess.Popen([sys.executable, "-c", program])
    seen = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert seen is not None
    assert Status.of_waitid(seen.si_code, seen.si_status) == status
    assert Status.of_returncode(child.wait()) == status


def test_what_a_child_said_before_it_was_ready_is_told() -> None:
    said = "Traceback (most recent call last):\n  ...\nModuleNotFoundError: No module named 'orders'\n"
    knew = Knowledge(was_ready=False, said=ExitKind.IMPORT_ERROR, boot_output=said, detail="generation 2")
    cause = cause_of(Status(code=1), knew)
    assert cause.detail == f"generation 2\n{said.rstrip()}"
    assert str(cause) == "could not import its code (exit code 1): ModuleNotFoundError: No module named 'orders'"
    assert cause_of(Status(code=1), Knowledge(boot_output=said)).detail == "", "that was long ago"
    long = cause_of(Status(code=1), Knowledge(was_ready=False, boot_output="x" * 100_000 + "\nthe end"))
    assert len(long.detail) <= 8192
    assert long.detail.endswith("the end")


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (Exit(kind=ExitKind.NORMAL, code=0), "came to its end"),
        (Exit(kind=ExitKind.SHUTDOWN, code=0), "was stopped"),
        (Exit(kind=ExitKind.SHUTDOWN, signal=15), "was stopped (SIGTERM)"),
        (Exit(kind=ExitKind.EXIT, code=3), "ended with an error (exit code 3)"),
        (Exit(kind=ExitKind.SIGNAL, signal=11, detail="turn 7\n"), "was ended by a signal (SIGSEGV): turn 7"),
        (Exit(kind=ExitKind.SIGNAL, signal=40), "was ended by a signal (signal 40)"),
        (Exit(kind=ExitKind.PARENT_LOST), "lost its parent"),
    ],
)
def test_words_for_people(cause: Exit, text: str) -> None:
    assert str(cause) == text


def test_a_cause_travels_as_data() -> None:
    cause = Exit(kind=ExitKind.HANG, signal=9, detail="turn 7", stack="Thread 0x1 ...")
    data = msgspec.msgpack.encode(cause)
    assert msgspec.msgpack.decode(data, type=Exit) == cause
