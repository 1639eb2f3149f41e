"""A class that is the interface of both sides: calls declared once, over any transport.

    from monsal.rpc import RemoteAPI, incoming, outgoing

May import: `monsal.transport`, `monsal.wire`, the ground floor. Start reading at `api.py` (the class) and `declare.py`
(the marks); `dispatch.py` has the way of a call that came in, `links.py` that of one that goes out. What contract 2.2
names for blocking code stands in `classic.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monsal.late import late

if TYPE_CHECKING:
    from monsal.errors import Busy as Busy
    from monsal.errors import CallExpired as CallExpired
    from monsal.errors import ConnectionLost as ConnectionLost
    from monsal.errors import Forbidden as Forbidden
    from monsal.errors import RemoteError as RemoteError
    from monsal.errors import RemoteFault as RemoteFault
    from monsal.errors import Unauthenticated as Unauthenticated
    from monsal.rpc.api import RemoteAPI as RemoteAPI
    from monsal.rpc.blocking import LinkTransport as LinkTransport
    from monsal.rpc.blocking import transport as transport
    from monsal.rpc.bound import IncomingCall as IncomingCall
    from monsal.rpc.bound import OutgoingCall as OutgoingCall
    from monsal.rpc.bound import Terms as Terms
    from monsal.rpc.classic import Codec as Codec
    from monsal.rpc.classic import ErrorReply as ErrorReply
    from monsal.rpc.classic import Message as Message
    from monsal.rpc.classic import MessageBatch as MessageBatch
    from monsal.rpc.classic import Reply as Reply
    from monsal.rpc.classic import Security as Security
    from monsal.rpc.classic import Transport as Transport
    from monsal.rpc.context import CallContext as CallContext
    from monsal.rpc.context import Source as Source
    from monsal.rpc.context import current as current
    from monsal.rpc.declare import Declaration as Declaration
    from monsal.rpc.declare import Options as Options
    from monsal.rpc.declare import Signature as Signature
    from monsal.rpc.declare import incoming as incoming
    from monsal.rpc.declare import outgoing as outgoing
    from monsal.rpc.errors import AppError as AppError
    from monsal.rpc.errors import Cancelled as Cancelled
    from monsal.rpc.errors import DecodeError as DecodeError
    from monsal.rpc.errors import ErrorTable as ErrorTable
    from monsal.rpc.errors import HandlerExpired as HandlerExpired
    from monsal.rpc.errors import InternalError as InternalError
    from monsal.rpc.errors import InvalidParams as InvalidParams
    from monsal.rpc.errors import InvalidRequest as InvalidRequest
    from monsal.rpc.errors import MethodNotFound as MethodNotFound
    from monsal.rpc.errors import ParseError as ParseError
    from monsal.rpc.errors import Refused as Refused
    from monsal.rpc.errors import Shutdown as Shutdown
    from monsal.rpc.errors import TooLarge as TooLarge
    from monsal.rpc.promise import ActionQueue as ActionQueue
    from monsal.rpc.promise import Promise as Promise
    from monsal.rpc.promise import PromiseCancelled as PromiseCancelled
    from monsal.rpc.promise import PromiseDeadlockError as PromiseDeadlockError
    from monsal.rpc.promise import PromiseDoneError as PromiseDoneError
    from monsal.rpc.promise import PromiseError as PromiseError
    from monsal.rpc.promise import PromiseTimeoutError as PromiseTimeoutError
    from monsal.rpc.values import DeclarationError as DeclarationError
    from monsal.rpc.wirecodec import WireCodec as WireCodec
    from monsal.rpc.wirecodec import codec as codec
    from monsal.wire.packets import EncodeError as EncodeError
    from monsal.wire.security import InvalidSignatureError as InvalidSignatureError
    from monsal.wire.security import SecurityError as SecurityError
    from monsal.wire.security import UnknownUserError as UnknownUserError

# Most of those who come here need a few of them: what nobody asks for is not imported.
_HOME = {
    "ActionQueue": "monsal.rpc.promise",
    "AppError": "monsal.rpc.errors",
    "Busy": "monsal.errors",
    "CallContext": "monsal.rpc.context",
    "CallExpired": "monsal.errors",
    "Cancelled": "monsal.rpc.errors",
    "Codec": "monsal.rpc.classic",
    "ConnectionLost": "monsal.errors",
    "Declaration": "monsal.rpc.declare",
    "DeclarationError": "monsal.rpc.values",
    "DecodeError": "monsal.rpc.errors",
    "EncodeError": "monsal.wire.packets",
    "ErrorReply": "monsal.rpc.classic",
    "ErrorTable": "monsal.rpc.errors",
    "Forbidden": "monsal.errors",
    "HandlerExpired": "monsal.rpc.errors",
    "IncomingCall": "monsal.rpc.bound",
    "InternalError": "monsal.rpc.errors",
    "InvalidParams": "monsal.rpc.errors",
    "InvalidRequest": "monsal.rpc.errors",
    "InvalidSignatureError": "monsal.wire.security",
    "LinkTransport": "monsal.rpc.blocking",
    "Message": "monsal.rpc.classic",
    "MessageBatch": "monsal.rpc.classic",
    "MethodNotFound": "monsal.rpc.errors",
    "Options": "monsal.rpc.declare",
    "OutgoingCall": "monsal.rpc.bound",
    "ParseError": "monsal.rpc.errors",
    "Promise": "monsal.rpc.promise",
    "PromiseCancelled": "monsal.rpc.promise",
    "PromiseDeadlockError": "monsal.rpc.promise",
    "PromiseDoneError": "monsal.rpc.promise",
    "PromiseError": "monsal.rpc.promise",
    "PromiseTimeoutError": "monsal.rpc.promise",
    "Refused": "monsal.rpc.errors",
    "RemoteAPI": "monsal.rpc.api",
    "RemoteError": "monsal.errors",
    "RemoteFault": "monsal.errors",
    "Reply": "monsal.rpc.classic",
    "Security": "monsal.rpc.classic",
    "SecurityError": "monsal.wire.security",
    "Shutdown": "monsal.rpc.errors",
    "Signature": "monsal.rpc.declare",
    "Source": "monsal.rpc.context",
    "Terms": "monsal.rpc.bound",
    "TooLarge": "monsal.rpc.errors",
    "Transport": "monsal.rpc.classic",
    "Unauthenticated": "monsal.errors",
    "UnknownUserError": "monsal.wire.security",
    "WireCodec": "monsal.rpc.wirecodec",
    "codec": "monsal.rpc.wirecodec",
    "current": "monsal.rpc.context",
    "incoming": "monsal.rpc.declare",
    "outgoing": "monsal.rpc.declare",
    "transport": "monsal.rpc.blocking",
}

__all__ = [*_HOME]

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _HOME)
