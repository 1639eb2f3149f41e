"""One receiving session without its bytes: commands and decisions move it, replies and events come out.

`server.ServerProtocol` cuts the input into lines and content and is what others use.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from monsal.errors import UsageError
from monsal.smtp import commands, replies
from monsal.smtp.content import ContentReader
from monsal.smtp.events import Closing, Event, Hello, MailFrom, MessageDiscarded, MessageReceived, Quit, Reset
from monsal.smtp.replies import Reply
from monsal.smtp.settings import ServerSettings
from monsal.smtp.states import ASKED_STATES, TRANSITIONS, Input, SessionState

__all__: list[str] = []

_NO_UTF8: Final = Reply(555, "5.5.4", "SMTPUTF8 not offered")
_WITHOUT_ARGUMENT: Final = frozenset({Input.RSET, Input.QUIT})
_WITH_ARGUMENT: Final = frozenset({Input.VRFY, Input.EXPN})
_SIMPLE: Final = {
    Input.RSET: replies.OK,
    Input.NOOP: replies.OK,
    Input.VRFY: replies.CANNOT_VERIFY,
    Input.EXPN: replies.NOT_IMPLEMENTED,
    Input.HELP: replies.HELP,
}


@lru_cache(maxsize=256)
def _wire(reply: Reply) -> bytes:
    """The reply's octets; cached, because a server says few different things."""
    return reply.to_bytes()


@lru_cache(maxsize=16)
def _greeting(settings: ServerSettings) -> bytes:
    return Reply(220, None, f"{settings.hostname} {'LMTP' if settings.lmtp else 'ESMTP'} monsal").to_bytes()


@lru_cache(maxsize=16)
def _hello_reply(settings: ServerSettings, extended: bool) -> bytes:
    """The reply to HELO, EHLO and LHLO; it has no enhanced codes (RFC 2034, section 4)."""
    offers = ["PIPELINING", f"SIZE {settings.max_message_size}", "8BITMIME", "ENHANCEDSTATUSCODES"]
    if settings.smtputf8:
        offers.append("SMTPUTF8")
    return Reply(250, None, (settings.hostname, *offers) if extended else settings.hostname).to_bytes()


_START_MAIL_INPUT: Final = replies.START_MAIL_INPUT.to_bytes()


class _Transaction:
    """A mail between its MAIL and the answer to its content; `asked` is the recipient to be decided on."""

    __slots__ = ("asked", "mail", "recipients")

    def __init__(self, mail: MailFrom) -> None:
        self.mail = mail
        self.recipients: list[str] = []
        self.asked = ""


