"""The way in: from an envelope and raw bytes to durable rows, one for each recipient (P1)."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from monsal.address import fold
from monsal.clock import Clock
from monsal.conversation.accepting import Asking
from monsal.conversation.bounces import BOUNCE_ADDRESS, genuine_token
from monsal.conversation.capabilities import Capabilities
from monsal.conversation.confirming import CONFIRM_ADDRESS, is_confirmation
from monsal.conversation.digests import LARGE, Digests
from monsal.conversation.keys import Keyring
from monsal.conversation.routed import BY_CORRESPONDENT, BY_ITSELF, Routed, Routes
from monsal.errors import ConfigError
from monsal.ids import running_tokens
from monsal.logline import tell_each
from monsal.mail import Envelope, Glance, digest_below_received, first_bytes, glance
from monsal.routing import Router
from monsal.smtp.replies import NO_ROUTES, TOO_MANY_HOPS, UNKNOWN_RECIPIENT, Refused, Reply
from monsal.store.coming import Coming, Waits
from monsal.store.contract import Accept, Receipt, Recipient, Source, Store
from monsal.store.waiter import Begins, Waiter

__all__ = ["BOUNCE_ADDRESS", "NOBODY", "CallMark", "Spool", "SpoolSettings", "SpoolStatistics", "is_postmaster"]

log = logging.getLogger("monsal.spool")

#: Stands for who writes when neither a From field nor the envelope names anybody.
NOBODY = "<>"

_CALL: Source = "call"


class SpoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`correspondent` is "from" (the first From address, else the envelope sender) or "envelope"; `max_hops` the
    number of Received lines above which a message counts as looping."""

    correspondent: str = "from"
    max_hops: int = 50


class SpoolStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Messages taken since the start, rows made for them, rows that were there before, messages refused as loops."""

    messages: int
    rows: int
    duplicates: int
    loops: int


class CallMark(msgspec.Struct, frozen=True):
    """Marks what a program brings by a call: the Message-ID it counts under, and what makes it a duplicate.

    `digest` stands for the message's own: two calls with the same key are one, whatever they say. None if no other
    call can be the same.
    """

    message_id: str
    digest: bytes | None


class _Storing:
    """Waits for the store in the place of who brought a mail, and notes that it is stored."""

    __slots__ = ("_envelope", "_mail", "_spool", "_waiter", "done", "set_exception")

    def __init__(self, spool: Spool, envelope: Envelope, mail: Accept, waiter: Waiter) -> None:
        self._spool = spool
        self._envelope = envelope
        self._mail = mail
        self._waiter = waiter
        self.done = waiter.done
        self.set_exception = waiter.set_exception

    def set_result(self, receipt: Receipt) -> None:
        self._spool.note(self._envelope, self._mail, receipt)
        self._waiter.set_result(receipt)


class Spool:
    """Takes mail for the ingresses: `accepts` at RCPT, `accept` at the end of DATA. Used on the sockets' loop."""

    def __init__(
        self,
        store: Store,
        router: Router,
        clock: Clock,
        settings: SpoolSettings | None = None,
        asking: Asking | None = None,
        *,
        keys: Path | None = None,
    ) -> None:
        """`keys` is the file with the keys of capability addresses; without it they are of the store's own secret.
        `asking` asks the application's accept hooks."""
        self._store = store
        self._router = router
        self._clock = clock
        self._settings = settings or SpoolSettings()
        self._asking = asking
        self.capabilities = Capabilities(router, Keyring(keys, now=clock.now, secret=lambda: store.secret))
        self._routes = Routes()
        self._digests = Digests()
        #: Of queues that have one row each.
        self._names = running_tokens()
        #: Where an ingress announces mail; not all stores wait for it.
        self._begin = store.begin_accept if isinstance(store, Begins) else None
        self.coming = store.coming if isinstance(store, Waits) else Coming()
        self._messages = self._rows = self._duplicates = self._loops = 0
        #: What was stored in this turn of the loop.
        self._untold: list[tuple[Envelope, str, str | None, Receipt]] = []

    def statistics(self) -> SpoolStatistics:
        return SpoolStatistics(messages=self._messages, rows=self._rows, duplicates=self._duplicates, loops=self._loops)

    def accepts(self, address: str) -> Reply | None:
        """Whether mail for `address` is taken: None, or the reply that refuses it (rule routing.B16).

        Postmaster is always taken (RFC 5321, section 4.5.1), and so is what looks like an answer to our own
        envelope senders, forged or not: a forged one becomes a dead letter that somebody can look at.
        """
        if not self._router.is_loaded:
            return NO_ROUTES
        table = self._router.table
        routed = self._routes.of(table, address)
        try:
            if routed.confirms and is_confirmation(self.capabilities, address, at=self._clock.now()):
                return None
            # Forged and expired capabilities are known here, so they get no further (RFC 5321, section 3.6.2).
            if table.capable:
                matches = self._router.match(address)
                if matches and self.capabilities.screen(matches, address, at=self._clock.now()).refusal:
                    return UNKNOWN_RECIPIENT
        except ConfigError as error:
            log.error("cannot verify %s: %s", address, error, extra={"action": "keys_broken"})
            return NO_ROUTES
        if routed.taken or routed.bounces or is_postmaster(address):
            return None
        return UNKNOWN_RECIPIENT

    def screen(self, address: str) -> Callable[[Envelope], Coroutine[Any, Any, Reply | None]] | None:
        """Who asks the application's accept hooks about an address that is taken; None if there are none for it.

        Nobody is asked about postmaster, nor about answers to our own envelope senders.
        """
        if self._asking is None or (found := self._asking.about(address)) is None:
            return None
        return None if is_postmaster(address) or BOUNCE_ADDRESS.match(address) else found

    async def accept(self, envelope: Envelope, body: tuple[bytes, ...], *, call: CallMark | None = None) -> Receipt:
        """Store a message; returns when it is on the disk. `call` marks one that a program brings.

        Raises Refused for a message in a loop, StoreUnavailable if nothing could be stored.
        """
        first = first_bytes(body)
        head, correspondent, routed = self._look(first, envelope)
        message_id: str | None
        if call is not None:
            message_id, digest = call.message_id, call.digest
        else:
            message_id, digest = head.message_id, await self._digests.of(body, first) if head.message_id else None
        recipients = [
            await self._returned(address, correspondent)
            if each.bounces
            else Recipient(address, self._queue(each, correspondent))
            for address, each in zip(envelope.recipients, routed, strict=True)
        ]
        source: Source = "mail" if call is None else _CALL
        if call is None and all(each.bounces for each in routed):
            source = "bounce"
        mail = Accept(
            sender=envelope.sender,
            correspondent=correspondent,
            recipients=tuple(recipients),
            body=body,
            received=self._clock.now(),
            message_id=message_id,
            digest=digest,
            source=source,
            envelope=msgspec.json.encode(envelope),
        )
        receipt = await self._store.accept(mail)
        self.note(envelope, mail, receipt)
        return receipt

    def begin_accept(self, envelope: Envelope, body: tuple[bytes, ...], waiter: Waiter) -> Receipt | Waiter | None:
        """Begin what `accept` does, without a coroutine: see `monsal.store.waiter.Begins`.

        None, and nothing was done, for a large mail, one that comes back, or a store that has no such thing.
        """
        begin = self._begin
        if begin is None or sum(map(len, body)) >= LARGE:
            return None
        first = first_bytes(body)
        head, correspondent, routed = self._look(first, envelope)
        recipients = []
        for address, each in zip(envelope.recipients, routed, strict=True):
            if each.bounces:
                return None
            recipients.append(Recipient(address, self._queue(each, correspondent)))
        mail = Accept(
            sender=envelope.sender,
            correspondent=correspondent,
            recipients=tuple(recipients),
            body=body,
            received=self._clock.now(),
            message_id=head.message_id,
            digest=digest_below_received(body, first) if head.message_id else None,
            source="mail",
            envelope=msgspec.json.encode(envelope),
        )
        storing = _Storing(self, envelope, mail, waiter)
        found = begin(mail, storing)
        if found is storing:
            return waiter
        if isinstance(found, Receipt):
            self.note(envelope, mail, found)
        return found

    def _look(self, first: bytes, envelope: Envelope) -> tuple[Glance, str, list[Routed]]:
        """What is known of a message; who writes; where its recipients lead. Raises Refused for one in a loop."""
        head = glance(first)
        if head.received > self._settings.max_hops:
            raise self._loop(head, envelope)
        correspondent = (head.correspondent if self._settings.correspondent == "from" else None) or fold(
            envelope.sender
        )
        table = self._router.table
        return head, correspondent or NOBODY, [self._routes.of(table, address) for address in envelope.recipients]

    def note(self, envelope: Envelope, mail: Accept, receipt: Receipt) -> None:
        """Count a message that is stored, and write its line of the log."""
        duplicates = sum(receipt.duplicates)
        self._messages += 1
        self._rows += len(receipt.ids) - duplicates
        self._duplicates += duplicates
        if log.isEnabledFor(logging.INFO):
            # The client waits for its 250, not for a line of the log: those of a group are told in the next turn.
            if not self._untold:
                asyncio.get_running_loop().call_soon(self._tell)
            self._untold.append((envelope, mail.correspondent, mail.message_id, receipt))

    def _tell(self) -> None:
        untold, self._untold = deque(self._untold), []
        try:
            lines = (_told(*untold.popleft()) for _ in range(len(untold)))
            tell_each(log, "stored mail from %s for %s%s", lines)
        finally:
            if (
                untold
            ):  # a filter of the application raised: its error is the loop's to report, the other lines are told
                self._untold[:0] = untold
                asyncio.get_running_loop().call_soon(self._tell)

    def _loop(self, head: Glance, envelope: Envelope) -> Refused:
        """Count a message in a loop; its refusal."""
        self._loops += 1
        log.warning(
            "refused a message with %d Received lines",
            head.received,
            extra={"action": "loop", "message_id": head.message_id, "conversation": envelope.sender},
        )
        return Refused(TOO_MANY_HOPS)

    async def _returned(self, address: str, correspondent: str) -> Recipient:
        """The row of an address of ours: a bounce waits for its turn in the conversation that sent (P3)."""
        token = genuine_token(address, self._store.secret)
        sent = None if token is None else await self._store.sent(token)
        return Recipient(address, self.lease_key(address, correspondent) if sent is None else sent.lease_key)

    def lease_key(self, address: str, correspondent: str) -> str:
        """The queue that mail for `address` stands in: fixed here, for good (DESIGN 2).

        A machine whose state is shared is ordered by the address that was written to, any other by who writes;
        where only stateless handlers match, nothing has to wait for anything.
        """
        return self._queue(self._routes.of(self._router.table, address), correspondent)

    def _queue(self, routed: Routed, correspondent: str) -> str:
        if routed.order == BY_ITSELF:
            return BY_ITSELF + next(self._names)
        return correspondent if routed.order == BY_CORRESPONDENT else routed.order

    def is_own(self, address: str) -> bool:
        """Whether an address is one of ours: what writes from it is this application, or means to look like it.

        A route that takes mail for any domain makes nobody's address ours. Asked on handlers' threads.
        """
        if "+" in address and (BOUNCE_ADDRESS.match(address) or CONFIRM_ADDRESS.match(address)):
            return True
        return any(not route.pattern.takes_any_domain() for route in self._router.table.takers(address))


def _told(
    envelope: Envelope, correspondent: str, message_id: str | None, receipt: Receipt
) -> tuple[tuple[str, ...], dict[str, object]]:
    """What the log says of a message that is stored, and the facts behind it."""
    seen = " (seen before)" if all(receipt.duplicates) else ""
    said = (correspondent, ", ".join(envelope.recipients), seen)
    return said, {"action": "stored", "message_id": message_id, "conversation": correspondent, "rows": receipt.ids}


def is_postmaster(address: str) -> bool:
    """Whether an address is the postmaster's, with or without a domain."""
    return fold(address).partition("@")[0] == "postmaster"
