"""`salmon.server`: the relay and the receivers.

In a handler of a server `Relay.deliver` adds the mail to the turn: it leaves when the turn has committed, is tried
again for days, and never leaves twice for one message. Anywhere else it is sent at once. Receivers say where a server
listens (`monsal.compat.application` reads them); `start` opens one for a script, with nothing stored.
"""

from __future__ import annotations

import logging
import smtplib
import socket
import ssl as tls
import time
from email.utils import make_msgid, parseaddr
from importlib import import_module
from multiprocessing.pool import ThreadPool as Pool
from typing import Any

from monsal.address import is_address
from monsal.compat.salmon import mail, queue, routing
from monsal.compat.salmon.outgoing import ReadyDraft, bytes_of, complete, running_turn
from monsal.compat.salmon.receiving import Doorman
from monsal.compat.salmon.rejection import SMTPError

__all__ = [
    "LMTPReceiver",
    "QueueReceiver",
    "Relay",
    "SMTPError",
    "SMTPReceiver",
    "undeliverable_message",
]

LOG = logging.getLogger("salmon.server")

#: Seconds that the relay may take for each answer.
_PATIENCE = 60.0


def _optional(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


#: Looks up where mail for a domain goes; None without dnspython (extra `mx`).
resolver = _optional("dns.resolver")


def undeliverable_message(raw_message: Any, failure_type: str) -> bool:
    """Push a mail that nobody could handle to the router's queue; False if it has none."""
    if routing.Router.UNDELIVERABLE_QUEUE is None:
        return False
    key = routing.Router.UNDELIVERABLE_QUEUE.push(raw_message)
    LOG.error("%s: the mail is kept as %s", failure_type, key)
    return True


class Relay:
    """Where mail goes. `hostname` None: to the mail exchanger of each recipient's domain.

    Raises TypeError if `ssl` is asked for together with `starttls` or `lmtp`.
    """

    #: What tells the relay of a server's settings from others; its mails go through the outbox.
    adopted: tuple[Any, ...] | None = None

    def __init__(
        self,
        host: str | None = "127.0.0.1",
        port: int = 25,
        username: str | None = None,
        password: str | None = None,
        ssl: bool = False,
        *,
        starttls: bool = False,
        debug: int = 0,
        lmtp: bool = False,
    ) -> None:
        if ssl and (starttls or lmtp):
            raise TypeError("a relay by TLS from the start knows neither STARTTLS nor LMTP")
        self.hostname = host
        self.port = port
        self.username = username
        self.password = password
        self.ssl = ssl
        self.starttls = starttls
        self.debug = debug
        self.lmtp = lmtp

    def __repr__(self) -> str:
        return f"<Relay to ({self.hostname}:{self.port})>"

    @property
    def place(self) -> tuple[Any, ...]:
        """What makes two relays the same."""
        return self.hostname, self.port, self.username, self.ssl, self.starttls, self.lmtp

    def deliver(self, message: Any, To: Any = None, From: Any = None) -> None:
        """Send a mail to `To`, else to whom it says itself, from `From`, else from whom it says.

        Raises ValueError if nobody is named; outside of a server's handler also OSError and smtplib's errors, the
        latter also if only some of the recipients were refused.
        """
        recipients = _named(To) or _named(getattr(message, "To", None)) or _named(message["To"])
        senders = _named(From) or _named(getattr(message, "From", None)) or _named(message["From"])
        if not recipients or not senders:
            raise ValueError(f"a mail needs a sender and a recipient, not {senders} and {recipients}")
        turn = running_turn()
        if turn is not None and self.place == Relay.adopted:
            draft = ReadyDraft(to=recipients, sender=senders[0], envelope_sender=senders[0], content=bytes_of(message))
            if turn.add_draft(draft, even_if_automatic=False) is None:
                LOG.warning("a mail to %s is suppressed: %s", ", ".join(recipients), turn.notes[-1])
            return
        if turn is not None:
            LOG.warning("%r is not the server's relay: the mail leaves now, whatever becomes of the turn", self)
        host = senders[0].rpartition("@")[2]
        content = complete(bytes_of(message), message_id=make_msgid(domain=host or None), date=time.time())
        for group in [recipients] if self.hostname and not self.lmtp else [(recipient,) for recipient in recipients]:
            self._send(senders[0], group, content)

    def _send(self, sender: str, recipients: tuple[str, ...], content: bytes) -> None:
        hostname = self.hostname or self.resolve_relay_host(recipients[0])
        client = self.configure_relay(hostname)
        try:
            refused = client.sendmail(sender, list(recipients), content)
        finally:
            client.quit()
        if refused and isinstance(refused, dict):
            raise smtplib.SMTPRecipientsRefused(refused)

    def configure_relay(self, hostname: str) -> Any:
        """A connection to the relay, with what was asked for; certificates are checked."""
        client: Any
        if self.ssl:
            client = smtplib.SMTP_SSL(hostname, self.port, timeout=_PATIENCE, context=tls.create_default_context())
        else:
            client = (smtplib.LMTP if self.lmtp else smtplib.SMTP)(hostname, self.port, timeout=_PATIENCE)
        client.set_debuglevel(self.debug)
        if self.starttls:
            client.starttls(context=tls.create_default_context())
        if self.username and self.password:
            client.login(self.username, self.password)
        return client

    def resolve_relay_host(self, To: str) -> str:
        """The best mail exchanger of an address's domain, or the domain itself if it names none."""
        domain = parseaddr(To)[1].rpartition("@")[2]
        if resolver is None:
            raise RuntimeError("a relay without a host needs dnspython: pip install 'monsal[mx]'")
        try:
            found = list(resolver.query(domain, "MX"))
        except resolver.NoAnswer:
            return domain
        if len(found) > 1:
            found.sort(key=lambda answer: answer.preference)
        return str(found[0].exchange).rstrip(".")

    def reply(self, original: Any, From: Any, Subject: str, Body: str) -> None:
        """Answer a mail."""
        self.send(original.From or original["from"], From=From, Subject=Subject, Body=Body)

    def send(self, To: Any, From: Any, Subject: str, Body: str) -> None:
        """Send a mail that is only text."""
        self.deliver(mail.MailResponse(To=To, From=From, Subject=Subject, Body=Body))


def _named(given: Any) -> tuple[str, ...]:
    """The bare addresses in one text, or in each of several."""
    if not given:
        return ()
    texts = [given] if isinstance(given, str | bytes) else list(given)
    found: dict[str, None] = {}
    for text in texts:
        for part in mail.split_addresses(text):
            found[part] = None
    return tuple(address for address in found if is_address(address) or "@" not in address)


class _Receiver:
    """What receivers of both kinds are: an address, and what is done with a mail."""

    scheme = "smtp"

    def __init__(self, host: str = "127.0.0.1", port: int = 8825) -> None:
        self.host = host
        self.port = port
        self._doorman: Doorman | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    @property
    def url(self) -> str:
        """The same for a server: an element of its setting `ingress`."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def start(self) -> None:
        """Listen, and handle each mail before its session is answered; nothing is stored. For scripts and tests."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._open(socket.create_server((self.host, self.port), family=family))

    def _open(self, listener: socket.socket) -> None:
        # So that `close` is seen by the thread that waits for connections.
        listener.settimeout(0.5)
        LOG.warning("%r handles mail without storing it; `monsal run` keeps it", self)
        if listener.family != socket.AF_UNIX:
            self.port = listener.getsockname()[1]
        self._doorman = Doorman(listener, self.process_message, lmtp=self.scheme == "lmtp")
        self._doorman.start()

    def close(self) -> None:
        """Listen no more."""
        if self._doorman is not None:
            self._doorman.close()
            self._doorman = None

    def process_message(self, Peer: Any, From: Any, To: Any, Data: Any, **_: Any) -> str | None:
        """Handle a mail. None if that is done with, else what to answer: a rejection, or 451 if nothing kept it."""
        try:
            routing.Router.deliver(mail.MailRequest(Peer, From, To, Data))
        except SMTPError as rejection:
            return str(rejection)
        except Exception:
            LOG.exception("a mail from %s to %s could not be handled", From, To)
            if not undeliverable_message(Data, "it could not be handled"):
                return "451 it could not be handled, try again later"
        return None


class SMTPReceiver(_Receiver):
    """Takes mail by SMTP at a host and port."""


class LMTPReceiver(_Receiver):
    """Takes mail by LMTP at a host and port, or at a unix `socket`; each recipient has an answer of its own."""

    scheme = "lmtp"

    def __init__(self, host: str = "127.0.0.1", port: int = 8824, socket: str | None = None) -> None:
        super().__init__(host, port)
        self.socket = socket

    @property
    def url(self) -> str:
        return super().url if self.socket is None else f"lmtp:{self.socket}"

    def start(self) -> None:
        if self.socket is None:
            super().start()
        else:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.socket)
            listener.listen()
            self._open(listener)


