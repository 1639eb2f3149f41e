"""JSON-RPC 2.0 (https://www.jsonrpc.org/specification) in full, batches included (rpc.R31, rpc.B8)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from monsal.wire.batches import batch_type, items_of
from monsal.wire.codes import INVALID_REQUEST, MESSAGES, PARSE_ERROR, TOO_LARGE
from monsal.wire.nesting import is_too_deep
from monsal.wire.packets import Batch, Call, Cast, EncodeError, Fault, Id, Malformed, Meta, Packet, Reply

__all__ = ["MAX_NESTING", "SECINFO", "JsonRpc", "bytes_of"]

#: Lists and objects within each other (rpc.B7).
MAX_NESTING = 64
#: The method of the notification that carries secinfo (rpc.R32).
SECINFO = "rpc.secinfo"


class _Error(msgspec.Struct, omit_defaults=True):
    code: int
    message: str
    data: Any = None


class _Object(msgspec.Struct):
    jsonrpc: Literal["2.0"]
    method: str | UnsetType = UNSET
    params: dict[str, Any] | list[Any] | UnsetType = UNSET
    id: Id | UnsetType = UNSET
    result: Any = UNSET
    error: _Error | UnsetType = UNSET
    meta: Raw = Raw()


class _RawObject(msgspec.Struct):
    jsonrpc: Literal["2.0"]
    method: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    id: Id | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: _Error | UnsetType = UNSET
    meta: Raw = Raw()


class _Named(msgspec.Struct):
    id: Raw = Raw()


class _Meta(msgspec.Struct, omit_defaults=True):
    deadline_ms: int | float | None = None
    trace: str = ""
    key: str = ""


# The tag comes first, then the members as they stand here: the order of the specification's examples.
class _Request(msgspec.Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    method: str
    params: Any
    id: Id | UnsetType = UNSET
    meta: _Meta | UnsetType = UNSET


class _Result(msgspec.Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    result: Any
    id: Id


class _Failure(msgspec.Struct, tag_field="jsonrpc", tag="2.0"):
    error: _Error
    id: Id


_encode: Final = msgspec.json.Encoder().encode
_syntax: Final = msgspec.json.Decoder(Raw).decode
_named: Final = msgspec.json.Decoder(_Named).decode
_id: Final = msgspec.json.Decoder(Id).decode
#: How an id begins that is a number or a text.
_ID: Final = b'-0123456789"'
_meta: Final = msgspec.json.Decoder(_Meta).decode
#: A deadline in seconds that is none: JSON has no infinity.
_LONG: Final = 1e9
_ONE_OF: Final = "exactly one of `method`, `result` and `error` is needed"
#: Octets in which brackets are counted here and now.
_SHORT: Final = 4096
_BRACE: Final = ord("{")
_NO_PARAMS: Final = Raw(b"{}")
#: What stands in JSON as it is; other values may have bytes in them.
_SIMPLE: Final = frozenset({int, str, bool, type(None), Raw})
#: Lists and dicts in a value that are looked at in the fast way: one that holds itself has no end there.
_MANY: Final = 10_000
_BYTES: Final = (bytes, bytearray, memoryview)


class JsonRpc:
    """The codec `jrpc`. Bytes travel as `{"__bytes": base64}`; they come back where a declaration says so (rpc.B15).

    With `raw`, params and results are left undecoded (`msgspec.Raw`), for whoever knows their types: see `value`.
    """

    name = "jrpc"

    def __init__(self, *, raw: bool = False, depth: int = MAX_NESTING, batch: int = 100) -> None:
        self._raw = raw
        self._depth = depth
        # A text that is no longer cannot be nested too deep and be whole.
        self._harmless = 2 * depth
        self._most = batch
        self._decode: Callable[[bytes | Raw], Any] = msgspec.json.Decoder(_RawObject if raw else _Object).decode

    def encode(self, packet: Packet) -> bytes:
        """The object of a packet. Raises EncodeError if a value in it has no JSON form."""
        try:
            if isinstance(packet, Reply):
                result = packet.result
                payload = _encode(_Result(result if _is_plain(result) else _plain(result), packet.id))
            elif isinstance(packet, Call):
                params = packet.params
                params = params if _is_plain(params) else _plain(params)
                said = UNSET if packet.meta is None else _said_about(packet.meta)
                payload = _encode(_Request(packet.method, params, packet.id, said))
            elif isinstance(packet, Fault):
                payload = _encode(_Failure(_Error(packet.code, packet.message, _plain(packet.data)), packet.id))
            else:
                payload = _encode(_Request(packet.method, _plain(packet.params), UNSET, _said_about(packet.meta)))
            if len(payload) > self._harmless and self._may_be_deep(payload) and is_too_deep(payload, self._depth):
                # The other side would take it for garbage, and its caller would wait for ever (rpc.B8).
                raise ValueError(f"it is nested more than {self._depth} deep")
            return payload
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            raise EncodeError(f"it has no JSON form: {error}") from error

    def join(self, payloads: Sequence[bytes]) -> bytes:
        """A batch of what was encoded."""
        return b"[" + b",".join(payloads) + b"]"

    def decode(self, payload: bytes) -> Packet | Batch:
        """The packet or batch in a payload. Raises Malformed, and nothing else, for any other bytes (rpc.B1)."""
        # A number, not a slice: this is asked of every frame.
        if payload and payload[0] != _BRACE and payload.lstrip()[:1] == b"[":
            return self._decode_batch(payload)
        if len(payload) > self._harmless and self._may_be_deep(payload):
            self._check_depth(payload, self._depth)
        return self._decode_object(payload)

    def value(self, raw: Any, kind: Any = Any) -> Any:
        """Params or a result as a value of the type `kind`. Raises msgspec.ValidationError if it does not fit."""
        if type(raw) is Raw:
            return msgspec.json.decode(raw, type=kind)
        return raw if kind is Any else msgspec.convert(raw, kind)

    def with_secinfo(self, secinfo: dict[str, Any], payload: bytes | None) -> list[bytes]:
        """A notification with the secinfo, then what it belongs to (rpc.R32)."""
        header = _encode(_Request(SECINFO, _plain(secinfo)))
        return [header] if payload is None else [header, payload]

    def split_secinfo(self, payload: bytes) -> tuple[dict[str, Any], bytes | None] | None:
        """The secinfo of a notification; what it belongs to comes next."""
        if b"rpc.secinfo" not in payload:
            return None
        try:
            packet = self.decode(payload)
        except Malformed:
            return None
        if type(packet) is not Cast or packet.method != SECINFO:
            return None
        params = self.value(packet.params)
        return (params, None) if isinstance(params, dict) else None

    def _may_be_deep(self, payload: bytes) -> bool:
        return len(payload) > _SHORT or payload.count(b"[") + payload.count(b"{") > self._depth

    def _decode_object(self, payload: bytes | Raw) -> Packet:
        try:
            said = self._decode(payload)
            # A Raw is checked for its syntax only, and JSON between systems is UTF-8 (RFC 8259, section 8.1).
            if self._raw and not (type(payload) is bytes and payload.isascii()):
                bytes(payload).decode()
        except msgspec.ValidationError as error:
            raise _explain(payload, str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _malformed(PARSE_ERROR, f"this is no JSON: {error}") from None
        known = said.id
        method, result, failed = said.method, said.result, said.error
        if method is not UNSET:
            if result is not UNSET or failed is not UNSET:
                raise _explain(payload, _ONE_OF)
            params = said.params
            if params is UNSET:
                params = _NO_PARAMS if self._raw else {}
            elif self._raw and memoryview(params)[0] not in b"[{":
                raise _explain(payload, "Expected `object | array` - at `$.params`")
            meta = _heard_about(said.meta) if said.meta else None
            return Cast(method, params, meta) if known is UNSET else Call(known, method, params, meta)
        if (result is UNSET) is (failed is UNSET):
            raise _explain(payload, _ONE_OF)
        if known is UNSET:
            raise _explain(payload, "Object missing required field `id`")
        if failed is UNSET:
            return Reply(known, result)
        return Fault(known, failed.code, failed.message, failed.data)

    def _check_depth(self, payload: bytes, depth: int) -> None:
        if is_too_deep(payload, depth):
            raise _malformed(PARSE_ERROR, f"nested more than {self._depth} deep")

    def _decode_batch(self, payload: bytes) -> Batch:
        try:
            found = items_of(msgspec.json.decode(payload, type=batch_type(self._most)))
        except msgspec.ValidationError:
            raise _malformed(TOO_LARGE, f"a batch of more than {self._most}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _malformed(PARSE_ERROR, f"this is no JSON: {error}") from None
        if not found:
            raise _malformed(INVALID_REQUEST, "an empty batch")
        items: list[Packet | Malformed] = []
        for raw in found:
            # Only now, for a batch that is too long is known as that after its first items, however long it is.
            self._check_depth(bytes(raw), self._depth)
            try:
                items.append(self._decode_object(raw))
            except Malformed as error:
                items.append(error)
        return Batch(tuple(items))


def bytes_of(value: Any) -> bytes:
    """The bytes that travelled as `{"__bytes": base64}`. Raises ValueError if it is anything else (rpc.B15)."""
    if isinstance(value, dict) and len(value) == 1 and isinstance(text := value.get("__bytes"), str):
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError(f"no base 64: {error}") from None
    raise ValueError('bytes are an object with the one member "__bytes"')


def _is_plain(value: Any) -> bool:
    """Whether there is nothing but what stands in JSON as it is; a loop is the fastest for small values."""
    if type(value) in _SIMPLE:
        return True
    inner = [value]
    for one in inner:  # which grows meanwhile
        if len(inner) > _MANY:
            return False
        kind = type(one)
        if kind is dict:
            one = one.values()
        elif kind is not list and kind is not tuple:
            return False
        for item in one:
            kind = type(item)
            if kind is float:
                if not isfinite(item):
                    return False  # `_plain` says why
            elif kind not in _SIMPLE:
                inner.append(item)
    return True


def _check_finite(number: float) -> None:
    if not isfinite(number):
        # Without this it would arrive as null, and nobody would be told.
        raise ValueError(f"{number} is no number in JSON")


def _plain(value: Any) -> Any:
    """`value` with its bytes as `{"__bytes": base64}`."""
    kind = type(value)
    if kind in _SIMPLE:
        return value
    if kind is float:
        _check_finite(value)
        return value
    if kind is dict:
        return {key: _plain(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_plain(item) for item in value]
    if kind in _BYTES:
        return {"__bytes": base64.b64encode(value).decode()}
    # Records, times, sets, numbers of other kinds. What msgspec does not know, it says itself.
    plain = msgspec.to_builtins(value, builtin_types=_BYTES)
    return _plain(plain) if type(plain) in (dict, list, float, *_BYTES) else plain


def _said_about(meta: Meta | None) -> _Meta | UnsetType:
    if meta is None:
        return UNSET
    left = None if meta.deadline is None else round(max(0.0, min(meta.deadline, _LONG)) * 1000)
    return _Meta(left, meta.trace, meta.key)


def _heard_about(raw: Raw) -> Meta | None:
    """What is said about a call; None if it is in some other way, because the member is ours and not of JSON-RPC."""
    try:
        said = _meta(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Meta(None if said.deadline_ms is None else said.deadline_ms / 1000, said.trace, said.key)


def _malformed(code: int, detail: str, known: Id = None) -> Malformed:
    return Malformed(Fault(known, code, MESSAGES[code]), detail)


def _explain(payload: bytes | Raw, why: str) -> Malformed:
    """What is wrong with a text that is no packet, with the id if one can be made out; nothing else is made of it."""
    try:
        bytes(payload).decode()
        if bytes(_syntax(payload)).lstrip()[:1] != b"{":
            return _malformed(INVALID_REQUEST, "not a JSON-RPC object")
        given = _named(payload).id
        known: Id = _id(given) if given and memoryview(given)[0] in _ID else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _malformed(PARSE_ERROR, f"this is no JSON: {error}")
    return _malformed(INVALID_REQUEST, f"not a JSON-RPC 2.0 object: {why}", known)
