"""What an ingress is, and what it needs: somebody who takes mail, and says so only when it is durable."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, runtime_checkable

import msgspec

from monsal.mail.envelope import Envelope
from monsal.smtp.replies import Reply
from monsal.store.contract import Receipt
from monsal.store.waiter import Waiter

__all__ = ["BeginsIntake", "Ingress", "IngressStatistics", "Intake", "Screening"]

#: Asks the application about a recipient: given the envelope with that recipient alone, None for yes, or the refusal.
Screening = Callable[[Envelope], Coroutine[Any, Any, Reply | None]]


class Intake(Protocol):
    """Takes mail in. Its methods are called on the loop of the ingress."""

    def accepts(self, address: str) -> Reply | None:
        """Whether mail for `address` is taken: None for yes, or the reply that refuses it.

        550 5.1.1 for an unknown address, 451 4.3.0 while no table of routes is loaded. `postmaster`, with or
        without a domain, is this method's decision too.
        """
        ...

    def screen(self, address: str) -> Screening | None:
        """Who has to be asked about an address that `accepts` takes; None if nobody."""
        ...

    async def accept(self, envelope: Envelope, body: tuple[bytes, ...]) -> Receipt:
        """Store a mail; return after it reached the disk (P1), with one row per recipient of the envelope in order.

        Raises StoreUnavailable (451 4.3.0), or Refused with the reply to be given instead.
        """
        ...


@runtime_checkable
class BeginsIntake(Protocol):
    """An intake that can take a mail without a coroutine, which costs less; an `Intake` need not."""

    def begin_accept(self, envelope: Envelope, body: tuple[bytes, ...], waiter: Waiter) -> Receipt | Waiter | None:
        """Begin what `Intake.accept` does: the receipt if it is known at once; `waiter`, which is told then; or None,
        and nothing was done: then `accept` is asked. Raises what that does."""
        ...


class IngressStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What an ingress did since its start, and what it does now.

    `connections` are open now, `busy` of them wait for the intake; `evicted` were idle and gave way to new ones.
    `accepted` counts mails answered with 250, `refused` those answered with a refusal of the intake or for their
    size, `failed` those answered 451 because something broke. `held` is octets of mail in memory.
    """

    addresses: tuple[str, ...]
    connections: int
    busy: int
    connected: int
    turned_away: int
    evicted: int
    timed_out: int
    accepted: int
    refused: int
    failed: int
    recipients_refused: int
    received: int
    held: int


class Ingress(Protocol):
    """A way by which mail comes in. `start` once, `stop` once."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, for example `127.0.0.1:8825` or `run/lmtp.sock`; known after `start`."""
        ...

    async def start(self) -> None:
        """Listen. Raises OSError if an address cannot be had."""
        ...

    async def stop(self, grace: float) -> None:
        """Listen no more, let what runs come to its end within `grace` seconds, then end it."""
        ...

    def statistics(self) -> IngressStatistics:
        """The figures of this moment."""
        ...
