"""What can go wrong in a call, as classes with a code: the same ones are raised in a handler and at its caller.

    RemoteError                      (monsal.errors) a call to another program failed
    ├─ ConnectionLost, CallExpired   there was no answer
    └─ RemoteFault                   it was answered with an error: `code`, `data`, `details`
        ├─ ParseError        -32700  JSON-RPC 2.0, section 5.1
        ├─ InvalidRequest    -32600
        ├─ MethodNotFound    -32601  also an AttributeError (rpc.R12)
        ├─ InvalidParams     -32602  also a TypeError (rpc.R14); `data["path"]` says where
        ├─ InternalError     -32603  `data["incident"]` is the number under which the other side logged it
        ├─ Busy              -32000  (monsal.errors)
        ├─ HandlerExpired    -32001  the handler was stopped at the deadline of the call; also a CallExpired
        ├─ Unauthenticated   -32002  (monsal.errors)
        ├─ Forbidden         -32003  (monsal.errors)
        ├─ TooLarge          -32004
        ├─ Shutdown          -32005
        ├─ Refused           -32010  the handler raised a MonsalError; `kind` is the name of its class
        ├─ Cancelled         -32800
        └─ AppError                  an application's own: `class NotFound(AppError, code=1404)`

An API lists its own: `class Helpdesk(RemoteAPI): errors = (NotFound,)`; then both sides see a NotFound (rpc.B9).
"""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Iterable
from typing import Any, Final

from monsal.errors import (
    Busy,
    CallExpired,
    Forbidden,
    MonsalError,
    ProtocolError,
    RemoteFault,
    Unauthenticated,
    UsageError,
)
from monsal.wire.codes import (
    CANCELLED,
    DEADLINE,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    REFUSED,
    SHUTDOWN,
    TOO_LARGE,
)
from monsal.wire.packets import EncodeError, Fault

__all__ = [
    "AppError",
    "Cancelled",
    "DecodeError",
    "EncodeError",
    "ErrorTable",
    "HandlerExpired",
    "InternalError",
    "InvalidParams",
    "InvalidRequest",
    "MethodNotFound",
    "ParseError",
    "Refused",
    "Shutdown",
    "TooLarge",
    "incident",
]


class DecodeError(ProtocolError, ValueError):
    """What came is nothing that the codec knows. `fault` is what its sender is to be told of it, if anything."""

    def __init__(self, message: str = "", fault: Fault | None = None) -> None:
        super().__init__(message)
        self.fault = fault


class ParseError(RemoteFault):
    """What was sent is not of the form of the codec."""

    code = PARSE_ERROR


class InvalidRequest(RemoteFault):
    """What was sent has the form of the codec, but is no call."""

    code = INVALID_REQUEST


class MethodNotFound(RemoteFault, AttributeError):
    """There is no call of that name, or it may not be made in this direction (rpc.R12, rpc.B10)."""

    code = METHOD_NOT_FOUND


class InvalidParams(RemoteFault, TypeError):
    """The call had a wrong signature: its arguments do not fit the declaration (rpc.R14)."""

    code = INVALID_PARAMS


class InternalError(RemoteFault):
    """The handler failed in a way that is nobody else's business; its log has more under the incident number."""

    code = INTERNAL_ERROR


class HandlerExpired(RemoteFault, CallExpired):
    """The handler was stopped, or never begun, because the deadline of the call has passed (rpc.B4).

    Both sides watch the same deadline: whoever is told first, it is a CallExpired.
    """

    code = DEADLINE


class TooLarge(RemoteFault):
    """The call or its answer is larger than the limit."""

    code = TOO_LARGE


class Shutdown(RemoteFault):
    """The other program is about to end and takes no calls any more."""

    code = SHUTDOWN


class Refused(RemoteFault):
    """The handler said no on purpose, by a MonsalError; `kind` is the name of its class."""

    code = REFUSED


class Cancelled(RemoteFault):
    """The call was given up by its caller (rpc.B4)."""

    code = CANCELLED


class AppError(RemoteFault):
    """An error of an application. A subclass has a code: `class NotFound(AppError, code=1404)`.

    JSON-RPC 2.0, section 5.1, keeps -32768 to -32000 for itself; any other number will do.
    """

    code = -32011

    def __init_subclass__(cls, *, code: int | None = None, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if code is not None:
            if -32768 <= code <= -32000:
                raise UsageError(f"{cls.__name__}: JSON-RPC 2.0 keeps the codes -32768 to -32000 for itself")
            cls.code = code


_OF_ALL: Final[tuple[type[RemoteFault], ...]] = (
    ParseError,
    InvalidRequest,
    MethodNotFound,
    InvalidParams,
    InternalError,
    HandlerExpired,
    Unauthenticated,
    Forbidden,
    TooLarge,
    Shutdown,
    Refused,
    Cancelled,
)


def incident() -> str:
    """A number under which an error is logged and told of, and nothing else of it (rpc.B9)."""
    return secrets.token_hex(4)


class ErrorTable:
    """Which class stands for which code, in both directions, for one API. Raises UsageError if two share a code."""

    def __init__(self, own: Iterable[type[AppError]] = ()) -> None:
        self.own = tuple(own)
        self._classes: dict[int, type[RemoteFault]] = {known.code: known for known in _OF_ALL}
        for known in self.own:
            if self._classes.setdefault(known.code, known) is not known:
                other = self._classes[known.code].__name__
                raise UsageError(f"{known.__name__} and {other} have the same code, {known.code}")

    def error(self, fault: Fault) -> RemoteFault:
        """The exception for a fault that came as the answer to a call (rpc.R30)."""
        data = fault.data
        known = data if isinstance(data, dict) else {}
        # The original library sends its traceback as `data`.
        details = str(known.get("traceback") or known.get("details") or "") if not isinstance(data, str) else data
        kind = str(known.get("kind", ""))
        if fault.code == Busy.code:
            hint = known.get("retry_after")
            return Busy(fault.message, float(hint) if isinstance(hint, int | float) else 1.0, details=details)
        chosen = self._classes.get(fault.code, AppError)
        return chosen(fault.message, code=fault.code, kind=kind, data=data, details=details)

    def fault(self, error: BaseException, name: str = "", *, traceback_too: bool = False) -> tuple[int, str, Any]:
        """Code, message and data for an exception; the text of an unforeseen one is not told (rpc.B9).

        `name` is the incident number under which that one was logged.
        """
        data: Any = None
        if isinstance(error, RemoteFault):
            code, message, data = error.code, str(error), error.data
        elif isinstance(error, MonsalError):
            code, message, data = REFUSED, str(error) or type(error).__name__, {"kind": type(error).__name__}
        else:
            code, message, data = INTERNAL_ERROR, f"internal error, incident {name}", {"incident": name}
        if traceback_too:
            text = "".join(traceback.format_exception(error))
            data = {**(data if isinstance(data, dict) else {"data": data} if data is not None else {})}
            data["traceback"] = text
        return code, message, data
