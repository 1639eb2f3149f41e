"""Unix sockets: names short enough for the kernel, who is at the other end, files that the dead left behind."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from monsal.errors import UsageError
from monsal.forks import close_in_children

__all__ = [
    "Credentials",
    "credentials_of",
    "listening_unix_socket",
    "remove_socket_file",
    "remove_stale_socket",
    "socket_name",
]

#: sockaddr_un of Linux has 108 octets with the final NUL, that of the BSDs 104 (unix(7)).
MAX_NAME = 103


class Credentials(NamedTuple):
    """Process, user and group id of a peer, as the kernel noted them when it connected."""

    pid: int
    uid: int
    gid: int


def credentials_of(connection: socket.socket) -> Credentials | None:
    """Who is at the other end; None where the kernel does not tell (not a unix socket, or not Linux)."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None or connection.family != socket.AF_UNIX:
        return None
    size = struct.calcsize("3i")
    return Credentials(*struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, size)))


@contextmanager
def socket_name(path: str) -> Iterator[str]:
    """A name for `path` that fits into a socket address, valid inside the `with`.

    A long one is reached through an open directory (Linux). Raises UsageError where that cannot be done, OSError if
    there is no such directory.
    """
    if len(os.fsencode(path)) <= MAX_NAME:
        yield path
        return
    directory, name = os.path.split(path)
    descriptor = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{descriptor}/{name}"
        if not os.path.isdir(f"/proc/self/fd/{descriptor}") or len(os.fsencode(short)) > MAX_NAME:
            raise UsageError(f"the path of the socket is too long for this system: {path}")
        yield short
    finally:
        os.close(descriptor)


def listening_unix_socket(path: str, mode: int, backlog: int) -> socket.socket:
    """A socket that listens at `path`, whose file has `mode`; the file of a process that is gone is replaced.

    Raises OSError if another process listens there, or if something is in the way that is no socket.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    close_in_children(made, socket.socket.detach)
    try:
        made.setblocking(False)
        with socket_name(path) as name:
            remove_stale_socket(path, name)
            made.bind(name)
            # Nobody can connect before it listens, so the mode is set in time.
            os.chmod(name, mode)
        made.listen(backlog)
    except BaseException:
        made.close()
        raise
    return made


def remove_stale_socket(path: str, name: str) -> None:
    """Remove the socket file of a process that is gone; `name` is that of `path` by `socket_name`.

    Raises OSError if another process listens there, or if something is in the way that is no socket.
    """
    try:
        kind = os.lstat(name).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileExistsError(f"{path} is in the way and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Without blocking: a living process whose queue is full says so at once (EAGAIN).
        probe.setblocking(False)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            # Another one that starts may have done so already.
            with suppress(FileNotFoundError):
                os.unlink(name)
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "another process listens on it", path)


def remove_socket_file(path: str, inode: int) -> None:
    """Remove our socket file, unless another one has taken its place."""
    try:
        if os.lstat(path).st_ino == inode:
            os.unlink(path)
    except FileNotFoundError:
        return
