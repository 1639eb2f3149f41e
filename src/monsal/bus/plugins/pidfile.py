"""A file that says which process runs, and that there is one: it is locked as long as that process lives.

    lock = PIDLock("run/server.pid")
    lock.take()                              # raises PIDFileHeld, with the pid of who has it
    ...
    lock.give_back()

The lock of flock(2) ends with the process, however that ends. So a file that is not locked is stale, whatever it says;
no pid is trusted that may belong to somebody else by now. The content is put there whole, by link(2) or rename(2): who
reads never sees an empty file, or half of a number.
"""

from __future__ import annotations

import math
import os
import select
import time
from fcntl import LOCK_EX, LOCK_NB, flock
from threading import Lock
from typing import Literal

from monsal.bus.core import Bus
from monsal.bus.plugins.simple import SimplePlugin

__all__ = ["PIDFile", "PIDFileHeld", "PIDLock"]

#: How often, and how many seconds apart, to look again at a locked file that names a dead process: another one has just
#: taken it over, and its pid will be there in a moment.
_LOOKS = 50
_PAUSE = 0.01

_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW


class PIDFileHeld(RuntimeError):
    """A living process has the PID file `path`; `pid` is what it says there, or None if it says nothing."""

    def __init__(self, path: str, pid: int | None) -> None:
        who = f"process {pid}" if pid is not None else "a process that does not say its number"
        dead = pid is not None and not _lives(pid)
        super().__init__(f"{path} is held by {who}" + (", or rather by a child that outlived it" if dead else ""))
        self.path = path
        self.pid = pid


