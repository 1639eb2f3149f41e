"""Messages to the service manager that started this process, in own code: the protocol of sd_notify(3).

    notify("READY=1", "STATUS=receives mail")

One message is one datagram of lines NAME=value to the socket whose address is in `NOTIFY_SOCKET`. Without that
variable nobody wants to hear anything, and nothing is sent. The variable stays in the environment, as with
sd_notify(0, ...): the image after a restart needs it. Children inherit it, but by default systemd listens to the main
process only.
"""

from __future__ import annotations

import array
import os
import select
import socket
import struct
from collections.abc import Mapping, Sequence
from time import monotonic

__all__ = ["ManagerSocket", "notify"]

#: How long a message may wait for a manager that is too busy to take it.
PATIENCE = 1


class ManagerSocket:
    """A socket to the service manager that is kept, so that running out of descriptors does not stop the watchdog.

    Every method may be called from every thread.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._socket: socket.socket | None = None

    @property
    def address(self) -> str:
        """The address in the environment, as it is there; empty if there is no manager."""
        return self._environ.get("NOTIFY_SOCKET", "")

    @property
    def supported(self) -> bool:
        """Whether the address is one of this machine: a path, or an abstract name that begins with @. Not vsock."""
        return self.address[:1] in ("/", "@") and len(self.address) > 1

    def send(self, *assignments: str, fds: Sequence[int] = ()) -> bool:
        """Send one message; False if there is no manager, or none that can be reached from here.

        Raises ValueError for what is not NAME=value on one line, OSError if the message is not taken.
        """
        for assignment in assignments:
            name, equals, _ = assignment.partition("=")
            if not (name and equals) or "\n" in assignment or "\0" in assignment:
                raise ValueError(f"not NAME=value on one line: {assignment!r}")
        if not self.supported:
            return False
        address = self.address
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            # By the kernel: a timeout of Python would poll a socket that has no peer, which is always writable.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", PATIENCE, 0))
            self._socket = made
        data = "\n".join(assignments).encode("utf-8", "surrogateescape")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        where = "\0" + address[1:] if address[0] == "@" else address
        self._socket.sendmsg([data], rights, 0, where)
        return True

    def barrier(self, limit: float = 5.0) -> bool:
        """Wait until the manager has worked off all that was sent before; False if there is none.

        Raises TimeoutError if that takes more than `limit` seconds, OSError if the message is not taken.
        """
        ours, theirs = os.pipe()
        try:
            try:
                if not self.send("BARRIER=1", fds=[theirs]):
                    return False
            finally:
                os.close(theirs)
            # It says nothing, it closes its end.
            poll = select.poll()
            poll.register(ours, 0)
            end = monotonic() + limit
            while not poll.poll(max(0.0, end - monotonic()) * 1000):
                if monotonic() >= end:
                    raise TimeoutError(f"the service manager was silent for {limit:.1f} seconds")
            return True
        finally:
            os.close(ours)

    def close(self) -> None:
        """Give the descriptor back; the next message takes a new one."""
        kept, self._socket = self._socket, None
        if kept is not None:
            kept.close()


def notify(*assignments: str, fds: Sequence[int] = (), environ: Mapping[str, str] = os.environ) -> bool:
    """Send one message to the service manager, and `fds` with it (FDSTORE=1); False if there is none.

    Raises ValueError for what is not NAME=value on one line, OSError if the message is not taken.
    """
    manager = ManagerSocket(environ)
    try:
        return manager.send(*assignments, fds=fds)
    finally:
        manager.close()
