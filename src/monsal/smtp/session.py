"""One receiving session without its bytes: commands and decisions move it, replies and events come out.

`server.ServerProtocol` cuts the input into lines and content and is what others use.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from monsal.errors import UsageError
from monsal.smtp import commands, replies
from monsal.smtp.content import ContentReader
from monsal.smtp.events import (
    Closing,
    Hello,
    MailFrom,
    MessageDiscarded,
    MessageReceived,
    Opening,
    Quit,
    RcptTo,
    Reset,
)
from monsal.smtp.ground import to_wire
from monsal.smtp.guest import ASKED_OF_GUEST, Guest
from monsal.smtp.replies import Reply
from monsal.smtp.sasl import MECHANISMS
from monsal.smtp.settings import ServerSettings
from monsal.smtp.states import ASKED_STATES, TRANSITIONS, Input, SessionState
from monsal.smtp.xclient import OFFER

__all__: list[str] = []

# Looked up once: to ask an Enum for its member costs 0.15 us in Python 3.11, and there are twenty of them in each mail.
_RCPT: Final = Input.RCPT
_MAIL: Final = Input.MAIL
_DATA: Final = Input.DATA
_ACCEPT: Final = Input.ACCEPT
_END: Final = Input.END
_CONTENT: Final = SessionState.CONTENT
_MAIL_ASKED: Final = SessionState.MAIL_ASKED
_MESSAGE_ASKED: Final = SessionState.MESSAGE_ASKED
_DISCARDING: Final = SessionState.DISCARDING

_NO_UTF8: Final = Reply(555, "5.5.4", "SMTPUTF8 not offered")
_WITHOUT_ARGUMENT: Final = frozenset({Input.RSET, Input.QUIT, Input.STARTTLS})
#: A chunk of fewer octets, not the last, is junk: by such a client could stay for ever.
_SMALL_CHUNK: Final = 1024
_WITH_ARGUMENT: Final = frozenset({Input.VRFY, Input.EXPN})
_SIMPLE: Final = {
    Input.RSET: replies.OK,
    Input.NOOP: replies.OK,
    Input.VRFY: replies.CANNOT_VERIFY,
    Input.EXPN: replies.NOT_IMPLEMENTED,
    Input.HELP: replies.HELP,
}


@lru_cache(maxsize=64)
def _hello_reply(settings: ServerSettings, extended: bool, tls: bool, xclient: bool) -> bytes:
    """The reply to HELO, EHLO and LHLO; it has no enhanced codes (RFC 2034, section 4)."""
    if not extended:
        return Reply(250, None, settings.hostname).to_bytes()
    offers = ["PIPELINING", f"SIZE {settings.max_message_size}", "8BITMIME", "ENHANCEDSTATUSCODES"]
    if settings.smtputf8:
        offers.append("SMTPUTF8")
    if settings.chunking:
        offers += ["CHUNKING", "BINARYMIME"]
    if settings.starttls and not tls:
        offers.append("STARTTLS")
    if settings.auth and tls:
        offers.append(f"AUTH {' '.join(MECHANISMS)}")
    if xclient:
        offers.append(OFFER)
    return Reply(250, None, (settings.hostname, *offers)).to_bytes()


_READING: Final = frozenset({SessionState.CONTENT, SessionState.CHUNK, SessionState.CHUNKED})
_START_MAIL_INPUT: Final = replies.START_MAIL_INPUT.to_bytes()
_OPENED: Final = replies.SENDER_OK.to_bytes() + replies.RECIPIENT_OK.to_bytes() + _START_MAIL_INPUT


class _Transaction(msgspec.Struct, eq=False):
    """A mail between its MAIL and the answer to its content; `asked` is the recipient to be decided on."""

    sender: str
    recipients: list[str]
    body: str | None = None
    smtputf8: bool = False
    asked: str = ""


class Session(Guest):
    """The mails of one connection, on the ground of what is known of its client.

    `skip` is the number of octets to come that are no command, because they belong to a chunk that nobody wants.
    """

    __slots__ = (
        "_chunk_last",
        "_chunk_left",
        "_refusal",
        "_transaction",
        "_transactions",
        "_verbs",
        "content",
        "skip",
    )

    def __init__(self, settings: ServerSettings, *, tls: bool = False, xclient: bool = False) -> None:
        super().__init__(settings, tls=tls, xclient=xclient)
        self.content: ContentReader | None = None
        self.skip = 0
        self._verbs = commands.LMTP_VERBS if settings.lmtp else commands.SMTP_VERBS
        self._transaction: _Transaction | None = None
        self._transactions = 0
        self._refusal = replies.MESSAGE_TOO_BIG
        self._chunk_left = 0
        self._chunk_last = False

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
        # `isinstance` is quick where it is true and slow with a Struct where it is not, so the usual case is asked for.
        if not isinstance(following, SessionState):
            self._out_of_sequence(verb, following, rest)
        elif verb is _RCPT:
            self._rcpt(rest, following)
        elif verb is _MAIL:
            self._mail(rest, following)
        elif verb is _DATA:
            self._data(rest, following)
        elif verb is Input.BDAT:
            self._chunk(rest, following)
        elif verb is Input.XCLIENT:
            self._speak_for(rest, following)
        else:
            text = commands.decode_line(rest)
            if isinstance(text, Reply):
                self.fail(text)
            elif verb is Input.HELLO:
                self._greet(word != b"HELO", text, following)
            elif verb is Input.AUTH:
                self._start_login(text, following)
            else:
                self._simple(verb, text, following)

    def _out_of_sequence(self, verb: Input, reply: Reply, argument: bytes) -> None:
        if verb is Input.BDAT:
            self._refuse_chunk(argument, reply)
        elif verb is Input.MAIL:
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
        self._transaction = self.content = None
        self.out.append(_hello_reply(self.settings, extended, self.tls, self._xclient))
        self.events.append(self.hello)
        self.state = following
        self._count_junk()

    def _mail(self, argument: bytes, following: SessionState) -> None:
        settings = self.settings
        mail = commands.parse_mail(argument, self.hello is not None and self.hello.extended)
        if not isinstance(mail, MailFrom):
            self.fail(mail)
        elif mail.params and (refusal := self._not_offered(mail)) is not None:
            self.fail(refusal)
        elif mail.size is not None and mail.size > settings.max_message_size:
            self._refuse(replies.MESSAGE_TOO_BIG)
        elif self._transactions >= settings.max_transactions:
            self.end_because(replies.TOO_MANY_TRANSACTIONS)
        else:
            self._transactions += 1
            self._transaction = _Transaction(mail.address, [], mail.body, mail.smtputf8)
            self.events.append(mail)
            self.state = following

    def _not_offered(self, mail: MailFrom) -> Reply | None:
        """The reply to parameters that belong to an extension that is not offered."""
        settings = self.settings
        if mail.smtputf8 and not settings.smtputf8:
            return _NO_UTF8
        if mail.body == "BINARYMIME" and not settings.chunking:
            return replies.BAD_BODY_TYPE
        if settings.auth and self.tls:
            return None
        for keyword, _ in mail.params:
            if keyword == "AUTH":
                return replies.BAD_PARAMETERS
        return None

    def _rcpt(self, argument: bytes, following: SessionState) -> None:
        transaction = self._transaction
        if transaction is None:
            raise AssertionError("RCPT is possible only within a transaction")
        rcpt = commands.parse_rcpt(argument, transaction.smtputf8)
        if not isinstance(rcpt, RcptTo):
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
        if self._transaction is not None and self._transaction.body == "BINARYMIME":
            self.fail(replies.BINARY_NEEDS_BDAT)
            return
        self.content = ContentReader(self.settings.max_message_size)
        self.out.append(_START_MAIL_INPUT)
        self.state = following

    def opening(self, data: bytes) -> Opening | None:
        """MAIL, RCPT and DATA in `data`, if a session that is READY has no reason of its own to refuse one of them."""
        hello = self.hello
        opening = commands.parse_opening(data) if hello is not None and hello.extended else None
        if opening is None or opening.size > self.settings.max_message_size:
            return None
        return opening if self._transactions < self.settings.max_transactions else None

    def open(self, opening: Opening) -> None:
        """Say yes to all three."""
        self._transactions += 1
        self._transaction = _Transaction(opening.sender, [opening.recipient])
        self.content = ContentReader(self.settings.max_message_size)
        self.out.append(_OPENED)
        self.state = _CONTENT

    def _simple(self, verb: Input, argument: str, following: SessionState) -> None:
        if verb in (_WITHOUT_ARGUMENT if argument else _WITH_ARGUMENT):
            self.fail(replies.BAD_SYNTAX)
            return
        if verb is Input.QUIT:
            self.out.append(to_wire(replies.GOODBYE))
            self.events.append(Quit())
            self.end()
            return
        if verb is Input.STARTTLS:
            self._start_tls(following)
            return
        if verb is Input.RSET:
            self._transaction = self.content = None
            self.events.append(Reset())
        self.out.append(to_wire(_SIMPLE[verb]))
        self.state = following
        self._count_junk()

    # Chunks (RFC 3030).

    def _chunk(self, argument: bytes, following: SessionState) -> None:
        settings, transaction = self.settings, self._transaction
        if transaction is None:
            raise AssertionError("BDAT is possible only within a transaction")
        if not settings.chunking:
            self._refuse_chunk(argument, replies.NOT_IMPLEMENTED)
            return
        size = self._size_of(argument, 0 if self.content is None else self.content.size)
        if size is None:
            return
        if self.content is None:
            self.content = ContentReader(settings.max_message_size)
        self._chunk_left = size
        self.state = following
        if self.content.size + size > settings.max_message_size:
            self.discard(replies.MESSAGE_TOO_BIG)
        elif not self.content.kept:
            self._move(Input.DISCARD)
        if not size:
            self._end_chunk(self.content)

    def _size_of(self, argument: bytes, before: int) -> int | None:
        """The size of a chunk that comes after `before` octets; None if the session ends.

        Where a chunk of unknown size ends nobody knows, and its octets must never be read as commands.
        """
        parsed = commands.parse_chunk(argument)
        if isinstance(parsed, Reply):
            self.end_because(parsed)
            return None
        size, self._chunk_last = parsed
        if before + size > self.settings.max_message_size + self.settings.max_discarded:
            self.end_because(replies.MESSAGE_TOO_BIG)
            return None
        return size

    def _refuse_chunk(self, argument: bytes, reply: Reply) -> None:
        """Refuse BDAT, and read over the octets that follow it all the same: the client may have sent them already."""
        size = self._size_of(argument, 0)
        if size is not None:
            self._refuse(reply)
            if self.state is not SessionState.CLOSED:
                self.skip = size

    def read_chunk(self, data: bytes, start: int) -> int:
        """Read octets of a chunk; the position of the first that does not belong to it."""
        reader = self.content
        if reader is None:
            raise AssertionError("a chunk is possible only within a transaction")
        stop = min(len(data), start + self._chunk_left)
        self._chunk_left -= stop - start
        reader.add(data[start:stop])
        if not self._chunk_left:
            self._end_chunk(reader)
        return stop

    def _end_chunk(self, reader: ContentReader) -> None:
        transaction = self._transaction
        if transaction is None:
            raise AssertionError("a chunk is possible only within a transaction")
        if self.state is SessionState.SKIPPING:
            self._answer_discarded(transaction, reader.size, each=self.settings.lmtp and self._chunk_last)
            self.content = self._transaction = None
            self._move(Input.END)
        elif self._chunk_last:
            self._message(transaction, reader)
            self._move(Input.END)
        else:
            self.out.append(Reply(250, "2.0.0", f"{reader.size} octets so far").to_bytes())
            self._move(Input.MORE)
            if reader.stored < _SMALL_CHUNK:
                self._count_junk()

    # Content.

    def read_whole(self, data: bytes) -> int:
        """Read a content that came in one piece; the position after it, or 0 and nothing is done if it did not."""
        reader, transaction = self.content, self._transaction
        if reader is None or transaction is None or not reader.is_fresh:
            return 0
        found = reader.whole(data, self.settings.max_message_size)
        if found is None:
            return 0
        content, following = found
        self.events.append(MessageReceived(transaction.sender, tuple(transaction.recipients), (content,), len(content)))
        self.content = None
        self.state = _MESSAGE_ASKED
        return following

    def content_read(self) -> bool:
        """Judge the content after more of it was read; whether it is at its end."""
        reader, transaction = self.content, self._transaction
        if reader is None or transaction is None:
            raise AssertionError("content is possible only within a transaction")
        settings = self.settings
        if not reader.kept:
            self.discard(replies.MESSAGE_TOO_BIG)
        limit = settings.max_message_size + settings.max_discarded
        if reader.size > limit:
            # Told as the first octet too many, wherever the pieces were cut.
            self._answer_discarded(transaction, limit + 1, each=settings.lmtp)
            self.events.append(Closing(replies.MESSAGE_TOO_BIG))
            self.end()
            return False
        if not reader.ended:
            return False
        if self.state is _DISCARDING:
            self._answer_discarded(transaction, reader.size, each=settings.lmtp)
            self.content = self._transaction = None
        else:
            self._message(transaction, reader)
        self._move(_END)
        return True

    def _message(self, transaction: _Transaction, reader: ContentReader) -> None:
        sender, recipients = transaction.sender, tuple(transaction.recipients)
        self.events.append(MessageReceived(sender, recipients, reader.take(), reader.size))
        self.content = None

    def discard(self, reply: Reply) -> None:
        """Keep nothing of the mail being read; its answer will be `reply`, between chunks that to the next one."""
        if self.content is not None and self.state in _READING:
            self.content.discard()
            self._refusal = reply
            if self.state is not SessionState.CHUNKED:
                self._move(Input.DISCARD)

    def _answer_discarded(self, transaction: _Transaction, size: int, *, each: bool) -> None:
        """552 for what was too big (RFC 1870, section 6.3); LMTP says it once per recipient."""
        reply = replies.MESSAGE_TOO_BIG if size > self.settings.max_message_size else self._refusal
        recipients = tuple(transaction.recipients)
        self.out.append(to_wire(reply) * (len(recipients) if each else 1))
        self.events.append(MessageDiscarded(transaction.sender, recipients, size, reply))

    # Decisions.

    def decide(self, answers: tuple[Reply, ...]) -> None:
        """Answer the event that awaits it; see `ServerProtocol.reply`."""
        state, transaction = self.state, self._transaction
        if transaction is None and len(answers) == 1 and state in ASKED_OF_GUEST:
            self._decide_on_guest(answers[0])
            return
        if state not in ASKED_STATES or transaction is None:
            raise UsageError(f"no decision is awaited in state {state.name}")
        whole = state is _MESSAGE_ASKED
        if len(answers) != (len(transaction.recipients) if whole and self.settings.lmtp else 1):
            raise UsageError(f"{len(answers)} answers, but one for each question is needed")
        if whole:
            self.out.extend(map(Reply.to_bytes, answers))
            accepted = answers[0].is_positive or any(answer.is_positive for answer in answers)
            self._transaction = None
            if accepted:
                self._errors = self._unknown = self._refusals = self._junk = 0
        else:
            self.out.append(to_wire(answers[0]))
            accepted = answers[0].is_positive
            if accepted and state is not _MAIL_ASKED:
                transaction.recipients.append(transaction.asked)
        self._move(_ACCEPT if accepted else Input.REFUSE)
        if answers[-1].code == 421:
            self.end()
        elif not accepted:
            self._count_refusal()

    def end(self) -> None:
        """Forget all that was held; what is in the output still leaves."""
        super().end()
        self.content = self._transaction = None
