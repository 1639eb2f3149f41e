"""What those who run an application, or have it run by others, tell each other: values, without what runs it.

The supervisor of a server with workers needs no more: it loads neither engine nor conversations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from monsal.routing import Router

if TYPE_CHECKING:
    from monsal.actors import ActorSpec, GroupSpec
    from monsal.conversation import Entrance
    from monsal.exposure import Exposure
    from monsal.http import Mount

__all__ = ["Doing", "DrainReport", "OnFailure", "Parts"]

OnFailure = Callable[[BaseException], None]


class Doing(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the service in a few words: what it is doing now, and what is wrong with it (None: nothing)."""

    doing: str = ""
    health: str | None = None


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What an App is made of, as far as running it is concerned.

    `entrances` are those of its engines that are open here: the application's own code asks them. `actors` are its own,
    `mounts` what it serves by HTTP.
    """

    router: Router
    states: Any
    tables: Sequence[str]
    templates: Path
    exposures: Sequence[Exposure]
    entrances: list[Entrance]
    actors: Sequence[ActorSpec | GroupSpec] = ()
    mounts: Sequence[Mount] = ()


class DrainReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the work that was there when a server began to stop (B12).

    `turns` were committed and `sent` mails left since then, within `seconds`. `abandoned` messages ran too long and go
    back to the spool; `in_flight` mails had no answer of the relay yet and are sent again, byte for byte the same.
    `waiting` messages and `outbox` mails stay stored for the next start, those two included.
    """

    seconds: float
    turns: int
    abandoned: int
    sent: int
    in_flight: int
    waiting: int
    outbox: int

    def __str__(self) -> str:
        left = []
        if self.waiting:
            again = f" ({self.abandoned} of them ran and will be handled again)" if self.abandoned else ""
            left.append(f"{_count(self.waiting, 'message')}{again}")
        if self.outbox:
            again = f" ({self.in_flight} of them had no answer yet and will be sent again)" if self.in_flight else ""
            left.append(f"{_count(self.outbox, 'outgoing mail')}{again}")
        kept = f"; stored for the next start: {' and '.join(left)}" if left else "; nothing is left"
        done = f"{_count(self.turns, 'turn')} ended, {_count(self.sent, 'mail')} sent"
        return f"drained in {self.seconds:.1f} s: {done}{kept}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
