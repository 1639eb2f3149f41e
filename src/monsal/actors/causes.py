"""Why an actor ended: a typed cause, worked out from what the system says and what its parent knew (mailbox.B9).

Pure: `cause_of` takes the status of `waitid` and a `Knowledge`, and gives an `Exit`.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum

import msgspec

__all__ = ["Exit", "ExitKind", "Knowledge", "Status", "cause_of"]

#: How much of what a child said before it was ready is kept: the end of a traceback names the error.
BOOT_OUTPUT = 8192


class ExitKind(StrEnum):
    """The kinds of an end. Only `NORMAL` and `SHUTDOWN` are in order."""

    #: It came to its end by itself, with exit code 0.
    NORMAL = "normal"
    #: It ended because it was asked to.
    SHUTDOWN = "shutdown"
    #: It ended with another exit code.
    EXIT = "exit"
    #: A signal ended it that its parent had not sent.
    SIGNAL = "signal"
    #: The kernel ended it because memory ran out.
    OOM = "oom"
    #: It stopped giving signs of life, and its parent ended it.
    HANG = "hang"
    #: It had not ended in the time it was given, and its parent ended it by force.
    KILLED = "killed"
    #: Its parent was gone.
    PARENT_LOST = "parent_lost"
    #: Its code could not be imported.
    IMPORT_ERROR = "import_error"
    #: It ended, or took too long, before it was ready, for another reason than its import.
    START_FAILED = "start_failed"


_ORDERLY = frozenset({ExitKind.NORMAL, ExitKind.SHUTDOWN})


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """The cause of an end.

    `code` is the exit code if it ended by itself, `signal` the number of the signal if one ended it; at most one of
    them is set. `detail` is for people: an error, its traceback, what was going on. `stack` has the stacks of a hang.
    """

    kind: ExitKind
    code: int | None = None
    signal: int | None = None
    detail: str = ""
    stack: str = ""

    @property
    def is_abnormal(self) -> bool:
        """Whether a transient actor is started again after it."""
        return self.kind not in _ORDERLY

    def __str__(self) -> str:
        how = _HOW[self.kind]
        ended = f"exit code {self.code}" if self.code is not None else _signal_name(self.signal)
        words = f"{how} ({ended})" if ended and not (self.kind in _ORDERLY and self.code == 0) else how
        first = next((line for line in reversed(self.detail.splitlines()) if line.strip()), "")
        return f"{words}: {first.strip()}" if first else words


_HOW = {
    ExitKind.NORMAL: "came to its end",
    ExitKind.SHUTDOWN: "was stopped",
    ExitKind.EXIT: "ended with an error",
    ExitKind.SIGNAL: "was ended by a signal",
    ExitKind.OOM: "was ended because memory ran out",
    ExitKind.HANG: "hung and was ended",
    ExitKind.KILLED: "did not stop in time and was ended by force",
    ExitKind.PARENT_LOST: "lost its parent",
    ExitKind.IMPORT_ERROR: "could not import its code",
    ExitKind.START_FAILED: "could not start",
}


def _signal_name(number: int | None) -> str:
    if number is None:
        return ""
    try:
        return signal.Signals(number).name
    except ValueError:  # a realtime signal between SIGRTMIN and SIGRTMAX has no name
        return f"signal {number}"


class Status(msgspec.Struct, frozen=True):
    """How a process ended: its exit code, or the signal that ended it; the other one is None."""

    code: int | None = None
    signal: int | None = None

    @classmethod
    def of_waitid(cls, how: int, status: int) -> Status:
        """From `si_code` and `si_status` of `os.waitid(..., os.WEXITED)`."""
        return cls(code=status) if how == os.CLD_EXITED else cls(signal=status)

    @classmethod
    def of_returncode(cls, returncode: int) -> Status:
        """From `Popen.returncode`, where a negative number is a signal."""
        return cls(code=returncode) if returncode >= 0 else cls(signal=-returncode)


class Knowledge(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent of an actor knew when it ended.

    was_ready: it had said that it is ready. asked_to_stop: the parent had asked it to end. killed: the parent had sent
    SIGKILL because its time was over. hung: the parent ended it because it gave no sign of life; `stack` is what was
    seen before. out_of_memory: the counter of killed processes of its control group went up. said: the kind that the
    child named itself in its last words, for example an import error. boot_output: what it wrote on its standard
    error before it was ready. detail: what else is known for people, for example its last turn.
    """

    was_ready: bool = True
    asked_to_stop: bool = False
    killed: bool = False
    hung: bool = False
    out_of_memory: bool = False
    said: ExitKind | None = None
    boot_output: str = ""
    stack: str = ""
    detail: str = ""


def cause_of(status: Status, knew: Knowledge) -> Exit:
    """Why an actor ended: what its parent did to it first, then what it said, then what the system says."""
    kind = _kind_of(status, knew)
    detail = knew.detail
    if not knew.was_ready and kind in {ExitKind.IMPORT_ERROR, ExitKind.START_FAILED, ExitKind.OOM}:
        detail = "\n".join(text for text in (knew.detail, knew.boot_output[-BOOT_OUTPUT:].rstrip()) if text)
    return Exit(kind=kind, code=status.code, signal=status.signal, detail=detail, stack=knew.stack)


def _kind_of(status: Status, knew: Knowledge) -> ExitKind:
    if knew.hung:
        return ExitKind.HANG
    # The kernel kills by SIGKILL. So do we, but where memory ran out that is the reason to tell.
    if status.signal == signal.SIGKILL and knew.out_of_memory:
        return ExitKind.OOM
    if knew.said is not None:
        return knew.said
    if knew.killed and status.signal == signal.SIGKILL:
        return ExitKind.KILLED if knew.was_ready or knew.asked_to_stop else ExitKind.START_FAILED
    if knew.asked_to_stop and (status.code == 0 or status.signal == signal.SIGTERM):
        return ExitKind.SHUTDOWN
    if not knew.was_ready:
        return ExitKind.START_FAILED
    if status.signal is not None:
        return ExitKind.SIGNAL
    return ExitKind.NORMAL if status.code == 0 else ExitKind.EXIT
