"""The control socket of a running server: newline JSON-RPC on a unix socket that only its owner can use (P8).

    control = ControlServer(directory / "run" / "control.sock")
    control.mount("store", StoreApi(lambda: store, clock))
    await control.start()
    ...
    await control.stop()

Everything about one peer is bounded, and its mistakes are answered to it alone (P7, rules rpc.B1 and rpc.B7).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from monsal.control.methods import MethodTable
from monsal.control.path import peer_credentials, socket_name
from monsal.errors import StoreLocked
from monsal.forks import close_in_children
from monsal.wire.codec import BUSY, FORBIDDEN, INTERNAL_ERROR, TOO_LARGE, Malformed, decode, encode
from monsal.wire.frames import MAX_FRAME, LineFrames, TooLong
from monsal.wire.packets import Call, Cast, Fault, Reply

__all__ = ["ControlLimits", "ControlServer", "ControlStatistics"]

log = logging.getLogger("monsal.control")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlLimits:
    """What one peer, and all of them, may use. Times are in seconds, sizes in bytes.

    `slow_reader` is how long a peer may leave its answers unread, `idle` how long it may say nothing.
    """

    connections: int = 64
    in_flight: int = 16
    request: int = MAX_FRAME
    reply: int = 16 * 1024 * 1024
    slow_reader: float = 20.0
    idle: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlStatistics:
    """Open connections; since the start: connections, those refused, calls, and calls answered by a fault."""

    open: int
    connections: int
    refused: int
    calls: int
    faults: int


class ControlServer:
    """Listens at `path` and answers calls to the objects mounted on it.

    `allowed` are the user ids that may connect; by default that of this process and root.
    """

    def __init__(
        self, path: Path, *, limits: ControlLimits | None = None, allowed: frozenset[int] | None = None
    ) -> None:
        self.path = path
        self.limits = limits or ControlLimits()
        self.table = MethodTable()
        self.connections: set[_Connection] = set()
        self.total = self.refused = self.calls = self.faults = 0
        self._allowed = frozenset({os.geteuid(), 0}) if allowed is None else allowed
        self._server: asyncio.AbstractServer | None = None
        self.closed = False
        self._gone: asyncio.Future[None] | None = None
        self._inode = 0

    def mount(self, prefix: str, api: object) -> None:
        """Make the methods of `api` that are marked `@exposed` callable as `prefix.name`. Raises UsageError."""
        self.table.mount(prefix, api)

    def statistics(self) -> ControlStatistics:
        return ControlStatistics(
            open=len(self.connections),
            connections=self.total,
            refused=self.refused,
            calls=self.calls,
            faults=self.faults,
        )

    async def start(self) -> None:
        """Listen. A socket that a dead server left behind is replaced.

        Raises StoreLocked if a living server listens there, OSError if the socket cannot be made.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_alive(self.path):
            raise StoreLocked(f"another server listens at {self.path}; stop it first")
        listener = _listen(self.path)
        try:
            self._inode = self.path.stat().st_ino
            self._server = await asyncio.get_running_loop().create_unix_server(
                lambda: _Connection(self), sock=listener, backlog=self.limits.connections
            )
        except BaseException:
            listener.close()
            self._remove()
            raise

    async def stop(self, grace: float = 1.0) -> None:
        """Stop listening, let calls that run end within `grace` seconds, and hang up."""
        if self._server is None:
            return
        self.closed = True
        self._server.close()
        self._remove()
        for connection in list(self.connections):
            connection.finish()
        if self.connections:
            self._gone = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._gone], timeout=grace)
            for connection in list(self.connections):
                connection.abort()
            await asyncio.wait([self._gone], timeout=1.0)
        self._server = None

    def forget(self, connection: _Connection) -> None:
        """Note that a connection has ended."""
        self.connections.discard(connection)
        if not self.connections and self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def admits(self, connection: socket.socket) -> bool:
        """Whether the peer's user may use this socket. Where the kernel does not tell, the file's mode decides."""
        credentials = peer_credentials(connection)
        return credentials is None or credentials[1] in self._allowed

    def _remove(self) -> None:
        # Never the socket of a server that came after us.
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()


