"""The receiving side of SMTP and LMTP, without a socket: bytes in, events out; decisions in, bytes out.

Order of use: make a `ServerProtocol` (its greeting is the first output); give what comes from the socket to
`receive_data`; act on the events; answer each `MailFrom`, `RcptTo` and `MessageReceived` with `reply`, which gives
the events of what was buffered meanwhile; after each of these calls write `data_to_send()`, close the connection
when `closing`, and stop reading while `wants_data` is false.

How the input is cut into pieces changes neither the events nor the output (but for the cuts within a body).
RFC 5321 SMTP, 2033 LMTP, 1870 SIZE, 2920 PIPELINING, 6152 8BITMIME, 2034 ENHANCEDSTATUSCODES, 6531 SMTPUTF8.
"""

from __future__ import annotations

from typing import Final

from monsal.smtp import replies
from monsal.smtp.events import Event, Hello
from monsal.smtp.replies import Reply
from monsal.smtp.session import Session
from monsal.smtp.settings import ServerSettings
from monsal.smtp.states import ASKED_STATES, COMMAND_STATES, CONTENT_STATES, SessionState

__all__ = ["ServerProtocol"]

#: The first octet of a TLS record of type handshake (RFC 8446, section 5.1); no command starts with it.
_TLS_HANDSHAKE: Final = 0x16
_LINE_WITHOUT_END: Final = Reply(421, "4.7.0", "line without an end, closing")


class ServerProtocol:
    """One session. See the module's text for the order of use; only `reply` raises, and only UsageError."""

    __slots__ = ("_buffer", "_eof", "_lines", "_position", "_session", "_settings", "_skipped")

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._session = Session(settings)
        self._buffer = b""
        self._position = 0
        self._lines = 0
        self._skipped = 0
        self._eof = False

    @property
    def state(self) -> SessionState:
        """Where the session stands."""
        return self._session.state

    @property
    def hello(self) -> Hello | None:
        """How the client introduced itself last."""
        return self._session.hello

    @property
    def closing(self) -> bool:
        """Whether the connection is to be closed once the output was written."""
        return self._session.state is SessionState.CLOSED

    @property
    def wants_data(self) -> bool:
        """False after the end, and while a decision is awaited and enough is buffered: then read no more."""
        if len(self._buffer) - self._position > self._settings.max_buffered:
            return self._session.state not in ASKED_STATES
        return self._session.state is not SessionState.CLOSED

    @property
    def stored(self) -> int:
        """Octets of content held for the mail being read."""
        content = self._session.content
        return content.stored if content is not None else 0

    def data_to_send(self) -> bytes:
        """The output since the last call, empty if there is none."""
        out = self._session.out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def receive_data(self, data: bytes) -> list[Event]:
        """Take what came from the socket; what happened by it, in order. After the end it is ignored."""
        if self._session.state is SessionState.CLOSED:
            return []
        if self._position == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._position :] + data
        self._position = 0
        return self._advance()

    def receive_eof(self) -> None:
        """The client will send no more. A decision under way may still be answered."""
        self._eof = True
        if self._session.state not in ASKED_STATES:
            self._session.end()

    def reply(self, *answers: Reply) -> list[Event]:
        """Decide on the last MailFrom, RcptTo or MessageReceived, and go on with what is buffered.

        One answer; for a mail by LMTP one per recipient in their order. 421 also ends the session. After the
        session was closed a decision comes too late and is ignored. Raises UsageError if none is awaited, or for
        another number of answers.
        """
        if self._session.state is SessionState.CLOSED:
            return []
        self._session.decide(answers)
        return self._advance()

    def discard(self, reply: Reply) -> None:
        """Keep nothing of the mail being read, and answer it with `reply` (4yz or 5yz) at its end."""
        self._session.discard(reply)

    def close(self, reply: Reply) -> None:
        """End the session from our side with `reply`, usually a 421, in whatever state it is."""
        if self._session.state is not SessionState.CLOSED:
            self._session.out.append(reply.to_bytes())
            self._session.end()

    def _advance(self) -> list[Event]:
        """Do what the buffer holds until more is needed or a decision is awaited."""
        session = self._session
        while self._position < len(self._buffer):
            state = session.state
            if state in COMMAND_STATES:
                if not self._read_line():
                    break
            elif state not in CONTENT_STATES or not self._read_content():
                break
        if self._eof and session.state not in ASKED_STATES:
            session.end()
        if session.state is SessionState.CLOSED:
            self._buffer, self._position = b"", 0
        events = session.events
        if events:
            session.events = []
        return events

    def _read_line(self) -> bool:
        """Do the next command; False if its line is not complete."""
        buffer, start = self._buffer, self._position
        if not self._lines and not self._skipped and buffer[start] == _TLS_HANDSHAKE:
            self._session.end_because(replies.NOT_SMTP)
            return False
        end = buffer.find(b"\r\n", start)
        if end < 0:
            return self._hold_line(buffer, start)
        self._position = end + 2
        self._lines += 1
        if self._skipped or end - start > self._settings.max_command_line - 2:
            self._end_long_line(end - start)
        else:
            self._session.command(buffer[start:end])
        return True

    def _hold_line(self, buffer: bytes, start: int) -> bool:
        """Hold the beginning of a line; of one that is too long nothing but its length and a CR at its end."""
        length = len(buffer) - start
        if self._skipped or length > self._settings.max_command_line - 1:
            held = 1 if buffer.endswith(b"\r") else 0
            if not self._skipped:
                self._session.fail(replies.LINE_TOO_LONG)
            self._skipped += length - held
            self._buffer, self._position = buffer[len(buffer) - held :], 0
            self._check_skipped(self._skipped)
        return False

    def _end_long_line(self, length: int) -> None:
        if not self._skipped:
            self._session.fail(replies.LINE_TOO_LONG)
        self._check_skipped(self._skipped + length)
        self._skipped = 0

    def _check_skipped(self, length: int) -> None:
        if length > self._settings.max_skipped:
            self._session.end_because(_LINE_WITHOUT_END)

    def _read_content(self) -> bool:
        """Read content; False if its end has not come."""
        session = self._session
        if session.content is None:
            return False
        self._position = session.content.feed(self._buffer, self._position)
        return session.content_read()
