"""What the DNS says about a name, asked by dnspython (extra `mx`)."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from monsal.errors import ConfigError
from monsal.smtp.mxurl import MxUrl

__all__ = ["DnsNames", "NameUnknown", "Names", "NamesUnavailable"]

#: Answers that are kept as long as their owner allows.
_CACHED = 10_000


class NameUnknown(Exception):
    """There is no such name (NXDOMAIN): the DNS is sure of it."""


class NamesUnavailable(Exception):
    """The DNS does not know now: no answer in time, SERVFAIL, or one that cannot be read."""


class Names(Protocol):
    """Looks names up. Both raise NameUnknown and NamesUnavailable; what a name does not have is an empty list."""

    async def exchanges(self, domain: str) -> list[tuple[int, str]]:
        """The MX records: preference and host, without the last dot; the root is an empty host (RFC 7505)."""
        ...

    async def addresses(self, host: str) -> list[str]:
        """The addresses of a host, those of IPv4 first."""
        ...


class DnsNames:
    """Asks the name servers of the system, or the one that the URL of the relay names.

    One look-up takes at most `patience` seconds. Raises ConfigError if dnspython is not installed, or the system names
    no servers.
    """

    def __init__(self, url: MxUrl, *, patience: float = 10.0) -> None:
        try:
            from dns.asyncresolver import Resolver
            from dns.resolver import LRUCache, NoResolverConfiguration
        except ModuleNotFoundError:
            raise ConfigError("relay 'mx:' needs the extra `mx`: pip install 'monsal[mx]'") from None
        try:
            self._resolver = Resolver(configure=not url.nameserver)
        except NoResolverConfiguration as error:
            raise ConfigError(f"relay 'mx:': the system names no name server: {error}") from None
        if url.nameserver:
            self._resolver.nameservers = [url.nameserver]
            self._resolver.port = url.nameserver_port
        self._resolver.cache = LRUCache(_CACHED)
        self._resolver.lifetime = patience

    async def exchanges(self, domain: str) -> list[tuple[int, str]]:
        found = await self._ask(domain, "MX")
        return [(record.preference, record.exchange.to_text(omit_final_dot=True).strip(".")) for record in found]

    async def addresses(self, host: str) -> list[str]:
        four, six = await asyncio.gather(self._addresses(host, "A"), self._addresses(host, "AAAA"))
        if isinstance(four, list) and isinstance(six, list):
            return four + six
        # One kind is enough; but that there is none is known only if both were answered.
        for found, failed in ((four, six), (six, four)):
            if isinstance(failed, NamesUnavailable) and isinstance(found, list) and found:
                return found
        raise next(each for each in (four, six) if not isinstance(each, list))

    async def _addresses(self, host: str, kind: str) -> list[str] | NameUnknown | NamesUnavailable:
        try:
            return [record.address for record in await self._ask(host, kind)]
        except (NameUnknown, NamesUnavailable) as error:
            return error

    async def _ask(self, name: str, kind: str) -> list[Any]:
        from dns.exception import DNSException
        from dns.resolver import NXDOMAIN, LifetimeTimeout, NoAnswer, NoNameservers

        try:
            return list(await self._resolver.resolve(name + ".", kind, search=False))
        except NXDOMAIN:
            raise NameUnknown(name) from None
        except NoAnswer:
            return []
        except LifetimeTimeout:
            raise NamesUnavailable(f"no answer in time about {kind} of {name}") from None
        except NoNameservers:
            raise NamesUnavailable(f"no name server answers for {kind} of {name}") from None
        except (DNSException, OSError, EOFError, ValueError) as error:
            raise NamesUnavailable(f"{kind} of {name} cannot be looked up: {error or type(error).__name__}") from None