class _Connection(asyncio.Protocol):
    """One peer: cuts its bytes into frames, runs at most `in_flight` calls at a time, writes the answers."""

    def __init__(self, server: ControlServer) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._server = server
        self._limits = server.limits
        self._frames = LineFrames(server.limits.request)
        self._waiting: deque[bytes | TooLong] = deque()
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._ending = False
        self._slow: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None

    # -- called by the loop -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not descend from asyncio's, they only look like them.
        transport = self._transport = cast(asyncio.Transport, transport)
        server = self._server
        server.total += 1
        if server.closed:  # accepted, but not told to us, before the listener was closed
            transport.abort()
        elif not server.admits(transport.get_extra_info("socket")):
            self._refuse(FORBIDDEN, "this socket is not for this user")
        elif len(server.connections) >= self._limits.connections:
            self._refuse(BUSY, f"there are {self._limits.connections} connections already; try again later")
        else:
            server.connections.add(self)
            transport.set_write_buffer_limits(high=MAX_FRAME)
            self._watch_idle()

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        self._watch_idle()
        self._waiting.extend(self._frames.receive_data(data))
        self._work()

    def eof_received(self) -> bool:
        # A peer that has said all it wants (`... | nc -U control.sock`) still gets its answers.
        self._ending = True
        self._hang_up_when_done()
        return True

    def pause_writing(self) -> None:
        self._slow = asyncio.get_running_loop().call_later(self._limits.slow_reader, self.abort)
        self._read(False)

    def resume_writing(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        self._work()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.forget(self)
        for timer in (self._slow, self._idle):
            if timer is not None:
                timer.cancel()
        self._slow = self._idle = None
        self._waiting.clear()

    # -- called by the server ---------------------------------------------------------------------------------

    def finish(self) -> None:
        """Take nothing more in; hang up after the last answer."""
        self._ending = True
        self._waiting.clear()
        self._hang_up_when_done()

    def abort(self) -> None:
        """Hang up at once."""
        for task in self.tasks:
            task.cancel()
        if self._transport is not None:
            self._transport.abort()

    # -- inside -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Start what waits, as far as the bounds allow; read on if nothing waits."""
        loop = asyncio.get_running_loop()
        while self._waiting and len(self.tasks) < self._limits.in_flight and self._slow is None:
            request = self._request(self._waiting.popleft())
            if request is None:
                continue
            task = loop.create_task(self._serve(request))
            self.tasks.add(task)
            task.add_done_callback(self._done)
        self._read(not self._waiting and self._slow is None)

    def _request(self, frame: bytes | TooLong) -> Call | Cast | None:
        if isinstance(frame, TooLong):
            self._write(Fault(None, TOO_LARGE, f"a line of more than {self._limits.request} bytes"))
            return None
        try:
            packet = decode(frame)
        except Malformed as error:
            self._write(error.fault)
            return None
        if isinstance(packet, Call | Cast):
            return packet
        log.warning("ignored an answer to a call that was never made, with id %r", packet.id)
        return None

    async def _serve(self, request: Call | Cast) -> None:
        self._server.calls += 1
        answer = await self._server.table.answer(request)
        if isinstance(request, Call):
            self._write(answer)
        elif isinstance(answer, Fault):
            log.error("%s, sent without an id: %s", request.method, answer.message)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("an answer could not be written", exc_info=task.exception())
        if self._transport is not None:
            self._work()
            self._hang_up_when_done()

    def _write(self, answer: Reply | Fault) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            frame = encode(answer)
        except (TypeError, ValueError) as error:
            # Every call with an id is answered, also when its result cannot be (rule rpc.B8).
            answer = Fault(answer.id, INTERNAL_ERROR, f"the result has no JSON form: {error}")
            frame = encode(answer)
        if len(frame) > self._limits.reply:
            answer = Fault(answer.id, TOO_LARGE, f"the answer has {len(frame)} bytes; ask for less")
            frame = encode(answer)
        self._server.faults += isinstance(answer, Fault)
        self._transport.write(frame)

    def _refuse(self, code: int, why: str) -> None:
        self._server.refused += 1
        self._ending = True
        self._write(Fault(None, code, why))
        if self._transport is not None:
            self._transport.close()

    def _hang_up_when_done(self) -> None:
        if self._ending and not self.tasks and not self._waiting and self._transport is not None:
            self._transport.close()

    def _read(self, on: bool) -> None:
        if self._transport is None or on is self._reading or self._transport.is_closing():
            return
        self._reading = on
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _watch_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(self._limits.idle, self._is_idle)

    def _is_idle(self) -> None:
        if self.tasks:
            self._watch_idle()
        else:
            self.abort()


def _is_alive(path: Path) -> bool:
    """Whether somebody accepts connections at `path`."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(1.0)
    try:
        with probe, socket_name(path) as name:
            probe.connect(name)
    except TimeoutError:
        return True  # its queue of connections is full
    except OSError:
        return False
    return True


def _listen(path: Path) -> socket.socket:
    """A socket at `path`, with mode 0600 before anybody can connect, put into place in one step."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        close_in_children(listener, socket.socket.detach)
        with socket_name(new) as name:
            listener.bind(name)
        new.chmod(0o600)
        listener.listen()
        new.rename(path)
    except BaseException:
        listener.close()
        new.unlink(missing_ok=True)
        raise
    return listener
