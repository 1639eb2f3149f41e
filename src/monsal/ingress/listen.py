"""Listening sockets, made before they are given to a loop: TCP addresses and unix sockets."""

from __future__ import annotations

import os
import re
import socket

import msgspec

from monsal.errors import ConfigError
from monsal.forks import close_in_children
from monsal.transport.unix import remove_stale_socket

__all__ = ["Bind", "listening_sockets", "parse_bind"]

#: Dropped connection attempts are tried again by the kernel only seconds later, so the queue has to be long.
BACKLOG = 1024
#: Owner and group of the socket file may connect (P8).
SOCKET_MODE = 0o660
#: A scheme is what is followed by slashes or a path; in `localhost:25` it is a host.
_SCHEME = re.compile(r"(smtps?|lmtp|unix|[A-Za-z][A-Za-z0-9+.-]*(?=:.*/)):", re.DOTALL)
_SCHEMES = (None, "smtp", "smtps", "lmtp", "unix")


class Bind(msgspec.Struct, frozen=True):
    """An address to listen on: a host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""


def parse_bind(text: str) -> Bind:
    """Read `smtp://127.0.0.1:8825`, `[::1]:25`, `lmtp:run/lmtp.sock` or `unix:/run/x.sock`; with a slash it is a path.

    A host is needed: listening everywhere has to be said (`0.0.0.0:25`, P8). Raises ConfigError.
    """
    found = _SCHEME.match(text)
    scheme, rest = (found[1], text[found.end() :]) if found else (None, text)
    authority = rest.startswith("//")
    rest = rest.removeprefix("//")
    if scheme in _SCHEMES and "/" in rest and (not authority or rest.startswith("/")):
        return Bind(path=rest)
    host, colon, port = rest.rpartition(":")
    known = scheme in _SCHEMES and "/" not in rest and colon and host
    if not known or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{text!r} is no address to listen on; expected smtp://HOST:PORT or lmtp:PATH/TO/SOCKET")
    return Bind(host=host.removeprefix("[").removesuffix("]"), port=int(port))


def listening_sockets(bind: Bind) -> list[socket.socket]:
    """Bound sockets for `bind`, one per address of its host; they listen once a loop serves them.

    Raises OSError.
    """
    if bind.path:
        return [_unix_socket(bind.path)]
    found = socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            made.append(_tcp_socket(family, kind, protocol, address))
    except OSError:
        for each in made:
            each.close()
        raise
    return made


def _tcp_socket(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    close_in_children(made, socket.socket.detach)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted sockets inherit it on Linux: a reply must not wait for the acknowledgement of the one before.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def _unix_socket(path: str) -> socket.socket:
    """A bound unix socket of mode 0660. Nobody can connect before it listens, so the mode is set in time."""
    remove_stale_socket(path, path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    close_in_children(made, socket.socket.detach)
    try:
        made.setblocking(False)
        made.bind(path)
        os.chmod(path, SOCKET_MODE)
    except OSError:
        made.close()
        raise
    return made
