"""What a turn's commit says about who somebody is: `contract.TurnCommit.identity`."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["ASKED", "KEEP_USED", "Aside", "Consumed", "Identity", "Released"]

#: Seconds for which a store knows at least that a capability was used, after it is not valid any more. A message that
#: was accepted in time may be handled later than that, as a dead letter that is replayed: then nobody can tell.
KEEP_USED: Final = 90 * 86400.0
#: How the reason of a row begins that waits for somebody who was asked: by this they are counted after a restart.
ASKED: Final = "waits for "


class Consumed(msgspec.Struct, frozen=True, array_like=True):
    """A capability that only one message may use; `expires` is when it is of no use any more, in epoch seconds.

    If another message has used it, the commit is a Conflict of no states.
    """

    token: str
    expires: float


class Aside(msgspec.Struct, frozen=True, array_like=True):
    """The row waits until its correspondent confirms it, outside of its queue; at `until` it is dropped.

    With `hourly` somebody is asked to confirm it. If `limit` others of the correspondent wait like that, or if `hourly`
    were asked within the hour, of all correspondents together, the commit is a Conflict of no states.
    """

    correspondent: str
    until: float
    limit: int
    hourly: int | None = None


class Released(msgspec.Struct, frozen=True, array_like=True):
    """A row that stands aside goes back to its queue, with this `envelope`.

    If it does not stand aside any more, the commit is a Conflict of no states.
    """

    message: int
    envelope: bytes


class Identity(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Parts of one commit: capabilities that it uses up, rows that it releases, how its own row waits (with the Ack
    `aside`). `envelope` replaces that of its row: what was found out about a message is kept there.
    """

    consumes: tuple[Consumed, ...] = ()
    aside: Aside | None = None
    releases: tuple[Released, ...] = ()
    envelope: bytes | None = None
