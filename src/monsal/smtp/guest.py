"""Who is behind a receiving session: STARTTLS (RFC 3207), AUTH (RFC 4954) and XCLIENT (Postfix)."""

from __future__ import annotations

from typing import Final

from monsal.errors import UsageError
from monsal.smtp import replies
from monsal.smtp.events import Hello, Login, StartTls
from monsal.smtp.ground import Ground, greeting, to_wire
from monsal.smtp.replies import Reply
from monsal.smtp.sasl import MECHANISMS, Exchange
from monsal.smtp.settings import ServerSettings
from monsal.smtp.states import Input, SessionState
from monsal.smtp.xclient import parse_xclient

__all__: list[str] = []

#: The decisions that are about the client, and not about a mail.
ASKED_OF_GUEST: Final = frozenset({SessionState.AUTH_ASKED, SessionState.XCLIENT_ASKED})


class Guest(Ground):
    """What is known of the client: its hello, whether the link is encrypted, and as whom it has logged in.

    `exchange` is the login that awaits a line.
    """

    __slots__ = ("_login", "_logins", "_xclient", "exchange", "hello", "tls", "user")

    def __init__(self, settings: ServerSettings, *, tls: bool, xclient: bool) -> None:
        super().__init__(settings)
        self.hello: Hello | None = None
        self.tls = tls
        self.user: str | None = None
        self.exchange: Exchange | None = None
        self._xclient = xclient
        self._login: Login | None = None
        self._logins = 0

    def _start_tls(self, following: SessionState) -> None:
        if self.tls:
            self.fail(replies.ALREADY_ENCRYPTED)
        elif not self.settings.starttls:
            self.fail(replies.NOT_IMPLEMENTED)
        else:
            self.out.append(to_wire(replies.READY_FOR_TLS))
            self.events.append(StartTls())
            self.state = following

    def tls_started(self) -> None:
        """The link is encrypted: all that was said before is forgotten (RFC 3207, section 4.2)."""
        if self.state is not SessionState.TLS_STARTING:
            raise UsageError(f"no encryption is awaited in state {self.state.name}")
        self.tls = True
        self.hello = self.user = None
        self._move(Input.ACCEPT)

    def _start_login(self, argument: str, following: SessionState) -> None:
        mechanism, _, initial = argument.partition(" ")
        if not self.settings.auth:
            self.fail(replies.NOT_IMPLEMENTED)
        elif not self.tls:
            # Before it is looked at: a password that came this way is known to others, and not to us.
            self.fail(replies.LOGIN_NEEDS_TLS)
        elif self.hello is None or not self.hello.extended:
            self.fail(replies.BAD_SEQUENCE)
        elif self.user is not None:
            self.fail(replies.ALREADY_LOGGED_IN)
        elif mechanism.upper() not in MECHANISMS:
            self.fail(replies.BAD_MECHANISM)
        else:
            self.exchange = Exchange(mechanism.upper())
            self.state = following
            self._go_on_with_login(self.exchange.start(initial.strip(" ")))

    def login_line(self, line: bytes) -> None:
        """A line of the client in a login, without its CRLF."""
        if self.exchange is None:
            raise AssertionError("a line of a login is possible only after AUTH")
        self._go_on_with_login(self.exchange.answer(line))

    def _go_on_with_login(self, step: Reply | Login) -> None:
        if isinstance(step, Login):
            self.exchange, self._login = None, step
            self.events.append(step)
            self._move(Input.READ)
        elif step.code == 334:
            self.out.append(step.to_bytes())
            self._move(Input.MORE)
        else:
            self.end_login(step)

    def end_login(self, reply: Reply) -> None:
        """Refuse a login that is not complete."""
        self.exchange = None
        self._move(Input.REFUSE)
        if reply.code == 535:
            self._wrong_login(reply)
        else:
            self.fail(reply)

    def _wrong_login(self, reply: Reply) -> None:
        self.out.append(to_wire(reply))
        self._logins += 1
        if self._logins >= self.settings.max_logins:
            self.end_because(replies.TOO_MANY_ERRORS)

    def _speak_for(self, argument: bytes, following: SessionState) -> None:
        if not self._xclient:
            self.fail(replies.NOT_AUTHORIZED)
            return
        said = parse_xclient(argument)
        if isinstance(said, Reply):
            self.fail(said)
            return
        if said.login is not None:
            self.user = said.login or None
        self.hello = None
        self.events.append(said)
        self.state = following

    def _decide_on_guest(self, answer: Reply) -> None:
        """Answer a Login or an XClient."""
        asked, login = self.state, self._login
        self._login = None
        self._move(Input.ACCEPT if answer.is_positive else Input.REFUSE)
        if asked is SessionState.XCLIENT_ASKED and answer.is_positive:
            self.out.append(greeting(self.settings))
            self._count_junk()
        elif answer.code == 535:
            self._wrong_login(answer)
        else:
            self.out.append(to_wire(answer))
            if answer.is_positive:
                self.user = login.user if login is not None else None
            elif answer.code == 421:
                self.end()
            else:
                self._count_refusal()
