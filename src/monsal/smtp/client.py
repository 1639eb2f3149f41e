"""The sending side of SMTP (RFC 5321) and LMTP (RFC 2033), without a socket or a clock.

`ClientProtocol` is fed with the peer's bytes and with mail transactions; it gives bytes to send and events. What a
reply means depends on the command it answers and on its class, and is written in one place: `dialogue.TABLE`.

Pipelining (RFC 2920): with a peer that offers it, MAIL, all RCPT and DATA of a transaction leave in one write, and
those of the next one right behind the final dot of this one. So a mail costs one round trip, and at most two
transactions are open: one whose content waits for its reply, one whose envelope does.

Decisions about what RFCs leave open or make hard:

- *8-bit content, peer without 8BITMIME.* It is not sent: stage `8bit`. RFC 6152 wants it converted or refused; the
  bytes of a mail were fixed at commit (P2), and conversion breaks signatures. What comes in pieces is not known to be
  8-bit and goes as it is.
- *Non-ASCII address, peer without SMTPUTF8.* It is not sent (RFC 6531, section 3.2 forbids it); the recipient, or all
  of them if it is the sender's address, end in stage `utf8`.
- *Larger than the peer's SIZE.* Not sent either; stage `size`.
- *421* answers nothing and ends everything: the connection is given up.
- *A reply behind the 354*, before the peer has any of the content, answers nothing either: it is a breach.
- *STARTTLS.* What the peer said before the handshake counts for nothing afterwards, and it may have said nothing
  behind its 220: that would be somebody else's (RFC 3207, section 6).
- *AUTH* is PLAIN (RFC 4616), or LOGIN where that is all there is. It is never sent over a connection that others hear.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import deque
from typing import Any, Final

from monsal.errors import ProtocolError
from monsal.smtp.dialogue import ANSWERS, TABLE, Answer, Awaited
from monsal.smtp.progress import Progress
from monsal.smtp.replies import Reply
from monsal.smtp.reply_parser import ReplyParser
from monsal.smtp.stuffing import DotStuffer
from monsal.smtp.transaction import (
    BodyWanted,
    ClientEvent,
    ClientReady,
    ClientSettings,
    ConnectionGivenUp,
    RecipientResult,
    TlsWanted,
    Transaction,
    TransactionDone,
)

__all__ = ["ClientProtocol"]

# Looked up once: to ask an Enum for its member costs 0.15 us in Python 3.11.
_MAIL: Final = Awaited.MAIL
_RCPT: Final = Awaited.RCPT
_DATA: Final = Awaited.DATA
_BODY: Final = Awaited.BODY

#: What must not stand in an address on the wire: it would end the command, or has no UTF-8.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class ClientProtocol:
    """One connection to a peer that takes mail.

    Order of use: send `data_to_send` whenever anything was called; give what arrives to `receive_data`; after
    `ClientReady`, and as long as `wants_mail`, give transactions to `send`; at last `quit`. When the connection ends
    or a deadline passed, call `lost`. None of them raises because of the peer: a malformed or impossible reply ends
    in `ConnectionGivenUp` with a ProtocolError, after the events of what was right before it.
    """

    def __init__(self, settings: ClientSettings | None = None) -> None:
        self._settings = settings or ClientSettings()
        self._parser = ReplyParser(max_line=self._settings.max_line, max_lines=self._settings.max_lines)
        self._extensions: dict[str, str] = {}
        self._pipelining = False
        self._size_limit = 0
        self._ready = False
        self._closed = False
        self._secured = self._settings.secured
        self._over_tls = False
        self._answers: list[str] = []  # to the challenges of AUTH LOGIN
        self._awaited: deque[tuple[Awaited, Progress | None, int]] = deque([(Awaited.GREETING, None, -1)])
        self._open: list[Progress] = []  # at most two, in order
        self._envelope: Progress | None = None  # the last one of them, until its content is written
        self._holding: Progress | None = None  # the same, when the peer waits for content that is held
        self._stuffer: DotStuffer | None = None  # while content comes in pieces
        self._output: list[bytes] = []
        self._events: list[ClientEvent] = []

    # What the shell asks

    @property
    def awaits(self) -> Awaited | None:
        """What the next reply answers; None if none is due. The shell's deadlines depend on it."""
        return self._awaited[0][0] if self._awaited else None

    @property
    def wants_mail(self) -> bool:
        """Whether `send` may be called now."""
        return self._ready and self._envelope is None and (self._pipelining or not self._awaited)

    @property
    def idle(self) -> bool:
        """Whether the connection is ready and nothing is under way."""
        return self._ready and not self._awaited and self._envelope is None

    @property
    def streaming(self) -> bool:
        """Whether pieces of content are expected from us."""
        return self._stuffer is not None

    @property
    def holding(self) -> bool:
        """Whether the peer waits for content that we hold back."""
        return self._holding is not None

    @property
    def closed(self) -> bool:
        """Whether the last event was given."""
        return self._closed

    def data_to_send(self) -> bytes:
        """What is to be sent now; empty if nothing is. It is handed out once."""
        output = self._output
        if len(output) == 1:
            data = output[0]
        else:
            data = b"".join(output)
        output.clear()
        return data

    # What happens outside

    def receive_data(self, data: bytes) -> list[ClientEvent]:
        """Take bytes from the peer; what follows from them, in order."""
        if self._closed:
            return []
        self._parser.feed(data)
        try:
            while not self._closed and (reply := self._parser.next_reply()) is not None:
                self._answered(reply)
        except ProtocolError as error:
            self._give_up(f"the peer broke the protocol: {error}", error=error)
        return self._take_events()

    def tls_started(self) -> None:
        """The handshake after `TlsWanted` is made: begin anew (RFC 3207, section 4.2)."""
        if self._closed:
            return
        self._secured = self._over_tls = True
        self._extensions.clear()
        self._command(f"{'LHLO' if self._settings.lmtp else 'EHLO'} {self._settings.hello}", Awaited.EHLO)

    def lost(self, reason: str = "the peer closed the connection") -> list[ClientEvent]:
        """The connection ended, or a deadline passed; the last events follow."""
        if not self._closed:
            self._give_up(reason, clean=self.awaits is Awaited.QUIT)
        return self._take_events()

    def send(self, transaction: Transaction) -> list[ClientEvent]:
        """Begin a transaction. It is over at once if nothing of it can be sent to this peer.

        Raises RuntimeError unless `wants_mail`.
        """
        if not self.wants_mail:
            raise RuntimeError("this connection takes no mail now")
        progress = Progress(transaction, [None] * len(transaction.recipients), transaction.held)
        parameters = self._check(progress)
        if parameters is None:
            self._events.append(TransactionDone(transaction, tuple(filter(None, progress.results))))
            return self._take_events()
        self._open.append(progress)
        self._envelope = progress
        commands = f"MAIL FROM:<{transaction.sender}>{parameters}\r\n"
        self._awaited.append((_MAIL, progress, -1))
        if self._pipelining:
            for number, recipient in enumerate(transaction.recipients):
                if progress.results[number] is None:
                    commands += f"RCPT TO:<{recipient}>\r\n"
                    self._awaited.append((_RCPT, progress, number))
            commands += "DATA\r\n"
            self._awaited.append((_DATA, progress, -1))
        self._output.append(commands.encode())
        return self._take_events()

    def send_body(self, data: bytes) -> None:
        """Send the next piece of the content. Raises RuntimeError unless `streaming`."""
        if self._stuffer is None:
            raise RuntimeError("no content is expected")
        self._output.append(self._stuffer.feed(data))

    def end_body(self) -> None:
        """Send the end of the content. Raises RuntimeError unless `streaming`."""
        if self._stuffer is None or self._envelope is None:
            raise RuntimeError("no content is expected")
        self._output.append(self._stuffer.finish())
        self._stuffer = None
        self._content_done(self._envelope)

    def release(self) -> None:
        """Let the content of a held transaction leave, now or when the peer wants it. Raises RuntimeError if there is
        none whose envelope is under way."""
        if self._envelope is None or not self._envelope.held:
            raise RuntimeError("no content is held")
        self._envelope.held = False
        holding, self._holding = self._holding, None
        if holding is not None:
            self._give_content(holding)

    def quit(self) -> None:
        """Take leave. Raises RuntimeError unless `idle`."""
        if not self.idle:
            raise RuntimeError("the connection is in use")
        self._ready = False
        self._command("QUIT", Awaited.QUIT)

    # What replies do (see dialogue.TABLE)

    def _answered(self, reply: Reply) -> None:
        answer = ANSWERS[reply.code]
        if not self._awaited:
            if answer is not Answer.BYE:
                raise ProtocolError(f"a reply to nothing: {reply}")
            self._turned_away(reply, None, -1)
            return
        awaited, progress, number = self._awaited.popleft()
        action = _ACTIONS.get((awaited, answer))
        if action is None:
            raise ProtocolError(f"no answer to {awaited.value}: {reply}")
        action(self, reply, progress, number)

    def _say_hello(self, reply: Reply, progress: None, number: int) -> None:
        self._command(f"{'LHLO' if self._settings.lmtp else 'EHLO'} {self._settings.hello}", Awaited.EHLO)

    def _fall_back(self, reply: Reply, progress: None, number: int) -> None:
        # RFC 5321 section 3.2: an old server does not know EHLO. There is no older LMTP.
        if self._settings.lmtp:
            self._turned_away(reply, progress, number)
        else:
            self._command(f"HELO {self._settings.hello}", Awaited.HELO)

    def _be_ready(self, reply: Reply, progress: None, number: int) -> None:
        for line in reply.lines[1:]:
            keyword, _, parameters = line.strip().partition(" ")
            self._extensions[keyword.upper()] = parameters.strip()
        self._pipelining = self._settings.pipelining and "PIPELINING" in self._extensions
        size = self._extensions.get("SIZE", "")
        # RFC 1870 allows 20 digits; 0 or nothing means that there is no fixed limit.
        self._size_limit = int(size) if size.isascii() and size.isdigit() and len(size) <= 20 else 0
        if self._settings.starttls != "off" and not self._over_tls:
            if "STARTTLS" in self._extensions:
                self._command("STARTTLS", Awaited.STARTTLS)
                return
            if self._settings.starttls == "require":
                self._refuse("the peer offers no STARTTLS, and nothing may be sent without it")
                return
        self._authenticate()

    def _shake_hands(self, reply: Reply, progress: None, number: int) -> None:
        if not self._parser.is_empty:
            raise ProtocolError("something was said between STARTTLS and the handshake")
        self._events.append(TlsWanted())

    def _go_on_in_clear(self, reply: Reply, progress: None, number: int) -> None:
        if self._settings.starttls == "require":
            self._refuse(f"STARTTLS refused: {reply}", reply)
        else:
            self._authenticate()

    def _authenticate(self) -> None:
        credentials = self._settings.credentials
        if credentials is None:
            self._enter()
            return
        mechanisms = self._extensions.get("AUTH", "").upper().split()
        if not self._secured:
            self._refuse("a password is not told to a peer without TLS")
        elif "PLAIN" in mechanisms:
            text = f"\0{credentials.username}\0{credentials.password}"
            self._command(f"AUTH PLAIN {_base64(text)}", Awaited.AUTH)
        elif "LOGIN" in mechanisms:
            self._answers = [_base64(credentials.username), _base64(credentials.password)]
            self._command("AUTH LOGIN", Awaited.AUTH)
        else:
            offered = " ".join(mechanisms) or "none"
            self._refuse(f"the peer takes neither AUTH PLAIN nor LOGIN (it offers {offered})")

    def _answer_challenge(self, reply: Reply, progress: None, number: int) -> None:
        if not self._answers:
            raise ProtocolError("the peer asks more than AUTH has answers for")
        self._command(self._answers.pop(0), Awaited.AUTH)

    def _authenticated(self, reply: Reply, progress: None, number: int) -> None:
        self._enter()

    def _not_authenticated(self, reply: Reply, progress: None, number: int) -> None:
        self._refuse(f"the name or password is refused: {reply}", reply)

    def _enter(self) -> None:
        self._ready = True
        self._events.append(ClientReady(dict(self._extensions)))

    def _refuse(self, reason: str, reply: Reply | None = None) -> None:
        """Take leave of a peer that nothing can be sent to."""
        self._output.append(b"QUIT\r\n")
        self._give_up(reason, reply=reply)

    def _sender_taken(self, reply: Reply, progress: Progress, number: int) -> None:
        progress.answered = progress.opened = True
        if not self._pipelining:
            self._step(progress)

    def _sender_refused(self, reply: Reply, progress: Progress, number: int) -> None:
        progress.answered = progress.refused = True
        progress.settle(RecipientResult("mail", reply))
        if not self._pipelining:
            self._finish(progress)

    def _recipient_taken(self, reply: Reply, progress: Progress, number: int) -> None:
        if progress.refused:
            # A lone dot would now deliver an empty mail.
            raise ProtocolError(f"MAIL refused, but RCPT taken: {reply}")
        progress.accepted.append(number)
        if not self._pipelining:
            self._step(progress)

    def _recipient_refused(self, reply: Reply, progress: Progress, number: int) -> None:
        if progress.results[number] is None:
            progress.results[number] = RecipientResult("rcpt", reply)
        if not self._pipelining:
            self._step(progress)

    def _send_content(self, reply: Reply, progress: Progress, number: int) -> None:
        if not progress.accepted:
            # RFC 2920 section 3.1: DATA may be taken though no recipient was; then a lone dot ends it. With LMTP
            # nobody would answer the dot, and RFC 2033 section 4.2 forbids the 354.
            if self._settings.lmtp:
                raise ProtocolError(f"no recipient was taken, but DATA was: {reply}")
            self._output.append(b".\r\n")
            self._awaited.append((Awaited.DOT, None, -1))
            self._finish(progress)
        elif progress.held:
            self._holding = progress
        elif (early := self._parser.next_reply()) is not None:
            # Taken for the answer to the content, of which the peer has nothing yet, it would be a false yes.
            self._holding = progress
            self._answered(early)
        else:
            self._give_content(progress)

    def _give_content(self, progress: Progress) -> None:
        if progress.transaction.body is None:
            self._stuffer = DotStuffer()
            self._events.append(BodyWanted(progress.transaction))
        else:
            stuffer = DotStuffer()
            self._output.append(stuffer.feed(progress.transaction.body))
            self._output.append(stuffer.finish())
            self._content_done(progress)

    def _content_unwanted(self, reply: Reply, progress: Progress, number: int) -> None:
        progress.settle(RecipientResult("data", reply))
        if progress.opened:
            self._command("RSET", Awaited.RSET)
        self._finish(progress)

    def _content_answered(self, reply: Reply, progress: Progress, number: int) -> None:
        result = RecipientResult("body", reply)
        if number >= 0:
            progress.results[number] = result
        else:
            progress.settle(result)
        if None not in progress.results:
            self._finish(progress)

    def _go_on(self, reply: Reply, progress: None, number: int) -> None:
        """The reply changes nothing."""

    def _turned_away(self, reply: Reply, progress: Progress | None, number: int) -> None:
        if not (self.streaming or self.holding):  # in the middle of the mail data it would be a part of them
            self._output.append(b"QUIT\r\n")  # RFC 5321 section 3.1: even who is not let in says goodbye
        self._give_up(str(reply), reply=reply)

    def _part(self, reply: Reply, progress: None, number: int) -> None:
        self._give_up(str(reply), reply=reply, clean=True)

    # Steps

    def _command(self, line: str, awaited: Awaited) -> None:
        self._output.append(f"{line}\r\n".encode())
        self._awaited.append((awaited, None, -1))

    def _check(self, progress: Progress) -> str | None:
        """Settle what cannot be sent; the parameters of MAIL, or None if nothing is left to send."""
        transaction = progress.transaction
        parameters = ""
        body = transaction.body
        size = len(body) if body is not None else transaction.size
        if self._size_limit and size > self._size_limit:
            progress.settle(RecipientResult("size", None, f"larger than the peer's {self._size_limit} octets"))
        if "SIZE" in self._extensions and size:
            parameters += f" SIZE={size}"
        if body is None or not body.isascii():
            if "8BITMIME" in self._extensions:
                parameters += " BODY=8BITMIME"
            elif body is not None:
                progress.settle(RecipientResult("8bit", None, "the peer takes no 8-bit content (RFC 6152)"))
        addresses = (transaction.sender, *transaction.recipients)
        # One look at all of them: nearly all mail goes on from here.
        together = "".join(addresses)
        if not (together.isascii() and together.isprintable()) and not self._check_addresses(progress, addresses):
            parameters = f"{parameters} SMTPUTF8"
        return None if None not in progress.results else parameters

    def _check_addresses(self, progress: Progress, addresses: tuple[str, ...]) -> bool:
        """Settle the recipients whose address, or whose sender's, cannot be sent; whether the others are plain."""
        utf8 = "SMTPUTF8" in self._extensions
        plain = True
        for number, address in enumerate(addresses, -1):
            if address.isascii() and address.isprintable():
                continue
            if _UNSAFE.search(address):
                result = RecipientResult("address", None, f"not a mail address: {address!r}")
            elif utf8:
                plain = False
                continue
            else:
                result = RecipientResult("utf8", None, f"the peer takes no internationalised address ({address})")
            if number < 0:
                progress.settle(result)
            elif progress.results[number] is None:
                progress.results[number] = result
        return plain

    def _step(self, progress: Progress) -> None:
        """In lock-step: the next command of the transaction."""
        for number in range(progress.next_recipient, len(progress.results)):
            if progress.results[number] is None:
                progress.next_recipient = number + 1
                self._output.append(f"RCPT TO:<{progress.transaction.recipients[number]}>\r\n".encode())
                self._awaited.append((_RCPT, progress, number))
                return
        progress.next_recipient = len(progress.results)
        if progress.accepted:
            self._output.append(b"DATA\r\n")
            self._awaited.append((_DATA, progress, -1))
        else:
            self._command("RSET", Awaited.RSET)
            self._finish(progress)

    def _content_done(self, progress: Progress) -> None:
        self._envelope = None
        if self._settings.lmtp:  # one reply for each recipient that was taken (RFC 2033, section 4.2)
            self._awaited.extend((_BODY, progress, number) for number in progress.accepted)
        else:
            self._awaited.append((_BODY, progress, -1))

    def _finish(self, progress: Progress) -> None:
        self._open.remove(progress)
        if self._envelope is progress:
            self._envelope = None
        self._events.append(TransactionDone(progress.transaction, tuple(filter(None, progress.results))))

    def _give_up(
        self, reason: str, *, reply: Reply | None = None, error: ProtocolError | None = None, clean: bool = False
    ) -> None:
        untouched = []
        for progress in list(self._open):
            if progress.answered:
                progress.settle(RecipientResult("lost", reply, reason))
                self._finish(progress)
            else:
                untouched.append(progress.transaction)
        self._open.clear()
        self._awaited.clear()
        self._envelope = self._holding = self._stuffer = None
        self._ready = False
        self._closed = True
        self._events.append(ConnectionGivenUp(reason, tuple(untouched), reply, error, clean))

    def _take_events(self) -> list[ClientEvent]:
        events, self._events = self._events, []
        return events


def _base64(text: str) -> str:
    return b64encode(text.encode("utf-8")).decode("ascii")


_ACTIONS: dict[tuple[Awaited, Answer], Any] = {key: getattr(ClientProtocol, name) for key, name in TABLE.items()}
