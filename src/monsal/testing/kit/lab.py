"""A store under examination, and short words to speak to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from monsal.store.contract import (
    ROUTE_FIRST_STATE,
    Accept,
    Ack,
    Applied,
    Claimed,
    CommitResult,
    Expected,
    OutgoingMail,
    Receipt,
    Recipient,
    SetTimer,
    StateChange,
    StateKey,
    Statement,
    StateValue,
    Store,
    TurnCommit,
    TurnRow,
)

__all__ = ["NOW", "Check", "Crash", "Lab", "StoreFactory", "expect"]

#: The time at which every check begins.
NOW = 1_700_000_000.0

StoreFactory = Callable[[Path], Store]
Crash = Callable[[Store], Awaitable[None]]


def expect(is_so: bool, text: str) -> None:
    """Raise AssertionError with `text` unless it is so; works under `python -O` too."""
    if not is_so:
        raise AssertionError(text)


class Lab:
    """A fresh store at a fresh place.

    `factory(place)` gives a store over what is at `place`, not opened. `crash(store)` ends one as if its process had
    been killed; without it crashes are not checked.
    """

    def __init__(self, factory: StoreFactory, place: Path, crash: Crash | None) -> None:
        self._factory = factory
        self._place = place
        self._crash = crash
        self.store = factory(place)
        self.now = NOW
        self._count = 0

    @property
    def can_restart(self) -> bool:
        """Whether the store promises to remember."""
        return self.store.capabilities.durable_ack

    @property
    def can_crash(self) -> bool:
        return self.can_restart and self._crash is not None

    async def restart(self) -> None:
        """Close and open again."""
        await self.store.close()
        self.store = self._factory(self._place)
        await self.store.open()

    async def kill(self) -> None:
        """End as by kill -9, and open again."""
        assert self._crash is not None
        await self._crash(self.store)
        self.store = self._factory(self._place)
        await self.store.open()

    # -- mail in ----------------------------------------------------------------------------------------------

    def mail(
        self, sender: str = "ann@example.net", to: str | Sequence[str] = "desk@example.com", **more: Any
    ) -> Accept:
        """A mail that is like no other; its queue is that of its sender unless `lease_key` says otherwise."""
        self._count += 1
        recipients = (to,) if isinstance(to, str) else tuple(to)
        lease_key = more.pop("lease_key", sender)
        values: dict[str, Any] = {
            "sender": sender,
            "correspondent": sender,
            "recipients": tuple(Recipient(address, lease_key) for address in recipients),
            "body": (b"Subject: %d\r\n" % self._count, b"\r\nHello\r\n"),
            "received": self.now,
            "message_id": f"<{self._count}@lab>",
            "digest": self._count.to_bytes(32, "big"),
            **more,
        }
        return Accept(**values)

    async def accept(self, sender: str = "ann@example.net", **more: Any) -> Receipt:
        return await self.store.accept(self.mail(sender, **more))

    async def claim(self, limit: int = 10, lease: float = 60.0) -> list[Claimed]:
        return await self.store.claim(limit, self.now, lease)

    async def claim_one(self) -> Claimed:
        """Claim exactly one row."""
        rows = await self.claim()
        expect(len(rows) == 1, f"claim gave {len(rows)} rows where one was ready")
        return rows[0]

    # -- turns ------------------------------------------------------------------------------------------------

    async def state(self, key: str, sender: str = "ann@example.net") -> StateValue:
        pair = StateKey(key, sender)
        return (await self.store.read_states([pair]))[pair]

    async def commit(self, row: Claimed, kind: str = "done", **more: Any) -> CommitResult:
        """Commit for a claimed row; see `turn`."""
        return await self.store.commit(await self.turn(row, kind, **more))

    async def turn(
        self,
        row: Claimed,
        kind: str = "done",
        *,
        to: str | None = None,
        key: str = "machine",
        handler: str | None = "machine:START",
        mails: Sequence[OutgoingMail] = (),
        timers: Sequence[SetTimer] = (),
        statements: Sequence[Statement] = (),
        expected: Sequence[Expected] | None = None,
        due: float = 0.0,
        reason: str = "",
        detail: str = "",
        tried: bool = False,
    ) -> TurnCommit:
        """A turn of `handler` (None: no turn) that moves the row's conversation of machine `key` to state `to`."""
        pair = StateKey(key, row.correspondent)
        value = (await self.store.read_states([pair]))[pair]
        history = handler and TurnRow(
            handler=handler, stateful=True, state=pair, before=value.state, after=to or value.state
        )
        return TurnCommit(
            fence=row.fence,
            lease_key=row.lease_key,
            message=row.id,
            now=self.now,
            ack=Ack(kind=kind, due=due, reason=reason, detail=detail, tried=tried),  # type: ignore[arg-type]  # a text
            turn=history or None,
            expected=(Expected(pair, value.version),) if expected is None else tuple(expected),
            changes=(StateChange(pair, to, reason),) if to is not None else (),
            outgoing=tuple(mails),
            timers=tuple(timers),
            statements=tuple(statements),
        )

    async def done(self, row: Claimed, kind: str = "done", **more: Any) -> int:
        """Commit, which must be applied; the id of the turn."""
        result = await self.commit(row, kind, **more)
        expect(isinstance(result, Applied), f"a commit under a good lease gave {result}")
        assert isinstance(result, Applied)
        return result.turn

    async def converse(self, to: str, sender: str = "ann@example.net", **more: Any) -> int:
        """One mail that moves its sender's conversation."""
        await self.accept(sender)
        rows = await self.claim()
        row = next(row for row in rows if row.correspondent == sender)
        return await self.done(row, to=to, **more)

    def outgoing(self, *recipients: str, body: bytes = b"Hello\r\n", due: float | None = None) -> OutgoingMail:
        self._count += 1
        return OutgoingMail(
            token=f"token{self._count}",
            message_id=f"<out-{self._count}@lab>",
            sender=f"b+token{self._count}@example.com",
            recipients=recipients or ("ann@example.net",),
            body=body,
            due=self.now if due is None else due,
        )

    def timer(
        self, after: float | None, target: str = "machine:REMIND", sender: str = "ann@example.net", key: str = "machine"
    ) -> SetTimer:
        return SetTimer(
            state=StateKey(key, sender),
            target=target,
            due=None if after is None else self.now + after,
            recipient="desk@example.com",
            correspondent=sender,
            lease_key=sender,
        )

    # -- looking ----------------------------------------------------------------------------------------------

    async def durable(self) -> None:
        """Return when everything that is applied is on the disk."""
        # An operator's act answers when it is durable, and with it all that was applied before.
        await self.store.set_state(StateKey("(lab)", ""), ROUTE_FIRST_STATE, self.now)
        await asyncio.sleep(0)

    async def balanced(self) -> dict[str, int]:
        """The totals of the ledger, which must balance for each source (P4)."""
        totals = dict.fromkeys(("accepted", "done", "waiting", "running", "held", "dead", "dropped", "duplicates"), 0)
        for source, ledger in (await self.store.ledger()).items():
            parts = ledger.done + ledger.waiting + ledger.running + ledger.held + ledger.dead + ledger.dropped
            expect(ledger.accepted == parts, f"the ledger of {source} does not balance: {ledger}")
            expect(min(ledger.waiting, ledger.running) >= 0, f"a counter of {source} fell below zero: {ledger}")
            for name in totals:
                totals[name] += getattr(ledger, name)
        return totals

    async def counts(self, **wanted: int) -> None:
        """The ledger has these totals, and zero for what is not named (duplicates and accepted aside)."""
        totals = await self.balanced()
        places = {name: totals[name] for name in ("done", "waiting", "running", "held", "dead", "dropped")}
        expected = {name: wanted.get(name, 0) for name in places}
        expect(places == expected, f"the ledger says {places}, it should be {expected}")


Check = Callable[[Lab], Awaitable[None]]
