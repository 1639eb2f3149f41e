"""Who says it: nothing, a token, or a signature; checked before anything is dispatched (rpc.B6).

A `Security` is what a program is configured with; each link has a `Session` of it, which counts and remembers.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from monsal.errors import ProtocolError, UsageError

__all__ = [
    "Hmac",
    "InvalidSignatureError",
    "Null",
    "Security",
    "SecurityError",
    "Session",
    "Token",
    "Tokens",
    "UnknownUserError",
]


class SecurityError(ProtocolError):
    """A frame does not come from whom it should."""


class InvalidSignatureError(SecurityError):
    """A frame is unsigned, signed wrongly, or was heard before."""


class UnknownUserError(SecurityError):
    """Nobody is known here by that name or token."""


class Session(Protocol):
    """The security of one link."""

    @property
    def greeting(self) -> dict[str, Any] | None:
        """The secinfo to be sent alone and before all else."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether `seal` can be used yet; what is to be sent waits until then."""
        ...

    def greeted(self, secinfo: dict[str, Any]) -> bool:
        """Take the other side's greeting; False if it is none, but belongs to a payload. Raises SecurityError."""
        ...

    def seal(self, payload: bytes) -> tuple[dict[str, Any], bytes | None]:
        """The secinfo for a payload, empty if it needs none, and what goes in its place, None if it goes as it is."""
        ...

    def open(self, payload: bytes, secinfo: dict[str, Any] | None) -> tuple[bytes, dict[str, Any]]:
        """The payload as it was, and what is known about its sender. Raises SecurityError if it is not to be heard."""
        ...


class Security(Protocol):
    """What makes sessions; `nonce` is 16 random octets, of this link alone."""

    @property
    def name(self) -> str:
        """The word for it in an expression, such as `null`."""
        ...

    def session(self, nonce: bytes) -> Session | None:
        """The security of one link; None if nothing is added and nothing checked."""
        ...


class Null:
    """Nothing is added, nothing is checked; what others add is passed over."""

    name = "null"

    def session(self, nonce: bytes) -> None:
        return None


class Token:
    """The side that has a token: it is sent once, with the first packet. Use it only where nobody listens in."""

    name = "token"

    def __init__(self, token: str) -> None:
        if not token:
            raise UsageError("a token is not empty")
        self._token = token

    def __repr__(self) -> str:
        return "Token(...)"

    def session(self, nonce: bytes) -> Session:
        return _TokenSession(self._token)


class _TokenSession:
    greeting = None
    is_ready = True

    def __init__(self, token: str) -> None:
        self._unsaid: dict[str, Any] = {"token": token}

    def greeted(self, secinfo: dict[str, Any]) -> bool:
        return False

    def seal(self, payload: bytes) -> tuple[dict[str, Any], bytes | None]:
        said, self._unsaid = self._unsaid, {}
        return said, None

    def open(self, payload: bytes, secinfo: dict[str, Any] | None) -> tuple[bytes, dict[str, Any]]:
        return payload, {}


class Tokens:
    """The side that asks for a token: each with the scopes that it opens, which `secinfo` tells as `scopes`.

    A link that showed one has shown it for good; until then nothing is dispatched.
    """

    name = "tokens"

    def __init__(self, scopes: Mapping[str, Iterable[str]]) -> None:
        if not scopes or not all(scopes):
            raise UsageError("there is at least one token, and none is empty")
        self._scopes = [(token.encode(), tuple(opened)) for token, opened in scopes.items()]

    def __repr__(self) -> str:
        return f"Tokens({len(self._scopes)})"

    def session(self, nonce: bytes) -> Session:
        return _TokensSession(self)

    def scopes_of(self, token: str) -> tuple[str, ...] | None:
        """What a token opens; None if it is unknown. All are compared, each in constant time."""
        said = token.encode("utf-8", "surrogatepass")
        found = None
        for known, opened in self._scopes:
            if hmac.compare_digest(known, said):
                found = opened
        return found


class _TokensSession:
    greeting = None
    is_ready = True

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._known: dict[str, Any] | None = None

    def greeted(self, secinfo: dict[str, Any]) -> bool:
        return False

    def seal(self, payload: bytes) -> tuple[dict[str, Any], bytes | None]:
        return {}, None

    def open(self, payload: bytes, secinfo: dict[str, Any] | None) -> tuple[bytes, dict[str, Any]]:
        if secinfo is not None and (token := secinfo.get("token")) is not None:
            scopes = self._tokens.scopes_of(token) if isinstance(token, str) else None
            if scopes is None:
                raise UnknownUserError("the token is not known here")
            self._known = {"scopes": list(scopes)}
        if self._known is None:
            raise UnknownUserError("a token is needed first")
        return payload, self._known


