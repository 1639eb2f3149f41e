"""The one wire between programs: what is said (packets), how it is written (codec), where one ends (frames).

May import: `monsal.errors` and msgspec. No socket, clock, randomness or await: bytes in, packets out.
Start reading at `packets.py`; whoever has the socket (`monsal.control`) joins the three.
"""

from monsal.wire.codec import (
    BUSY,
    FORBIDDEN,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    REFUSED,
    TOO_LARGE,
    Malformed,
    decode,
    encode,
)
from monsal.wire.frames import MAX_FRAME, LineFrames, TooLong
from monsal.wire.packets import Call, Cast, Fault, Id, Packet, Params, Reply

__all__ = [
    "BUSY",
    "FORBIDDEN",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "MAX_FRAME",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "REFUSED",
    "TOO_LARGE",
    "Call",
    "Cast",
    "Fault",
    "Id",
    "LineFrames",
    "Malformed",
    "Packet",
    "Params",
    "Reply",
    "TooLong",
    "decode",
    "encode",
]
