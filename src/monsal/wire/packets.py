"""What two programs say to each other: a Call is answered by a Reply or a Fault with its id, a Cast by nothing."""

from __future__ import annotations

from typing import Any

import msgspec

from monsal.errors import MonsalError, ProtocolError
from monsal.wire.codes import INTERNAL_ERROR

__all__ = [
    "Batch",
    "Call",
    "Cast",
    "EncodeError",
    "Fault",
    "Id",
    "Malformed",
    "Meta",
    "Packet",
    "Params",
    "Reply",
]

#: The id of a call (JSON-RPC 2.0, section 4). Null is an id like any other: a call with it is answered (rpc.B8).
Id = int | float | str | None

#: The arguments of a call: by name, or by position. Raw if the codec was asked to leave them undecoded.
Params = dict[str, Any] | list[Any] | msgspec.Raw


class Meta(msgspec.Struct, frozen=True):
    """What is said about a call besides its arguments; only to a side that said hello (rpc.B11).

    `deadline` is how many seconds are left for the answer, `trace` a W3C traceparent, `key` what makes a repetition
    of the call known as one.
    """

    deadline: float | None = None
    trace: str = ""
    key: str = ""


class Call(msgspec.Struct, frozen=True):
    """A request that is to be answered."""

    id: Id
    method: str
    params: Params = {}
    meta: Meta | None = None


class Cast(msgspec.Struct, frozen=True):
    """A request that nobody answers (a notification)."""

    method: str
    params: Params = {}
    meta: Meta | None = None


class Reply(msgspec.Struct, frozen=True):
    """The result of the call with this id."""

    id: Id
    result: Any = None


class Fault(msgspec.Struct, frozen=True):
    """The call with this id failed; the id is None if it could not be read.

    `code` is one of the numbers in `codes.py`, `message` one sentence for people, `data` more of it for programs.
    """

    id: Id
    code: int
    message: str
    data: Any = None


class Batch(msgspec.Struct, frozen=True):
    """Several packets in one frame; an item that is no packet stands there as the Malformed that tells why."""

    items: tuple[Any, ...]


Packet = Call | Cast | Reply | Fault


class Malformed(ProtocolError):
    """A frame is no packet. `fault` is the answer that its sender is owed, `detail` what exactly is wrong."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        super().__init__(f"{fault.message}: {detail}" if detail else fault.message)
        self.fault = fault
        self.detail = detail


class EncodeError(MonsalError, ValueError):
    """A value cannot be carried by the codec, or (TOO_LARGE) the frame would be longer than the other side takes."""

    def __init__(self, message: str, code: int = INTERNAL_ERROR) -> None:
        super().__init__(message)
        self.code = code
