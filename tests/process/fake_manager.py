"""A service manager for tests: a datagram socket that notes what it is told, in order."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["FakeManager"]

#: How long a message may take; only a failing test waits that long.
PATIENCE = 60.0


class FakeManager:
    """Listens at a path, or at an abstract name that begins with @. Use as a context manager."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.environ = {"NOTIFY_SOCKET": address}
        #: All messages so far, each as its lines.
        self.messages: list[list[str]] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(PATIENCE)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def __enter__(self) -> FakeManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def next(self) -> list[str]:
        """Wait for one message. Descriptors that come with it are closed: that is the answer to BARRIER=1."""
        self.messages.append(self.socket.recv(8192).decode().split("\n"))
        return self.messages[-1]

    def until(self, wanted: Callable[[list[str]], bool] | str) -> list[str]:
        """Read on to a message that is as wanted, or has a line that begins so."""

        def is_wanted(message: list[str]) -> bool:
            if isinstance(wanted, str):
                return any(line.startswith(wanted) for line in message)
            return wanted(message)

        while not is_wanted(message := self.next()):
            continue
        return message

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Have a thread read all messages as they come."""

        def listens() -> None:
            while self.next() != ["X_OVER=1"]:
                continue

        self.socket.settimeout(None)
        thread = threading.Thread(target=listens)
        thread.start()
        try:
            yield
        finally:
            self.socket.sendto(b"X_OVER=1", self.socket.getsockname())
            thread.join()
            self.socket.settimeout(PATIENCE)

    def drain(self) -> None:
        """Read what is there, and wait for nothing."""
        self.socket.setblocking(False)
        try:
            while True:
                self.next()
        except BlockingIOError:
            self.socket.settimeout(PATIENCE)

    def lines(self, *names: str) -> list[str]:
        """The lines with one of these names, of all messages in order."""
        return [line for message in self.messages for line in message if line.partition("=")[0] in names]
