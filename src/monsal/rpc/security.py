"""Which security an API has: none, one of `monsal.wire`, or one that somebody else wrote (contract 2.2)."""

from __future__ import annotations

from typing import Any

from monsal.errors import UsageError
from monsal.rpc.classic import SecIn, SecOut, Security
from monsal.wire.security import InvalidSignatureError, Null, SecurityError, Session
from monsal.wire.security import Security as WireSecurity

__all__ = ["classic_ways", "link_security", "security_of"]

#: What a text may name (rpc.B15). Those with a secret are made in code: a secret in a text ends up in a log.
_BY_NAME = {"null": Null}


def security_of(given: Any) -> Any:
    """The security for a text or an object. Raises ValueError for an unknown text (rpc.R5)."""
    if not isinstance(given, str):
        return given
    name = given.partition(":")[0]
    if name not in _BY_NAME:
        raise ValueError(f"{given!r} is no security: known by text are {', '.join(sorted(_BY_NAME))}")
    return _BY_NAME[name]()


def link_security(security: Any) -> WireSecurity | None:
    """What a link is given."""
    if isinstance(security, Null):
        return None
    if isinstance(security, Security):
        return _Foreign(security)
    wired: WireSecurity = security
    return wired


def classic_ways(security: Any) -> tuple[SecOut | None, SecIn | None]:
    """`sec_out` and `sec_in` for a classic transport. Raises UsageError if the security needs a link."""
    if isinstance(security, Null):
        return None, None
    if hasattr(security, "sec_out"):
        return security.sec_out, security.sec_in
    raise UsageError(f"{security!r} counts what is said on one link, and a transport of one's own has none")


class _Foreign:
    """A security that somebody else wrote, on a link: unsigned frames are refused before it is asked (rpc.B6)."""

    def __init__(self, security: Security) -> None:
        self._security = security
        self.name = type(security).__name__

    def session(self, nonce: bytes) -> Session:
        return _ForeignSession(self._security)


class _ForeignSession:
    greeting = None
    is_ready = True

    def __init__(self, security: Security) -> None:
        self._security = security

    def greeted(self, secinfo: dict[str, Any]) -> bool:
        return False

    def seal(self, payload: bytes) -> tuple[dict[str, Any], bytes | None]:
        return self._security.sec_out(payload)

    def open(self, payload: bytes, secinfo: dict[str, Any] | None) -> tuple[bytes, dict[str, Any]]:
        if secinfo is None:
            raise InvalidSignatureError("unsigned")
        try:
            changed = self._security.sec_in(payload, secinfo)
        except SecurityError:
            raise
        except Exception as error:
            raise SecurityError(f"{type(error).__name__}: {error}") from error
        return payload if changed is None else changed, secinfo
