"""The one wire between programs: what is said (packets), how it is written (codec), where one ends (frames).

May import: `monsal.errors` and msgspec. No socket, clock, randomness or await: bytes in, packets out.
Names come when they are first asked for, because every command of the shell starts with a codec and few need a peer.
Start reading at `packets.py`; `peer.py` joins all of it to one end of a link, and `monsal.transport` gives it a socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monsal.late import late

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
    "BUSY": "monsal.wire.codes",
    "CANCELLED": "monsal.wire.codes",
    "DEADLINE": "monsal.wire.codes",
    "FORBIDDEN": "monsal.wire.codes",
    "INTERNAL_ERROR": "monsal.wire.codes",
    "INVALID_PARAMS": "monsal.wire.codes",
    "INVALID_REQUEST": "monsal.wire.codes",
    "MAX_FRAME": "monsal.wire.frames",
    "MAX_NESTING": "monsal.wire.jsonrpc",
    "MESSAGES": "monsal.wire.codes",
    "METHOD_NOT_FOUND": "monsal.wire.codes",
    "PARSE_ERROR": "monsal.wire.codes",
    "REFUSED": "monsal.wire.codes",
    "SECINFO": "monsal.wire.jsonrpc",
    "SHUTDOWN": "monsal.wire.codes",
    "TOO_LARGE": "monsal.wire.codes",
    "UNAUTHENTICATED": "monsal.wire.codes",
    "Alive": "monsal.wire.events",
    "Answered": "monsal.wire.events",
    "Batch": "monsal.wire.packets",
    "Call": "monsal.wire.packets",
    "Called": "monsal.wire.events",
    "CancelParams": "monsal.wire.hello",
    "Cancelled": "monsal.wire.events",
    "Cast": "monsal.wire.packets",
    "Codec": "monsal.wire.codec",
    "DelimiterFrames": "monsal.wire.frames",
    "EncodeError": "monsal.wire.packets",
    "Event": "monsal.wire.events",
    "Expired": "monsal.wire.events",
    "Failed": "monsal.wire.events",
    "Fault": "monsal.wire.packets",
    "Frames": "monsal.wire.frames",
    "Gate": "monsal.wire.gate",
    "Gathering": "monsal.wire.waiting",
    "Greeted": "monsal.wire.events",
    "HeaderFrames": "monsal.wire.frames",
    "Heard": "monsal.wire.events",
    "Held": "monsal.wire.waiting",
    "HeldBack": "monsal.wire.waiting",
    "HelloFacts": "monsal.wire.hello",
    "Hmac": "monsal.wire.security",
    "Id": "monsal.wire.packets",
    "Incoming": "monsal.wire.incoming",
    "InvalidSignatureError": "monsal.wire.security",
    "JsonRpc": "monsal.wire.jsonrpc",
    "LengthFrames": "monsal.wire.frames",
    "LineFrames": "monsal.wire.frames",
    "Lost": "monsal.wire.events",
    "Malformed": "monsal.wire.packets",
    "Meta": "monsal.wire.packets",
    "MsgPack": "monsal.wire.msgpack",
    "Null": "monsal.wire.security",
    "Outbox": "monsal.wire.outbox",
    "Packet": "monsal.wire.packets",
    "Params": "monsal.wire.packets",
    "Peer": "monsal.wire.peer",
    "PeerLimits": "monsal.wire.limits",
    "PeerStatistics": "monsal.wire.events",
    "Reply": "monsal.wire.packets",
    "Security": "monsal.wire.security",
    "SecurityError": "monsal.wire.security",
    "Session": "monsal.wire.security",
    "Silence": "monsal.wire.silence",
    "Slot": "monsal.wire.waiting",
    "Terse": "monsal.wire.terse",
    "Token": "monsal.wire.security",
    "Tokens": "monsal.wire.security",
    "TooLong": "monsal.wire.frames",
    "Trouble": "monsal.wire.events",
    "UnknownUserError": "monsal.wire.security",
    "Verdict": "monsal.wire.silence",
    "batch_type": "monsal.wire.batches",
    "bytes_of": "monsal.wire.jsonrpc",
    "decode": "monsal.wire.codec",
    "encode": "monsal.wire.codec",
    "is_too_deep": "monsal.wire.nesting",
    "items_of": "monsal.wire.batches",
    "our_facts": "monsal.wire.hello",
}

__all__ = [*_HOME]

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _HOME)
