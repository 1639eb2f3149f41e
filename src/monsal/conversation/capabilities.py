"""Capability addresses of one application: made in turns, verified at RCPT and again before the turn.

What they are made of is in `routing/capability.py`; here are the keys, the time, and who was told.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from monsal.address import fold, split_address
from monsal.conversation.keys import Keyring
from monsal.errors import AddressError, CapabilityError
from monsal.mail import ascii_domain
from monsal.routing import Capability, Match, Opened, Router, mark_of
from monsal.routing.capability import MAX_LOCAL

__all__ = ["Capabilities", "Screened", "check_length", "host_of"]


class Screened(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of the matches of an address. `refusal` says why nothing is, empty if all is well; `once` are the
    sealed texts that one message may use, with the time they expire."""

    matches: tuple[Match, ...]
    refusal: str = ""
    once: tuple[tuple[str, float], ...] = ()


class Capabilities:
    """Makes and verifies the capability addresses of an application."""

    def __init__(self, router: Router, keyring: Keyring) -> None:
        self._router = router
        self.keyring = keyring

    def screen(
        self, matches: Sequence[Match], address: str, *, at: float | None, correspondent: str | None = None
    ) -> Screened:
        """Verify the capabilities in an address; the matches then have their values in the place of their texts.

        `at` is when it has to be valid (None: expiry does not count), `correspondent` (folded) who writes, None while
        that is not known. An address that matches a route by a capability which is not valid is refused as a whole,
        whatever else would take it, unless another route's capability is.
        """
        good: list[Match] = []
        once: list[tuple[str, float]] = []
        refusal, verified = "", False
        for match in matches:
            capabilities = match.route.pattern.capabilities
            if not capabilities:
                good.append(match)
                continue
            values: dict[str, Any] = dict(match.captures)
            try:
                for name, capability in capabilities.items():
                    text = str(values[name] or "")
                    opened = self.open(capability, text, host_of(address), at=at, correspondent=correspondent)
                    values[name] = opened.value
                    if capability.once:
                        once.append((text.lower(), opened.expires))
            except CapabilityError as error:
                refusal = refusal or f"capability: {error}"
                continue
            verified = True
            good.append(msgspec.structs.replace(match, captures=values))
        if refusal and not verified:
            return Screened(matches=(), refusal=refusal)
        return Screened(matches=tuple(good), once=tuple(dict(once).items()))

    def open(
        self, capability: Capability, text: str, host: str, *, at: float | None, correspondent: str | None = None
    ) -> Opened:
        """What a sealed text says, if it is valid. Raises CapabilityError with the reason why it is not."""
        opened = capability.open(text, secret_of=self.keyring.secret_of, host=host)
        if at is not None and opened.expires <= at:
            raise CapabilityError("it has expired")
        if correspondent is not None and opened.mark:
            secret = self.keyring.secret_of(opened.key)
            if secret is None or not hmac.compare_digest(mark_of(secret, fold(correspondent)), opened.mark):
                raise CapabilityError("it was made for another correspondent")
        return opened

    def seal(
        self, capability: Capability, value: Any, host: str, *, now: float, nonce: bytes, correspondent: str
    ) -> str:
        """The text for a value. Raises CapabilityError."""
        return capability.seal(
            value,
            key=self.keyring.signing(),
            host=host,
            now=now,
            nonce=nonce,
            correspondent=fold(correspondent),
        )

    def address(self, value: Any, captures: Mapping[str, Any], *, now: float, nonce: bytes, correspondent: str) -> str:
        """The address at which a route takes `value`: the first route with a capability of its type.

        `captures` fill the other captures of the route's format. Raises CapabilityError.
        """
        for route in self._router.table.routes:
            for name, capability in route.pattern.capabilities.items():
                if type(value) is not capability.kind:
                    continue
                given = {key: text for key, text in captures.items() if isinstance(text, str)}
                pattern = route.pattern
                # The domain is part of what is signed, so it has to be known before.
                host = host_of(pattern.fill({**given, name: "x"}))
                text = self.seal(capability, value, host, now=now, nonce=nonce, correspondent=correspondent)
                made = pattern.fill({**given, name: text})
                check_length(made, f"{capability.purpose} in {pattern.format}")
                if pattern.match(made) is None:
                    raise CapabilityError(f"{made} does not match its own route {pattern.format}")
                return made
        raise CapabilityError(f"no route has a Capability for {type(value).__qualname__}")


def check_length(address: str, what: str) -> None:
    """Raise CapabilityError unless the local part of an address is short enough (RFC 5321, section 4.5.3.1.1)."""
    octets = len(address.rpartition("@")[0].encode("utf-8", "surrogatepass"))
    if octets > MAX_LOCAL:
        raise CapabilityError(
            f"{what}: the local part has {octets} octets, and {MAX_LOCAL} are the most there may be; give it a smaller "
            "value, such as a number that leads to what it stands for"
        )


def host_of(address: str) -> str:
    """The domain of an address in the one form in which it is signed: folded, in ASCII."""
    try:
        return fold(split_address(ascii_domain(address))[1])
    except AddressError:
        return fold(address.rpartition("@")[2])
