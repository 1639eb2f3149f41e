"""Where the other side is, in words: expressions of the contract and URLs, read into frozen records.

    tcp:HOST:PORT                 a program at HOST, connected to; an IPv6 address stands in brackets: tcp:[::1]:80
    tcpserv:INTERFACE:PORT        wait there for others; an empty interface is all of them
    unix:PATH                     a program at a unix socket
    unixserv:PATH                 wait there for others
    stdio:                        standard input and output
    internal:BUS:NAME             a named place on a bus in this process; both may be left out
    mux:(A)(B)...                 several as one; any of ( [ { < is a bracket
    restart:SECONDS:A             A, opened again whenever it ended; SECONDS, by default 10, is the longest wait
    null                          nowhere
    tcp://HOST:PORT   unix://PATH   tcps://HOST:PORT?ca=FILE&cert=FILE&key=FILE&name=HOST

Paths in URLs may be percent-encoded (RFC 3986, section 2.1). What a text may begin with stands in two tables below and
depends on nothing that happens to be imported (rpc.B15). `parse` reads; `str` of a record gives a text that `parse`
reads back as the same record.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

import msgspec

__all__ = [
    "Address",
    "Internal",
    "Mux",
    "Nowhere",
    "Restart",
    "Stdio",
    "Tcp",
    "TcpServer",
    "Tls",
    "Unix",
    "UnixServer",
    "display_address",
    "parse",
]

#: Brackets within brackets: deeper than anybody writes by hand.
MAX_NESTING = 16
#: The longest wait of `restart::A` in seconds, and the longest that can be asked for.
RESTART, MAX_RESTART = 10.0, 86400.0

_BRACKETS: Final = {"(": ")", "[": "]", "{": "}", "<": ">"}
_NOT_IN_NAMES: Final = frozenset("()[]{}<>:")
_NOT_IN_HOSTS: Final = frozenset("()[]{}<>/?#@,;\\'\"&=")


class Tcp(msgspec.Struct, frozen=True):
    """A host and port: connected to by `connect`, listened on by `listen`."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp:{_host(self.host)}:{self.port}"


class TcpServer(msgspec.Struct, frozen=True):
    """A port to listen on; an empty `interface` means all."""

    interface: str
    port: int

    def __str__(self) -> str:
        return f"tcpserv:{_host(self.interface)}:{self.port}"


class Tls(msgspec.Struct, frozen=True):
    """A host and port with TLS. The rest are names of PEM files, and `name`, the name expected in the certificate.

    `ca` is who is trusted: for a client the signer of the server (by default those of the system), for a server the
    signer of its clients, who then must show a certificate. `cert` and `key` are our own.
    """

    host: str
    port: int
    ca: str = ""
    cert: str = ""
    key: str = ""
    name: str = ""

    def __str__(self) -> str:
        given = [(key, value) for key in _TLS_OPTIONS if (value := getattr(self, key))]
        query = urlencode(given, quote_via=quote, errors="surrogateescape")
        return f"tcps://{_host(self.host)}:{self.port}{'?' if query else ''}{query}"


class Unix(msgspec.Struct, frozen=True):
    """A unix socket: connected to by `connect`, listened on by `listen`."""

    path: str

    def __str__(self) -> str:
        # What could be taken for brackets around it, or for a URL, is written in the form that has escapes.
        if self.path.startswith("//") or not _BRACKET_SIGNS.isdisjoint(self.path):
            return f"unix://{quote(self.path, errors='surrogateescape')}"
        return f"unix:{self.path}"


class UnixServer(msgspec.Struct, frozen=True):
    """A unix socket to listen on."""

    path: str

    def __str__(self) -> str:
        if self.path.startswith("//") or not _BRACKET_SIGNS.isdisjoint(self.path):
            return f"unixserv://{quote(self.path, errors='surrogateescape')}"
        return f"unixserv:{self.path}"


class Stdio(msgspec.Struct, frozen=True):
    """Standard input and output of this process."""

    def __str__(self) -> str:
        return "stdio:"


