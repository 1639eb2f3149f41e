"""A receiver of its own, for scripts that start one: a thread for each connection, each mail handled before its answer.

Nothing is stored: what a handler raises is the answer of the session (rules routing.R28 and B16). A server has
`monsal run`, which takes the place of these.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

from monsal.smtp import MailFrom, MessageReceived, RcptTo, Reply, ServerProtocol, ServerSettings
from monsal.smtp.replies import OK, TOO_BUSY

__all__ = ["Doorman", "Process"]

LOG = logging.getLogger("salmon.server")

#: (peer, sender, recipient, data) -> None, or the answer of the session as text.
Process = Callable[[Any, str, str, bytes], "str | None"]

_PATIENCE = 300.0
_CHUNK = 64 * 1024
_SESSIONS = 100


class Doorman:
    """Listens on one socket and gives each mail, once for each recipient, to `process`."""

    def __init__(self, listener: socket.socket, process: Process, *, lmtp: bool) -> None:
        self._listener = listener
        self._process = process
        self._settings = ServerSettings(lmtp=lmtp)
        self._lmtp = lmtp
        self._places = threading.BoundedSemaphore(_SESSIONS)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="salmon-receiver", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Listen no more; sessions that are open go on to their end."""
        self._closed.set()
        with contextlib.suppress(OSError):
            # It wakes the thread that waits for connections, which is not everywhere a state of a listening socket.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                connection, peer = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                if not self._closed.is_set():
                    LOG.exception("the receiver cannot listen any more")
                return
            threading.Thread(target=self._serve, args=(connection, peer), daemon=True).start()

    def _serve(self, connection: socket.socket, peer: Any) -> None:
        with connection:
            connection.settimeout(_PATIENCE)
            protocol = ServerProtocol(self._settings)
            try:
                with self._places:
                    self._talk(connection, protocol, peer)
            except OSError as error:
                LOG.info("the session with %s broke off: %s", peer, error)

    def _talk(self, connection: socket.socket, protocol: ServerProtocol, peer: Any) -> None:
        connection.sendall(protocol.data_to_send())
        while not protocol.closing:
            data = connection.recv(_CHUNK)
            if not data:
                protocol.receive_eof()
                break
            waiting = list(protocol.receive_data(data))
            while waiting:
                event = waiting.pop(0)
                if isinstance(event, MailFrom | RcptTo):
                    waiting += protocol.reply(OK)
                elif isinstance(event, MessageReceived):
                    waiting += protocol.reply(*self._answers(event, peer))
            connection.sendall(protocol.data_to_send())

    def _answers(self, mail: MessageReceived, peer: Any) -> list[Reply]:
        """One answer for each recipient; by SMTP one for all: the worst, because the sender has to try again."""
        data = b"".join(mail.body)
        answers = [self._answer(peer, mail.sender, recipient, data) for recipient in mail.recipients]
        return answers if self._lmtp else [max(answers, key=lambda reply: (reply.code >= 400, -reply.code))]

    def _answer(self, peer: Any, sender: str, recipient: str, data: bytes) -> Reply:
        try:
            said = self._process(peer, sender, recipient, data)
        except Exception:
            LOG.exception("the mail from %s to %s could not be handled", sender, recipient)
            return TOO_BUSY
        if said is None:
            return OK
        code, _, text = said.partition(" ")
        known = code.isdigit() and 400 <= int(code) <= 599
        status = f"{code[0]}.0.0" if known else "5.0.0"
        return Reply(int(code) if known else 554, status, " ".join(text.split()) or "refused")
