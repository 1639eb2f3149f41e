"""Wait for other programs to connect, and keep the links to them."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Unpack

import msgspec

from monsal.errors import ConfigError
from monsal.forks import close_in_children
from monsal.transport.address import Address, Tcp, TcpServer, Tls, Unix, UnixServer, display_address, parse
from monsal.transport.link import Link
from monsal.transport.setup import LinkOptions, LinkSetup, merged
from monsal.transport.tls import server_context
from monsal.transport.unix import listening_unix_socket, remove_socket_file
from monsal.wire.codes import BUSY, FORBIDDEN, SHUTDOWN
from monsal.wire.security import Token

__all__ = ["AcceptSetup", "Acceptor", "AcceptorStatistics", "listen"]

log = logging.getLogger("monsal.transport")

#: What accept(2) says when the process or the machine can hold no more; it passes.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
#: Seconds until accepting is tried again after that.
_REST: Final = 1.0


class AcceptSetup(msgspec.Struct, frozen=True, kw_only=True):
    """Who may connect. Times are in seconds.

    At most `connections` are held at a time; one more is told that we are busy. `backlog` may wait in the kernel. The
    file of a unix socket has `mode`; `users` are the user ids that may use it, None for whoever can open the file. A
    TLS handshake takes at most `handshake`.
    """

    connections: int = 1000
    backlog: int = 1024
    mode: int = 0o600
    users: frozenset[int] | None = None
    handshake: float = 10.0


class AcceptorStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Links of now; since the start: connections taken, and those that were turned away or failed to begin."""

    open: int
    taken: int
    refused: int


async def listen(
    address: str | Address,
    setup: LinkSetup | None = None,
    *,
    on_link: Callable[[Link], object] | None = None,
    accept: AcceptSetup | None = None,
    sockets: Sequence[socket.socket] = (),
    **options: Unpack[LinkOptions],
) -> Acceptor:
    """Listen at `address`; `on_link` is told of each new link before anything comes over it.

    `options` are the fields of a `LinkSetup`. With `sockets`, which were bound by somebody else, these are used; their
    files are not removed at the end. Raises OSError if it cannot listen there, ValueError if it is no address for
    that, ConfigError if a certificate is missing.
    """
    target = parse(address) if isinstance(address, str) else address
    made = merged(setup, options)
    made.make_codec()  # a wrong one is an error here, not at the first connection
    acceptor = Acceptor(target, made, accept or AcceptSetup(), on_link)
    acceptor.start(sockets)
    return acceptor


