"""The codecs of `monsal.wire` under the names of contract 2.2, and the other way round.

`WireCodec` lets blocking code use ours; `wiring_of` lets a link use one that somebody else wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from monsal.errors import MonsalError
from monsal.rpc.classic import Codec, ErrorReply, Message, MessageBatch, Reply, SecIn, SecOut
from monsal.rpc.errors import DecodeError
from monsal.transport.setup import Wiring, wiring
from monsal.wire import packets
from monsal.wire.codec import Codec as WireFormat
from monsal.wire.codes import INVALID_REQUEST, MESSAGES, PARSE_ERROR, TOO_LARGE
from monsal.wire.frames import Frames, TooLong
from monsal.wire.jsonrpc import bytes_of
from monsal.wire.limits import PeerLimits
from monsal.wire.packets import EncodeError, Fault, Malformed
from monsal.wire.security import InvalidSignatureError, SecurityError

__all__ = ["WireCodec", "codec", "wiring_of"]


def codec(text: str) -> Codec:
    """The codec for an expression such as `jrpc:` (rpc.R5). Raises ValueError for an unknown one."""
    return WireCodec(text)


class WireCodec(Codec):
    """A codec of `monsal.wire`, by its expression: `jrpc[:DELIMITER]` with NUL by default, `terse:`, and others."""

    def __init__(self, text: str = "jrpc", limits: PeerLimits | None = None) -> None:
        self.text = text
        self.wiring: Wiring = wiring(text)
        self._limits = limits or PeerLimits()
        self._format, self._frames = self.wiring(self._limits, False)

    def __repr__(self) -> str:
        return f"codec({self.text!r})"

    @classmethod
    def fromstring(cls, text: str) -> Codec:
        return cls(text)

    def encode(self, method: str, kwargs: Any = None, id: Any = 0, sec_out: SecOut | None = None) -> bytes:  # noqa: A002 - the name is the contract's
        params = {} if kwargs is None else kwargs
        return self._write(packets.Call(id, method, params) if id else packets.Cast(method, params), sec_out)

    def encode_reply(self, in_reply_to: Any, result: Any, sec_out: SecOut | None = None) -> bytes:
        return self._write(packets.Reply(in_reply_to.id, result), sec_out)

    def encode_error(
        self, in_reply_to: Any, exception: Any, errorcode: int = 0, sec_out: SecOut | None = None
    ) -> bytes:
        known = None if in_reply_to is None else in_reply_to.id
        return self._write(Fault(known, errorcode, str(exception), getattr(exception, "data", None)), sec_out)

    def encode_batch(self, replies: Sequence[Reply | ErrorReply]) -> bytes:
        """The replies to a `MessageBatch`, as one."""
        payloads = [self._format.encode(_packet(one)) for one in replies]
        return self._frames.wrap(self._format.join(payloads))

    def decode(self, data: bytes, sec_in: SecIn | None = None) -> tuple[list[Any], bytes]:
        """See `Codec.decode`. Bytes come back as bytes wherever they stand alone in an object; to have them only
        where a declaration says so is for a RemoteAPI (rpc.B15)."""
        items, remainder = self.decode_undeclared(data, sec_in)
        return [_with_bytes(item) for item in items], remainder

    def decode_undeclared(self, data: bytes, sec_in: SecIn | None = None) -> tuple[list[Any], bytes]:
        """`decode`, and `{"__bytes": ...}` stays as it is."""
        _, frames = self.wiring(self._limits, False)
        try:
            pieces = frames.receive_data(data)
        except MonsalError as error:
            return [DecodeError(str(error))], b""
        remainder = data[len(data) - frames.held :] if frames.held else b""
        items: list[Any] = []
        header: tuple[dict[str, Any], bytes] | None = None
        for piece in pieces:
            if isinstance(piece, TooLong):
                items.append(_too_long(self._limits.frame))
                continue
            found = self._format.split_secinfo(piece) if header is None else None
            if found is not None and found[1] is None:
                header = (found[0], piece)
                continue
            secinfo = found[0] if found is not None else header[0] if header is not None else None
            payload = found[1] if found is not None else piece
            header = None
            assert payload is not None
            items.append(self._read(payload, secinfo, sec_in))
        if header is not None:
            # What it belongs to is still to come (rpc.R32).
            remainder = self._frames.wrap(header[1]) + remainder
        return items, remainder

    def _read(self, payload: bytes, secinfo: dict[str, Any] | None, sec_in: SecIn | None) -> Any:
        try:
            if sec_in is not None:
                if secinfo is None:
                    raise InvalidSignatureError("unsigned")
                changed = sec_in(payload, secinfo)
                payload = payload if changed is None else changed
            return _item(self._format.decode(payload), secinfo if sec_in is not None and secinfo else {})
        except Malformed as error:
            return DecodeError(str(error), error.fault)
        except SecurityError as error:
            return error
        except Exception as error:  # noqa: BLE001 - what a security of somebody else raises is a refusal (rpc.B1)
            return SecurityError(f"{type(error).__name__}: {error}")

    def _write(self, packet: packets.Packet, sec_out: SecOut | None) -> bytes:
        payload = self._format.encode(packet)
        parts = [payload]
        if sec_out is not None:
            secinfo, changed = sec_out(payload)
            payload = payload if changed is None else changed
            parts = self._format.with_secinfo(secinfo, payload) if secinfo else [payload]
        return b"".join(self._frames.wrap(part) for part in parts)


def _too_long(limit: int) -> DecodeError:
    return DecodeError(f"a frame of more than {limit} octets", Fault(None, TOO_LARGE, MESSAGES[TOO_LARGE]))


def _item(packet: Any, secinfo: dict[str, Any]) -> Any:
    match packet:
        case packets.Batch():
            return MessageBatch(
                [
                    DecodeError(str(one), one.fault) if isinstance(one, Malformed) else _item(one, secinfo)
                    for one in packet.items
                ]
            )
        case packets.Call():
            return Message(packet.method, packet.params, packet.id, secinfo, wants_reply=True)
        case packets.Cast():
            return Message(packet.method, packet.params, 0, secinfo, wants_reply=False)
        case packets.Reply():
            return Reply(packet.result, packet.id, secinfo)
        case _:
            return ErrorReply(packet.message, packet.id, packet.code, secinfo, packet.data)


def _packet(item: Any) -> packets.Packet:
    match item:
        case Message():
            params = item.kwargs
            return packets.Cast(item.method, params) if item.is_cast else packets.Call(item.id, item.method, params)
        case Reply():
            return packets.Reply(item.id, item.result)
        case ErrorReply():
            return Fault(item.id, item.errorcode, str(item.exception), item.data)
        case _:
            detail = f"{type(item).__name__}: {item}" if isinstance(item, Exception) else "no message"
            raise Malformed(Fault(None, INVALID_REQUEST, MESSAGES[INVALID_REQUEST]), detail)


def _with_bytes(item: Any) -> Any:
    if isinstance(item, Message):
        item.kwargs = _revived(item.kwargs)
    elif isinstance(item, Reply):
        item.result = _revived(item.result)
    elif isinstance(item, MessageBatch):
        item.items = [_with_bytes(one) for one in item.items]
    return item


def _revived(value: Any) -> Any:
    if isinstance(value, list):
        return [_revived(one) for one in value]
    if isinstance(value, dict):
        try:
            return bytes_of(value)
        except ValueError:
            return {key: _revived(one) for key, one in value.items()}
    return value


class _Decoded(bytes):
    """Stands in the list of frames for an item that a foreign codec has decoded already."""

    item: Any


class _ForeignFrames:
    """The frames of a codec that cuts and decodes in one."""

    def __init__(self, codec: Codec, limit: int) -> None:
        self._codec = codec
        self._limit = limit
        self._held = b""

    @property
    def held(self) -> int:
        return len(self._held)

    def receive_data(self, data: bytes) -> list[bytes | TooLong]:
        items, self._held = self._decode(self._held + data)
        if len(self._held) > self._limit:
            items, self._held = [*items, _too_long(self._limit)], b""
        frames: list[bytes | TooLong] = []
        for item in items:
            frame = _Decoded(b"-")
            frame.item = item
            frames.append(frame)
        return frames

    def wrap(self, payload: bytes) -> bytes:
        return payload

    def _decode(self, data: bytes) -> tuple[list[Any], bytes]:
        try:
            return self._codec.decode(data)
        except Exception as error:  # noqa: BLE001 - it should not raise, and harms only its own peer if it does (rpc.B1)
            return [DecodeError(f"{type(error).__name__}: {error}")], b""


class _ForeignFormat:
    """A codec that somebody else wrote, as `monsal.wire` has them."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.name = type(codec).__name__

    def encode(self, packet: packets.Packet) -> bytes:
        try:
            match packet:
                case packets.Call():
                    return self._codec.encode(packet.method, packet.params, packet.id)
                case packets.Cast():
                    return self._codec.encode(packet.method, packet.params)
                case packets.Reply():
                    return self._codec.encode_reply(Message("", {}, packet.id), packet.result)
                case _:
                    return self._codec.encode_error(Message("", {}, packet.id), packet.message, packet.code)
        except MonsalError:
            raise
        except Exception as error:
            raise EncodeError(f"{type(error).__name__}: {error}") from error

    def join(self, payloads: Sequence[bytes]) -> bytes:
        raise EncodeError(f"{self.name} knows no batches")

    def decode(self, payload: bytes) -> packets.Packet | packets.Batch:
        item = payload.item if isinstance(payload, _Decoded) else None
        if isinstance(item, DecodeError | Malformed) and isinstance(item.fault, Fault):
            raise Malformed(item.fault, str(item))
        if isinstance(item, Exception):
            raise Malformed(Fault(None, PARSE_ERROR, MESSAGES[PARSE_ERROR]), f"{type(item).__name__}: {item}")
        return _packet(item)

    def value(self, raw: Any, kind: Any = Any) -> Any:
        return raw if kind is Any else msgspec.convert(raw, kind)

    def with_secinfo(self, secinfo: dict[str, Any], payload: bytes | None) -> list[bytes]:
        raise EncodeError(f"{self.name} carries no secinfo here")

    def split_secinfo(self, payload: bytes) -> tuple[dict[str, Any], bytes | None] | None:
        return None


def wiring_of(codec: Codec) -> Wiring:
    """How a link uses a codec: ours at full speed, one that somebody else wrote through its own methods."""
    if isinstance(codec, WireCodec):
        return codec.wiring

    def make(limits: PeerLimits, raw: bool) -> tuple[WireFormat, Frames]:
        return _ForeignFormat(codec), _ForeignFrames(codec, limits.frame)

    return make
