"""Drives a `wire.Peer`: gives it the bytes that arrive and the time that passes, and writes what it has to say.

Each turn of the loop ends with one write of all that was said in it, and there is one timer for all deadlines: that is
most of what makes a call cheap. `Link` adds futures, and the vocabulary of calls.
"""

from __future__ import annotations

import asyncio
import math
import socket
from abc import abstractmethod
from typing import Any, Final, Protocol, cast

import msgspec

from monsal.transport.setup import LinkSetup
from monsal.transport.unix import Credentials, credentials_of
from monsal.wire.codes import BUSY
from monsal.wire.events import Lost
from monsal.wire.packets import Fault

__all__ = ["Connected", "Disconnected", "Driver", "Keeper", "LinkStatistics"]

#: A timer that comes this many seconds late was held up by other work: what arrived meanwhile is read first.
LATE: Final = 0.05
#: How often, in the time that the other side may leave our words unread, that is looked at.
LOOKS: Final = 4
#: The longest that a loop can be told to sleep.
FAR: Final = 86400.0


class Connected(msgspec.Struct, frozen=True):
    """The link is there (rpc.B16)."""


class Disconnected(msgspec.Struct, frozen=True):
    """The link has ended, and why (rpc.B16)."""

    reason: str


class LinkStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A link now: `pending` calls of ours and `in_flight` ones of theirs are not answered; octets since its start.

    `waiting` are calls of theirs that were held back, `unsent` octets of ours that are still here.
    """

    name: str
    is_open: bool
    is_reading: bool
    pending: int
    in_flight: int
    waiting: int
    unsent: int
    octets_in: int
    octets_out: int
    calls_made: int
    calls_heard: int
    troubles: int


class Keeper(Protocol):
    """Whoever has several links: told of each one's beginning, before anything comes over it, and of its end."""

    def link_made(self, link: Any) -> None: ...
    def link_gone(self, link: Any) -> None: ...


