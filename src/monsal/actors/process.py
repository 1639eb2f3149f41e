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
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

from monsal.actors.recorder import Recorder, new_page
from monsal.transport.link import Link

__all__ = ["DUMP", "Process", "dump_signal", "oom_kills"]

#: So much of the end of what a child said is shown.
TAIL: Final = 16 * 1024
#: A child does not import this: its first act is to find the house where we have it.
_CODE: Final = "import sys; sys.path.insert(0, {root!r}); from monsal.actors.child import main; main()"


def dump_signal() -> int:
    """The signal by which a child writes down its stacks: a real-time one, that no program has another use for."""
    return signal.SIGRTMIN + 11 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR2


DUMP: Final = dump_signal()


class Process:
    """One interpreter for one actor. Not started twice."""

    kind = "process"

    def __init__(self, name: str) -> None:
        self.name = name
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._popen: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self.link_socket: socket.socket
        self.door: socket.socket
        self._page = new_page("monsal-recorder")
        self.recorder = Recorder(self._page)
        self._said = self._stacks = -1
        self._oom_kills = 0

    @property
    def pid(self) -> int:
        """The id of the process; 0 before it was started."""
        return 0 if self._popen is None else self._popen.pid

    def start(self) -> None:
        """Start the interpreter. Raises OSError if that is not possible; nothing is left over then."""
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            self.link_socket, link = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            ours.callback(self.link_socket.close)
            theirs.callback(link.close)
            # Records, not octets: a descriptor and what it is for arrive together, or not at all.
            self.door, door = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.callback(self.door.close)
            theirs.callback(door.close)
            page, self._page = self._page, -1
            theirs.callback(os.close, page)
            self._said = self._kept(ours, "monsal-said")
            self._stacks = self._kept(ours, "monsal-stacks")
            final = _duplicate(theirs, 2)
            passed = (link.fileno(), door.fileno(), page, self._stacks, final)
            self._oom_kills = oom_kills()
            root = str(Path(__file__).resolve().parents[2])
            self._popen = subprocess.Popen(
                [
                    sys.executable,
                    *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined] # as multiprocessing does
                    "-c",
                    _CODE.format(root=root),
                    *map(str, passed),
                    str(os.getpid()),
                    f"monsal actor {self.name}",
                ],
                stdin=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=passed,
                # A key pressed at the terminal is for us, and we decide what it means for them (DESIGN 6).
                process_group=0,
            )
            ours.pop_all()
        self._watch()

    def _kept(self, stack: contextlib.ExitStack, name: str) -> int:
        descriptor = os.memfd_create(name)
        stack.callback(os.close, descriptor)
        return descriptor

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


def oom_kills() -> int:
    """How often the kernel killed a process of our control group for want of memory; 0 where that cannot be read."""
    try:
        group = next(
            line.split("::", 1)[1]
            for line in Path("/proc/self/cgroup").read_text("ascii", "replace").splitlines()
            if line.startswith("0::")
        )
        events = Path(f"/sys/fs/cgroup/{group.lstrip('/')}/memory.events").read_text("ascii")
        return int(dict(line.split() for line in events.splitlines())["oom_kill"])
    except (OSError, StopIteration, KeyError, ValueError):
        return 0


def _tail(kept: int) -> str:
    if kept < 0:
        return ""
    size = os.fstat(kept).st_size
    text = os.pread(kept, TAIL, max(0, size - TAIL)).decode("utf-8", "replace")
    return text if size <= TAIL else "...\n" + text.partition("\n")[2]


def _duplicate(stack: contextlib.ExitStack, descriptor: int) -> int:
    """A descriptor of our own for the same; /dev/null if it is closed, as standard error of a daemon can be."""
    try:
        made = os.dup(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        made = os.open(os.devnull, os.O_WRONLY)
    stack.callback(os.close, made)
    return made
