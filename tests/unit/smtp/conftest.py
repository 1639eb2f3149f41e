"""A talk with a server session: what is sent, what comes back, what was told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from monsal.smtp.events import Event, Login, MailFrom, MessageReceived, RcptTo, XClient
from monsal.smtp.replies import LOGGED_IN, OK, RECIPIENT_OK, SENDER_OK, WRONG_LOGIN, Reply
from monsal.smtp.server import ServerProtocol
from monsal.smtp.settings import ServerSettings


class Talk:
    """A session whose decisions are made at once.

    Recipients that start with `no` are refused; a mail is answered with `answers`, or 250 with its number; the
    password of everybody is `secret`.
    """

    def __init__(self, settings: ServerSettings | None = None, *, tls: bool = False, xclient: bool = False) -> None:
        self.settings = settings or ServerSettings()
        self.protocol = ServerProtocol(self.settings, tls=tls, xclient=xclient)
        self.events: list[Event] = []
        self.mails: list[MessageReceived] = []
        self.answers: list[Reply] = []
        self.greeting = self.protocol.data_to_send()

    def say(self, data: bytes | str) -> bytes:
        """Send raw octets (or one line) and decide on all that is asked; the output."""
        raw = data if isinstance(data, bytes) else data.encode() + b"\r\n"
        events = self.protocol.receive_data(raw)
        while events:
            self.events += events
            events = self._decide(events[-1])
        return self.protocol.data_to_send()

    def _decide(self, event: Event) -> list[Event]:
        if isinstance(event, MailFrom):
            return self.protocol.reply(SENDER_OK)
        if isinstance(event, RcptTo):
            refused = event.address.startswith("no")
            return self.protocol.reply(Reply(550, "5.1.1", "unknown recipient") if refused else RECIPIENT_OK)
        if isinstance(event, MessageReceived):
            self.mails.append(event)
            number = len(self.mails)
            count = len(event.recipients) if self.settings.lmtp else 1
            return self.protocol.reply(*(self.answers or [Reply(250, "2.0.0", f"{number} stored")] * count))
        if isinstance(event, Login):
            return self.protocol.reply(LOGGED_IN if event.password == "secret" else WRONG_LOGIN)
        if isinstance(event, XClient):
            return self.protocol.reply(OK)
        return []

    def hello(self) -> Talk:
        self.say("LHLO client.example" if self.settings.lmtp else "EHLO client.example")
        return self

    def transaction(self, *recipients: str) -> Talk:
        """MAIL, and RCPT for each recipient."""
        self.say("MAIL FROM:<ann@example.com>")
        for recipient in recipients or ("order@example.org",):
            self.say(f"RCPT TO:<{recipient}>")
        return self

    @property
    def body(self) -> bytes:
        return b"".join(self.mails[-1].body)


@pytest.fixture
def talk() -> Callable[..., Talk]:
    """Start a talk: `talk(lmtp=True, max_errors=3)`; `tls` and `xclient` are the session's."""

    def start(tls: bool = False, xclient: bool = False, **settings: object) -> Talk:
        record = ServerSettings(**settings)  # type: ignore[arg-type]  # keywords of a frozen record
        return Talk(record, tls=tls, xclient=xclient)

    return start
