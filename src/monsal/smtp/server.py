"""The receiving side of SMTP and LMTP, without a socket: bytes in, events out; decisions in, bytes out.

Order of use: make a `ServerProtocol` (its greeting is the first output); give what comes from the socket to
`receive_data`; act on the events; answer each `MailFrom`, `RcptTo`, `MessageReceived`, `Login` and `XClient` with
`reply`, which gives the events of what was buffered meanwhile; after `StartTls` encrypt the link and call
`tls_started`; after each of these calls write `data_to_send()`, close the connection when `closing`, and stop reading
while `wants_data` is false. Most mails of clients that pipeline can be begun at once, by `opening` and `open`.

How the input is cut into pieces changes neither the events nor the output (but for the cuts within a body).
RFC 5321 SMTP, 2033 LMTP, 1870 SIZE, 2920 PIPELINING, 6152 8BITMIME, 2034 ENHANCEDSTATUSCODES, 6531 SMTPUTF8,
3030 CHUNKING and BINARYMIME, 3207 STARTTLS, 4954 AUTH (4616 PLAIN, and LOGIN); XCLIENT as Postfix has it.
"""

from __future__ import annotations

from typing import Final

from monsal.errors import UsageError
from monsal.smtp import replies
from monsal.smtp.events import Event, Hello, Opening
from monsal.smtp.replies import Reply
from monsal.smtp.session import Session
from monsal.smtp.settings import ServerSettings
from monsal.smtp.states import (
    ASKED_STATES,
    CHUNK_STATES,
    COMMAND_STATES,
    CONTENT_STATES,
    LINE_STATES,
    SessionState,
)

__all__ = ["ServerProtocol"]

# Looked up once: to ask an Enum for its member costs 0.15 us in Python 3.11, and there are twenty of them in each mail.
_CLOSED: Final = SessionState.CLOSED
_READY: Final = SessionState.READY
_CONTENT: Final = SessionState.CONTENT
#: The first octet of a TLS record of type handshake (RFC 8446, section 5.1); no command starts with it.
_TLS_HANDSHAKE: Final = 0x16
#: What comes in these states is thrown away.
_DEAF: Final = frozenset({_CLOSED, SessionState.TLS_STARTING})
_LINE_WITHOUT_END: Final = Reply(421, "4.7.0", "line without an end, closing")


