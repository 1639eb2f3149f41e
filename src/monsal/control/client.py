"""Asks a running server, and waits for the answer: what the commands of the shell use."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from monsal.errors import MonsalError, NoAnswer, NotRunning, ProtocolError, RemoteFault
from monsal.transport.unix import socket_name
from monsal.wire.codec import decode, encode
from monsal.wire.codes import SHUTDOWN
from monsal.wire.frames import LineFrames, TooLong
from monsal.wire.packets import Call, Fault, Reply

__all__ = ["MAX_REPLY", "ControlClient"]

#: Octets of one answer: thousands of rows, and an end to what a confused peer can make us hold.
MAX_REPLY = 16 * 1024 * 1024


class ControlClient:
    """A connection to the control socket at `path`; every answer must come within `timeout` seconds.

    It connects at the first call. Use it as a context manager, or `close` it. Not for several threads at once.
    """

    def __init__(self, path: Path, timeout: float = 10.0) -> None:
        self._path = path
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._frames = LineFrames(MAX_REPLY)
        self._waiting: list[bytes | TooLong] = []
        self._last_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Connect now. Raises NotRunning if nobody listens, MonsalError if this user may not."""
        if self._socket is not None:
            return
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._timeout)
        try:
            with socket_name(os.fspath(self._path)) as name:
                connection.connect(name)
        except (FileNotFoundError, NotADirectoryError, ConnectionError):
            connection.close()
            raise NotRunning(f"no server listens at {self._path}") from None
        except TimeoutError:
            connection.close()
            raise NoAnswer(f"the server at {self._path} takes no connection") from None
        except PermissionError:
            connection.close()
            raise MonsalError(
                f"{self._path} is only for the user that the server runs as, and root: call this as one of them"
            ) from None
        except OSError as error:
            connection.close()
            raise MonsalError(f"cannot connect to {self._path}: {error.strerror or error}") from None
        except BaseException:
            connection.close()
            raise
        self._socket = connection

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def call(self, method: str, /, **params: Any) -> Any:
        """The result of `method`.

        Raises NotRunning if nobody listens or is about to end, RemoteFault if the server says no, NoAnswer if it
        hangs up or does not answer in time.
        """
        self.connect()
        self._last_id += 1
        deadline = time.monotonic() + self._timeout
        try:
            self._send(encode(Call(self._last_id, method, params)))
            answer = self._answer(deadline)
        except ProtocolError as error:
            self.close()
            raise NoAnswer(f"what listens at {self._path} is no monsal server: {error}") from None
        except TimeoutError:
            self.close()
            raise NoAnswer(f"the server did not answer {method} within {self._timeout:g} seconds") from None
        except OSError:
            self.close()
            raise NoAnswer(f"the server hung up before it answered {method}") from None
        if isinstance(answer, Fault):
            if answer.code == SHUTDOWN:
                self.close()
                raise NotRunning(f"the server at {self._path} is about to end and takes no calls any more")
            data = answer.data if isinstance(answer.data, dict) else {}
            raise RemoteFault(
                answer.message,
                code=answer.code,
                kind=str(data.get("kind", "")),
                details=str(data.get("details") or data.get("traceback") or ""),
            )
        return answer.result

    def wait_closed(self, timeout: float) -> bool:
        """Wait until the server hangs up, at most `timeout` seconds; whether it did."""
        if self._socket is None:
            return True
        self._socket.settimeout(timeout)
        try:
            while self._socket.recv(65536):
                continue
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def _send(self, frame: bytes) -> None:
        assert self._socket is not None
        self._socket.settimeout(self._timeout)
        try:
            self._socket.sendall(frame)
        except ConnectionError:
            # A server that refuses us says why before it hangs up: that is still to be read.
            return

    def _answer(self, deadline: float) -> Reply | Fault:
        while True:
            frame = self._next_frame(deadline)
            packet = None if isinstance(frame, TooLong) else decode(frame)
            # A fault without id is about the connection, and so about this call.
            if isinstance(packet, Fault) and packet.id in (self._last_id, None):
                return packet
            if isinstance(packet, Reply) and packet.id == self._last_id:
                return packet
            if packet is None:
                self.close()
                raise NoAnswer(f"the answer is longer than {MAX_REPLY} bytes; ask for fewer rows")

    def _next_frame(self, deadline: float) -> bytes | TooLong:
        assert self._socket is not None
        while not self._waiting:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionResetError
            self._waiting = self._frames.receive_data(data)
        return self._waiting.pop(0)
