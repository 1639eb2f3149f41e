"""Who is at the other end of a connection: a PROXY header, TLS, a login, somebody for whom a proxy speaks."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Coroutine
from typing import Any, Final

import msgspec

from monsal.errors import LoginUnavailable
from monsal.ingress.house import House
from monsal.ingress.tls import TlsStream
from monsal.ingress.users import Identity
from monsal.mail.envelope import Envelope
from monsal.smtp.events import Event, Login, StartTls, XClient
from monsal.smtp.proxy import ProxyReader
from monsal.smtp.replies import LOGGED_IN, LOGIN_UNAVAILABLE, OK, WRONG_LOGIN, Reply
from monsal.smtp.server import ServerProtocol
from monsal.smtp.states import SessionState
from monsal.transport.address import display_address

__all__: list[str] = []

_log: Final = logging.getLogger("monsal.ingress")


_NOBODY: Final = XClient()


class Visitor(asyncio.Protocol):
    """The part of a connection that knows who is there; `Connection` is the part that does as the session says."""

    __slots__ = (
        "_behind",
        "_front",
        "_house",
        "_identity",
        "_proxy",
        "_shaking",
        "_silent",
        "_smtp",
        "_tls",
        "_transport",
        "counted_as",
        "peer",
    )

    _transport: asyncio.Transport

    def __init__(self, house: House) -> None:
        self._house = house
        self._smtp = ServerProtocol(house.session)
        self._silent = False
        # Whether something stands between the socket and the session: a PROXY header to come, or TLS.
        self._front = False
        self._proxy: ProxyReader | None = None
        self._tls: TlsStream | None = None
        # Since when a handshake or header is awaited.
        self._shaking: float | None = None
        self._identity: Identity | None = None
        # For whom a trusted client speaks.
        self._behind = _NOBODY
        self.counted_as: str | None = None
        self.peer = ""

    def _answer(self, *replies: Reply) -> None:
        """Give a decision that had to be waited for, unless nobody waits for it any more."""
        raise NotImplementedError

    def _flush(self) -> None:
        """Write what there is to say."""
        raise NotImplementedError

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what a decision waits for; the session rests until then."""
        # The loop itself keeps no task alive; `work` takes it out again, which is cheaper than a callback.
        self._house.tasks.add(self._house.loop.create_task(work))

    def _begin(self, address: object) -> None:
        """Greet a client that was let in."""
        house = self._house
        xclient = address in house.gate.xclient
        if house.gate.implicit or xclient:
            self._smtp = ServerProtocol(house.session, tls=house.gate.implicit, xclient=xclient)
        if house.gate.implicit:
            self._encrypt()
        else:
            self._transport.write(self._smtp.data_to_send())

    def _turn_away(self, refusal: Reply) -> None:
        """Let a client go that has no place, with a word if it can hear one."""
        if not self._house.gate.implicit:
            self._transport.write(refusal.to_bytes())
        self._transport.close()

    def _encrypt(self) -> None:
        context = self._house.gate.tls
        if context is None:
            raise AssertionError("TLS is offered only with a certificate")
        self._tls, self._front, self._shaking = TlsStream(context), True, self._house.loop.time()

    def _guest(self, event: Login | XClient | StartTls) -> list[Event]:
        if isinstance(event, Login):
            self._start(self._log_in(event))
            return []
        if isinstance(event, StartTls):
            # The reply is the last that goes in the clear; what comes next is a handshake.
            self._transport.write(self._smtp.data_to_send())
            self._encrypt()
            return []
        if event.login is not None:
            self._identity = Identity(event.login) if event.login else None
        known = {name: value for name in event.__struct_fields__ if (value := getattr(event, name)) is not None}
        self._behind = msgspec.structs.replace(self._behind, **known)
        refusal = self._speaks_for((event.address, event.port or 0)) if event.address else None
        return self._smtp.reply(OK if refusal is None else refusal)

    def _speaks_for(self, address: tuple[str, int]) -> Reply | None:
        """From here on it counts as that peer; the reply that turns it away, or None."""
        facts = {"action": "speaks_for", "peer": self.peer}
        self.peer = display_address(address)
        _log.debug("speaks for %s", self.peer, extra=facts)
        return self._house.rename(self, address)

    def _through(self, data: bytes) -> bytes:
        """What the client says behind a PROXY header and within TLS; empty if there is nothing yet."""
        if self._proxy is not None:
            data = self._read_proxy(self._proxy, data)
        tls = self._tls
        if tls is None or not data:
            return data
        fresh = not tls.established
        try:
            data = tls.receive(data)
        except ssl.SSLError as error:
            facts = {"action": "tls_failed", "peer": self.peer}
            _log.info("no TLS: %s", error.reason or error, extra=facts)
            # An alert says why.
            self._transport.write(tls.pending())
            self._silent = True
            self._smtp.receive_eof()
            self._transport.close()
            return b""
        pending = tls.pending()
        if pending:
            self._transport.write(pending)
        if fresh and tls.established:
            self._shaking = None
            if self._smtp.state is SessionState.TLS_STARTING:
                self._smtp.tls_started()
            _log.debug("encrypted: %s", tls.description, extra={"action": "tls", "peer": self.peer})
            self._flush()
        return data

    def _read_proxy(self, reader: ProxyReader, data: bytes) -> bytes:
        """What follows the PROXY header, once that is complete."""
        try:
            header = reader.feed(data)
        except ValueError as error:
            _log.warning("%s", error, extra={"action": "proxy_failed", "peer": self.peer})
            self._transport.abort()
            return b""
        if header is None:
            return b""
        self._proxy, self._front, self._shaking = None, False, None
        # Without a source the proxy asks for itself, as a health check does.
        address: object = header.source or self._transport.get_extra_info("peername")
        refusal = self._speaks_for(header.source) if header.source is not None else None
        if refusal is not None:
            self._turn_away(refusal)
            return b""
        self._begin(address)
        return reader.rest

    def _encrypted(self, tls: TlsStream, out: bytes) -> bytes:
        """Our words as the client can read them; none before it can."""
        try:
            return tls.send(out) if tls.established else b""
        except ssl.SSLError as error:
            _log.info("no TLS any more: %s", error.reason or error, extra={"action": "tls_failed", "peer": self.peer})
            self._silent = True
            return b""

    async def _log_in(self, login: Login) -> None:
        """Have a login checked, and tell the client."""
        check = self._house.gate.logins
        facts = {"action": "login", "peer": self.peer, "user": login.user}
        reply = LOGIN_UNAVAILABLE
        try:
            self._identity = await check(login, self.counted_as) if check is not None else None
            reply = WRONG_LOGIN if self._identity is None else LOGGED_IN
            _log.info("login: %s", "accepted" if self._identity is not None else "wrong", extra=facts)
        except LoginUnavailable as error:
            _log.warning("a login was not checked: %s", error, extra=facts)
        except Exception as error:  # noqa: BLE001 - an edge: what breaks behind it must not become a yes
            # Without the traceback: a frame of it may show the password.
            _log.error("a login cannot be checked: %s", type(error).__name__, extra=facts)
        finally:
            self._house.tasks.discard(asyncio.current_task())
        self._answer(reply)

    def _envelope(self, sender: str, recipients: tuple[str, ...]) -> Envelope:
        smtp, identity, behind = self._smtp, self._identity, self._behind
        hello = smtp.hello
        protocol = "LMTP" if self._house.session.lmtp else "ESMTP" if hello and hello.extended else "SMTP"
        if smtp.tls or identity is not None:
            # RFC 3848; HELO has none of these.
            protocol += ("S" if smtp.tls else "") + ("A" if identity is not None else "") if protocol != "SMTP" else ""
        return Envelope(
            sender=sender,
            recipients=recipients,
            peer=self.peer,
            hello=behind.hello or (hello.name if hello else ""),
            protocol=behind.proto or protocol,
            user=None if identity is None else identity.user,
            tls=smtp.tls,
            may_write=() if identity is None else identity.may_write,
        )