class Acceptor:
    """Listening sockets and the links that came of them. An `Endpoint`."""

    def __init__(
        self, address: Address, setup: LinkSetup, accept: AcceptSetup, on_link: Callable[[Link], object] | None
    ) -> None:
        if not isinstance(address, Tcp | TcpServer | Tls | Unix | UnixServer):
            raise ValueError(f"{address} is no address to listen on")
        if isinstance(setup.security, Token):
            # It would check nobody: a false sense of safety is worse than none (P8).
            raise ConfigError("a Token is for the side that has one; who listens checks with Tokens({token: scopes})")
        self.addresses: list[str] = []
        self._address = address
        self._setup = setup
        self._accept = accept
        self._on_link = on_link
        self._tls = server_context(address) if isinstance(address, Tls) else None
        self._links: dict[str, Link] = {}
        self._listeners: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        #: Connections that are on their way to become links: handshakes, mostly.
        self._beginning: set[asyncio.Task[None]] = set()
        self._taken = self._refused = 0
        self._closing = False
        self._inode = 0
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, sockets: Sequence[socket.socket] = ()) -> None:
        """Bind, unless sockets are given, and accept from now on. Raises OSError."""
        self._listeners = list(sockets) or self._bind()
        for listener in self._listeners:
            listener.setblocking(False)
            self.addresses.append(display_address(listener.getsockname()))
            self._accepting.append(asyncio.get_running_loop().create_task(self._accept_all(listener)))

    @property
    def links(self) -> Mapping[str, Link]:
        """The links of now, by the names of the other sides."""
        return self._links

    def statistics(self) -> AcceptorStatistics:
        return AcceptorStatistics(open=len(self._links), taken=self._taken, refused=self._refused)

    async def close(self, grace: float = 1.0) -> None:
        """Accept no more, let calls that run be answered within `grace` seconds, and hang up."""
        self._closing = True
        for link in self._links.values():
            link.finish()
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._inode and isinstance(self._address, Unix | UnixServer):
            remove_socket_file(self._address.path, self._inode)
            self._inode = 0
        # Those that have begun are refused as soon as they are through. They are not cancelled before: uvloop forgets
        # to tell of the end of such a connection, unless it is still in its handshake.
        if self._beginning:
            await asyncio.wait(self._beginning, timeout=grace)
            for task in self._beginning:
                task.cancel()
        await asyncio.gather(*(link.leave(grace) for link in list(self._links.values())))
        if not self._over.done():
            self._over.set_result(None)

    async def wait_closed(self) -> None:
        """Wait until it was closed. Raises OSError if it could not go on accepting."""
        await asyncio.shield(self._over)

    # -- called by links --------------------------------------------------------------------------------------

    def link_made(self, link: Link) -> None:
        users = self._accept.users
        if users is not None and (link.credentials is None or link.credentials.uid not in users):
            self._refused += 1
            link.turn_away(FORBIDDEN, "this socket is not for this user")
        elif self._closing:
            self._refused += 1
            link.turn_away(SHUTDOWN, "this server is about to end")
        elif len(self._links) >= self._accept.connections:
            self._refused += 1
            link.turn_away(BUSY, f"there are {self._accept.connections} connections already")
        else:
            self._taken += 1
            self._links[link.name] = link
            if self._on_link is not None:
                self._on_link(link)

    def link_gone(self, link: Link) -> None:
        if self._links.get(link.name) is link:
            del self._links[link.name]

    # -- inside -----------------------------------------------------------------------------------------------

    async def _accept_all(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        number, own = 0, display_address(listener.getsockname())
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    log.warning("no more connections can be held: %s", error, extra={"action": "accept_failed"})
                    await asyncio.sleep(_REST)
                elif error.errno != errno.ECONNABORTED:
                    if not self._over.done():
                        self._over.set_exception(error)
                    return
                continue
            number += 1
            if len(self._beginning) >= self._accept.connections:
                # Handshakes that nobody ends have no claim to a word.
                self._refused += 1
                connection.close()
                continue
            # All who connect to a unix socket have the same address: its own.
            name = display_address(address) if isinstance(address, tuple) else f"{own}#{number}"
            beginning = loop.create_task(self._begin(connection, name))
            self._beginning.add(beginning)
            beginning.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket, name: str) -> None:
        loop = asyncio.get_running_loop()
        link = Link(self._setup, name=name, keeper=self)
        timeout = None if self._tls is None else self._accept.handshake
        try:
            await loop.connect_accepted_socket(lambda: link, connection, ssl=self._tls, ssl_handshake_timeout=timeout)
        except (OSError, ssl.SSLError) as error:
            self._refused += 1
            connection.close()
            log.info("%s did not get through: %s", name, error, extra={"action": "link_failed", "link": name})

    def _bind(self) -> list[socket.socket]:
        address, backlog = self._address, self._accept.backlog
        if isinstance(address, Unix | UnixServer):
            made = listening_unix_socket(address.path, self._accept.mode, backlog)
            self._inode = os.lstat(address.path).st_ino
            return [made]
        assert isinstance(address, Tcp | TcpServer | Tls)
        host = address.interface if isinstance(address, TcpServer) else address.host
        found = socket.getaddrinfo(host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        made_all: list[socket.socket] = []
        problem: OSError | None = None
        for family, kind, protocol, _, place in dict.fromkeys(found):
            try:
                made_all.append(_tcp_socket((family, kind, protocol), place, backlog))
            except OSError as error:
                # All interfaces are those that there are: a machine may have no IPv6.
                if host or error.errno not in _NO_SUCH_FAMILY:
                    for made in made_all:
                        made.close()
                    raise
                problem = error
        if problem is not None and not made_all:
            raise problem
        return made_all


#: What socket(2) and bind(2) say of a family that the machine does not speak.
_NO_SUCH_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


def _tcp_socket(kind: tuple[int, int, int], place: tuple[Any, ...], backlog: int) -> socket.socket:
    made = socket.socket(*kind)
    close_in_children(made, socket.socket.detach)
    try:
        # A server that was just stopped can be started again at once (rpc.B16).
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted sockets inherit it on Linux: an answer does not wait for the acknowledgement of the one before.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.bind(place)
        made.listen(backlog)
    except OSError:
        made.close()
        raise
    return made
