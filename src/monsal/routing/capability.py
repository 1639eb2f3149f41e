"""Capability addresses: a small value in a local part, signed, so that who writes there was given the address by us.

One kind for replies, confirmations, unsubscribing and whatever else an application hands out:

    @route("r+(cap)@(host)", cap=Capability(OrderReply, ttl=days(30), once=True))
    def ANSWERED(message, cap): ...                         # cap is an OrderReply

    current().address_for(OrderReply(id=7))                 # r+aeaa...@example.com

Pure: keys, time and the nonce are arguments. What stands in the address, in base 32 of lower-case letters (RFC 4648,
section 6), which no folding of case harms:

    key id | options | expiry, 4 octets | nonce, 4 | mark of the correspondent, 5 | value | mac, 10
                                        if once      if bound                       80 bits of HMAC-SHA256

The mac is also bound to the purpose (the name of the value's type) and to the domain: an address of one kind or host
proves nothing for another one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from monsal.errors import CapabilityError, RouteError

__all__ = ["MAX_TTL", "SEALED", "Capability", "Opened", "days", "hours", "mark_of"]

#: Octets of the mac: 80 bits, and each guess is a mail.
MAC_OCTETS = 10
#: Octets that tell one address from another of the same value, and mark the correspondent it was made for.
_NONCE = 4
_MARK = 5
#: Longest validity: how long a key that was replaced has to be kept at most.
MAX_TTL = 400 * 86400.0
#: Octets of a local part (RFC 5321, section 4.5.3.1.1).
MAX_LOCAL = 64

_ONCE, _BOUND = 1, 2
_HEAD = struct.Struct(">BBI")
#: The fewest octets: head, an empty value, mac.
_FEWEST = _HEAD.size + 1 + MAC_OCTETS
#: What a sealed value looks like in an address.
SEALED = f"[a-z2-7]{{{-(-_FEWEST * 8 // 5)},{MAX_LOCAL}}}"


def days(number: float) -> float:
    """That many days in seconds."""
    return number * 86400.0


def hours(number: float) -> float:
    """That many hours in seconds."""
    return number * 3600.0


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """What a sealed text says, its mac being right: the value, when it expires (epoch seconds), and the mark of the
    correspondent it was made for, empty for anybody. `key` is the id of the key that made it."""

    value: Any
    expires: float
    mark: bytes
    key: int


class Capability(str):
    """A capture that takes sealed values of one type only. As a text it is the regular expression of what it takes.

    `type` is a msgspec.Struct or a dataclass of few, small values. An address is valid for `ttl` seconds; with `once`
    for one message, with `bound` only from the correspondent it was made for. `purpose` is otherwise the type's name:
    give it to rename the type and keep the addresses that are out there.

    Raises RouteError for what cannot be sealed.
    """

    __slots__ = ("_decoder", "_fields", "bound", "kind", "once", "purpose", "ttl")
    kind: type
    ttl: float
    once: bool
    bound: bool
    purpose: str
    _fields: tuple[str, ...]
    _decoder: msgspec.msgpack.Decoder[tuple[Any, ...]]

    def __new__(
        cls,
        type: type,  # noqa: A002 - what it is
        /,
        *,
        ttl: float = 30 * 86400.0,
        once: bool = False,
        bound: bool = False,
        purpose: str | None = None,
    ) -> Capability:
        made = super().__new__(cls, SEALED)
        made.kind, made.once, made.bound = type, bool(once), bool(bound)
        made.purpose = getattr(type, "__qualname__", "") if purpose is None else purpose
        if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl <= MAX_TTL:
            raise RouteError(f"Capability: ttl is {ttl!r}; it is seconds, as in ttl=days(30), at most 400 days")
        made.ttl = float(ttl)
        if not isinstance(made.purpose, str) or not made.purpose or "\0" in made.purpose:
            raise RouteError(f"Capability: purpose is {purpose!r}; it is a text that is not empty")
        made._fields, made._decoder = _shape(type)
        return made

    def __repr__(self) -> str:
        return f"Capability({self.purpose}, ttl={self.ttl:g}, once={self.once}, bound={self.bound})"

    def __reduce__(self) -> Any:
        raise TypeError("a Capability belongs to the module of its route and is not copied")

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells routes with the same format apart."""
        return (self.purpose, self.ttl, self.once, self.bound, self.kind)

    # -- to make and to read ------------------------------------------------------------------------------------

    def seal(
        self, value: Any, *, key: tuple[int, bytes], host: str, now: float, nonce: bytes, correspondent: str = ""
    ) -> str:
        """The text for `value`. `key` is its id (0 to 255) and secret, `host` the domain of the address, folded;
        `nonce` four octets; `correspondent` (folded) is needed if it is bound.

        Raises CapabilityError for a value of another type, or one that cannot be encoded.
        """
        if not isinstance(value, self.kind):
            raise CapabilityError(f"{self.purpose}: the value is {value!r:.100}, not of that type")
        number, secret = key
        options = (_ONCE if self.once else 0) | (_BOUND if self.bound else 0)
        body = _HEAD.pack(number, options, min(int(now + self.ttl), 0xFFFFFFFF))
        if self.once:
            body += nonce[:_NONCE].ljust(_NONCE, b"\0")
        if self.bound:
            if not correspondent:
                raise CapabilityError(f"{self.purpose} is bound to a correspondent, and none is named")
            body += mark_of(secret, correspondent)
        try:
            body += msgspec.msgpack.encode([getattr(value, name) for name in self._fields])
        except (TypeError, ValueError, OverflowError) as error:
            raise CapabilityError(f"{self.purpose}: {value!r:.100} cannot be put into an address: {error}") from error
        return _write(body + self._mac(secret, host, body))

    def open(self, text: str, *, secret_of: Callable[[int], bytes | None], host: str) -> Opened:
        """What a text says. `secret_of` gives the secret of a key id, None for one that is not (any more) known.

        Whether it has expired, was used, or is the correspondent's, is for the caller to see.
        Raises CapabilityError for any text that was not made by `seal` for this purpose and host.
        """
        raw = _read(text)
        number, options, expires = _HEAD.unpack_from(raw)
        body, given = raw[:-MAC_OCTETS], raw[-MAC_OCTETS:]
        secret = secret_of(number)
        if secret is None:
            raise CapabilityError("it was signed with a key that is not known, or not any more")
        if not hmac.compare_digest(self._mac(secret, host, body), given):
            raise CapabilityError("its signature is wrong")
        if self.bound and not options & _BOUND:
            raise CapabilityError("it is not bound to a correspondent, as it has to be by now")
        start = _HEAD.size + (_NONCE if options & _ONCE else 0)
        end = start + (_MARK if options & _BOUND else 0)
        try:
            value = self.kind(**dict(zip(self._fields, self._decoder.decode(body[end:]), strict=True)))
        except Exception as error:  # the type's own code judges values that another version of it has signed
            raise CapabilityError(f"its value is no {self.purpose} any more: {error}") from error
        return Opened(value=value, expires=float(expires), mark=body[start:end], key=number)

    def _mac(self, secret: bytes, host: str, body: bytes) -> bytes:
        text = b"\0".join((b"monsal capability", self.purpose.encode(), host.encode("utf-8", "surrogatepass"), body))
        return hmac.digest(secret, text, hashlib.sha256)[:MAC_OCTETS]


