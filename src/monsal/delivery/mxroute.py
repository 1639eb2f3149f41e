"""Where mail for a domain goes: its MX records, else its own addresses (RFC 5321, section 5.1; RFC 7505).

Strangers write these records, so they must not lead us where strangers cannot go: addresses that are not public, and
our own, are left out unless that is allowed.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from monsal.delivery.names import Names, NamesUnavailable, NameUnknown
from monsal.delivery.route import NoRoute, Target
from monsal.smtp.endpoint import Endpoint
from monsal.smtp.mxurl import MxUrl

__all__ = ["MxRoute", "domain_of", "is_public"]

#: Hosts that are looked up, and addresses that are tried, of one domain: whoever writes the records must not be able
#: to keep us busy (P7; RFC 5321 asks for two addresses at least).
_MAX_HOSTS = 10
_MAX_TARGETS = 5

_LITERAL = re.compile(r"\[(?:IPv6:)?([0-9A-Fa-f:.]+)\]", re.IGNORECASE)
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*")
#: Addresses of IPv4 in the clothes of IPv6 (RFC 6052), and what is for local use (RFC 8215, RFC 3879, RFC 4291).
_NAT64 = IPv6Network("64:ff9b::/96")
_LOCAL = (IPv6Network("64:ff9b:1::/48"), IPv6Network("fec0::/10"), IPv6Network("::/96"))


def domain_of(recipient: str) -> str:
    """The domain of an address as the DNS has it: small letters, ASCII; as it is if it cannot be written so."""
    domain = recipient.rpartition("@")[2].lower().removesuffix(".")
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain


def is_public(address: str) -> bool:
    """Whether an address is one that everybody can have a server at."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        if any(ip in network for network in _LOCAL):
            return False
        if (inner := _inner(ip)) is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _inner(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


def _is_own(address: str, port: int) -> bool:
    """Whether this machine has that address: then the system would speak to it from there. Nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, port))
            return ip_address(probe.getsockname()[0].partition("%")[0]) == ip_address(address)
    except OSError:  # no way there: then it is not here
        return False


class MxRoute:
    """The mail servers of one domain, by preference, and at random among equals.

    `name` is ours: of servers that are called so, and less preferred ones, none is taken, since mail would come back.
    """

    def __init__(self, domain: str, url: MxUrl, names: Names, *, name: str | None = None) -> None:
        self._domain = domain
        self._url = url
        self._names = names
        self._name = (name or "").lower()

    async def targets(self) -> Sequence[Target]:
        """See `Route`. An end that the DNS is sure of is final; RFC 3463 has the status codes."""
        domain = self._domain
        if (literal := _LITERAL.fullmatch(domain)) is not None:
            return self._literal(literal[1])
        if _DOMAIN.fullmatch(domain) is None:
            raise NoRoute(f"5.1.2 {domain!r} is not a domain", final=True)
        hosts = (await self._hosts())[:_MAX_HOSTS]
        answers = await asyncio.gather(*(self._addresses(host) for _, host in hosts))
        found: list[tuple[int, Target]] = []
        refused: list[str] = []
        for (preference, host), answer in zip(hosts, answers, strict=True):
            if isinstance(answer, NamesUnavailable):
                continue
            if self._is_ours(host, answer):
                # Those that are no more preferred than we are would give it to us (RFC 5321, section 5.1).
                found = [each for each in found if each[0] < preference]
                if found:
                    break
                raise NoRoute(f"5.4.6 mail for {domain} would come back to this server", final=True)
            usable = [address for address in answer if self._url.private or is_public(address)]
            found += [(preference, self._target(host, address)) for address in usable]
            refused += [address for address in answer if address not in usable]
        if found:
            return [target for _, target in found[:_MAX_TARGETS]]
        for answer in answers:
            if isinstance(answer, NamesUnavailable):
                raise NoRoute(f"4.4.3 {answer}", final=False)
        if refused:
            raise NoRoute(f"5.4.4 the mail servers of {domain} have no public address: {refused[0]}", final=True)
        raise NoRoute(f"5.4.4 the mail servers of {domain} have no address: {hosts[0][1]}", final=True)

    def _literal(self, text: str) -> Sequence[Target]:
        """The place that an address literal names (RFC 5321, section 4.1.3)."""
        try:
            address = str(ip_address(text))
        except ValueError:
            raise NoRoute(f"5.1.2 {self._domain!r} is no address", final=True) from None
        if not self._url.private and (not is_public(address) or _is_own(address, self._url.port)):
            raise NoRoute(f"5.4.4 {address} is no public address of another machine", final=True)
        return [self._target(address, address)]

    def _target(self, host: str, address: str) -> Target:
        url = self._url
        return Target(Endpoint(host=host, port=url.port, tls=url.tls, verify=url.verify, ca=url.ca), address)

    def _is_ours(self, host: str, addresses: list[str]) -> bool:
        if self._url.private:
            return False
        return host == self._name or any(_is_own(each, self._url.port) for each in addresses if is_public(each))

    async def _addresses(self, host: str) -> list[str] | NamesUnavailable:
        """The addresses of a host, at random; none if there is no such host; or why they are not known."""
        try:
            found = await self._names.addresses(host)
        except NameUnknown:
            return []
        except NamesUnavailable as error:
            return error
        # Those of IPv4 stay first: more servers take mail from there, as things are.
        return sorted(found, key=lambda address: (":" in address, random.random()))

    async def _hosts(self) -> list[tuple[int, str]]:
        """Preference and name of the hosts, in the order in which they are tried; ends where we are one of them."""
        domain = self._domain
        try:
            records = await self._names.exchanges(domain)
        except NameUnknown:
            raise NoRoute(f"5.1.2 there is no domain {domain}", final=True) from None
        except NamesUnavailable as error:
            raise NoRoute(f"4.4.3 {error}", final=False) from None
        if records and not any(host for _, host in records):
            raise NoRoute(f"5.1.10 {domain} takes no mail (null MX)", final=True)
        hosts = [(preference, host.lower()) for preference, host in records if host] or [(0, domain)]
        return sorted(hosts, key=lambda each: (each[0], random.random()))
