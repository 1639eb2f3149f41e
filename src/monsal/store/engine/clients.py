"""What becomes of the leases and mails of a process that asked for them, when it is gone or has come back.

Each function is one operation on `Data`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from monsal.store.contract import Fence
from monsal.store.engine import spool
from monsal.store.engine.data import Data
from monsal.store.engine.outbox import open_status

__all__ = ["Left", "Running", "came_back", "extend", "gone", "let_go"]


class Left(NamedTuple):
    """What a process had that is gone: its number, its leases, the outgoing rows it was sending, and the rows whose
    handlers ran when it was killed (none if it said goodbye)."""

    owner: int
    leases: Sequence[tuple[str, int]]
    sending: Sequence[int]
    running: Sequence[int]


def gone(data: Data, left: Left, now: float) -> list[int]:
    """Let others have what it had; rows that died with it three times are dead letters now, and are returned.

    The kills are counted in the same operation that frees the rows: no one can claim a suspect before (P6).
    """
    own = {counter for _, counter in left.leases}
    # A row that another process holds by now is run by that one, whatever this one did with it before.
    others = {queue.row for queue in data.schedule.leased.values() if queue.counter not in own}
    dead = spool.killed(data, [row for row in left.running if row not in others], now) if left.running else []
    for lease_key, counter in left.leases:
        queue = data.schedule.holder(lease_key, counter)
        if queue is not None and data.schedule.settle(queue, removed=0, head=data.head(lease_key)):
            data.more_work = True
    if data.schedule.let_go(left.owner):
        data.more_work = True
    given_back = [row for row in left.sending if data.sending.pop(row, None) is not None]
    if given_back:
        data.next_mail = 0.0
        data.more_mail = True
    return dead


class Running(NamedTuple):
    """What a process says it is at, when it comes to a new opening of the store: lease keys whose turns still run, each
    with the end of its lease, and outgoing rows that the relay has."""

    owner: int
    keys: Sequence[tuple[str, float]]
    sending: Sequence[int]


def came_back(data: Data, running: Running) -> list[int]:
    """Keep from others what it is at (P3, and a mail is not sent twice); the outgoing rows that are kept for it."""
    for key, until in running.keys:
        data.schedule.keep(running.owner, key, until)
    kept = []
    for row in running.sending:
        status = None if row in data.sending else open_status(data, row)
        if status is not None:
            data.sending[row] = status
            data.fresh_mail.pop(row)
            kept.append(row)
    return kept


def let_go(data: Data, owner: int, key: str) -> None:
    """Its turn for this key has ended."""
    if data.schedule.let_go(owner, (key,)):
        data.more_work = True


def extend(data: Data, owner: int, leases: Sequence[tuple[str, Fence]], until: float) -> list[bool]:
    """Prolong leases, as `spool.extend`. Those of an earlier opening are worth nothing, but their turns still run."""
    for key, fence in leases:
        if fence.epoch != data.epoch and data.schedule.kept.has(owner, key):
            data.schedule.keep(owner, key, until)
    return spool.extend(data, leases, until)
