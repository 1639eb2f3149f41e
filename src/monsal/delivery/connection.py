"""One kept connection to the next hop: a socket round `smtp.ClientProtocol`, with the deadlines of RFC 5321.

`Connection` reads, feeds, takes the next job when the protocol wants one, and writes once; which jobs there are and
what becomes of them is its owner's business (`relay.SmtpRelay`).
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Protocol, cast

import msgspec

from monsal.delivery.route import Target
from monsal.delivery.security import Security, cause_of
from monsal.smtp.client import ClientProtocol
from monsal.smtp.dialogue import Awaited
from monsal.smtp.transaction import (
    BodyWanted,
    ClientEvent,
    ClientReady,
    ClientSettings,
    ConnectionGivenUp,
    RecipientResult,
    TlsWanted,
    Transaction,
    TransactionDone,
)

__all__ = ["Connection", "Job", "Owner", "RelaySettings"]

#: Octets of a body that lies in a file, read and written at a time.
PIECE = 256 * 1024


class RelaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the next hop is spoken to. All times are in seconds.

    `connections` bounds the connections kept to it; one that is unused for `idle_timeout` is closed, before the peer
    does it (Postfix: 300). `name` is ours in EHLO (None: the socket's address as a literal, which is always true). The
    time-outs of the commands are those of RFC 5321 section 4.5.3.2. A transaction has at most `max_recipients`
    (the 100 that section 4.5.3.1.8 promises). When nothing can be sent, the waits between tries grow from
    `first_wait` to `longest_wait`. Of several hosts, one that failed is tried last for `shun_time`; without TLS where
    a handshake failed that need not succeed, for `clear_time`.
    """

    connections: int = 4
    name: str | None = None
    max_recipients: int = 100
    connect_timeout: float = 30.0
    handshake_timeout: float = 30.0
    greeting_timeout: float = 300.0
    hello_timeout: float = 300.0
    mail_timeout: float = 300.0
    rcpt_timeout: float = 300.0
    data_timeout: float = 120.0
    block_timeout: float = 180.0
    end_timeout: float = 600.0
    quit_timeout: float = 5.0
    idle_timeout: float = 30.0
    first_wait: float = 1.0
    longest_wait: float = 60.0
    shun_time: float = 300.0
    clear_time: float = 600.0

    def timeout(self, awaited: Awaited) -> float:
        """How long the peer may take for one answer."""
        match awaited:
            case Awaited.GREETING:
                return self.greeting_timeout
            case Awaited.EHLO | Awaited.HELO:
                return self.hello_timeout
            case Awaited.RCPT:
                return self.rcpt_timeout
            case Awaited.DATA:
                return self.data_timeout
            case Awaited.BODY:
                return self.end_timeout
            case Awaited.QUIT:
                return self.quit_timeout
            case _:
                return self.mail_timeout


class Job(Transaction, kw_only=True, eq=False):
    """One transaction to be done: a mail, or a part of its recipients.

    If its body lies in a file, `path` is that, and `size` its octets. `first` says that it was the first on its
    connection, `retried` that a connection was found closed and it is tried once more. One that is `alone` has a
    connection to itself while it is under way: it is suspected of making the peer hang up. The content of one that is
    `held` waits for `Connection.release`. `connection` has it, or had it last.
    """

    path: Path | None = None
    first: bool = False
    retried: bool = False
    alone: bool = False
    connection: Connection | None = None


class Owner(Protocol):
    """Who keeps connections and has jobs for them."""

    def connection_open(self, connection: Connection) -> None:
        """A connection is made; greeting and hello are still to come."""
        ...

    def next_job(self, *, empty: bool) -> Job | None:
        """The next job to be done, which then is the asking connection's; `empty` if nothing is under way there."""
        ...

    def handshake_failed(self, connection: Connection) -> None:
        """There is no TLS with this peer; `connection_gone` follows."""
        ...

    def job_done(self, job: Job, results: tuple[RecipientResult, ...]) -> None:
        """A job is over, one result per recipient."""
        ...

    def connection_idle(self, connection: Connection) -> None:
        """Nothing is under way on this connection: it waits for `take`."""
        ...

    def connection_gone(self, connection: Connection, event: ConnectionGivenUp) -> None:
        """This connection takes no more jobs."""
        ...

    def connection_ended(self, connection: Connection) -> None:
        """Its socket is closed, and nothing of it is left."""
        ...