class Session:
    """The state, the transaction and the counters of one connection.

    `out` and `events` gather what is to be sent and told until the caller takes them.
    """

    __slots__ = (
        "_errors",
        "_junk",
        "_refusal",
        "_refusals",
        "_transaction",
        "_transactions",
        "_unknown",
        "_verbs",
        "content",
        "events",
        "hello",
        "out",
        "settings",
        "state",
    )

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.state = SessionState.CONNECTED
        self.out = [_greeting(settings)]
        self.events: list[Event] = []
        self.hello: Hello | None = None
        self.content: ContentReader | None = None
        self._verbs = commands.LMTP_VERBS if settings.lmtp else commands.SMTP_VERBS
        self._transaction: _Transaction | None = None
        self._refusal = replies.MESSAGE_TOO_BIG
        self._errors = self._unknown = self._refusals = self._junk = self._transactions = 0

    # Commands.

    def command(self, line: bytes) -> None:
        """Do one command line, given without its CRLF."""
        word, _, rest = line.partition(b" ")
        verb = self._verbs.get(word)
        if verb is None:
            word = word.rstrip(b"\t").upper()
            verb = self._verbs.get(word)
            if verb is None:
                self._unknown_command(word, line)
                return
        following = TRANSITIONS[self.state][verb]
        if isinstance(following, Reply):
            self._out_of_sequence(verb, following)
        elif verb is Input.RCPT:
            self._rcpt(rest, following)
        elif verb is Input.MAIL:
            self._mail(rest, following)
        elif verb is Input.DATA:
            self._data(rest, following)
        else:
            text = commands.decode_line(rest)
            if isinstance(text, Reply):
                self.fail(text)
            elif verb is Input.HELLO:
                self._greet(word != b"HELO", text, following)
            else:
                self._simple(verb, text, following)

    def _out_of_sequence(self, verb: Input, reply: Reply) -> None:
        if verb is Input.MAIL:
            self.fail(reply)
        else:
            # A pipelining client sends RCPT and DATA before it can know that MAIL or RCPT was refused (RFC 2920).
            self._refuse(reply)

    def _unknown_command(self, word: bytes, line: bytes) -> None:
        text = commands.decode_line(line)
        if word in commands.FOREIGN_VERBS:
            self.end_because(replies.NOT_SMTP)
            return
        if isinstance(text, Reply):
            self.fail(text)
        else:
            self.fail(replies.NOT_IMPLEMENTED if word in commands.NOT_OFFERED else replies.UNKNOWN_COMMAND)
        self._unknown += 1
        if self._unknown >= self.settings.max_unknown_commands:
            self.end_because(replies.TOO_MANY_ERRORS)

    def _greet(self, extended: bool, argument: str, following: SessionState) -> None:
        name = commands.parse_hello(argument)
        if isinstance(name, Reply):
            self.fail(name)
            return
        self.hello = Hello(name, extended)
        self._transaction = None
        self.out.append(_hello_reply(self.settings, extended))
        self.events.append(self.hello)
        self.state = following
        self._count_junk()

    def _mail(self, argument: bytes, following: SessionState) -> None:
        settings = self.settings
        mail = commands.parse_mail(argument, self.hello is not None and self.hello.extended)
        if isinstance(mail, Reply):
            self.fail(mail)
        elif mail.smtputf8 and not settings.smtputf8:
            self.fail(_NO_UTF8)
        elif mail.size is not None and mail.size > settings.max_message_size:
            self._refuse(replies.MESSAGE_TOO_BIG)
        elif self._transactions >= settings.max_transactions:
            self.end_because(replies.TOO_MANY_TRANSACTIONS)
        else:
            self._transactions += 1
            self._transaction = _Transaction(mail)
            self.events.append(mail)
            self.state = following

    def _rcpt(self, argument: bytes, following: SessionState) -> None:
        transaction = self._transaction
        if transaction is None:
            raise AssertionError("RCPT is possible only within a transaction")
        rcpt = commands.parse_rcpt(argument, transaction.mail.smtputf8)
        if isinstance(rcpt, Reply):
            self.fail(rcpt)
        elif len(transaction.recipients) >= self.settings.max_recipients:
            self._refuse(replies.TOO_MANY_RECIPIENTS)
        else:
            transaction.asked = rcpt.address
            self.events.append(rcpt)
            self.state = following

    def _data(self, argument: bytes, following: SessionState) -> None:
        if argument.strip(b" \t"):
            self.fail(replies.BAD_SYNTAX)
            return
        self.content = ContentReader(self.settings.max_message_size)
        self.out.append(_START_MAIL_INPUT)
        self.state = following

    def _simple(self, verb: Input, argument: str, following: SessionState) -> None:
        if verb in (_WITHOUT_ARGUMENT if argument else _WITH_ARGUMENT):
            self.fail(replies.BAD_SYNTAX)
            return
        if verb is Input.QUIT:
            self.out.append(_wire(replies.GOODBYE))
            self.events.append(Quit())
            self.end()
            return
        if verb is Input.RSET:
            self._transaction = None
            self.events.append(Reset())
        self.out.append(_wire(_SIMPLE[verb]))
        self.state = following
        self._count_junk()

    # Content.

    def content_read(self) -> bool:
        """Judge the content after more of it was read; whether it is at its end."""
        reader, transaction = self.content, self._transaction
        if reader is None or transaction is None:
            raise AssertionError("content is possible only within a transaction")
        settings = self.settings
        if not reader.kept:
            self.discard(replies.MESSAGE_TOO_BIG)
        if reader.size > settings.max_message_size + settings.max_discarded:
            self._answer_discarded(transaction, reader.size)
            self.events.append(Closing(replies.MESSAGE_TOO_BIG))
            self.end()
            return False
        if not reader.ended:
            return False
        self.content = None
        if self.state is SessionState.DISCARDING:
            self._answer_discarded(transaction, reader.size)
            self._transaction = None
        else:
            sender, recipients = transaction.mail.address, tuple(transaction.recipients)
            self.events.append(MessageReceived(sender, recipients, reader.take(), reader.size))
        self._move(Input.END)
        return True

    def discard(self, reply: Reply) -> None:
        """Keep nothing of the mail being read; its answer will be `reply`."""
        if self.state is SessionState.CONTENT and self.content is not None:
            self.content.discard()
            self._refusal = reply
            self._move(Input.DISCARD)

    def _answer_discarded(self, transaction: _Transaction, size: int) -> None:
        """552 for what was too big (RFC 1870, section 6.3); LMTP says it once per recipient."""
        reply = replies.MESSAGE_TOO_BIG if size > self.settings.max_message_size else self._refusal
        recipients = tuple(transaction.recipients)
        self.out.append(_wire(reply) * (len(recipients) if self.settings.lmtp else 1))
        self.events.append(MessageDiscarded(transaction.mail.address, recipients, size, reply))

    # Decisions.

    def decide(self, answers: tuple[Reply, ...]) -> None:
        """Answer the event that awaits it; see `ServerProtocol.reply`."""
        state, transaction = self.state, self._transaction
        if state not in ASKED_STATES or transaction is None:
            raise UsageError(f"no decision is awaited in state {state.name}")
        whole = state is SessionState.MESSAGE_ASKED
        if len(answers) != (len(transaction.recipients) if whole and self.settings.lmtp else 1):
            raise UsageError(f"{len(answers)} answers, but one for each question is needed")
        if whole:
            self.out += [answer.to_bytes() for answer in answers]
            accepted = any(answer.is_positive for answer in answers)
            self._transaction = None
            if accepted:
                self._errors = self._unknown = self._refusals = self._junk = 0
        else:
            self.out.append(_wire(answers[0]))
            accepted = answers[0].is_positive
            if accepted and state is not SessionState.MAIL_ASKED:
                transaction.recipients.append(transaction.asked)
        self._move(Input.ACCEPT if accepted else Input.REFUSE)
        if answers[-1].code == 421:
            self.end()
        elif not accepted:
            self._count_refusal()

    # Moving, counting, ending.

    def _move(self, given: Input) -> None:
        following = TRANSITIONS[self.state][given]
        if isinstance(following, Reply):
            raise AssertionError(f"{given.name} was not asked for in state {self.state.name}")
        self.state = following

    def fail(self, reply: Reply) -> None:
        """Refuse a command that is wrong in itself."""
        self.out.append(_wire(reply))
        self._errors += 1
        if self._errors >= self.settings.max_errors:
            self.end_because(replies.TOO_MANY_ERRORS)

    def _refuse(self, reply: Reply) -> None:
        """Refuse a command that is right in itself."""
        self.out.append(_wire(reply))
        self._count_refusal()

    def _count_refusal(self) -> None:
        self._refusals += 1
        if self._refusals >= self.settings.max_refusals:
            self.end_because(replies.TOO_MANY_ERRORS)

    def _count_junk(self) -> None:
        self._junk += 1
        if self._junk >= self.settings.max_junk_commands:
            self.end_because(replies.TOO_MANY_ERRORS)

    def end_because(self, reply: Reply) -> None:
        """End the session for a reason of ours, unless it is ended already."""
        if self.state is not SessionState.CLOSED:
            self.out.append(_wire(reply))
            self.events.append(Closing(reply))
            self.end()

    def end(self) -> None:
        """Forget all that was held; what is in the output still leaves."""
        if self.state is not SessionState.CLOSED:
            self._move(Input.CLOSE)
        self.content = self._transaction = None