class QueueReceiver:
    """Handles the mail of a queue in several threads; looks again after `sleep` seconds.

    A mail leaves the queue's folder `.held` when it was handled: what a process that was killed had taken is handled
    again at the next start.
    """

    def __init__(
        self,
        queue_dir: str,
        sleep: float = 10,
        size_limit: int = 0,
        oversize_dir: str | None = None,
        workers: int = 10,
    ) -> None:
        self.queue = queue.Queue(queue_dir, pop_limit=size_limit, oversize_dir=oversize_dir)
        self.queue_dir = queue_dir
        self.sleep = sleep
        self.workers = Pool(workers)

    def start(self, one_shot: bool = False) -> None:
        """Handle what is there, again and again, or once with `one_shot`; then return when all of it is done."""
        self.queue.restore()
        LOG.info("queue receiver on %s", self.queue_dir)
        while True:
            while len(self.queue):
                try:
                    key, message = self.queue.pop(hold=True)
                except KeyError:
                    LOG.warning("somebody else takes mails out of %s, too", self.queue_dir)
                    continue
                if message is None:
                    break
                message.held = key
                self.workers.apply_async(self.process_message, args=(message,))
            if one_shot:
                self.workers.close()
                self.workers.join()
                return
            time.sleep(self.sleep)

    def process_message(self, msg: mail.MailRequest) -> None:
        """Handle one mail; a rejection cannot be told to anybody here, so such a mail is kept as undeliverable."""
        try:
            routing.Router.deliver(msg)
        except SMTPError as rejection:
            LOG.error("a mail of the queue was rejected: %s", rejection)
            undeliverable_message(msg, f"rejected: {rejection}")
        except Exception:
            LOG.exception("a mail of the queue could not be handled")
            if not undeliverable_message(msg, "it could not be handled"):
                return  # it stays where it is held
        if msg.held is not None:
            self.queue.release(msg.held)