class Connection(asyncio.Protocol):
    """A connection to the next hop. `ready` after greeting and hello, until it takes no more jobs."""

    def __init__(self, owner: Owner, settings: RelaySettings, target: Target, security: Security) -> None:
        self._owner = owner
        self._settings = settings
        self.target = target
        self._security = security
        self._loop = asyncio.get_running_loop()
        self._client = ClientProtocol()
        self._transport: asyncio.Transport | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._times = {awaited: settings.timeout(awaited) for awaited in Awaited}
        self._writable = asyncio.Event()
        self._writable.set()
        self._streaming: asyncio.Task[None] | None = None
        self._securing: asyncio.Task[None] | None = None
        self._used = False
        self._alone = False  # what is under way here has it to itself
        self._leaving = False
        self._winding_up = False
        self._ended = asyncio.Event()
        self.ready = False
        self.opener: asyncio.Task[None] | None = None  # who connects it
        self.in_vain = False  # it failed in a way that says nothing against the next hop

    # What the owner does

    async def connect(self) -> None:
        """Connect the socket, with the TLS handshake if it begins with one. Raises OSError; ValueError for a host
        name that cannot be encoded."""
        end, security = self.target.endpoint, self._security
        if end.path:
            await self._loop.create_unix_connection(lambda: self, end.path)
        elif security.implicit:
            await self._loop.create_connection(
                lambda: self,
                self.target.address or end.host,
                end.port,
                ssl=security.context,
                server_hostname=security.name,
                ssl_handshake_timeout=self._settings.handshake_timeout,
            )
        else:
            await self._loop.create_connection(lambda: self, self.target.address or end.host, end.port)

    def take(self, job: Job) -> None:
        """Begin a job; only after `connection_idle`."""
        self._begin(job)
        self._go_on()

    def release(self) -> None:
        """Let the content of the job that is held leave."""
        self._client.release()
        self._go_on()

    def break_off(self, reason: str) -> None:
        """Leave without a word; what is under way ends as lost. The peer must throw a mail away whose end it does not
        get (RFC 5321, section 4.1.1.4)."""
        if not self._leaving:
            self._break_off(reason)

    def part(self) -> None:
        """Take leave if nothing is under way, else break off; jobs under way end as lost."""
        if self._client.idle:
            self._leave()
        elif not self._leaving:
            self._break_off("the relay is being closed")

    def wind_up(self) -> None:
        """Take no more jobs, and take leave when those under way are over."""
        self._winding_up = True
        if self._client.idle and not self._leaving:
            self._leave()

    def abandon(self) -> None:
        """Connecting was given up. uvloop may have called `connection_made` by then, and tells nothing of the end."""
        if self._transport is not None and not self._ended.is_set():
            self._break_off("connecting was given up")
            self.connection_lost(None)

    async def wait_ended(self) -> None:
        """Wait until the socket is closed; at most the time of QUIT after `part`."""
        await self._ended.wait()

    # What the transport does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without inheriting from it
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = self._settings.name or _literal(transport.get_extra_info("sockname"))
        self._client = ClientProtocol(
            ClientSettings(
                hello=name,
                lmtp=self.target.endpoint.lmtp,
                starttls=self._security.starttls,
                secured=self._security.secured,
                credentials=self._security.credentials,
            )
        )
        self._owner.connection_open(self)
        self._go_on()

    def data_received(self, data: bytes) -> None:
        self._handle(self._client.receive_data(data))
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        reason = f"the connection broke: {exc}" if exc else "the peer closed the connection"
        self._handle(self._client.lost(reason))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._writable.set()
        if self._streaming is None or self._streaming.done():
            self._end()
        else:
            self._streaming.add_done_callback(lambda _task: self._end())

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # The way of a job

    def _begin(self, job: Job) -> None:
        job.first = not self._used
        job.connection = self
        self._used = True
        self._alone = job.alone
        self._handle(self._client.send(job))

    def _handle(self, events: list[ClientEvent]) -> None:
        for event in events:
            if isinstance(event, TransactionDone):
                self._alone = False
                self._owner.job_done(event.transaction, event.results)
            elif isinstance(event, BodyWanted):
                self._streaming = self._loop.create_task(self._stream(event.transaction))
            elif isinstance(event, ClientReady):
                self.ready = True
            elif isinstance(event, TlsWanted):
                self._securing = self._loop.create_task(self._secure())
            else:
                self._finish(event)

    def _go_on(self) -> None:
        """Take what there is to do, write once, and watch the clock."""
        client = self._client
        while client.wants_mail and not (self._alone or self._winding_up):
            if (job := self._owner.next_job(empty=client.idle)) is None:
                break
            self._begin(job)
        self._flush()
        if client.closed or self._leaving:
            return
        if (awaited := client.awaits) is not None:
            self._expect(self._times[awaited])
        elif client.streaming or client.holding:
            self._expect(self._settings.block_timeout)
        elif client.idle and self._winding_up:
            self._leave()
        elif client.idle:
            self._expect(self._settings.idle_timeout)
            self._owner.connection_idle(self)

    def _flush(self) -> None:
        data = self._client.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)

    async def _secure(self) -> None:
        """Make the handshake that follows STARTTLS."""
        assert self._transport is not None
        assert self._security.context is not None
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                self._security.context,
                server_hostname=self._security.name,
                ssl_handshake_timeout=self._settings.handshake_timeout,
            )
        except (OSError, ValueError) as error:  # ValueError: a name that no certificate can have
            self._owner.handshake_failed(self)
            self._break_off(cause_of(error))
            self.connection_lost(None)  # a loop tells nothing of the end of a connection that is between two protocols
            return
        if transport is None or self._client.closed:
            if transport is not None:
                transport.abort()
            self.connection_lost(None)
            return
        self._transport = transport
        self._client.tls_started()
        self._go_on()

    async def _stream(self, job: Job) -> None:
        """Send a body that lies in a file, as fast as the peer takes it."""
        assert job.path is not None
        run = self._loop.run_in_executor
        try:
            file = await run(None, job.path.open, "rb")
            try:
                while self._client.streaming and (piece := await run(None, file.read, PIECE)):
                    if self._client.streaming:
                        self._client.send_body(piece)
                        self._go_on()
                        await self._writable.wait()
            finally:
                file.close()
        except OSError as error:
            # Without its end the peer must throw the mail away (RFC 5321, section 4.1.1.4).
            self._break_off(f"the stored body cannot be read: {error}")
        if self._client.streaming:
            self._client.end_body()
            self._go_on()

    # Time and the end

    def _expect(self, seconds: float) -> None:
        """The peer has so long from now. The timer is only moved when it would come too late: not at each reply."""
        self._deadline = self._loop.time() + seconds
        # Its time is kept here: uvloop's handle for what is due at once has none.
        if self._timer is None or self._timer_at > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._set_timer()

    def _set_timer(self) -> None:
        self._timer, self._timer_at = self._loop.call_at(self._deadline, self._on_time), self._deadline

    def _on_time(self) -> None:
        if self._loop.time() < self._deadline:
            self._set_timer()
            return
        self._timer = None
        if self._client.idle:
            self._leave()
        elif self._leaving and self._transport is not None:
            self._transport.abort()
        else:
            awaited = self._client.awaits
            what = f"no answer to {awaited.value}" if awaited else "the peer does not read"
            what = "what is to be sent was not given free" if self._client.holding else what
            self._break_off(f"{what} in time")

    def _leave(self) -> None:
        self._client.quit()
        self._flush()
        self._retire(ConnectionGivenUp("closed", clean=True))
        self._expect(self._settings.quit_timeout)

    def _break_off(self, reason: str) -> None:
        self._handle(self._client.lost(reason))
        if self._transport is not None:
            self._transport.abort()

    def _finish(self, event: ConnectionGivenUp) -> None:
        """The dialogue is over: say what is left to say, and close."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
            self._expect(self._settings.quit_timeout)
        self._retire(event)

    def _retire(self, event: ConnectionGivenUp) -> None:
        if not self._leaving:
            self._leaving = True
            self._owner.connection_gone(self, event)
            self.ready = False

    def _end(self) -> None:
        if not self._ended.is_set():
            self._ended.set()
            self._owner.connection_ended(self)


def _literal(address: object) -> str:
    """Our own address as a literal (RFC 5321, section 4.1.3); over a unix socket there is none."""
    if not isinstance(address, tuple) or not address:
        return "localhost"
    host = str(address[0]).partition("%")[0]
    return f"[IPv6:{host}]" if ":" in host else f"[{host}]"