class Driver(asyncio.Protocol):
    """The side of a link that the loop sees."""

    def __init__(self, setup: LinkSetup, *, name: str, greets: bool = False, keeper: Keeper | None = None) -> None:
        #: The sender's name of the contract: `HOST:PORT`, `ip:port`, a path, `stdio`, or a name on a bus.
        self.name = name
        #: Who is at the other end of a unix socket, and what a TLS peer proved to be; None where that is not known.
        self.credentials: Credentials | None = None
        self.certificate: dict[str, Any] | None = None
        self.peer = setup.make_peer()
        self._outbox, self._incoming = self.peer.outbox, self.peer.incoming
        self._setup = setup
        self._most = setup.limits.write_buffer
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._greets = greets and setup.hello is not None
        self._keeper = keeper
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._room: asyncio.Future[None] | None = None
        #: A flush is due at the end of this turn.
        self._flushing = False
        #: Whether the transport is full: the other side does not read what it is told.
        self.is_choked = False
        #: The end comes with the last answer; calls are refused; what runs may be answered although all is heard.
        self._ending = self._refusing = self._may_answer = False
        self._reading = True
        self._reason = ""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        #: The next look at what is unwritten, how much had left at the last one, and when that was last more.
        self._look_at = math.inf
        self._left = 0
        self._moved_at = 0.0
        self._said_at = 0.0
        self._octets_in = self._octets_out = 0
        #: At most so many of the octets that are unsent are calls of ours; the rest are answers.
        self._own = 0

    # -- for Link ---------------------------------------------------------------------------------------------

    @abstractmethod
    def _handle(self, event: Any) -> None:
        """Something was heard."""

    @abstractmethod
    def _tell(self, event: object) -> None:
        """Tell whoever wants to know."""

    def _wake(self) -> None:
        """Something was said: write it at the end of this turn, together with what else is said in it."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    # -- looking and ending -----------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._transport is not None and not self.peer.is_lost

    def statistics(self) -> LinkStatistics:
        self._count()
        known = self.peer.statistics()
        return LinkStatistics(
            name=self.name,
            is_open=self.is_open,
            is_reading=self._reading,
            pending=known.pending,
            in_flight=known.in_flight,
            waiting=known.waiting,
            unsent=known.buffered,
            octets_in=self._octets_in,
            octets_out=self._octets_out,
            calls_made=known.made,
            calls_heard=known.heard,
            troubles=known.troubles,
        )

    def close(self, reason: str = "closed on this side") -> None:
        """Hang up when all that was said is written; calls of ours that wait for an answer fail now."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._write(at_any_rate=True)
        self._lose(reason)
        transport.close()
        self._arm()

    def finish(self) -> None:
        """Refuse calls from now on, and hang up once those that run are answered."""
        self._ending = self._refusing = True
        self._wake()

    def abort(self, reason: str = "cut off on this side") -> None:
        """Hang up at once."""
        self._lose(reason)
        if self._transport is not None:
            self._transport.abort()

    def turn_away(self, code: int, message: str) -> None:
        """Tell whoever connected that it is not taken in, and hang up; none of its calls is looked at."""
        self._refusing = True
        if self._transport is not None:
            codec, frames = self._setup.make_codec()
            fault = Fault(None, code, message, {"retry_after": 1.0} if code == BUSY else None)
            self._transport.write(frames.wrap(codec.encode(fault)))
        self.close(message)

    async def leave(self, grace: float) -> None:
        """`finish`, and hang up after `grace` seconds at the latest."""
        if self._transport is None:
            return
        self.finish()
        await asyncio.wait([self._closed], timeout=grace)
        self.abort()
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the link has ended."""
        await asyncio.shield(self._closed)

    # -- called by the loop -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not descend from asyncio's, they only look like them.
        self._transport = made = cast(asyncio.Transport, transport)
        made.set_write_buffer_limits(high=self._setup.limits.write_buffer)
        connection = made.get_extra_info("socket")
        if connection is not None and connection.family == socket.AF_UNIX:
            self.credentials = credentials_of(connection)
        elif connection is not None:
            # A machine that lost its power says nothing; the kernel asks now and then.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.certificate = made.get_extra_info("peercert") or None
        self._said_at = self._now()
        if self._keeper is not None:
            self._keeper.link_made(self)
        if self._greets:
            self.peer.say_hello(self._said_at)
        self._tell(Connected())
        self._wake()

    def data_received(self, data: bytes) -> None:
        self._octets_in += len(data)
        due, self._flushing = self._flushing, True
        for event in self.peer.receive_data(data, self._now()):
            self._handle(event)
        # What was answered on the way leaves now. Tasks that were woken speak later in this turn, and then once more.
        self._flush()
        self._flushing = due
        if self.peer.is_lost and not self._may_answer and self._transport is not None:
            self._transport.close()

    def eof_received(self) -> bool:
        """One that has said all it wants (`... | nc -U api.sock`) still gets its answers, and gives us none.

        One that said hello is a program that never does so: it has ended, and its calls with it.
        """
        # To write on after its end is nothing that TLS can do here.
        reads_on = self._transport is not None and self._transport.get_extra_info("sslcontext") is None
        self._lose("the other side hung up", may_answer=reads_on and self.peer.theirs is None)
        self._ending = True
        self._flush()
        return self._may_answer

    def pause_writing(self) -> None:
        self.is_choked = True

    def resume_writing(self) -> None:
        self.is_choked = False
        self._make_room()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(f"the connection broke: {exc}" if exc else "the other side hung up")
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._make_room()
        if not self._closed.done():
            self._closed.set_result(None)
        self._tell(Disconnected(self._reason))
        if self._keeper is not None:
            self._keeper.link_gone(self)

    # -- inside -----------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Start what has room, write what was said, and see to it that we are woken and read as it is needed."""
        self._flushing = False
        if self._incoming.waiting:
            self._start_waiting()
        outbox = self._outbox
        if outbox.frames or outbox.unsealed:
            self._write()
        if self._transport is None:
            return
        if not self._reading or outbox.buffered - self._own > self._most:
            self._mind_reading(self._transport)
        if self._ending and not self._incoming.in_flight and not self._incoming.waiting:
            self.close()
        # A timer that is early does no harm, so most turns move none.
        if self._look_at < self._timer_at or self.peer.is_due_before(self._timer_at) or self._setup.keepalive:
            self._arm()

    def _start_waiting(self) -> None:
        """Start the calls that were held back and have room now; answers that are given at once make more of it."""
        while self._incoming.waiting and (events := self.peer.next_calls(self._now())):
            self._flushing = True
            for event in events:
                self._handle(event)
            self._flushing = False

    def _write(self, at_any_rate: bool = False) -> None:
        transport = self._transport
        if transport is None or (self.is_choked and not at_any_rate) or transport.is_closing():
            return
        out = self.peer.data_to_send()
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            self._octets_out += len(data)
            transport.write(data)
            outbox = self._outbox
            if not transport.get_write_buffer_size() and not outbox.unsealed and not self._setup.keepalive:
                # All of it has left, as it mostly does.
                outbox.buffered = self._own = 0
                self._left = self._octets_out
            elif self._look_at == math.inf or outbox.buffered > self._most // 2:
                # What has not left is counted now and then: at the next look, or when it is much.
                self._count()

    def _count(self) -> None:
        """See how much of what was written has left, and have a look later if not all of it."""
        transport = self._transport
        if transport is None:
            return
        unwritten = transport.get_write_buffer_size()
        left = self._octets_out - unwritten
        if left > self._left:
            outbox = self._outbox
            outbox.sent(min(left - self._left, outbox.buffered))
            self._left = left
            if self._own > outbox.buffered:
                self._own = outbox.buffered
            if self._look_at != math.inf or self._setup.keepalive:
                self._moved_at = self._said_at = self._now()
        if unwritten and self._look_at == math.inf:
            self._moved_at = self._now()
            self._look_at = self._moved_at + self._setup.slow_reader / LOOKS

    def _mind_reading(self, transport: asyncio.Transport) -> None:
        """Read on, or read no more for now.

        Answers that the other side leaves unread are a reason to hear no more calls (rpc.B7). Calls of ours are none:
        two sides that both waited so, each for the other to read, would wait for ever.
        """
        self._count()
        reading = self._outbox.buffered - self._own <= self._most
        if reading is not self._reading and not self.peer.is_lost:
            self._reading = reading
            if reading:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _arm(self) -> None:
        """Be woken when something is due."""
        deadline = self.peer.next_deadline()
        due = self._look_at if deadline is None or self._look_at < deadline else deadline
        if self._setup.keepalive:
            due = min(due, self._said_at + self._setup.keepalive_interval)
        if due < self._timer_at and self._transport is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = due
            self._timer = self._loop.call_at(min(due, self._now() + FAR), self._on_time)

    def _on_time(self, patient: bool = True) -> None:
        now = self._now()
        if patient and now > self._timer_at + LATE:
            # The loop was held up, and libuv runs timers before it reads: what lies there is no silence.
            self._timer = self._loop.call_later(LATE / 10, self._on_time, False)
            return
        self._timer, self._timer_at = None, math.inf
        was_lost = self.peer.is_lost
        for event in self.peer.on_time(now):
            self._handle(event)
        if self.peer.is_lost and not was_lost:
            self.abort()
        elif now >= self._look_at and self._is_stuck(now):
            self.abort(f"the other side left our words unread for {self._setup.slow_reader:g} seconds")
        else:
            self._keep_alive(now)
            self._flush()

    def _is_stuck(self, now: float) -> bool:
        transport = self._transport
        self._count()
        self._look_at = math.inf
        if transport is None or not transport.get_write_buffer_size():
            return False
        if now - self._moved_at >= self._setup.slow_reader:
            return True
        self._look_at = now + self._setup.slow_reader / LOOKS
        return False

    def _keep_alive(self, now: float) -> None:
        setup = self._setup
        if setup.keepalive:
            self._count()
        if setup.keepalive and now >= self._said_at + setup.keepalive_interval and self._transport is not None:
            self._said_at = now
            if not self.is_choked and not self._transport.is_closing():
                self._octets_out += len(setup.keepalive)
                self._transport.write(setup.keepalive)

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    def _lose(self, reason: str, *, may_answer: bool = False) -> None:
        """No answer will come any more; those that we owe can still be given if `may_answer`."""
        self._reason = self._reason or reason
        for event in self.peer.receive_eof(self._now()):
            if type(event) is Lost:
                event = msgspec.structs.replace(event, reason=self._reason, may_answer=event.may_answer and may_answer)
            self._handle(event)
