"""A class that is the interface of both sides: calls declared once, over any transport.

    from monsal.rpc import RemoteAPI, incoming, outgoing

May import: `monsal.transport`, `monsal.wire`, the ground floor. Start reading at `api.py` (the class) and `declare.py`
(the marks); `dispatch.py` has the way of a call that came in, `links.py` that of one that goes out. What contract 2.2
names for blocking code stands in `classic.py`.
"""

from monsal.errors import Busy, CallExpired, ConnectionLost, Forbidden, RemoteError, RemoteFault, Unauthenticated
from monsal.rpc.api import RemoteAPI
from monsal.rpc.blocking import LinkTransport, transport
from monsal.rpc.bound import IncomingCall, OutgoingCall, Terms
from monsal.rpc.classic import Codec, ErrorReply, Message, MessageBatch, Reply, Security, Transport
from monsal.rpc.context import CallContext, Source, current
from monsal.rpc.declare import Declaration, Options, Signature, incoming, outgoing
from monsal.rpc.errors import (
    AppError,
    Cancelled,
    DecodeError,
    ErrorTable,
    HandlerExpired,
    InternalError,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    ParseError,
    Refused,
    Shutdown,
    TooLarge,
)
from monsal.rpc.promise import (
    ActionQueue,
    Promise,
    PromiseCancelled,
    PromiseDeadlockError,
    PromiseDoneError,
    PromiseError,
    PromiseTimeoutError,
)
from monsal.rpc.values import DeclarationError
from monsal.rpc.wirecodec import WireCodec, codec
from monsal.wire.packets import EncodeError
from monsal.wire.security import InvalidSignatureError, SecurityError, UnknownUserError

__all__ = [
    "ActionQueue",
    "AppError",
    "Busy",
    "CallContext",
    "CallExpired",
    "Cancelled",
    "Codec",
    "ConnectionLost",
    "Declaration",
    "DeclarationError",
    "DecodeError",
    "EncodeError",
    "ErrorReply",
    "ErrorTable",
    "Forbidden",
    "HandlerExpired",
    "IncomingCall",
    "InternalError",
    "InvalidParams",
    "InvalidRequest",
    "InvalidSignatureError",
    "LinkTransport",
    "Message",
    "MessageBatch",
    "MethodNotFound",
    "Options",
    "OutgoingCall",
    "ParseError",
    "Promise",
    "PromiseCancelled",
    "PromiseDeadlockError",
    "PromiseDoneError",
    "PromiseError",
    "PromiseTimeoutError",
    "Refused",
    "RemoteAPI",
    "RemoteError",
    "RemoteFault",
    "Reply",
    "Security",
    "SecurityError",
    "Shutdown",
    "Signature",
    "Source",
    "Terms",
    "TooLarge",
    "Transport",
    "Unauthenticated",
    "UnknownUserError",
    "WireCodec",
    "codec",
    "current",
    "incoming",
    "outgoing",
    "transport",
]