def mark_of(secret: bytes, correspondent: str) -> bytes:
    """What stands for a correspondent in an address; it cannot be told from it who that is."""
    text = b"monsal correspondent\0" + correspondent.encode("utf-8", "surrogatepass")
    return hmac.digest(secret, text, hashlib.sha256)[:_MARK]


def _shape(kind: type) -> tuple[tuple[str, ...], msgspec.msgpack.Decoder[tuple[Any, ...]]]:
    """The names of a type's fields, and what reads their values."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        names = kind.__struct_fields__
    else:
        # Not before: whoever has such a class has loaded this, and others need not.
        import dataclasses

        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise RouteError(f"Capability: {kind!r:.100} is no msgspec.Struct and no dataclass")
        names = tuple(field.name for field in dataclasses.fields(kind) if field.init)
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
        wanted: Any = tuple.__class_getitem__(tuple(hints[name] for name in names))
        return names, msgspec.msgpack.Decoder(wanted)
    except (TypeError, NameError, KeyError) as error:
        raise RouteError(f"Capability: {kind.__qualname__} cannot be put into an address: {error}") from error


def _write(raw: bytes) -> str:
    return base64.b32encode(raw).decode("ascii").rstrip("=").lower()


def _read(text: str) -> bytes:
    """The octets of a text. There is one text for each of them, but for the case of its letters."""
    # Not only letters of ASCII become one by folding: U+017F and U+212A do.
    if not text.isascii():
        raise CapabilityError("it is no sealed value")
    folded = text.lower()
    try:
        raw = base64.b32decode(folded.upper() + "=" * (-len(folded) % 8))
    except binascii.Error:
        raise CapabilityError("it is no sealed value") from None
    if len(raw) < _FEWEST or _write(raw) != folded:
        raise CapabilityError("it is no sealed value")
    return raw
