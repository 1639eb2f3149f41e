"""What a Fault becomes at the caller: the one table from the numbers of rpc.B8 to exceptions.

It knows the errors of the ground floor only. Whoever has more of them (an API with its own) gives a `LinkSetup` another
function of the same form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from monsal.errors import Busy, CallExpired, Forbidden, RemoteError, RemoteFault, Unauthenticated
from monsal.wire.codes import BUSY, DEADLINE, FORBIDDEN, UNAUTHENTICATED
from monsal.wire.packets import Fault

__all__ = ["error_of"]


def error_of(fault: Fault) -> RemoteError:
    """The exception for a fault that came as the answer to a call (rpc.R30, rpc.B9)."""
    return _CLASSES.get(fault.code, _plain)(fault)


def _plain(fault: Fault) -> RemoteFault:
    return _fault(RemoteFault, fault)


def _fault(kind: type[RemoteFault], fault: Fault) -> RemoteFault:
    said: dict[str, Any] = fault.data if isinstance(fault.data, dict) else {}
    # The original library sends a traceback as the whole of `data`.
    details = fault.data if isinstance(fault.data, str) else said.get("traceback") or said.get("details") or ""
    return kind(fault.message, code=fault.code, kind=str(said.get("kind", "")), data=fault.data, details=str(details))


def _busy(fault: Fault) -> Busy:
    hint = fault.data.get("retry_after") if isinstance(fault.data, dict) else None
    if isinstance(hint, int | float) and not isinstance(hint, bool) and 0.0 <= hint < 86400.0:
        return Busy(fault.message, float(hint))
    return Busy(fault.message)


_CLASSES: Final[dict[int, Callable[[Fault], RemoteError]]] = {
    BUSY: _busy,
    DEADLINE: lambda fault: CallExpired(fault.message),
    UNAUTHENTICATED: lambda fault: _fault(Unauthenticated, fault),
    FORBIDDEN: lambda fault: _fault(Forbidden, fault),
}
