"""Lists of hosts that are trusted with something: addresses, networks, and `unix` for unix sockets."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from monsal.errors import ConfigError

__all__ = ["Hosts"]

_UNIX = "unix"


class Hosts:
    """The hosts of a setting such as `proxy_from`. Raises ConfigError for what is no address or network."""

    __slots__ = ("_networks", "_unix")

    def __init__(self, listed: Iterable[str] = (), setting: str = "hosts") -> None:
        names = list(listed)
        self._unix = _UNIX in names
        self._networks = [_network(name, setting) for name in names if name != _UNIX]

    def __contains__(self, address: object) -> bool:
        """Whether a socket's address is that of a listed host."""
        if not isinstance(address, tuple):
            return self._unix
        if not self._networks:
            return False
        try:
            found = ipaddress.ip_address(str(address[0]).partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None)
        return any((mapped or found) in network for network in self._networks)


def _network(name: str, setting: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(name)
    except ValueError as error:
        raise ConfigError(
            f'{setting}: {name!r} is no address or network such as 192.0.2.7, 192.0.2.0/24 or "unix": {error}'
        ) from None
