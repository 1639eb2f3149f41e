"""What two programs say to each other: a Call is answered by a Reply or a Fault with its id, a Cast by nothing."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Call", "Cast", "Fault", "Id", "Packet", "Params", "Reply"]

#: The id of a call (JSON-RPC 2.0, section 4). Null is an id like any other: a call with it is answered (rpc.B8).
Id = int | float | str | None

#: The arguments of a call: by name, or by position.
Params = dict[str, Any] | list[Any]


class Call(msgspec.Struct, frozen=True):
    """A request that is to be answered."""

    id: Id
    method: str
    params: Params = {}


class Cast(msgspec.Struct, frozen=True):
    """A request that nobody answers (a notification)."""

    method: str
    params: Params = {}


class Reply(msgspec.Struct, frozen=True):
    """The result of the call with this id."""

    id: Id
    result: Any = None


class Fault(msgspec.Struct, frozen=True):
    """The call with this id failed; the id is None if it could not be read.

    `code` is one of the codes in `codec.py`, `message` one sentence for people, `data` more of it for programs.
    """

    id: Id
    code: int
    message: str
    data: Any = None


Packet = Call | Cast | Reply | Fault
