"""The one wire between programs: what is said (packets), how it is written (codec), where one ends (frames).

May import: `monsal.errors` and msgspec. No socket, clock, randomness or await: bytes in, packets out.
Start reading at `packets.py`; `peer.py` joins all of it to one end of a link, and `monsal.transport` gives it a socket.
"""

from monsal.wire.batches import batch_type, items_of
from monsal.wire.codec import Codec, decode, encode
from monsal.wire.codes import (
    BUSY,
    CANCELLED,
    DEADLINE,
    FORBIDDEN,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    MESSAGES,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    REFUSED,
    SHUTDOWN,
    TOO_LARGE,
    UNAUTHENTICATED,
)
from monsal.wire.events import (
    Alive,
    Answered,
    Called,
    Cancelled,
    Event,
    Expired,
    Failed,
    Greeted,
    Lost,
    PeerStatistics,
    Trouble,
)
from monsal.wire.frames import MAX_FRAME, DelimiterFrames, Frames, HeaderFrames, LengthFrames, LineFrames, TooLong
from monsal.wire.hello import CancelParams, HelloFacts, our_facts
from monsal.wire.incoming import Incoming
from monsal.wire.jsonrpc import MAX_NESTING, SECINFO, JsonRpc, bytes_of
from monsal.wire.limits import PeerLimits
from monsal.wire.nesting import is_too_deep
from monsal.wire.outbox import Outbox
from monsal.wire.packets import Batch, Call, Cast, EncodeError, Fault, Id, Malformed, Meta, Packet, Params, Reply
from monsal.wire.peer import Peer
from monsal.wire.security import (
    Hmac,
    InvalidSignatureError,
    Null,
    Security,
    SecurityError,
    Session,
    Token,
    Tokens,
    UnknownUserError,
)
from monsal.wire.silence import Silence, Verdict
from monsal.wire.waiting import Gathering, Held, HeldBack, Slot

__all__ = [
    "BUSY",
    "CANCELLED",
    "DEADLINE",
    "FORBIDDEN",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "MAX_FRAME",
    "MAX_NESTING",
    "MESSAGES",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "REFUSED",
    "SECINFO",
    "SHUTDOWN",
    "TOO_LARGE",
    "UNAUTHENTICATED",
    "Alive",
    "Answered",
    "Batch",
    "Call",
    "Called",
    "CancelParams",
    "Cancelled",
    "Cast",
    "Codec",
    "DelimiterFrames",
    "EncodeError",
    "Event",
    "Expired",
    "Failed",
    "Fault",
    "Frames",
    "Gathering",
    "Greeted",
    "HeaderFrames",
    "Held",
    "HeldBack",
    "HelloFacts",
    "Hmac",
    "Id",
    "Incoming",
    "InvalidSignatureError",
    "JsonRpc",
    "LengthFrames",
    "LineFrames",
    "Lost",
    "Malformed",
    "Meta",
    "Null",
    "Outbox",
    "Packet",
    "Params",
    "Peer",
    "PeerLimits",
    "PeerStatistics",
    "Reply",
    "Security",
    "SecurityError",
    "Session",
    "Silence",
    "Slot",
    "Token",
    "Tokens",
    "TooLong",
    "Trouble",
    "UnknownUserError",
    "Verdict",
    "batch_type",
    "bytes_of",
    "decode",
    "encode",
    "is_too_deep",
    "items_of",
    "our_facts",
]
