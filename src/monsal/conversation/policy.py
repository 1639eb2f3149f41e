"""What follows from a failure, and which replies must not leave: decisions without input or output.

Pure: time and what is known are arguments.
"""

from __future__ import annotations

from traceback import format_exception_only
from typing import Literal

import msgspec

from monsal.backoff import HANDLER_RETRIES, Schedule
from monsal.errors import Reject, Retry
from monsal.store.contract import Ack

__all__ = ["MAX_HOPS", "Failure", "after_failure", "final_ack", "is_ping_pong", "is_transient", "suppression"]

#: Programs that answer each other, one mail after the other, before the next one says nothing, whatever its code says.
MAX_HOPS = 8
#: Kills of the process by one message after which it is a dead letter (P6).
MAX_KILLS = 3


class Failure(msgspec.Struct, frozen=True):
    """A handler call that did not end well.

    `transient` says whether another try may help, `wait` the seconds until then (None when the tries are used up
    or make no sense); `reason` is one line, `detail` the traceback.
    """

    handler: str
    error: BaseException
    transient: bool
    wait: float | None
    reason: str
    detail: str


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later (DESIGN 4, *Failure*)."""
    if isinstance(error, Reject):
        return error.code < 500
    return isinstance(error, (Retry, ConnectionError, TimeoutError))


def after_failure(
    handler: str,
    error: BaseException,
    *,
    attempts: int,
    detail: str,
    text: str = "",
    schedule: Schedule = HANDLER_RETRIES,
) -> Failure:
    """Judge the failure of a handler. `attempts` counts the failed tries before this one.

    `text` is the error in words, made where the handler ran: its `__str__` is the application's code, and may fail.
    """
    transient = is_transient(error)
    wait = schedule.delay(attempts + 1) if transient else None
    if wait is not None and isinstance(error, Retry) and error.after is not None:
        wait = error.after
    words = (text or "".join(format_exception_only(error)[-1:])).strip().splitlines() or [type(error).__name__]
    reason = words[0][:300]
    if transient and wait is None:
        reason = f"given up after {attempts + 1} tries: {reason}"
    return Failure(handler, error, transient, wait, f"{handler}: {reason}", detail)


def final_ack(failures: list[Failure], *, now: float, on_failure: Literal["dead", "hold"], called: int) -> Ack:
    """What becomes of a message when no handler of its plan is left.

    `called` counts the handlers that were chosen for it, in this try and before: none at all is a dead letter too.
    """
    waits = [failure.wait for failure in failures if failure.wait is not None]
    if waits:
        return Ack(kind="defer", due=now + min(waits), reason=failures[-1].reason, detail=failures[-1].detail)
    if failures:
        # A handler that refuses a message has handled it: the sender is told, nobody has to look at it.
        refused = all(isinstance(failure.error, Reject) and not failure.transient for failure in failures)
        return Ack(
            kind="drop" if refused else "hold" if on_failure == "hold" else "dead",
            reason=failures[0].reason,
            detail="\n".join(failure.detail for failure in failures),
            tried=True,
        )
    if not called:
        return Ack(kind="dead", reason="no_handler_in_state")
    return Ack(kind="done")


def suppression(*, automatic: str | None, from_ourselves: bool, replies: int, limit: int | None) -> str | None:
    """Why a mail to the correspondent must not leave (DESIGN 4, *Loops*), or None.

    `automatic` is the reason why the message that is answered counts as automatic; `from_ourselves` whether one of
    our own addresses wrote it; `replies` how many mails went to this correspondent within the last hour, `limit` how
    many may.
    """
    if from_ourselves:
        return "the message comes from one of our own addresses"
    if automatic is not None:
        return f"the message is automatic ({automatic})"
    if limit is not None and replies >= limit:
        return f"{replies} mails went to this correspondent within an hour"
    return None


def is_ping_pong(*, quick: int, replies: int, limit: int | None, lease_key: str) -> bool:
    """Whether a correspondent looks like another program, although its mails look like a person's.

    That is: the limit of mails within an hour is reached, and as many times in a row the answer came at once (`quick`,
    see `ReplyBudget.arrived`). Such a conversation is held for a person to look at. Not where all correspondents stand
    in one queue (`@...`): the others must not wait for one.
    """
    return limit is not None and 0 < limit <= replies and quick >= limit and not lease_key.startswith("@")