#: Octets of a nonce.
_NONCE: Final = 16
#: How far behind the highest number heard a frame may come (RFC 4303, section 3.4.3, asks for 64 as a rule).
_WINDOW: Final = 64
_CONTEXT: Final = b"monsal rpc 1\0"


class Hmac:
    """Both sides have the same key: each frame carries HMAC-SHA256 over both nonces, its number and its payload.

    Each side first greets the other with a nonce of its own, and every signature covers both: a frame recorded on one
    link is worth nothing on another one, nor sent back to whom it came from. `known` gives the keys of the others by
    their ids; without it they have the key and id given here.
    """

    name = "hmac"

    def __init__(self, key: bytes, key_id: str = "", known: Mapping[str, bytes] | None = None) -> None:
        keys = {key_id: key} if known is None else dict(known)
        # A key shorter than the hash weakens it (RFC 2104, section 3); half of it is the least anybody advises.
        if any(len(secret) < 16 for secret in (key, *keys.values())):
            raise UsageError("a key has at least 16 octets")
        self._key = key
        self._key_id = key_id
        self._known = keys

    def __repr__(self) -> str:
        return f"Hmac(..., {self._key_id!r})"

    def session(self, nonce: bytes) -> Session:
        if len(nonce) != _NONCE:
            raise UsageError(f"a signed link needs a nonce of {_NONCE} random octets")
        return _HmacSession(self._key, self._key_id, self._known, nonce)


class _HmacSession:
    def __init__(self, key: bytes, key_id: str, known: Mapping[str, bytes], nonce: bytes) -> None:
        self._key = key
        self._key_id = key_id
        self._known = known
        self._ours = nonce
        self._theirs = b""
        self._last = 0
        self._highest = 0
        self._heard = 0  # bit n: the frame with the number highest - n was heard
        self.greeting: dict[str, Any] | None = {"nonce": nonce.hex()}

    @property
    def is_ready(self) -> bool:
        return bool(self._theirs)

    def greeted(self, secinfo: dict[str, Any]) -> bool:
        said = secinfo.get("nonce")
        if said is None:
            return False
        nonce = _octets(said)
        # Our own nonce sent back would make us sign what we ourselves would take.
        if len(nonce) != _NONCE or nonce == self._ours or self._theirs not in (b"", nonce):
            raise InvalidSignatureError("the greeting has no nonce of its own")
        self._theirs = nonce
        return True

    def seal(self, payload: bytes) -> tuple[dict[str, Any], bytes | None]:
        self._last += 1
        mac = _mac(self._key, self._ours + self._theirs, self._last, payload)
        return {"key": self._key_id, "seq": self._last, "mac": mac.hex()}, None

    def open(self, payload: bytes, secinfo: dict[str, Any] | None) -> tuple[bytes, dict[str, Any]]:
        if secinfo is None or not self._theirs:
            raise InvalidSignatureError("unsigned")
        key_id, number, said = secinfo.get("key"), secinfo.get("seq"), secinfo.get("mac")
        key = self._known.get(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise UnknownUserError("nobody is known here by that key id")
        if type(number) is not int or not 0 < number < 1 << 64:
            raise InvalidSignatureError("the sequence number is none")
        if not hmac.compare_digest(_mac(key, self._theirs + self._ours, number, payload), _octets(said)):
            raise InvalidSignatureError("the signature is wrong")
        self._note(number)
        return payload, {"user": key_id}

    def _note(self, number: int) -> None:
        behind = self._highest - number
        if behind < 0:
            self._heard = (self._heard << min(-behind, _WINDOW) | 1) & ((1 << _WINDOW) - 1)
            self._highest = number
        elif behind >= _WINDOW or self._heard >> behind & 1:
            raise InvalidSignatureError("this was heard before, or comes too late")
        else:
            self._heard |= 1 << behind


def _mac(key: bytes, nonces: bytes, number: int, payload: bytes) -> bytes:
    return hmac.digest(key, _CONTEXT + nonces + number.to_bytes(8, "big") + payload, "sha256")


def _octets(text: object) -> bytes:
    """The octets written in hexadecimal digits; none if it is no such text."""
    try:
        return bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        return b""
