"""The numbers by which a Fault says what went wrong, and their words (rpc.B8)."""

from __future__ import annotations

from typing import Final

__all__ = [
    "BUSY",
    "CANCELLED",
    "DEADLINE",
    "FORBIDDEN",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "MESSAGES",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "REFUSED",
    "SHUTDOWN",
    "TOO_LARGE",
    "UNAUTHENTICATED",
]

# Section 5.1 of the specification of JSON-RPC 2.0.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
# Ours, from the range left to servers (rpc.B8).
#: Too much is in flight; `data.retry_after` says when to try again, in seconds.
BUSY = -32000
#: The call's own deadline passed before it was done.
DEADLINE = -32001
#: Not signed, or without a token that is known here.
UNAUTHENTICATED = -32002
FORBIDDEN = -32003
TOO_LARGE = -32004
#: The other side is about to stop; nothing was done.
SHUTDOWN = -32005
#: The method ran and said no; `data.kind` is the name of its exception.
REFUSED = -32010
#: The caller gave up first (the number is that of the Language Server Protocol 3.17, RequestCancelled).
CANCELLED = -32800

#: The words that go with a number; the first five are those of the specification, letter by letter.
MESSAGES: Final = {
    PARSE_ERROR: "Parse error",
    INVALID_REQUEST: "Invalid Request",
    METHOD_NOT_FOUND: "Method not found",
    INVALID_PARAMS: "Invalid params",
    INTERNAL_ERROR: "Internal error",
    BUSY: "Busy",
    DEADLINE: "Deadline exceeded",
    UNAUTHENTICATED: "Unauthenticated",
    FORBIDDEN: "Forbidden",
    TOO_LARGE: "Too large",
    SHUTDOWN: "Shutting down",
    REFUSED: "Refused",
    CANCELLED: "Cancelled",
}
