"""JSON-RPC 2.0 (https://www.jsonrpc.org/specification), one object a frame; batches are refused.

`decode` takes one frame apart and tells exactly what is wrong with it; `encode` makes one.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from monsal.errors import ProtocolError
from monsal.wire.packets import Call, Cast, Fault, Id, Packet, Params, Reply

__all__ = [
    "BUSY",
    "FORBIDDEN",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "REFUSED",
    "TOO_LARGE",
    "Malformed",
    "decode",
    "encode",
]

# Section 5.1 of the specification.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
# Ours, from the range left to servers (rpc.B8).
BUSY = -32000
FORBIDDEN = -32003
TOO_LARGE = -32004
#: The method ran and said no; `data.kind` is the name of its exception.
REFUSED = -32010

#: Lists and objects within each other (rpc.B7).
MAX_NESTING = 64


class Malformed(ProtocolError):
    """A frame is no packet. `fault` is the answer that its sender is owed."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class _Error(msgspec.Struct):
    code: int
    message: str
    data: Any = None


class _Object(msgspec.Struct):
    jsonrpc: Literal["2.0"]
    method: str | UnsetType = UNSET
    params: Params | UnsetType = UNSET
    id: Id | UnsetType = UNSET
    result: Any = UNSET
    error: _Error | UnsetType = UNSET


_decoder = msgspec.json.Decoder(_Object)
_encoder = msgspec.json.Encoder()


def decode(frame: bytes) -> Packet:
    """The packet that a frame holds. Raises Malformed, and nothing else, for any other bytes (rpc.B1)."""
    try:
        _check_nesting(frame)
        return _packet(_decoder.decode(frame))
    except msgspec.ValidationError as error:
        raise Malformed(_explain(frame, str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(Fault(None, PARSE_ERROR, f"this is no JSON: {error}")) from None


def _packet(said: _Object) -> Packet:
    given = (said.method is not UNSET) + (said.result is not UNSET) + (said.error is not UNSET)
    if given != 1:
        raise msgspec.ValidationError("Object must have exactly one of `method`, `result` and `error`")
    if not isinstance(said.method, UnsetType):
        params = {} if isinstance(said.params, UnsetType) else said.params
        if isinstance(said.id, UnsetType):
            return Cast(said.method, params)
        return Call(said.id, said.method, params)
    if isinstance(said.id, UnsetType):
        raise msgspec.ValidationError("Object missing required field `id`")
    if not isinstance(said.error, UnsetType):
        return Fault(said.id, said.error.code, said.error.message, said.error.data)
    return Reply(said.id, said.result)


# Possessive, and content with an open end, so that it is linear for any bytes.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(octet for octet in range(256) if octet not in b"[]{}")
_ONE_KIND = bytes.maketrans(b"{}", b"[]")


def _check_nesting(frame: bytes) -> None:
    if frame.count(b"[") + frame.count(b"{") <= MAX_NESTING:
        return
    brackets = _STRING.sub(b"", frame).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(MAX_NESTING):  # each round takes the innermost level away
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise Malformed(Fault(None, PARSE_ERROR, f"unbalanced, or nested more than {MAX_NESTING} deep"))


def _explain(frame: bytes, why: str) -> Fault:
    """The fault for a frame that is no packet, with the id if one can be made out."""
    try:
        said = msgspec.json.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Fault(None, PARSE_ERROR, f"this is no JSON: {error}")
    if isinstance(said, list):
        return Fault(None, INVALID_REQUEST, "a batch is not taken here; send one object a line")
    if not isinstance(said, dict):
        return Fault(None, INVALID_REQUEST, "not a JSON-RPC object")
    given = said.get("id")
    known: Id = given if isinstance(given, int | float | str) and not isinstance(given, bool) else None
    return Fault(known, INVALID_REQUEST, f"not a JSON-RPC 2.0 object: {why}")


def encode(packet: Packet) -> bytes:
    """The frame of a packet, newline included.

    Raises TypeError or ValueError if a value in it has no JSON form.
    """
    said: dict[str, Any] = {"jsonrpc": "2.0"}
    match packet:
        case Call():
            said |= {"method": packet.method, "params": packet.params, "id": packet.id}
        case Cast():
            said |= {"method": packet.method, "params": packet.params}
        case Reply():
            said |= {"result": packet.result, "id": packet.id}
        case Fault():
            error: dict[str, Any] = {"code": packet.code, "message": packet.message}
            if packet.data is not None:
                error["data"] = packet.data
            said |= {"error": error, "id": packet.id}
    return _encoder.encode(said) + b"\n"
