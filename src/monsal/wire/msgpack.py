"""The codec `msgpack`, for own processes: short arrays, bytes as they are (https://msgpack.org).

    [0, id, method, params, meta?]  Call     [1, method, params, meta?]  Cast     [2, id, result]  Reply
    [3, id, code, message, data?]   Fault    [4, [packet, ...]]          Batch    [5, secinfo, payload]

`meta` is [seconds left, trace, key]. There is no tag for a version: both sides are the same program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from monsal.wire.batches import batch_type, items_of
from monsal.wire.codes import INVALID_REQUEST, MESSAGES, PARSE_ERROR, TOO_LARGE
from monsal.wire.packets import Batch, Call, Cast, EncodeError, Fault, Id, Malformed, Meta, Packet, Reply

__all__ = ["MsgPack"]


class _Meta(msgspec.Struct, array_like=True):
    deadline: float | None = None
    trace: str = ""
    key: str = ""


class _Call(msgspec.Struct, array_like=True, tag=0, gc=False):
    id: Id
    method: str
    params: Any
    meta: _Meta | None = None


class _Cast(msgspec.Struct, array_like=True, tag=1, gc=False):
    method: str
    params: Any
    meta: _Meta | None = None


class _Reply(msgspec.Struct, array_like=True, tag=2, gc=False):
    id: Id
    result: Any


class _RawCall(msgspec.Struct, array_like=True, tag=0):
    id: Id
    method: str
    params: Raw
    meta: _Meta | None = None


class _RawCast(msgspec.Struct, array_like=True, tag=1):
    method: str
    params: Raw
    meta: _Meta | None = None


class _RawReply(msgspec.Struct, array_like=True, tag=2):
    id: Id
    result: Raw


class _Fault(msgspec.Struct, array_like=True, tag=3):
    id: Id
    code: int
    message: str
    data: Any = None


class _Head(msgspec.Struct, array_like=True):
    tag: Raw
    id: Raw
    method: Raw


class _Batch(msgspec.Struct, array_like=True, tag=4):
    items: Raw


class _Sealed(msgspec.Struct, array_like=True, tag=5):
    secinfo: dict[str, Any] | UnsetType = UNSET
    payload: bytes | None = None


_encode: Final = msgspec.msgpack.Encoder().encode
_sealed: Final = msgspec.msgpack.Decoder(_Sealed).decode
_syntax: Final = msgspec.msgpack.Decoder(Raw).decode
_head: Final = msgspec.msgpack.Decoder(_Head).decode
_id: Final = msgspec.msgpack.Decoder(Id).decode
#: What the params of a call begin with (specification of msgpack, formats): a map or an array.
_STRUCTURED: Final = frozenset({*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF})
#: An array of three, the first of them 5.
_SEALED: Final = b"\x93\x05"


class MsgPack:
    """With `raw`, params and results are left undecoded (`msgspec.Raw`), for whoever knows their types: see `value`.

    Nesting is bounded by the interpreter's own limit, about a thousand.
    """

    name = "msgpack"

    def __init__(self, *, raw: bool = False, batch: int = 100) -> None:
        self._raw = raw
        self._most = batch
        kinds = _RawCall | _RawCast | _RawReply | _Fault if raw else _Call | _Cast | _Reply | _Fault
        self._decode: Callable[[bytes | Raw], Any] = msgspec.msgpack.Decoder(kinds | _Batch).decode

    def encode(self, packet: Packet) -> bytes:
        """The array of a packet. Raises EncodeError if a value in it has no form in msgpack."""
        try:
            if isinstance(packet, Reply):
                return _encode(_Reply(packet.id, packet.result))
            if isinstance(packet, Call):
                return _encode(_Call(packet.id, packet.method, packet.params, _said_about(packet.meta)))
            if isinstance(packet, Fault):
                return _encode(_Fault(packet.id, packet.code, packet.message, packet.data))
            return _encode(_Cast(packet.method, packet.params, _said_about(packet.meta)))
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            raise EncodeError(f"it has no form in msgpack: {error}") from error

    def join(self, payloads: Sequence[bytes]) -> bytes:
        """A batch of what was encoded."""
        return _encode(_Batch(Raw(_encode([Raw(payload) for payload in payloads]))))

    def decode(self, payload: bytes) -> Packet | Batch:
        """The packet or batch in a payload. Raises Malformed, and nothing else, for any other bytes (rpc.B1)."""
        if payload[:2] == _SEALED and (split := self.split_secinfo(payload)) is not None:
            # Without security what others add is passed over, once.
            return self._packet(self._read(split[1] or b""))
        said = self._read(payload)
        return self._decode_batch(said.items) if type(said) is _Batch else self._packet(said)

    def value(self, raw: Any, kind: Any = Any) -> Any:
        """Params or a result as a value of the type `kind`. Raises msgspec.ValidationError if it does not fit."""
        if type(raw) is Raw:
            return msgspec.msgpack.decode(raw, type=kind)
        return raw if kind is Any else msgspec.convert(raw, kind)

    def with_secinfo(self, secinfo: dict[str, Any], payload: bytes | None) -> list[bytes]:
        """One payload with both in it."""
        return [_encode(_Sealed(secinfo, payload))]

    def split_secinfo(self, payload: bytes) -> tuple[dict[str, Any], bytes | None] | None:
        """The secinfo of a sealed payload, and what it belongs to."""
        if payload[:2] != _SEALED:
            return None
        try:
            sealed = _sealed(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return None if sealed.secinfo is UNSET else (sealed.secinfo, sealed.payload)

    def _read(self, payload: bytes | Raw) -> Any:
        try:
            return self._decode(payload)
        except msgspec.ValidationError as error:
            raise _explain(payload, str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _malformed(PARSE_ERROR, f"this is no msgpack: {error}") from None

    def _packet(self, said: Any) -> Packet:
        kind = type(said)
        if kind is _RawReply or kind is _Reply:
            return Reply(said.id, said.result)
        if kind is _Fault:
            return Fault(said.id, said.code, said.message, said.data)
        if kind is _Batch:
            raise _malformed(INVALID_REQUEST, "a batch within something else")
        is_call = kind is _RawCall or kind is _Call
        params = said.params
        if not (memoryview(params)[0] in _STRUCTURED if self._raw else isinstance(params, dict | list)):
            raise _malformed(INVALID_REQUEST, "params are a map or an array", said.id if is_call else None)
        meta = None if said.meta is None else Meta(said.meta.deadline, said.meta.trace, said.meta.key)
        return Call(said.id, said.method, params, meta) if is_call else Cast(said.method, params, meta)

    def _decode_batch(self, items: Raw) -> Batch:
        try:
            found = items_of(msgspec.msgpack.decode(items, type=batch_type(self._most)))
        except msgspec.ValidationError:
            raise _malformed(TOO_LARGE, f"no array, or a batch of more than {self._most}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _malformed(PARSE_ERROR, f"this is no msgpack: {error}") from None
        if not found:
            raise _malformed(INVALID_REQUEST, "an empty batch")
        packets: list[Packet | Malformed] = []
        for raw in found:
            try:
                packets.append(self._packet(self._read(raw)))
            except Malformed as error:
                packets.append(error)
        return Batch(tuple(packets))


def _said_about(meta: Meta | None) -> _Meta | None:
    return None if meta is None else _Meta(meta.deadline, meta.trace, meta.key)


def _malformed(code: int, detail: str, known: Id = None) -> Malformed:
    return Malformed(Fault(known, code, MESSAGES[code]), detail)


def _explain(payload: bytes | Raw, why: str) -> Malformed:
    """What is wrong with an array that is no packet, with the id if one can be made out; nothing else is made of it."""
    known: Id = None
    try:
        _syntax(payload)
        head = _head(payload)
        # Only the id of a call is one that the sender waits for.
        known = _id(head.id) if bytes(head.tag) == b"\0" else None
    except msgspec.ValidationError:
        return _malformed(INVALID_REQUEST, f"not a packet: {why}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _malformed(PARSE_ERROR, f"this is no msgpack: {error}")
    return _malformed(INVALID_REQUEST, f"not a packet: {why}", known)