class ServerProtocol:
    """One session. `tls` says that the link is encrypted from the start, `xclient` that the client may say XCLIENT.

    See the module's text for the order of use; only `reply`, `open` and `tls_started` raise, and only UsageError.
    """

    __slots__ = ("_buffer", "_eof", "_lines", "_position", "_session", "_settings", "_skipped")

    def __init__(self, settings: ServerSettings, *, tls: bool = False, xclient: bool = False) -> None:
        self._settings = settings
        self._session = Session(settings, tls=tls, xclient=xclient)
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
    def tls(self) -> bool:
        """Whether the link is encrypted."""
        return self._session.tls

    @property
    def user(self) -> str | None:
        """The name that the client has proved (AUTH), or that a trusted one has proved of it (XCLIENT LOGIN)."""
        return self._session.user

    @property
    def closing(self) -> bool:
        """Whether the connection is to be closed once the output was written."""
        return self._session.state is _CLOSED

    @property
    def wants_data(self) -> bool:
        """False after the end, and while a decision is awaited and enough is buffered: then read no more."""
        state = self._session.state
        if state in ASKED_STATES:
            return len(self._buffer) - self._position <= self._settings.max_buffered
        return state is not _CLOSED

    @property
    def stored(self) -> int:
        """Octets of content held for the mail being read."""
        content = self._session.content
        return content.stored if content is not None else 0

    def data_to_send(self) -> bytes:
        """The output since the last call, empty if there is none."""
        out = self._session.out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def receive_data(self, data: bytes) -> list[Event]:
        """Take what came from the socket; what happened by it, in order.

        After the end it is ignored, and so it is between StartTls and `tls_started`.
        """
        session = self._session
        if session.state in _DEAF:
            return []
        if self._position == len(self._buffer):
            self._buffer = data
            if session.state is _CONTENT and (end := session.read_whole(data)):
                # What follows waits for the answer.
                self._position = end
                events, session.events = session.events, []
                return events
        else:
            self._buffer = self._buffer[self._position :] + data
        self._position = 0
        return self._advance()

    def opening(self, data: bytes) -> Opening | None:
        """MAIL, RCPT and DATA of a mail with one recipient, if `data` from the socket is that and nothing else.

        Nothing is done yet. To say yes to all three call `open`; if one needs another answer, or if this is None, give
        the same `data` to `receive_data`, which asks about MAIL and about RCPT.
        """
        session = self._session
        if session.state is not _READY or self._position != len(self._buffer) or self._skipped or session.skip:
            return None
        return session.opening(data)

    def open(self, opening: Opening) -> None:
        """Say yes to what `opening` gave; the content is awaited. Raises UsageError if it is not possible now."""
        if self._session.state is not _READY:
            raise UsageError(f"no mail can be opened in state {self._session.state.name}")
        self._lines += 3
        self._session.open(opening)

    def receive_eof(self) -> None:
        """The client will send no more. A decision under way may still be answered."""
        self._eof = True
        if self._session.state not in ASKED_STATES:
            self._session.end()

    def tls_started(self) -> None:
        """The link is encrypted from here on; the client begins anew. Raises UsageError unless that is awaited."""
        self._session.tls_started()
        self._lines = self._skipped = 0

    def reply(self, *answers: Reply) -> list[Event]:
        """Decide on the last event that awaits it, and go on with what is buffered.

        One answer; for a mail by LMTP one per recipient in their order. 421 also ends the session. After the
        session was closed a decision comes too late and is ignored. Raises UsageError if none is awaited, or for
        another number of answers.
        """
        if self._session.state is _CLOSED:
            return []
        self._session.decide(answers)
        return self._advance()

    def discard(self, reply: Reply) -> None:
        """Keep nothing of the mail being read, and answer it with `reply` (4yz or 5yz) at its end."""
        self._session.discard(reply)

    def close(self, reply: Reply) -> None:
        """End the session from our side with `reply`, usually a 421, in whatever state it is."""
        if self._session.state is not _CLOSED:
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
            elif state in CONTENT_STATES:
                if not self._read_content():
                    break
            elif state not in LINE_STATES or not self._read_line():
                break
        if self._eof and session.state not in ASKED_STATES:
            session.end()
        if session.state in _DEAF:
            # After STARTTLS, too: what came in the clear must not pass for what was said in private (RFC 3207, 4.2).
            self._buffer, self._position = b"", 0
        events = session.events
        if events:
            session.events = []
        return events

    def _read_line(self) -> bool:
        """Do the next command; False if its line is not complete."""
        buffer, start, session = self._buffer, self._position, self._session
        if session.skip:
            return self._skip_octets(len(buffer) - start)
        if not self._lines and not self._skipped and buffer[start] == _TLS_HANDSHAKE:
            session.end_because(replies.NOT_SMTP)
            return False
        end = buffer.find(b"\r\n", start)
        if end < 0:
            return self._hold_line(buffer, start)
        self._position = end + 2
        self._lines += 1
        if self._skipped or (
            end - start > self._settings.max_command_line - 2 and end + 2 - start > self._longest(start)
        ):
            self._end_long_line(end - start)
        elif session.exchange is None:
            session.command(buffer[start:end])
        else:
            session.login_line(buffer[start:end])
        return True

    def _longest(self, start: int) -> int:
        """How long the line that starts there may be with its CRLF: one of a login longer than others (RFC 4954, 4)."""
        if self._session.exchange is not None or self._buffer[start : start + 5].upper() == b"AUTH ":
            return max(self._settings.max_auth_line, self._settings.max_command_line)
        return self._settings.max_command_line

    def _skip_octets(self, there: int) -> bool:
        """Read over a chunk that nobody wants; it is no command, whatever it says."""
        skipped = min(there, self._session.skip)
        self._session.skip -= skipped
        self._position += skipped
        return True

    def _hold_line(self, buffer: bytes, start: int) -> bool:
        """Hold the beginning of a line; of one that is too long nothing but its length and a CR at its end."""
        length = len(buffer) - start
        if self._skipped or (length > self._settings.max_command_line - 1 and length > self._longest(start) - 1):
            held = 1 if buffer.endswith(b"\r") else 0
            if not self._skipped:
                self._refuse_long_line()
            self._skipped += length - held
            self._buffer, self._position = buffer[len(buffer) - held :], 0
            self._check_skipped(self._skipped)
        return False

    def _end_long_line(self, length: int) -> None:
        if not self._skipped:
            self._refuse_long_line()
        self._check_skipped(self._skipped + length)
        self._skipped = 0

    def _refuse_long_line(self) -> None:
        if self._session.exchange is not None:
            self._session.end_login(replies.LINE_TOO_LONG)
        else:
            self._session.fail(replies.LINE_TOO_LONG)

    def _check_skipped(self, length: int) -> None:
        if length > self._settings.max_skipped:
            self._session.end_because(_LINE_WITHOUT_END)

    def _read_content(self) -> bool:
        """Read content; False if its end has not come."""
        session = self._session
        if session.content is None:
            return False
        if session.state in CHUNK_STATES:
            self._position = session.read_chunk(self._buffer, self._position)
            return True
        self._position = session.content.feed(self._buffer, self._position)
        return session.content_read()
