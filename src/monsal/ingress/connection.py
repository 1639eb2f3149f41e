"""One connection of a client: reads, feeds the session, asks the intake, writes once per turn of the loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, cast

from monsal.ingress.answers import Answer, ask_accepts, screen
from monsal.ingress.base import Screening
from monsal.ingress.handover import Handover
from monsal.ingress.house import House
from monsal.ingress.visitor import Visitor
from monsal.smtp.events import (
    Closing,
    Event,
    Login,
    MailFrom,
    MessageDiscarded,
    MessageReceived,
    Opening,
    Quit,
    RcptTo,
    StartTls,
    XClient,
)
from monsal.smtp.proxy import ProxyReader
from monsal.smtp.replies import (
    RECIPIENT_OK,
    SENDER_OK,
    SHUTTING_DOWN,
    TIMED_OUT,
    TOO_BUSY,
    Reply,
)
from monsal.smtp.states import ASKED_STATES, COMMAND_STATES, CONTENT_STATES, SessionState
from monsal.store.coming import Rhythm
from monsal.transport.address import display_address

__all__: list[str] = []

_log: Final = logging.getLogger("monsal.ingress")
#: A read of this many octets is one of many.
_LARGE: Final = 16 * 1024
#: One refused recipient of this many on a connection is logged, beginning with the first.
_REFUSALS_PER_LINE: Final = 10
_CONTENT: Final = SessionState.CONTENT
_CHUNKED: Final = frozenset({SessionState.CHUNK, SessionState.CHUNKED})
#: States in which content is taken into memory.
_KEEPING: Final = frozenset({SessionState.CONTENT, SessionState.CHUNK})
_BETWEEN_MAILS: Final = frozenset({SessionState.CONNECTED, SessionState.READY})


class Connection(Visitor):
    """A client. All of its state that the RFCs know is in its `ServerProtocol`."""

    __slots__ = (
        "_answered",
        "_born",
        "_choked",
        "_content",
        "_content_since",
        "_heard",
        "_linger",
        "_mails",
        "_paused",
        "_refused",
        "_resting",
        "_rhythm",
        "_sender",
    )

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._born = self._answered = self._heard = 0.0
        self._choked: float | None = None
        self._linger: float | None = None
        self._content = 0
        self._mails = self._refused = 0
        self._paused = self._resting = False
        self._content_since = 0.0
        self._sender = ""
        self._rhythm = Rhythm(house.coming)

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        house = self._house
        address = transport.get_extra_info("peername")
        self.peer = display_address(address or transport.get_extra_info("sockname") or "")
        self._born = self._answered = self._heard = house.loop.time()
        proxied = address in house.gate.proxy
        # A proxy is not counted: those for whom it speaks are.
        refusal = house.admit(self, None if proxied else address)
        if refusal is not None:
            self._turn_away(refusal)
            return
        transport.set_write_buffer_limits(high=house.settings.max_write_buffer)
        if proxied:
            self._proxy, self._front, self._shaking = ProxyReader(), True, self._born
        else:
            self._begin(address)

    def data_received(self, data: bytes) -> None:
        house, smtp = self._house, self._smtp
        if len(data) >= _LARGE:
            self._resting = True
            self._rhythm.left()
            self._steer()
            house.turns.wait(self, len(data))
        if smtp.closing:
            return
        self._heard = house.loop.time()
        house.counters.received += len(data)
        if self._front:
            data = self._through(data)
            if not data:
                return
            smtp = self._smtp
        opening = smtp.opening(data)
        if opening is not None:
            self._open(opening, data)
        else:
            if events := smtp.receive_data(data):
                self._act(events)
            if smtp.stored or self._content:
                self._account_content()
        self._flush()

    def eof_received(self) -> bool:
        self._silent = True
        self._smtp.receive_eof()
        self._flush()
        return not self._smtp.closing

    def pause_writing(self) -> None:
        self._choked = self._house.loop.time()
        self._steer()

    def resume_writing(self) -> None:
        self._choked = None
        self._steer()

    def connection_lost(self, exc: Exception | None) -> None:
        # A mail that is being accepted is accepted all the same; the client will send it again, as a duplicate.
        self._smtp.receive_eof()
        if self._smtp.state in ASKED_STATES:
            self._smtp.close(SHUTTING_DOWN)
        self._account_content()
        self._rhythm.left()
        self._house.leave(self)

    # Called by the ingress.

    @property
    def busy(self) -> bool:
        """Whether a mail of it is with the intake."""
        return self._smtp.state is SessionState.MESSAGE_ASKED

    @property
    def between_mails(self) -> bool:
        """Whether it has no mail in hand."""
        return self._smtp.state in _BETWEEN_MAILS

    def idle_since(self) -> float | None:
        """When it was answered last, if its next command is awaited: who stops after MAIL holds a place, too."""
        return self._answered if self._smtp.state in COMMAND_STATES else None

    def close(self, reply: Reply) -> None:
        """End it with a reply of ours."""
        self._smtp.close(reply)
        self._flush()

    def dismiss(self, reply: Reply) -> None:
        """End an idle one at once, so that its place is free; one that does not even read gets no reply."""
        self._silent = True
        self.close(reply)
        if self._choked is not None:
            self._transport.abort()

    def go_on(self) -> None:
        """Its turn to read has come again."""
        self._resting = False
        self._steer()

    def abort(self) -> None:
        """End it at once; what was not written is lost."""
        self._transport.abort()

    def check_time(self, now: float) -> None:
        """End it if something takes too long."""
        settings, state = self._house.settings, self._smtp.state
        if self._shaking is not None and now - self._shaking > settings.handshake_timeout:
            self._house.counters.timed_out += 1
            what = "TLS handshake" if self._proxy is None else "PROXY header"
            _log.info("the %s did not end in time", what, extra={"action": "time_out", "peer": self.peer})
            self._transport.abort()
            return
        if state is SessionState.CLOSED:
            allowed = settings.linger if self._choked is None else settings.write_timeout
            late = now - (self._linger or now) > allowed
        elif self._choked is not None:
            late = now - self._choked > settings.write_timeout
        elif state in CONTENT_STATES or state is SessionState.CHUNKED:
            # A mail in chunks is answered many times; it has no more time than another.
            chunked = state in _CHUNKED and self._content
            taken = now - (self._content_since if chunked else self._answered)
            late = now - self._heard > settings.idle_timeout or taken > settings.data_timeout
            if state in _KEEPING and taken > settings.data_grace:
                # Who trickles holds memory that others need.
                late = late or self._smtp.stored < settings.min_data_rate * taken
        elif state in ASKED_STATES:
            late = False
        else:
            since_born = now - self._born if not self._mails else 0.0
            late = now - self._answered > settings.idle_timeout or since_born > settings.first_mail_timeout
        if not late:
            return
        if state is SessionState.CLOSED or self._choked is not None:
            self._transport.abort()
        else:
            self._house.counters.timed_out += 1
            _log.info("timed out in state %s", state.name, extra={"action": "time_out", "peer": self.peer})
            self.close(TIMED_OUT)

    def told(self, answer: Answer, recipients: int) -> None:
        """The intake has answered about a mail."""
        if not self._smtp.closing:
            # Who has gone meanwhile sends no other one.
            self._rhythm.answered(monotonic())
        self._answer(*answer.replies(recipients, each=self._house.session.lmtp))

    # Within.

    def _act(self, events: list[Event]) -> None:
        """Do what each event asks for; a decision that can be had at once is given at once."""
        while events:
            following: list[Event] = []
            for event in events:
                decide = _DECISIONS.get(type(event))
                if decide is not None:
                    following = decide(self, event)
                elif isinstance(event, Quit):
                    self._silent = True
                    self._rhythm.left()
                elif isinstance(event, MessageDiscarded):
                    self._house.counters.refused += 1
                    facts = {"action": "refuse", "peer": self.peer, "sender": event.sender}
                    _log.info("refused after %d octets: %s", event.size, event.reply, extra=facts)
                elif isinstance(event, Login | XClient | StartTls):
                    following = self._guest(event)
                elif isinstance(event, Closing):
                    _log.info("closing: %s", event.reply, extra={"action": "close", "peer": self.peer})
            events = following

    def _open(self, opening: Opening, data: bytes) -> None:
        """MAIL, RCPT and DATA came together: yes to all of them at once, or else one by one."""
        house, smtp = self._house, self._smtp
        if house.stopping or not house.budget.has(opening.size or 1):
            self._act(smtp.receive_data(data))
            return
        verdict = ask_accepts(house.intake, opening.recipient, self.peer)
        if verdict is None:
            self._mails += 1
            self._sender = opening.sender
            smtp.open(opening)
            return
        for mail in smtp.receive_data(data):
            if isinstance(mail, MailFrom):
                self._mail(mail)
        self._act(self._decide(opening.recipient, verdict))

    def _mail(self, mail: MailFrom) -> list[Event]:
        house = self._house
        self._mails += 1
        self._sender = mail.address
        if house.stopping:
            return self._smtp.reply(SHUTTING_DOWN)
        return self._smtp.reply(SENDER_OK if house.budget.has(mail.size or 1) else TOO_BUSY)

    def _rcpt(self, rcpt: RcptTo) -> list[Event]:
        return self._decide(rcpt.address, ask_accepts(self._house.intake, rcpt.address, self.peer))

    def _decide(self, address: str, verdict: Reply | Screening | None) -> list[Event]:
        """Answer RCPT by what the intake says of its address."""
        if verdict is None:
            return self._smtp.reply(RECIPIENT_OK)
        if isinstance(verdict, Reply):
            return self._smtp.reply(self._refusal(address, verdict))
        self._start(self._screen(verdict, address))
        return []

    def _refusal(self, address: str, refusal: Reply) -> Reply:
        """Count a refused recipient."""
        self._house.counters.recipients_refused += 1
        self._refused += 1
        if self._refused % _REFUSALS_PER_LINE == 1:
            # Not each: who tries a list of addresses must not fill the disk (P7).
            facts = {"action": "refuse_recipient", "peer": self.peer, "recipient": address}
            _log.info("refused recipient: %s", refusal, extra=facts)
        return refusal

    async def _screen(self, screening: Screening, address: str) -> None:
        """Ask the application about a recipient, and tell the client what it says."""
        try:
            refusal = await screen(screening, self._envelope(self._sender, (address,)))
        finally:
            self._house.tasks.discard(asyncio.current_task())
        self._answer(RECIPIENT_OK if refusal is None else self._refusal(address, refusal))

    def _answer(self, *replies: Reply) -> None:
        """Give a decision that had to be waited for, unless nobody waits for it any more."""
        if not self._smtp.closing:
            if events := self._smtp.reply(*replies):
                self._act(events)
            self._flush()

    # Mail.

    def _message(self, message: MessageReceived) -> list[Event]:
        house = self._house
        self._rhythm.came(monotonic())
        if self._content:
            self._account_content()
        if not house.budget.take(message.size):
            house.counters.refused += 1
            return self._smtp.reply(*(TOO_BUSY,) * (len(message.recipients) if house.session.lmtp else 1))
        answer = Handover(house, self._envelope(message.sender, message.recipients), message, self).begin()
        if answer is None:
            return []
        return self._smtp.reply(*answer.replies(len(message.recipients), each=house.session.lmtp))

    def _account_content(self) -> None:
        """Bring the budget up to what is held of an unfinished mail; refuse that mail if it is too much."""
        budget, stored = self._house.budget, self._smtp.stored
        budget.give(self._content)
        if budget.take(stored):
            if not self._content:
                self._content_since = self._heard
            self._content = stored
        else:
            self._content = 0
            self._smtp.discard(TOO_BUSY)

    def _flush(self) -> None:
        """Write what there is to say, then read on, or wait, or close."""
        smtp = self._smtp
        if self._house.stopping and smtp.state in _BETWEEN_MAILS:
            smtp.close(SHUTTING_DOWN)
        out = smtp.data_to_send()
        if out:
            self._answered = self._house.loop.time()
            if smtp.state is _CONTENT:
                # 354 is in it: nothing else is said between the command and the end of the content.
                self._rhythm.began(monotonic())
            self._transport.write(out if self._tls is None else self._encrypted(self._tls, out))
        if self._paused or not smtp.wants_data:
            if smtp.closing:
                self._finish()
            else:
                self._steer()

    def _steer(self) -> None:
        """Read only while the session can use more (or is over, to find the end) and the client reads our replies."""
        smtp = self._smtp
        paused = self._resting or self._choked is not None or not (smtp.wants_data or smtp.closing)
        if paused != self._paused and not self._transport.is_closing():
            self._paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _finish(self) -> None:
        """Close after our last word.

        A client in the middle of sending would lose that word: closing a socket with unread input resets the
        connection. So only our side is closed, and what comes is thrown away, until it closes too or time is up.
        """
        if self._linger is not None:
            return
        self._linger = self._house.loop.time()
        self._account_content()
        if self._tls is not None:
            self._transport.write(self._tls.close())
        if self._silent or self._transport.is_closing() or not self._transport.can_write_eof():
            self._transport.close()
            return
        try:
            self._transport.write_eof()
        except OSError:  # the client has reset the connection, and the loop has not told us yet
            self._transport.abort()
        else:
            self._steer()


#: What awaits a decision of ours in each mail. A table, because `isinstance` with a Struct is slow where it is false.
_DECISIONS: Final[dict[type, Callable[[Connection, Any], list[Event]]]] = {
    MailFrom: Connection._mail,
    RcptTo: Connection._rcpt,
    MessageReceived: Connection._message,
}
