"""The one wire between programs: what is said (packets), how it is written (codec), where one ends (frames).

May import: `monsal.errors` and msgspec. No socket, clock, randomness or await: bytes in, packets out.
Names come when they are first asked for, because every command of the shell starts with a codec and few need a peer.
Start reading at `packets.py`; `peer.py` joins all of it to one end of a link, and `monsal.transport` gives it a socket.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monsal.wire.batches import batch_type as batch_type
    from monsal.wire.batches import items_of as items_of
    from monsal.wire.codec import Codec as Codec
    from monsal.wire.codec import decode as decode
    from monsal.wire.codec import encode as encode
    from monsal.wire.codes import BUSY as BUSY
    from monsal.wire.codes import CANCELLED as CANCELLED
    from monsal.wire.codes import DEADLINE as DEADLINE
    from monsal.wire.codes import FORBIDDEN as FORBIDDEN
    from monsal.wire.codes import INTERNAL_ERROR as INTERNAL_ERROR
    from monsal.wire.codes import INVALID_PARAMS as INVALID_PARAMS
    from monsal.wire.codes import INVALID_REQUEST as INVALID_REQUEST
    from monsal.wire.codes import MESSAGES as MESSAGES
    from monsal.wire.codes import METHOD_NOT_FOUND as METHOD_NOT_FOUND
    from monsal.wire.codes import PARSE_ERROR as PARSE_ERROR
    from monsal.wire.codes import REFUSED as REFUSED
    from monsal.wire.codes import SHUTDOWN as SHUTDOWN
    from monsal.wire.codes import TOO_LARGE as TOO_LARGE
    from monsal.wire.codes import UNAUTHENTICATED as UNAUTHENTICATED
    from monsal.wire.events import Alive as Alive
    from monsal.wire.events import Answered as Answered
    from monsal.wire.events import Called as Called
    from monsal.wire.events import Cancelled as Cancelled
    from monsal.wire.events import Event as Event
    from monsal.wire.events import Expired as Expired
    from monsal.wire.events import Failed as Failed
    from monsal.wire.events import Greeted as Greeted
    from monsal.wire.events import Heard as Heard
    from monsal.wire.events import Lost as Lost
    from monsal.wire.events import PeerStatistics as PeerStatistics
    from monsal.wire.events import Trouble as Trouble
    from monsal.wire.frames import MAX_FRAME as MAX_FRAME
    from monsal.wire.frames import DelimiterFrames as DelimiterFrames
    from monsal.wire.frames import Frames as Frames
    from monsal.wire.frames import HeaderFrames as HeaderFrames
    from monsal.wire.frames import LengthFrames as LengthFrames
    from monsal.wire.frames import LineFrames as LineFrames
    from monsal.wire.frames import TooLong as TooLong
    from monsal.wire.gate import Gate as Gate
    from monsal.wire.hello import CancelParams as CancelParams
    from monsal.wire.hello import HelloFacts as HelloFacts
    from monsal.wire.hello import our_facts as our_facts
    from monsal.wire.incoming import Incoming as Incoming
    from monsal.wire.jsonrpc import MAX_NESTING as MAX_NESTING
    from monsal.wire.jsonrpc import SECINFO as SECINFO
    from monsal.wire.jsonrpc import JsonRpc as JsonRpc
    from monsal.wire.jsonrpc import bytes_of as bytes_of
    from monsal.wire.limits import PeerLimits as PeerLimits
    from monsal.wire.msgpack import MsgPack as MsgPack
    from monsal.wire.nesting import is_too_deep as is_too_deep
    from monsal.wire.outbox import Outbox as Outbox
    from monsal.wire.packets import Batch as Batch
    from monsal.wire.packets import Call as Call
    from monsal.wire.packets import Cast as Cast
    from monsal.wire.packets import EncodeError as EncodeError
    from monsal.wire.packets import Fault as Fault
    from monsal.wire.packets import Id as Id
    from monsal.wire.packets import Malformed as Malformed
    from monsal.wire.packets import Meta as Meta
    from monsal.wire.packets import Packet as Packet
    from monsal.wire.packets import Params as Params
    from monsal.wire.packets import Reply as Reply
    from monsal.wire.peer import Peer as Peer
    from monsal.wire.security import Hmac as Hmac
    from monsal.wire.security import InvalidSignatureError as InvalidSignatureError
    from monsal.wire.security import Null as Null
    from monsal.wire.security import Security as Security
    from monsal.wire.security import SecurityError as SecurityError
    from monsal.wire.security import Session as Session
    from monsal.wire.security import Token as Token
    from monsal.wire.security import Tokens as Tokens
    from monsal.wire.security import UnknownUserError as UnknownUserError
    from monsal.wire.silence import Silence as Silence
    from monsal.wire.silence import Verdict as Verdict
    from monsal.wire.terse import Terse as Terse
    from monsal.wire.waiting import Gathering as Gathering
    from monsal.wire.waiting import Held as Held
    from monsal.wire.waiting import HeldBack as HeldBack
    from monsal.wire.waiting import Slot as Slot

_HOME = {
    "BUSY": "codes",
    "CANCELLED": "codes",
    "DEADLINE": "codes",
    "FORBIDDEN": "codes",
    "INTERNAL_ERROR": "codes",
    "INVALID_PARAMS": "codes",
    "INVALID_REQUEST": "codes",
    "MAX_FRAME": "frames",
    "MAX_NESTING": "jsonrpc",
    "MESSAGES": "codes",
    "METHOD_NOT_FOUND": "codes",
    "PARSE_ERROR": "codes",
    "REFUSED": "codes",
    "SECINFO": "jsonrpc",
    "SHUTDOWN": "codes",
    "TOO_LARGE": "codes",
    "UNAUTHENTICATED": "codes",
    "Alive": "events",
    "Answered": "events",
    "Batch": "packets",
    "Call": "packets",
    "Called": "events",
    "CancelParams": "hello",
    "Cancelled": "events",
    "Cast": "packets",
    "Codec": "codec",
    "DelimiterFrames": "frames",
    "EncodeError": "packets",
    "Event": "events",
    "Expired": "events",
    "Failed": "events",
    "Fault": "packets",
    "Frames": "frames",
    "Gate": "gate",
    "Gathering": "waiting",
    "Greeted": "events",
    "HeaderFrames": "frames",
    "Heard": "events",
    "Held": "waiting",
    "HeldBack": "waiting",
    "HelloFacts": "hello",
    "Hmac": "security",
    "Id": "packets",
    "Incoming": "incoming",
    "InvalidSignatureError": "security",
    "JsonRpc": "jsonrpc",
    "LengthFrames": "frames",
    "LineFrames": "frames",
    "Lost": "events",
    "Malformed": "packets",
    "Meta": "packets",
    "MsgPack": "msgpack",
    "Null": "security",
    "Outbox": "outbox",
    "Packet": "packets",
    "Params": "packets",
    "Peer": "peer",
    "PeerLimits": "limits",
    "PeerStatistics": "events",
    "Reply": "packets",
    "Security": "security",
    "SecurityError": "security",
    "Session": "security",
    "Silence": "silence",
    "Slot": "waiting",
    "Terse": "terse",
    "Token": "security",
    "Tokens": "security",
    "TooLong": "frames",
    "Trouble": "events",
    "UnknownUserError": "security",
    "Verdict": "silence",
    "batch_type": "batches",
    "bytes_of": "jsonrpc",
    "decode": "codec",
    "encode": "codec",
    "is_too_deep": "nesting",
    "items_of": "batches",
    "our_facts": "hello",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'monsal.wire' has no attribute {name!r}")
    value = getattr(import_module(f"monsal.wire.{home}"), name)
    globals()[name] = value
    return value