class Internal(msgspec.Struct, frozen=True):
    """A place called `name` on the bus called `bus` in this process; an empty name is chosen when it is taken."""

    bus: str = "internal"
    name: str = ""

    def __str__(self) -> str:
        return f"internal:{self.bus}:{self.name}"


class Mux(msgspec.Struct, frozen=True):
    """Several addresses as one."""

    members: tuple[Address, ...]

    def __str__(self) -> str:
        return "mux:" + "".join(f"({member})" for member in self.members)


class Restart(msgspec.Struct, frozen=True):
    """An address that is opened again whenever it ended; `seconds` is the longest wait between two tries."""

    seconds: float
    address: Address

    def __str__(self) -> str:
        seconds = int(self.seconds) if self.seconds.is_integer() else repr(self.seconds)
        return f"restart:{seconds}:{self.address}"


class Nowhere(msgspec.Struct, frozen=True):
    """No transport."""

    def __str__(self) -> str:
        return "null"


Address = Tcp | TcpServer | Tls | Unix | UnixServer | Stdio | Internal | Mux | Restart | Nowhere


def display_address(address: object) -> str:
    """A socket's address for people: `127.0.0.1:8825`, `[::1]:25`, or the path of a unix socket."""
    if isinstance(address, tuple):
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return os.fsdecode(address) if isinstance(address, bytes) else str(address)


def parse(text: str) -> Address:
    """Read an expression or a URL. Raises ValueError, which says what is wrong or which ones are known."""
    return _parse(text, 0)


def _parse(text: str, depth: int) -> Address:
    if depth > MAX_NESTING:
        raise ValueError(f"an address has at most {MAX_NESTING} others within each other")
    scheme, _, rest = text.partition(":")
    url = _URLS.get(scheme) if rest.startswith("//") else None
    if url is not None:
        return url(text, rest[2:])
    reader = _EXPRESSIONS.get(scheme)
    if reader is None or (":" not in text and scheme != "null"):
        known = [f"{name}:" if name != "null" else name for name in _EXPRESSIONS] + [f"{name}://" for name in _URLS]
        raise ValueError(f"{text!r} is no address: it has to begin with one of {', '.join(sorted(known))}")
    return reader(text, rest, depth)


def _tcp(text: str, rest: str, depth: int) -> Tcp:
    return Tcp(*_host_port(text, rest))


def _tcp_server(text: str, rest: str, depth: int) -> TcpServer:
    return TcpServer(*_host_port(text, rest, empty=True))


def _unix(text: str, rest: str, depth: int) -> Unix:
    return Unix(_path(text, rest))


def _unix_server(text: str, rest: str, depth: int) -> UnixServer:
    return UnixServer(_path(text, rest))


def _stdio(text: str, rest: str, depth: int) -> Stdio:
    if rest:
        raise ValueError(f"{text!r} is no address: nothing follows stdio:")
    return Stdio()


def _nowhere(text: str, rest: str, depth: int) -> Nowhere:
    if rest:
        raise ValueError(f"{text!r} is no address: nothing follows null")
    return Nowhere()


def _internal(text: str, rest: str, depth: int) -> Internal:
    bus, _, name = rest.partition(":")
    if not _NOT_IN_NAMES.isdisjoint(bus + name) or not (bus + name).isprintable():
        raise ValueError(f"{text!r} is no address: expected internal:BUS:NAME, without brackets and colons in names")
    return Internal(bus or "internal", name)


def _mux(text: str, rest: str, depth: int) -> Mux:
    members = tuple(_parse(inner, depth + 1) for inner in _bracketed(text, rest))
    if not members:
        raise ValueError(f"{text!r} is no address: expected mux:(A)(B)")
    return Mux(members)


def _restart(text: str, rest: str, depth: int) -> Restart:
    number, colon, inner = rest.partition(":")
    try:
        seconds = float(number) if number else RESTART
    except ValueError:
        seconds = math.nan
    if not colon or not 0.0 < seconds <= MAX_RESTART:
        raise ValueError(f"{text!r} is no address: expected restart:SECONDS:ADDRESS, at most {MAX_RESTART:g} seconds")
    if inner[:1] in _BRACKETS:
        parts = _bracketed(text, inner)
        if len(parts) != 1:
            raise ValueError(f"{text!r} is no address: restart takes one; put mux: before several")
        inner = parts[0]
    return Restart(seconds, _parse(inner, depth + 1))


