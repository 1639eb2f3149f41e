"""Processes of actors, as their parent sees them: fresh interpreters, never forks of a process that has threads.

    process = Process("worker.1")
    process.start()                                # on the thread of the loop that lives as long as the process
    ...                                            # process.link_socket and process.door are our ends
    status = await process.ended                   # Popen's: the exit code, or the negative number of a signal

Both ends of what connects us are made before the start, so there is nothing to find and nobody to let in. Standard
error is kept here until the child says that it is ready (`said`), and goes where ours goes after that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
from typing import Any, Final

from monsal.actors.interpreter import Interpreter, oom_kills
from monsal.actors.recorder import Recorder, new_page
from monsal.transport.link import Link

__all__ = ["DUMP", "Process", "dump_signal"]

#: So much of the end of what a child said is shown.
TAIL: Final = 16 * 1024


def dump_signal() -> int:
    """The signal by which a child writes down its stacks: a real-time one, that no program has another use for."""
    return signal.SIGRTMIN + 11 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR2


DUMP: Final = dump_signal()


class Process:
    """One interpreter for one actor, by default a new one. Not started twice."""

    kind = "process"

    def __init__(self, name: str, made: Interpreter | None = None) -> None:
        self.name = name
        self._made = made
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._popen: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self.link_socket: socket.socket
        self.door: socket.socket
        self._page = new_page("monsal-recorder") if made is None else made.page
        self.recorder = Recorder(self._page)
        self._said = self._stacks = -1
        self._oom_kills = 0

    @property
    def pid(self) -> int:
        """The id of the process; 0 before it was started."""
        return 0 if self._popen is None else self._popen.pid

    def start(self) -> None:
        """Have it run, if it does not yet. Raises OSError if that is not possible; nothing is left over then."""
        made = self._made or Interpreter(self.name, page=self._page)
        self._made = None
        self.link_socket, self.door = made.link, made.door
        self._said, self._stacks, self._oom_kills = made.said, made.stacks, made.oom_kills
        self._popen = made.popen
        os.close(self._page)
        self._page = -1
        self._watch()

    def _watch(self) -> None:
        assert self._popen is not None
        try:
            self._pidfd = os.pidfd_open(self._popen.pid)
        except (AttributeError, OSError):
            threading.Thread(target=self._wait, name=f"waits for {self.name}", daemon=True).start()
            return
        self._loop.add_reader(self._pidfd, self._reap)

    def _wait(self) -> None:
        assert self._popen is not None
        self._popen.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            self._loop.call_soon_threadsafe(self._reap)

    def _reap(self) -> None:
        assert self._popen is not None
        status = self._popen.poll()
        if status is None:
            return
        self._unwatch()
        if not self.ended.done():
            self.ended.set_result(status)

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    async def connect(self, link: Link) -> None:
        """Let a link speak over our end."""
        await self._loop.create_unix_connection(lambda: link, sock=self.link_socket)

    async def put_at_door(self, sock: socket.socket) -> dict[str, Any]:
        """Lay a socket where the child finds it when it is told. Raises OSError."""
        # One at a time, and a record is short: there is always room for it.
        socket.send_fds(self.door, [b"1"], [sock.fileno()], socket.MSG_DONTWAIT)
        return {}

    # -- while it runs ----------------------------------------------------------------------------------------

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing happens if it has ended."""
        if self._popen is not None:
            self._popen.send_signal(number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def dump(self) -> None:
        """Have it write down its stacks, whatever it is busy with; read them as `stacks` a moment later."""
        # The child has the same open file, so its next word goes to the beginning, too.
        os.truncate(self._stacks, 0)
        os.lseek(self._stacks, 0, os.SEEK_SET)
        self.send_signal(DUMP)

    @property
    def was_oom_killed(self) -> bool:
        """Whether the kernel has killed something of this control group for want of memory since the start."""
        return oom_kills() > self._oom_kills

    def said(self) -> str:
        """The end of what it wrote to standard error before it was ready."""
        return _tail(self._said)

    def stacks(self) -> str:
        """The stacks it wrote down last: when asked to, or when it crashed."""
        return _tail(self._stacks)

    def forget_said(self) -> None:
        """It is ready: what it said so far is of no more use."""
        if self._said >= 0:
            os.close(self._said)
            self._said = -1

    def close(self) -> None:
        """Give back what is held for it. After it has ended."""
        self._unwatch()
        if self._made is not None:  # it was not wanted any more before it was started
            self._made.discard()
            self._made, self._page = None, -1
        if self._popen is not None:
            self.door.close()
            self.link_socket.close()
        self.recorder.close()
        self.forget_said()
        if self._page >= 0:
            os.close(self._page)
            self._page = -1
        if self._stacks >= 0:
            os.close(self._stacks)
            self._stacks = -1


def _tail(kept: int) -> str:
    if kept < 0:
        return ""
    size = os.fstat(kept).st_size
    text = os.pread(kept, TAIL, max(0, size - TAIL)).decode("utf-8", "replace")
    return text if size <= TAIL else "...\n" + text.partition("\n")[2]