class PIDLock:
    """The PID file at `path`, as one process sees it. Every method may be called from every thread.

    `take` and `give_back` are for the process that runs, `read`, `wait` and `join` for others.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        #: Absolute, so that a change of the working directory does not matter.
        self.path = os.path.abspath(path)
        self._lock = Lock()
        self._descriptor: int | None = None
        self._pid = 0

    @property
    def held(self) -> bool:
        """Whether this process has the file."""
        return self._descriptor is not None and self._pid == os.getpid()

    def take(self) -> int | None:
        """Have the file, with the pid of this process in it; nothing more is done if that is so already.

        Returns None, or the pid in a stale file that was taken over, 0 if it had none. Raises PIDFileHeld if a living
        process has it, OSError if it cannot be written.
        """
        with self._lock:
            if self.held:
                return None
            descriptor, stale = self._claim()
            if self._descriptor is not None:
                # That of the parent, in a forked child.
                os.close(self._descriptor)
            self._descriptor, self._pid = descriptor, os.getpid()
            return stale

    def give_back(self) -> Literal["removed", "emptied", "left"]:
        """Remove the file if it is still ours, and free it; says what became of it.

        Where the rights to remove it are gone it is emptied, or left if that cannot be done either. It is also left if
        it is not ours: not taken, replaced by another one, or that of the parent of a forked process. Raises OSError,
        but it is free then, too.
        """
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is None:
                return "left"
            try:
                # A forked child has the lock in common with its parent: it only forgets it.
                return _remove(descriptor, self.path) if self._pid == os.getpid() else "left"
            finally:
                os.close(descriptor)

    def detach(self) -> int:
        """Forget the file and return its descriptor, -1 if there is none.

        For a forked child, which closes it: else it would keep the lock if it outlives its parent.
        """
        descriptor, self._descriptor = self._descriptor, None
        return -1 if descriptor is None else descriptor

    def __enter__(self) -> PIDLock:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def read(self) -> int | None:
        """The pid in the file; None if there is no file, or no pid in it."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | _SAFE)
        except FileNotFoundError:
            return None
        try:
            return _pid_in(descriptor)
        finally:
            os.close(descriptor)

    def wait(self, timeout: float | None = None, poll_interval: float = 0.1) -> int | None:
        """Wait until the file names a living process; its pid, or None if `timeout` seconds are over."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            pid = self.read()
            if pid is not None and _lives(pid):
                return pid
            left = end - time.monotonic()
            if left <= 0:
                return None
            # The file is written by another process, of which nothing else is known yet.
            time.sleep(min(poll_interval, left))

    def join(self, timeout: float | None = None, poll_interval: float = 0.1) -> bool:
        """Wait until the process that the file names now has ended; False if `timeout` seconds are over.

        True at once if it names none. It need not be a child. `poll_interval` matters only where the system has no
        descriptors for processes. Raises RuntimeError in that process itself.
        """
        pid = self.read()
        if pid is None:
            return True
        if pid == os.getpid():
            raise RuntimeError("a process cannot wait for its own end")
        return _join(pid, math.inf if timeout is None else time.monotonic() + timeout, poll_interval)

    def _claim(self) -> tuple[int, int | None]:
        """The locked file with our pid, and the one that was there before."""
        looks = 0
        while True:
            try:
                descriptor = _open(self.path)
            except FileNotFoundError:
                created = self._create()
                if created is None:
                    continue
                return created, None
            try:
                flock(descriptor, LOCK_EX | LOCK_NB)
                # It may have been removed, or replaced, before we had the lock: then we locked what is no more.
                if not _is_at(descriptor, self.path):
                    os.close(descriptor)
                    continue
                pid = _pid_in(descriptor)
                if pid == os.getpid():
                    # This process before an `exec`, or one of the same number before a container was started again.
                    return descriptor, None
                return self._replace(descriptor), pid or 0
            except BlockingIOError:
                pid = _pid_in(descriptor)
                os.close(descriptor)
                looks += 1
                if looks > _LOOKS or (pid is not None and _lives(pid)):
                    raise PIDFileHeld(self.path, pid) from None
                time.sleep(_PAUSE)
            except BaseException:
                os.close(descriptor)
                raise

    def _create(self) -> int | None:
        """Make the file where there is none; None if another process was faster."""
        descriptor, beside = self._write_beside()
        try:
            os.link(beside, self.path)
        except FileExistsError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        finally:
            os.unlink(beside)
        return descriptor

    def _replace(self, stale: int) -> int:
        """Put a new file in the place of one that we have locked; where that is not allowed, write into that one."""
        try:
            descriptor, beside = self._write_beside()
        except PermissionError as refused:
            return _overwrite(stale, refused)
        try:
            os.rename(beside, self.path)
        except BaseException as error:
            os.close(descriptor)
            os.unlink(beside)
            if not isinstance(error, PermissionError):
                raise
            # A directory with the sticky bit, and the file of another user.
            return _overwrite(stale, error)
        os.close(stale)
        return descriptor

    def _write_beside(self) -> tuple[int, str]:
        """A locked file with our pid, under a name that nobody looks for."""
        beside = f"{self.path}.{os.urandom(6).hex()}"
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE, 0o644)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
            os.write(descriptor, _content())
        except BaseException:
            os.close(descriptor)
            os.unlink(beside)
            raise
        return descriptor, beside


class PIDFile(SimplePlugin):
    """Writes the pid of the process to a file when the bus starts, at priority 70, and removes it when the bus exits.

    The file is locked until then. A stale one is taken over, with a line in the log; while a living process has it the
    start fails with PIDFileHeld. It is removed only if it is ours; what goes wrong there is only logged. When the
    process replaces itself (`bus.restart()`) its pid stays the same, and so does the file.
    """

    def __init__(self, bus: Bus, pidfile: str | os.PathLike[str]) -> None:
        super().__init__(bus)
        self.pidfile = os.fspath(pidfile)
        self.lock = PIDLock(pidfile)

    def start(self) -> None:
        """Take the file; raises PIDFileHeld or OSError."""
        if self.lock.held:
            return
        stale = self.lock.take()
        if stale is not None:
            of = f" of process {stale}, which has ended" if stale else ""
            self.bus.log(f"The stale PID file {self.lock.path}{of} is taken over.", 30)
        self.bus.log(f"PID {os.getpid()} written to {self.lock.path}.")

    start.priority = 70  # type: ignore[attr-defined]  # functions take attributes

    def exit(self) -> None:
        """Give the file back."""
        if not self.lock.held or self.bus.execv:
            return
        try:
            became = self.lock.give_back()
        except OSError as error:
            self.bus.log(f"PID file {self.lock.path}: {error}", 30)
            return
        if became == "removed":
            self.bus.log(f"PID file {self.lock.path} removed.")
        else:
            self.bus.log(f"PID file {self.lock.path} {became}: it is not ours, or not ours to remove, any more.", 30)

    def wait(self, timeout: float | None = None, poll_interval: float = 0.1) -> int | None:
        """Wait until the file names a living process; its pid, or None if `timeout` seconds are over."""
        return self.lock.wait(timeout, poll_interval)

    def join(self, timeout: float | None = None, poll_interval: float = 0.1) -> bool:
        """Wait until the process that the file names now has ended; False if `timeout` seconds are over."""
        return self.lock.join(timeout, poll_interval)


def _open(path: str) -> int:
    """An existing file. To read is enough for the lock; some network file systems want the right to write for it."""
    try:
        return os.open(path, os.O_RDWR | _SAFE)
    except PermissionError:
        return os.open(path, os.O_RDONLY | _SAFE)


def _content() -> bytes:
    return b"%d\n" % os.getpid()


def _overwrite(descriptor: int, refused: PermissionError) -> int:
    """Put our pid into an open file: longer text first, then the right length, so that it is never half there.

    Raises what was refused before, if that is not allowed either.
    """
    content = _content()
    try:
        os.pwrite(descriptor, content.ljust(os.fstat(descriptor).st_size, b"\n"), 0)
        os.ftruncate(descriptor, len(content))
    except OSError:
        # The image before this one wrote it, with rights that are gone: it says what it should.
        if os.pread(descriptor, len(content) + 1, 0) != content:
            raise refused from None
    return descriptor


def _remove(descriptor: int, path: str) -> Literal["removed", "emptied", "left"]:
    try:
        if not _is_at(descriptor, path):
            return "left"
        os.unlink(path)
    except PermissionError:
        try:
            # No pid is better than one that will be somebody else's.
            os.ftruncate(descriptor, 0)
        except OSError:
            return "left"
        return "emptied"
    return "removed"


def _is_at(descriptor: int, path: str) -> bool:
    """Whether this open file is the one with that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _pid_in(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() and 0 < int(text) < 2**31 else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _join(pid: int, end: float, poll_interval: float) -> bool:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except (AttributeError, OSError):
        # Not this system, or it does not let us (pidfd_open(2) is younger than many filters of system calls).
        while _lives(pid):
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(poll_interval, left))
        return True
    try:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        left = end - time.monotonic()
        return bool(poll.poll(None if left == math.inf else max(0, math.ceil(left * 1000))))
    finally:
        os.close(process)
