"""Transports that are no sockets: two ends in memory, and two descriptors of any kind.

They look to a protocol as those of asyncio do, so that a `Link` does not know the difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import threading
from collections import deque
from queue import SimpleQueue
from typing import Any, Final

__all__ = ["MAX_CHUNKS", "DescriptorTransport", "MemoryTransport"]

#: What one end may have unread before the other is told to wait: the queue of the contract's `internal:`.
MAX_CHUNKS: Final = 1000
#: Octets read at once from a descriptor.
CHUNK: Final = 65536


class _Transport(asyncio.Transport):
    """What both kinds have in common: the limits of what is unwritten, and an end that comes once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol | None, extra: dict[str, Any]):
        super().__init__(extra)
        self._loop = loop
        self._protocol = protocol
        self._closing = self._choked = self._paused = self._over = False
        self._high, self._low = CHUNK, CHUNK // 4

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = CHUNK if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def _is_full(self) -> bool:
        return self.get_write_buffer_size() > self._high

    def _is_roomy(self) -> bool:
        return self.get_write_buffer_size() <= self._low

    def _check_room(self) -> None:
        """Tell the protocol to wait, or to go on. On the loop."""
        if self._protocol is None or self._over:
            return
        if not self._choked and self._is_full():
            self._choked = True
            self._protocol.pause_writing()
        # Looked at again after it was set: on another thread the reader may have made room in between.
        if self._choked and self._is_roomy():
            self._choked = False
            self._protocol.resume_writing()

    def _end(self, error: Exception | None = None) -> None:
        """Tell the protocol that it is over. On the loop."""
        if not self._over and self._protocol is not None:
            self._over = self._closing = True
            self._protocol.connection_lost(error)


class MemoryTransport(_Transport):
    """One end of a pair: what is written here is read by the protocol of the other end, on that one's loop.

    The loops may belong to different threads.
    """

    @staticmethod
    def pair(
        left: asyncio.AbstractEventLoop, right: asyncio.AbstractEventLoop
    ) -> tuple[MemoryTransport, MemoryTransport]:
        """Two ends, for these loops; each begins once it is attached."""
        one, two = MemoryTransport(left), MemoryTransport(right)
        one._other, two._other = two, one
        return one, two

    _other: MemoryTransport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, None, {})
        #: What the other end wrote; None is its end.
        self._inbox: deque[bytes | None] = deque()
        self._coming = False
        # Each is written by one thread only: in `_put`, and in `_deliver`.
        self._put_octets = self._got_octets = 0

    def attach(self, protocol: asyncio.Protocol) -> None:
        """Begin: on this end's loop."""
        self._protocol = protocol
        protocol.connection_made(self)
        self._schedule()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data and not self._closing:
            self._other._put(bytes(data))
            self._check_room()

    def get_write_buffer_size(self) -> int:
        return self._other._put_octets - self._other._got_octets

    def _is_full(self) -> bool:
        return len(self._other._inbox) >= MAX_CHUNKS or super()._is_full()

    def _is_roomy(self) -> bool:
        return len(self._other._inbox) <= MAX_CHUNKS // 4 and super()._is_roomy()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._schedule()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._other._put(None)
            self._loop.call_soon(self._end)

    def abort(self) -> None:
        self.close()

    def _put(self, data: bytes | None) -> None:
        """Take in what the other end wrote: on that one's thread."""
        self._put_octets += len(data or b"")
        self._inbox.append(data)
        self._schedule()

    def _schedule(self) -> None:
        if self._coming or self._protocol is None:
            return
        self._coming = True
        try:
            if self._loop is self._other._loop:
                self._loop.call_soon(self._deliver)
            else:
                self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop of this end is closed: nobody will ever read here, which the writer is told
            self._closing = self._over = True
            self._other._loop.call_soon(self._other._end)

    def _deliver(self) -> None:
        # First of all: whoever writes from now on sees that it has to schedule this again.
        self._coming = False
        # No more than what is there now, so that two ends cannot keep a loop to themselves.
        for _ in range(len(self._inbox)):
            if self._paused or self._over or self._protocol is None:
                return
            data = self._inbox.popleft()
            if data is None:
                self._closing = True
                self._end()
                return
            self._got_octets += len(data)
            if not self._closing:
                self._protocol.data_received(data)
        self._relieve()

    def _relieve(self) -> None:
        other = self._other
        if other._choked:
            if self._loop is other._loop:
                other._check_room()
            else:
                with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits there
                    other._loop.call_soon_threadsafe(other._check_room)


