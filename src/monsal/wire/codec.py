"""How packets are written: what every codec gives, and JSON-RPC 2.0 with one object a line.

`decode` and `encode` are for whoever holds a socket without a `Peer`; everybody else takes a codec.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from monsal.wire.codes import (
    BUSY,
    FORBIDDEN,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    REFUSED,
    TOO_LARGE,
)
from monsal.wire.jsonrpc import MAX_NESTING, JsonRpc
from monsal.wire.packets import Batch, Fault, Malformed, Packet

__all__ = [
    "BUSY",
    "FORBIDDEN",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "MAX_NESTING",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "REFUSED",
    "TOO_LARGE",
    "Codec",
    "Malformed",
    "decode",
    "encode",
]


class Codec(Protocol):
    """Writes packets as payloads of frames and reads them again."""

    @property
    def name(self) -> str:
        """The word for it in an expression, such as `jrpc`."""
        ...

    def encode(self, packet: Packet) -> bytes:
        """The payload of a packet. Raises EncodeError if a value in it cannot be carried."""
        ...

    def join(self, payloads: Sequence[bytes]) -> bytes:
        """One payload for several. Raises EncodeError if the codec knows no batches."""
        ...

    def decode(self, payload: bytes) -> Packet | Batch:
        """The packet in a payload. Raises Malformed, and nothing else, for any other bytes (rpc.B1)."""
        ...

    def value(self, raw: Any, kind: Any = Any) -> Any:
        """Params, result or part of one as a value of the type `kind`; what is no `msgspec.Raw` is converted.

        Raises msgspec.ValidationError if it does not fit.
        """
        ...

    def with_secinfo(self, secinfo: dict[str, Any], payload: bytes | None) -> list[bytes]:
        """The payloads that carry `secinfo` and, unless it goes alone, what it belongs to (rpc.R32).

        Raises EncodeError if the codec carries none.
        """
        ...

    def split_secinfo(self, payload: bytes) -> tuple[dict[str, Any], bytes | None] | None:
        """The secinfo in a payload, and what it belongs to; None for that if it comes next, None for all if none is."""
        ...


_codec = JsonRpc()


def decode(frame: bytes) -> Packet:
    """The packet that a frame holds. Raises Malformed, and nothing else, for any other bytes (rpc.B1)."""
    try:
        packet = _codec.decode(frame)
    except Malformed as error:
        fault = error.fault
        raise Malformed(Fault(fault.id, fault.code, f"{fault.message}: {error.detail}"), error.detail) from None
    if isinstance(packet, Batch):
        raise Malformed(Fault(None, INVALID_REQUEST, "a batch is not taken here; send one object a line"))
    return packet


def encode(packet: Packet) -> bytes:
    """The frame of a packet, newline included. Raises EncodeError if a value in it has no JSON form."""
    return _codec.encode(packet) + b"\n"
