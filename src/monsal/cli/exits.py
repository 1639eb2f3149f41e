"""Exit codes, after sysexits.h, and which error ends in which (docs/interface.md)."""

from __future__ import annotations

from monsal import errors
from monsal.errors import (
    AddressError,
    MonsalError,
    NoAnswer,
    NotRunning,
    RemoteFault,
    StoreCorrupt,
    StoreLocked,
    StoreNewer,
    StoreUnavailable,
    UsageError,
)

__all__ = [
    "CANNOT_CREATE",
    "DATA",
    "FAILED",
    "INTERRUPTED",
    "OK",
    "TRY_AGAIN",
    "UNAVAILABLE",
    "USAGE",
    "CannotCreate",
    "exit_code",
]

OK = 0
FAILED = 1
USAGE = 64
DATA = 65
UNAVAILABLE = 69
CANNOT_CREATE = 73
TRY_AGAIN = 75
#: Ended by Ctrl-C, as the shell counts it: 128 and the number of SIGINT.
INTERRUPTED = 130


class CannotCreate(MonsalError):
    """A file or directory that is needed cannot be made where it should be."""


_CODES: tuple[tuple[type[MonsalError], int], ...] = (
    (UsageError, USAGE),
    (CannotCreate, CANNOT_CREATE),
    (AddressError, DATA),
    (StoreCorrupt, DATA),
    (StoreNewer, DATA),
    (StoreLocked, TRY_AGAIN),
    (StoreUnavailable, TRY_AGAIN),
    (NotRunning, TRY_AGAIN),
    (NoAnswer, TRY_AGAIN),
)


def exit_code(error: BaseException) -> int:
    """The code that a command ends with when it was stopped by `error`."""
    kind: type[BaseException] = type(error)
    if isinstance(error, RemoteFault):
        # What the server said no for counts as if it had happened here.
        there = getattr(errors, error.kind, None)
        kind = there if isinstance(there, type) and issubclass(there, MonsalError) else MonsalError
    return next((code for known, code in _CODES if issubclass(kind, known)), FAILED)