class DescriptorTransport(_Transport):
    """Reads from one descriptor and writes to another, whatever they are: pipes, terminals, files.

    Each has a thread, and stays blocking as it is: its flags belong to others, too, such as the shell whose terminal
    it is, and a file cannot be waited for at all. The descriptors are not closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, source: int, sink: int) -> None:
        super().__init__(loop, protocol, {})
        self._source, self._sink = source, sink
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._queued = self._written = 0
        self._may_read = threading.Event()
        #: Ends the wait of the reading thread; closed when both threads have ended.
        self._wake_read, self._wake_write = os.pipe()
        self._lock = threading.Lock()
        self._threads = 2
        self._broken = False

    def start(self) -> None:
        """Begin: on the loop."""
        assert self._protocol is not None
        self._protocol.connection_made(self)
        self._steer()
        threading.Thread(target=self._read_all, name="monsal-read", daemon=True).start()
        threading.Thread(target=self._write_all, name="monsal-write", daemon=True).start()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data and not self._closing:
            self._queued += len(data)
            self._queue.put(bytes(data))
            self._check_room()

    def get_write_buffer_size(self) -> int:
        return self._queued - self._written

    def pause_reading(self) -> None:
        self._paused = True
        self._steer()

    def resume_reading(self) -> None:
        self._paused = False
        self._steer()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._stop_reading()
            self._queue.put(None)

    def abort(self) -> None:
        """Over at once; a write that blocks is left to itself."""
        self._broken = True
        self.close()
        self._loop.call_soon(self._end)

    def _stop_reading(self) -> None:
        self._may_read.set()
        with self._lock:
            if self._threads:
                os.write(self._wake_write, b"x")

    def _thread_ended(self) -> None:
        with self._lock:
            self._threads -= 1
            if not self._threads:
                os.close(self._wake_read)
                os.close(self._wake_write)

    def _steer(self) -> None:
        if self._paused:
            self._may_read.clear()
        else:
            self._may_read.set()

    # -- on the threads ---------------------------------------------------------------------------------------

    def _tell(self, callback: Any, *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop was closed without us: there is nobody left to tell
            self._broken = self._closing = True

    def _read_all(self) -> None:
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        try:
            while not self._closing:
                self._may_read.wait()
                ready = poll.poll()
                if self._closing or any(descriptor == self._wake_read for descriptor, _ in ready):
                    return
                data = os.read(self._source, CHUNK)
                # One piece at a time: the next is read when the loop has taken this one, and wants more.
                self._may_read.clear()
                self._tell(self._received, data)
                if not data:
                    return
        except OSError as error:
            self._tell(self._end, error)
        finally:
            self._thread_ended()

    def _write_all(self) -> None:
        try:
            while (data := self._queue.get()) is not None:
                view = memoryview(data)
                while view and not self._broken:
                    done = os.write(self._sink, view)
                    view = view[done:]
                    self._written += done
                self._tell(self._check_room)
        except OSError as error:
            self._tell(self._end, error)
        else:
            self._tell(self._end)
        finally:
            self._stop_reading()
            self._thread_ended()

    # -- on the loop ------------------------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        if self._over or self._closing or self._protocol is None:
            return
        if data:
            self._protocol.data_received(data)
            self._steer()
        elif not self._protocol.eof_received():
            self.close()