def _tcp_url(text: str, rest: str) -> Tcp:
    return Tcp(*_host_port(text, rest))


def _tls_url(text: str, rest: str) -> Tls:
    authority, _, query = rest.partition("?")
    try:
        # `strict_parsing` takes no empty query.
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="surrogateescape") if query else []
    except ValueError:
        raise ValueError(f"{text!r} is no address: {query!r} is no query") from None
    options = dict(pairs)
    if unknown := [key for key, _ in pairs if key not in _TLS_OPTIONS]:
        raise ValueError(f"{text!r}: unknown {unknown}; known are {', '.join(_TLS_OPTIONS)}")
    if len(options) != len(pairs):
        raise ValueError(f"{text!r}: something is given twice")
    if any("\0" in value for value in options.values()):
        raise ValueError(f"{text!r}: a name with a NUL")
    host, port = _host_port(text, authority)
    return Tls(host, port, **options)


def _unix_url(text: str, rest: str) -> Unix:
    return Unix(_path(text, unquote(rest, errors="surrogateescape")))


def _unix_server_url(text: str, rest: str) -> UnixServer:
    return UnixServer(_path(text, unquote(rest, errors="surrogateescape")))


_TLS_OPTIONS: Final = ("ca", "cert", "key", "name")
_BRACKET_SIGNS: Final = frozenset("()[]{}<>")

_EXPRESSIONS: Final[Mapping[str, Callable[[str, str, int], Address]]] = {
    "internal": _internal,
    "mux": _mux,
    "null": _nowhere,
    "restart": _restart,
    "stdio": _stdio,
    "tcp": _tcp,
    "tcpserv": _tcp_server,
    "unix": _unix,
    "unixserv": _unix_server,
}
_URLS: Final[Mapping[str, Callable[[str, str], Address]]] = {
    "tcp": _tcp_url,
    "tcps": _tls_url,
    "unix": _unix_url,
    "unixserv": _unix_server_url,
}


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _host_port(text: str, rest: str, *, empty: bool = False) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPV6]:PORT`; an empty host only if that is allowed."""
    if rest.startswith("["):
        host, bracket, port = rest[1:].partition("]:")
        fits = bool(bracket) and ":" in host
    else:
        host, colon, port = rest.rpartition(":")
        fits = bool(colon) and ":" not in host
    if not fits or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise ValueError(f"{text!r} is no address: expected HOST:PORT at its end, an IPv6 address in brackets")
    if not (host or empty):
        raise ValueError(f"{text!r} is no address: it names no host; all interfaces are 0.0.0.0 and [::]")
    if not _NOT_IN_HOSTS.isdisjoint(host) or not host.isprintable() or " " in host:
        raise ValueError(f"{text!r} is no address: {host!r} is no host")
    return host, int(port)


def _path(text: str, path: str) -> str:
    if not path or "\0" in path:
        raise ValueError(f"{text!r} is no address: it needs the path of a socket")
    return path


def _bracketed(text: str, rest: str) -> list[str]:
    """What stands in the brackets of `(A)[B]...`; a bracket ends where as many of its kind were closed as opened."""
    parts: list[str] = []
    start = 0
    while start < len(rest):
        opening = rest[start]
        closing = _BRACKETS.get(opening)
        if closing is None:
            raise ValueError(f"{text!r} is no address: expected one of {' '.join(_BRACKETS)} before {rest[start:]!r}")
        level, end = 1, start + 1
        while end < len(rest) and level:
            level += (rest[end] == opening) - (rest[end] == closing)
            end += 1
        if level:
            raise ValueError(f"{text!r} is no address: a bracket {opening} is not closed")
        parts.append(rest[start + 1 : end - 1])
        start = end
    return parts
