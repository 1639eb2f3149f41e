"""One connection of a client: reads, feeds the session, asks the intake, writes once per turn of the loop."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final, Protocol, cast

from monsal.ingress.answers import Answer, ask_accepts, hand_over
from monsal.ingress.base import Intake
from monsal.ingress.limits import IngressSettings, MemoryBudget
from monsal.ingress.listen import display_address
from monsal.mail.envelope import Envelope
from monsal.smtp.events import Closing, Event, MailFrom, MessageDiscarded, MessageReceived, Quit, RcptTo
from monsal.smtp.replies import RECIPIENT_OK, SENDER_OK, SHUTTING_DOWN, TIMED_OUT, TOO_BUSY, Reply
from monsal.smtp.server import ServerProtocol
from monsal.smtp.settings import ServerSettings
from monsal.smtp.states import ASKED_STATES, COMMAND_STATES, CONTENT_STATES, SessionState

__all__: list[str] = []

_log: Final = logging.getLogger("monsal.ingress")
#: A read of this many octets is one of many.
_LARGE: Final = 16 * 1024
#: One refused recipient of this many on a connection is logged, beginning with the first.
_REFUSALS_PER_LINE: Final = 10
_BETWEEN_MAILS: Final = frozenset({SessionState.CONNECTED, SessionState.READY})


class Counters:
    """What the connections of an ingress did, all together."""

    __slots__ = ("accepted", "failed", "received", "recipients_refused", "refused", "timed_out")

    def __init__(self) -> None:
        self.accepted = self.failed = self.refused = self.recipients_refused = self.received = self.timed_out = 0

    def note(self, answer: Answer) -> None:
        """Count what became of a mail."""
        if answer.receipt is not None:
            self.accepted += 1
        elif answer.failed:
            self.failed += 1
        else:
            self.refused += 1


class Turns:
    """Who sends much reads in turns, one connection per turn of the loop.

    Without it libuv reads up to 32 times 256 kB from one connection before it looks at the next; with ten large
    mails a small one beside them took 400 ms, with it 1.5 ms (P7).
    """

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Connection] = deque()

    def wait(self, connection: Connection) -> None:
        """Have `connection.go_on()` called in its turn."""
        if not self._waiting:
            self._loop.call_soon(self._next)
        self._waiting.append(connection)

    def _next(self) -> None:
        self._waiting.popleft().go_on()
        if self._waiting:
            self._loop.call_soon(self._next)


class House(Protocol):
    """The ingress, as its connections see it."""

    intake: Intake
    session: ServerSettings
    settings: IngressSettings
    budget: MemoryBudget
    counters: Counters
    stopping: bool
    loop: asyncio.AbstractEventLoop
    tasks: set[asyncio.Task[None] | None]
    turns: Turns

    def admit(self, connection: Connection, address: object) -> Reply | None:
        """Count a new connection; the reply that turns it away, or None."""
        ...

    def leave(self, connection: Connection) -> None:
        """A connection is gone."""
        ...


class Connection(asyncio.Protocol):
    """A client. All of its state that the RFCs know is in its `ServerProtocol`."""

    __slots__ = (
        "_answered",
        "_born",
        "_choked",
        "_content",
        "_heard",
        "_house",
        "_linger",
        "_mails",
        "_paused",
        "_refused",
        "_resting",
        "_silent",
        "_smtp",
        "_transport",
        "counted_as",
        "peer",
    )

    def __init__(self, house: House) -> None:
        self._house = house
        self._smtp = ServerProtocol(house.session)
        self._born = self._answered = self._heard = 0.0
        self._choked: float | None = None
        self._linger: float | None = None
        self._content = 0
        self._mails = self._refused = 0
        self._paused = self._resting = self._silent = False
        self.counted_as: str | None = None
        self.peer = ""

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        house = self._house
        address = transport.get_extra_info("peername")
        self.peer = display_address(address or transport.get_extra_info("sockname") or "")
        self._born = self._answered = self._heard = house.loop.time()
        refusal = house.admit(self, address)
        if refusal is not None:
            transport.write(refusal.to_bytes())
            transport.close()
            return
        transport.set_write_buffer_limits(high=house.settings.max_write_buffer)
        transport.write(self._smtp.data_to_send())

    def data_received(self, data: bytes) -> None:
        house, smtp = self._house, self._smtp
        if len(data) >= _LARGE:
            self._resting = True
            self._steer()
            house.turns.wait(self)
        if smtp.closing:
            return
        self._heard = house.loop.time()
        house.counters.received += len(data)
        events = smtp.receive_data(data)
        if events:
            self._act(events)
        if smtp.state is SessionState.CONTENT or self._content:
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
        if state is SessionState.CLOSED:
            allowed = settings.linger if self._choked is None else settings.write_timeout
            late = now - (self._linger or now) > allowed
        elif self._choked is not None:
            late = now - self._choked > settings.write_timeout
        elif state in CONTENT_STATES:
            taken = now - self._answered
            late = now - self._heard > settings.idle_timeout or taken > settings.data_timeout
            if state is SessionState.CONTENT and taken > settings.data_grace:
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

    async def hand_over(self, message: MessageReceived) -> None:
        """Give a mail to the intake and its answer to the client."""
        house, smtp = self._house, self._smtp
        try:
            answer = await hand_over(house.intake, self._envelope(message), message.body)
        finally:
            house.budget.give(message.size)
            house.tasks.discard(asyncio.current_task())
        house.counters.note(answer)
        if smtp.closing:
            return
        replies = answer.replies(len(message.recipients), each=house.session.lmtp)
        self._act(smtp.reply(*replies))
        self._flush()

    # Within.

    def _act(self, events: list[Event]) -> None:
        """Do what each event asks for; a decision that can be had at once is given at once."""
        while events:
            following: list[Event] = []
            for event in events:
                if isinstance(event, RcptTo):
                    following = self._rcpt(event)
                elif isinstance(event, MailFrom):
                    following = self._mail(event)
                elif isinstance(event, MessageReceived):
                    following = self._message(event)
                elif isinstance(event, Quit):
                    self._silent = True
                elif isinstance(event, MessageDiscarded):
                    self._house.counters.refused += 1
                    facts = {"action": "refuse", "peer": self.peer, "sender": event.sender}
                    _log.info("refused after %d octets: %s", event.size, event.reply, extra=facts)
                elif isinstance(event, Closing):
                    _log.info("closing: %s", event.reply, extra={"action": "close", "peer": self.peer})
            events = following

    def _mail(self, mail: MailFrom) -> list[Event]:
        house = self._house
        self._mails += 1
        if house.stopping:
            return self._smtp.reply(SHUTTING_DOWN)
        return self._smtp.reply(SENDER_OK if house.budget.has(mail.size or 1) else TOO_BUSY)

    def _rcpt(self, rcpt: RcptTo) -> list[Event]:
        refusal = ask_accepts(self._house.intake, rcpt.address, self.peer)
        if refusal is None:
            return self._smtp.reply(RECIPIENT_OK)
        self._house.counters.recipients_refused += 1
        self._refused += 1
        if self._refused % _REFUSALS_PER_LINE == 1:
            # Not each: who tries a list of addresses must not fill the disk (P7).
            facts = {"action": "refuse_recipient", "peer": self.peer, "recipient": rcpt.address}
            _log.info("refused recipient: %s", refusal, extra=facts)
        return self._smtp.reply(refusal)

    def _message(self, message: MessageReceived) -> list[Event]:
        house = self._house
        if self._content:
            self._account_content()
        if not house.budget.take(message.size):
            house.counters.refused += 1
            return self._smtp.reply(*(TOO_BUSY,) * (len(message.recipients) if house.session.lmtp else 1))
        # The loop itself keeps no task alive; `hand_over` takes it out again, which is cheaper than a callback.
        house.tasks.add(house.loop.create_task(self.hand_over(message)))
        return []

    def _envelope(self, message: MessageReceived) -> Envelope:
        hello = self._smtp.hello
        protocol = "LMTP" if self._house.session.lmtp else "ESMTP" if hello and hello.extended else "SMTP"
        return Envelope(
            sender=message.sender,
            recipients=message.recipients,
            peer=self.peer,
            hello=hello.name if hello else "",
            protocol=protocol,
        )

    def _account_content(self) -> None:
        """Bring the budget up to what is held of an unfinished mail; refuse that mail if it is too much."""
        budget, stored = self._house.budget, self._smtp.stored
        budget.give(self._content)
        if budget.take(stored):
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
            self._transport.write(out)
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
        if self._silent or self._transport.is_closing() or not self._transport.can_write_eof():
            self._transport.close()
            return
        try:
            self._transport.write_eof()
        except OSError:  # the client has reset the connection, and the loop has not told us yet
            self._transport.abort()
        else:
            self._steer()
