"""Starting a fresh process and waiting until it says that it is ready.

    launched = launch([sys.executable, "-m", "monsal", "run"], limit=30.0, new_session=True)

The new process is never a fork of this one, which may have threads. It tells its readiness as to systemd, by READY=1 to
the address in NOTIFY_SOCKET, so every program that does so can be launched. One with the `Notifier` of this package
also has its standard error kept until it is ready, so that a failure can be shown to whoever asked for the launch.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Literal, NamedTuple

from monsal.bus.inherited import hand_over
from monsal.bus.inner.launched import child_environ

__all__ = ["LaunchFailed", "Launched", "launch"]

#: So much of the end of what a process said is shown when it fails; a traceback with its cause fits many times.
TAIL = 16 * 1024
#: How long a process that is given up has to end after SIGTERM.
GRACE = 3.0
#: poll(2) takes milliseconds in an int.
_LONGEST = 3600.0
_CREDENTIALS = struct.Struct("3i")


class Launched(NamedTuple):
    """A process that is ready: how long that took, the last STATUS= it sent, and what it said on standard error."""

    pid: int
    process: subprocess.Popen[bytes]
    seconds: float
    status: str
    output: str

    def let_go(self) -> None:
        """Have nobody here wait for the process: it outlives us. After that `process` tells nothing any more."""
        # Popen would warn that the process still runs; that is what it was started for.
        self.process.returncode = self.process.returncode or 0


class LaunchFailed(RuntimeError):
    """A process did not become ready, and it has ended.

    `code` is its exit code, negative for a signal, or None if none was started. `output` is the end of what it said.
    """

    def __init__(self, why: str, *, code: int | None = None, output: str = "") -> None:
        super().__init__(f"{why}; it said:\n{output}" if output.strip() else why)
        self.code = code
        self.output = output


def launch(
    command: Sequence[str | os.PathLike[str]],
    *,
    sockets: Mapping[str, Sequence[socket.socket]] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    limit: float = 30.0,
    new_session: bool = False,
    stdout: int | None = None,
    stderr: int | None = None,
    capture: bool = True,
    heir: bool = False,
    until: Literal["ready", "end"] = "ready",
    on_status: Callable[[str], object] | None = None,
    cancel: int | None = None,
) -> Launched:
    """Start `command` and return when it is ready; with `until="end"` when it has ended with code 0.

    `sockets` are passed by name, for `listen_fds` there. Standard input is /dev/null; `stdout` and `stderr` are
    descriptors, ours if None. With `capture` standard error is kept here until the process is ready, and goes to
    `stderr` then; that needs the `Notifier` in it, for another program say false. An `heir` goes on to report to our
    service manager. `on_status` is called with each STATUS= that it sends; EXTEND_TIMEOUT_USEC= is honoured. `cancel`
    is a descriptor: once it is readable the launch is given up.

    Raises LaunchFailed, after the process was ended by its id, if it ends before it is ready (or fails at once after
    that), if that takes more than `limit` seconds, or if it is cancelled.
    """
    began = monotonic()
    with ExitStack() as stack:
        inbox = _Inbox(stack)
        final = _duplicate(stack, 2 if stderr is None else stderr)
        kept = _memory(stack) if capture else None
        given, passed = hand_over(sockets or {})
        lent = final if capture else None
        own = os.environ if environ is None else environ
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=final if kept is None else kept,
            cwd=cwd,
            env={**child_environ(own, address=inbox.address, stderr=lent, heir=heir), **given},
            pass_fds=(*passed, *(() if lent is None else (lent,))),
            start_new_session=new_session,
        )
        waiting = _Waiting(process, inbox, stack, on_status)
        try:
            why = waiting.wait(began + limit, until, cancel)
        except BaseException:
            waiting.end()
            raise
        if why:
            waiting.end()
            raise LaunchFailed(f"{os.fspath(command[0])} {why}", code=process.returncode, output=_tail(kept))
        return Launched(process.pid, process, monotonic() - began, waiting.status, _tail(kept))


class _Inbox:
    """Where messages of sd_notify(3) arrive, each with the pid of its sender."""

    def __init__(self, stack: ExitStack) -> None:
        self.socket = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        # An abstract name and no path: a process that dropped its privileges could not reach into our directory.
        name = f"monsal-launch-{secrets.token_hex(8)}"
        self.socket.bind("\0" + name)
        self.address = "@" + name

    def read(self) -> Iterator[tuple[int, list[str]]]:
        """What has arrived: the sender's pid, and the lines."""
        while True:
            try:
                # No room for descriptors: those that are sent (BARRIER=1) are closed, which is the answer wanted.
                data, ancillary, _, _ = self.socket.recvmsg(1 << 16, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    yield _CREDENTIALS.unpack(value)[0], data.decode("utf-8", "replace").splitlines()


class _Waiting:
    """The wait for one process, by events."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        inbox: _Inbox,
        stack: ExitStack,
        on_status: Callable[[str], object] | None,
    ) -> None:
        self.status = ""
        self._process = process
        self._inbox = inbox
        self._on_status = on_status
        self._ready = False
        self._until = 0.0
        self._ended = os.pidfd_open(process.pid)
        stack.callback(os.close, self._ended)

    def wait(self, until: float, goal: str, cancel: int | None) -> str:
        """Wait for the goal, at most until then; empty if it was reached, else why not."""
        self._until = until
        poll = select.poll()
        for descriptor in (self._inbox.socket.fileno(), self._ended, *(() if cancel is None else (cancel,))):
            poll.register(descriptor, select.POLLIN)
        while True:
            left = self._until - monotonic()
            if left <= 0:
                return f"was not {'ready' if goal == 'ready' else 'done'} in time" + self._last()
            seen = {descriptor for descriptor, _ in poll.poll(min(left, _LONGEST) * 1000)}
            self._read()
            code = self._process.poll()
            if code is not None:
                self._read()
                # One that was ready and has ended in order did so because it was asked to; it did not fail.
                if code == 0 and (goal == "end" or self._ready):
                    return ""
                return f"ended with code {code}" + (" before it was ready" if goal == "ready" else "") + self._last()
            if goal == "ready" and self._ready:
                return ""
            if cancel in seen:
                return "was given up before it was ready"

    def _read(self) -> None:
        for sender, lines in self._inbox.read():
            if _descends(sender, self._process.pid):
                self._hear(lines)

    def _last(self) -> str:
        return f" (its last status: {self.status})" if self.status else ""

    def _hear(self, lines: list[str]) -> None:
        for line in lines:
            name, _, value = line.partition("=")
            if name == "READY" and value == "1":
                self._ready = True
            elif name == "STATUS":
                self.status = value
                if self._on_status is not None:
                    self._on_status(value)
            elif name == "EXTEND_TIMEOUT_USEC" and value.isdecimal():
                self._until = max(self._until, monotonic() + int(value) / 1e6)

    def end(self) -> None:
        """End the process, by its id and no other."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


def _descends(pid: int, ancestor: int) -> bool:
    """Whether a process is `ancestor` or was started below it: only those speak for the process that was launched."""
    while pid > 1 and pid != ancestor:
        try:
            # proc(5): the name in parentheses may hold anything, after it come the state and the parent.
            pid = int(Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
        except OSError:
            return False
    return pid == ancestor


def _duplicate(stack: ExitStack, descriptor: int) -> int:
    """A descriptor of our own for the same; /dev/null if it is closed, as standard error of a daemon can be."""
    try:
        made = os.dup(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        made = os.open(os.devnull, os.O_WRONLY)
    stack.callback(os.close, made)
    return made


def _memory(stack: ExitStack) -> int:
    """A file without a place. Not a pipe: whatever the new process starts may write there long after we are gone."""
    made = os.memfd_create("monsal-launch")
    stack.callback(os.close, made)
    return made


def _tail(kept: int | None) -> str:
    """The end of what was said."""
    if kept is None:
        return ""
    size = os.fstat(kept).st_size
    text = os.pread(kept, TAIL, max(0, size - TAIL)).decode("utf-8", "replace")
    return text if size <= TAIL else "...\n" + text.partition("\n")[2]
