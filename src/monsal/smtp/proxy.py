"""The header of the PROXY protocol, versions 1 and 2: for whom a load balancer connects (HAProxy, proxy-protocol.txt).

reader = ProxyReader()
while (header := reader.feed(data)) is None: ...      # more is needed; ValueError if it is none
reader.rest                                           # what came behind it
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final

import msgspec

__all__ = ["ProxyHeader", "ProxyReader"]

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED: Final = len(_SIGNATURE) + 4
#: A line of version 1 with its CRLF (proxy-protocol.txt, section 2.1).
_LONGEST_LINE: Final = 107
#: Of version 2 with what is appended: the length has 16 bits, but nobody sends more than some certificate names.
_LONGEST_BINARY: Final = 4096
_LOCAL, _PROXY = 0, 1
#: Address family and protocol -> octets of an address, and of the block with both addresses and ports.
_TCP: Final = {0x11: (4, 12), 0x21: (16, 36)}


class ProxyHeader(msgspec.Struct, frozen=True):
    """Who connects: an IP address and a port; None if the proxy speaks for itself (a health check) or does not know."""

    source: tuple[str, int] | None


class ProxyReader:
    """Reads one header, however it is cut; never more than 4 kB of it are held."""

    __slots__ = ("_held", "rest")

    def __init__(self) -> None:
        self._held = b""
        self.rest = b""

    def feed(self, data: bytes) -> ProxyHeader | None:
        """The header once it is complete. Raises ValueError if this is none, or one that is too long."""
        held = self._held + data[: _LONGEST_BINARY + _FIXED]
        over = data[_LONGEST_BINARY + _FIXED :]
        if held[: len(_SIGNATURE)] == _SIGNATURE[: len(held)]:
            found = _binary(held)
        elif held[:6] == b"PROXY "[: len(held)]:
            found = _text(held)
        else:
            raise ValueError("no PROXY header")
        if found is None:
            self._held = held
            return None
        header, length = found
        self._held, self.rest = b"", held[length:] + over
        return header


def _text(held: bytes) -> tuple[ProxyHeader, int] | None:
    """`PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\\r\\n`"""
    line, end, _ = held[:_LONGEST_LINE].partition(b"\r\n")
    if not end:
        if len(held) >= _LONGEST_LINE:
            raise ValueError("the line of the PROXY header has no end")
        return None
    words = line.decode("latin-1").split(" ")
    length = len(line) + 2
    if words[1:2] == ["UNKNOWN"]:
        return ProxyHeader(None), length
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ValueError("not the words of a PROXY header")
    version = 4 if words[1] == "TCP4" else 6
    ports = words[4:]
    if not all(port.isascii() and port.isdigit() and int(port) <= 65535 for port in ports):
        raise ValueError("no port in the PROXY header")
    addresses = [ipaddress.ip_address(word) for word in words[2:4]]
    if any(address.version != version for address in addresses):
        raise ValueError("addresses of another kind in the PROXY header")
    return ProxyHeader((str(addresses[0]), int(ports[0]))), length


def _binary(held: bytes) -> tuple[ProxyHeader, int] | None:
    """Signature, version and command, family, length; addresses and ports; what else there is (ignored)."""
    if len(held) < _FIXED:
        return None
    command, family, length = struct.unpack_from("!BBH", held, len(_SIGNATURE))
    if command >> 4 != 2 or command & 0x0F not in (_LOCAL, _PROXY):
        raise ValueError("a PROXY header of another version")
    if length > _LONGEST_BINARY:
        raise ValueError(f"a PROXY header of {length} octets")
    whole = _FIXED + length
    if len(held) < whole:
        return None
    if command & 0x0F == _LOCAL or family not in _TCP:
        return ProxyHeader(None), whole
    octets, block = _TCP[family]
    if length < block:
        raise ValueError("a PROXY header without its addresses")
    address = ipaddress.ip_address(held[_FIXED : _FIXED + octets])
    (port,) = struct.unpack_from("!H", held, _FIXED + 2 * octets)
    return ProxyHeader((str(address), port)), whole
