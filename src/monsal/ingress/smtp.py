"""SMTP and LMTP on sockets: listening, the places for connections, time-outs, stopping.

What a connection does is in `connection.py`, what the protocol is in `monsal.smtp.server`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec

from monsal.ingress.base import BeginsIntake, IngressStatistics, Intake
from monsal.ingress.connection import Connection
from monsal.ingress.gate import Gate
from monsal.ingress.handover import Handover
from monsal.ingress.house import Begin, Counters, Turns
from monsal.ingress.limits import IngressSettings, MemoryBudget, PeerLimits, peer_of, usable_connections
from monsal.ingress.listen import (
    BACKLOG,
    Bind,
    listening_sockets,
    parse_bind,
)
from monsal.smtp.replies import SHUTTING_DOWN, TOO_MANY_CONNECTIONS, Reply
from monsal.smtp.settings import ServerSettings
from monsal.store.coming import Coming, Waits
from monsal.transport.address import display_address
from monsal.transport.unix import remove_socket_file

__all__ = ["LmtpIngress", "SmtpIngress"]

_log: Final = logging.getLogger("monsal.ingress")
#: The part of all connections that may be evicted at once, so that a flood does not pay a scan per connection.
_EVICTED_AT_ONCE: Final = 20


class SmtpIngress:
    """Receives mail by SMTP and gives it to an intake.

    `bind` is an address (`smtp://127.0.0.1:8825`, port 0 for any; `lmtp:run/lmtp.sock`) or bound sockets, which it
    closes when it stops. `settings` limit the connections, `session` what happens in each; `budget` may be shared with
    other ingresses and has `settings.max_memory` otherwise; `gate` says how clients are let in. Order of use: `start`,
    `stop`.
    """

    lmtp = False

    def __init__(
        self,
        bind: str | Sequence[socket.socket],
        intake: Intake,
        *,
        settings: IngressSettings | None = None,
        session: ServerSettings | None = None,
        budget: MemoryBudget | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.intake = intake
        self.settings = settings or IngressSettings()
        self.gate = gate or Gate()
        self.session = msgspec.structs.replace(
            session or ServerSettings(),
            lmtp=self.lmtp,
            starttls=self.gate.tls is not None and not self.gate.implicit,
            auth=self.gate.logins is not None,
        )
        self.budget = budget or MemoryBudget(self.settings.max_memory)
        self.counters = Counters()
        self.begin: Begin | None = intake.begin_accept if isinstance(intake, BeginsIntake) else None
        self.coming = intake.coming if isinstance(intake, Waits) else Coming()
        self.stopping = False
        self.loop: asyncio.AbstractEventLoop
        self.turns: Turns
        self.tasks: set[asyncio.Task[None] | None] = set()
        self.pending: set[Handover] = set()
        self._bind = parse_bind(bind) if isinstance(bind, str) else bind
        self._servers: list[asyncio.AbstractServer] = []
        self._addresses: tuple[str, ...] = ()
        self._socket_file: tuple[str, int] | None = None
        self._connections: set[Connection] = set()
        self._peers = PeerLimits(self.settings)
        self._places = self.settings.max_connections
        self._timer: asyncio.TimerHandle | None = None
        self._gone: asyncio.Event
        self._connected = self._turned_away = self._evicted = 0
        self._no_eviction_before = 0.0

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens; known after `start`."""
        return self._addresses

    def statistics(self) -> IngressStatistics:
        """The figures of this moment."""
        counters = self.counters
        return IngressStatistics(
            addresses=self._addresses,
            connections=len(self._connections),
            busy=sum(connection.busy for connection in self._connections),
            connected=self._connected,
            turned_away=self._turned_away,
            evicted=self._evicted,
            timed_out=counters.timed_out,
            accepted=counters.accepted,
            refused=counters.refused,
            failed=counters.failed,
            recipients_refused=counters.recipients_refused,
            received=counters.received,
            held=self.budget.held,
        )

    async def start(self) -> None:
        """Listen. Raises OSError if an address cannot be had; then nothing is left open."""
        self.loop = asyncio.get_running_loop()
        self.turns = Turns(self.loop)
        self._gone = asyncio.Event()
        self._places = usable_connections(self.settings.max_connections, self.settings.sharing)
        if self._places < self.settings.max_connections:
            text = "only %d connections instead of %d, by the process's limit of open files"
            _log.warning(text, self._places, self.settings.max_connections, extra={"action": "start"})
        bind = self._bind
        # A name may have to be resolved, which blocks.
        sockets = await asyncio.to_thread(listening_sockets, bind) if isinstance(bind, Bind) else bind
        try:
            for each in sockets:
                await self._listen(each)
        except OSError:
            for each in sockets:
                each.close()
            self._close_servers()
            raise
        self._addresses = tuple(display_address(each.getsockname()) for each in sockets)
        _log.info("listening on %s", ", ".join(self._addresses), extra={"action": "start"})

    async def _listen(self, each: socket.socket) -> None:
        factory = partial(Connection, self)
        if each.family == socket.AF_UNIX:
            if isinstance(self._bind, Bind):
                path = os.fsdecode(each.getsockname())
                self._socket_file = (path, os.lstat(path).st_ino)
            self._servers.append(
                await self.loop.create_unix_server(factory, sock=each, backlog=BACKLOG, **_keeping_the_file(self.loop))
            )
        else:
            self._servers.append(await self.loop.create_server(factory, sock=each, backlog=BACKLOG))

    async def stop(self, grace: float) -> None:
        """Listen no more, say 421 to who is idle, let running mails end within `grace` seconds, then end all."""
        self.stopping = True
        self._close_servers()
        for connection in list(self._connections):
            if connection.between_mails:
                connection.dismiss(SHUTTING_DOWN)
        await self._wait_until_gone(grace)
        for connection in list(self._connections):
            connection.close(SHUTTING_DOWN)
        for handover in list(self.pending):
            handover.cancel()
        left = [task for task in self.tasks if task is not None]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._wait_until_gone(min(grace, self.settings.linger))
        for connection in list(self._connections):
            connection.abort()
        await self._wait_until_gone(self.settings.linger)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _log.info("serving no more connections", extra={"action": "stop"})

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._socket_file is not None:
            remove_socket_file(*self._socket_file)
            self._socket_file = None

    async def _wait_until_gone(self, seconds: float) -> None:
        """Wait until no connection, no mail and no task is left, at most `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while self._connections or self.pending:
                    self._gone.clear()
                    await self._gone.wait()
                if self.tasks:
                    await asyncio.wait([task for task in self.tasks if task is not None])
        except TimeoutError:
            return

    # Called by the connections.

    def admit(self, connection: Connection, address: object) -> Reply | None:
        """Count a new connection; the reply that turns it away, or None."""
        self._connected += 1
        if self.stopping:
            self._turned_away += 1
            return SHUTTING_DOWN
        now = self.loop.time()
        peer = peer_of(address)
        if len(self._connections) >= self._places and not self._evict(now):
            return self._turn_away(connection, "all places are taken")
        if peer is not None and not self._peers.enter(peer, now):
            return self._turn_away(connection, "too many connections of this peer")
        connection.counted_as = peer
        self._connections.add(connection)
        if self._timer is None:
            self._timer = self.loop.call_later(self.settings.tick, self._on_tick)
        return None

    def rename(self, connection: Connection, address: object) -> Reply | None:
        """A connection speaks for another address; the reply that turns it away, or None."""
        peer = peer_of(address)
        if peer is not None and not self._peers.enter(peer, self.loop.time()):
            return self._turn_away(connection, "too many connections of this peer")
        if connection.counted_as is not None:
            self._peers.leave(connection.counted_as)
        connection.counted_as = peer
        return None

    def settle(self, handover: Handover, octets: int) -> None:
        """A mail of so many octets is answered or given up."""
        self.budget.give(octets)
        self.pending.discard(handover)
        if self.stopping:
            self._gone.set()

    def leave(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection in self._connections:
            self._connections.remove(connection)
            if connection.counted_as is not None:
                self._peers.leave(connection.counted_as)
        if not self._connections:
            self._gone.set()

    def _turn_away(self, connection: Connection, why: str) -> Reply:
        self._turned_away += 1
        _log.info("turned away: %s", why, extra={"action": "turn_away", "peer": connection.peer})
        return TOO_MANY_CONNECTIONS

    def _evict(self, now: float) -> bool:
        """Make places by closing those that were idle longest; whether there are places then (P7)."""
        if now < self._no_eviction_before:
            return False
        idle = []
        for connection in self._connections:
            since = connection.idle_since()
            if since is not None and now - since >= self.settings.eviction_age:
                idle.append((since, connection))
        if not idle:
            self._no_eviction_before = now + self.settings.eviction_age / 10
            return False
        idle.sort(key=lambda pair: pair[0])
        for _, connection in idle[: max(1, self._places // _EVICTED_AT_ONCE)]:
            self._evicted += 1
            connection.dismiss(TOO_MANY_CONNECTIONS)
            self.leave(connection)
        return True

    def _on_tick(self) -> None:
        """Look at the time-outs of all connections: one timer for all, none per packet, none when all is quiet."""
        self._timer = self.loop.call_later(self.settings.tick, self._on_tick) if self._connections else None
        now = self.loop.time()
        for connection in list(self._connections):
            connection.check_time(now)


def _keeping_the_file(loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """What keeps asyncio from removing a socket file, which may be needed after a restart (Python 3.13)."""
    removes = sys.version_info >= (3, 13) and isinstance(loop, asyncio.BaseEventLoop)
    return {"cleanup_socket": False} if removes else {}


class LmtpIngress(SmtpIngress):
    """Receives mail by LMTP (RFC 2033): after the content each recipient gets its own reply."""

    lmtp = True
