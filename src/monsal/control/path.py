"""The file of a unix socket: short enough a name for the kernel, whatever the directory is called."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monsal.errors import UsageError

__all__ = ["PeerCredentials", "peer_credentials", "socket_name"]

#: sockaddr_un of Linux has 108 octets with the final NUL, that of the BSDs 104 (unix(7)).
MAX_NAME = 103

PeerCredentials = tuple[int, int]


@contextmanager
def socket_name(path: Path) -> Iterator[str]:
    """A name for `path` that fits into a socket address, valid inside the `with`.

    A long one is reached through an open directory (Linux). Raises UsageError where that cannot be done, OSError if
    there is no such directory.
    """
    name = os.fspath(path)
    if len(os.fsencode(name)) <= MAX_NAME:
        yield name
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{descriptor}/{path.name}"
        if not os.path.isdir(f"/proc/self/fd/{descriptor}") or len(os.fsencode(short)) > MAX_NAME:
            raise UsageError(f"the path of the socket is too long for this system: {name}")
        yield short
    finally:
        os.close(descriptor)


def peer_credentials(connection: socket.socket) -> PeerCredentials | None:
    """Process id and user id of the other end, as the kernel knows them; None where it does not tell (not Linux)."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, size))
    return pid, uid
