"""Fill the store of the bench's application through the product's own calls, before it is started.

    python -m bench.probes.waiting HOME mails NUMBER CORRESPONDENTS     # that nobody has handled yet
    python -m bench.probes.waiting HOME replies NUMBER CORRESPONDENTS # of turns that are done, and wait to leave

The last line is a JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from importlib import import_module
from itertools import count
from pathlib import Path

from bench.mailers import RECIPIENT
from bench.mails import MailMaker
from monsal.clock import SystemClock
from monsal.conversation import Spool
from monsal.mail import Envelope
from monsal.routing import Router, literal
from monsal.store import Store, open_store
from monsal.store.contract import Ack, Claimed, OutgoingMail, StateChange, StateKey, TurnCommit, TurnRow

__all__ = ["main"]

#: Accepts under way at a time: enough to fill the store's groups.
_FLIGHT = 100
#: No other load of the bench has it: its mails would be duplicates of these.
_SEED = 999


async def _accept(spool: Spool, number: int, correspondents: int) -> None:
    maker = MailMaker(_SEED, (RECIPIENT,), 1024)
    numbers = iter(range(number))

    async def lane() -> None:
        for mine in numbers:
            mail = maker.make(mine % correspondents, mine // correspondents + 1)
            await spool.accept(Envelope(sender=mail.sender, recipients=mail.recipients), (mail.data,))

    await asyncio.gather(*(lane() for _ in range(_FLIGHT)))


async def _answer(store: Store, row: Claimed, name: int) -> None:
    state = StateKey("handlers", row.correspondent)
    value = (await store.read_states([state]))[state]
    after = "START" if value.state == "NEXT" else "NEXT"
    message_id = f"<answer-{name}@example.com>"
    head = f"From: {RECIPIENT}\r\nTo: {row.correspondent}\r\nMessage-ID: {message_id}\r\nSubject: Re: yours\r\n\r\n"
    reply = OutgoingMail(
        token=f"bench{name}",
        message_id=message_id,
        sender=RECIPIENT,
        recipients=(row.correspondent,),
        body=head.encode() + b"What would you like? We have it.\r\n" * 26,
    )
    commit = TurnCommit(
        fence=row.fence,
        lease_key=row.lease_key,
        message=row.id,
        now=time.time(),
        ack=Ack(kind="done"),
        turn=TurnRow(handler="handlers:START", stateful=True, state=state, before=value.state, after=after),
        changes=(StateChange(state, after),),
        outgoing=(reply,),
    )
    await store.commit(commit)


async def _fill(home: Path, what: str, number: int, correspondents: int) -> None:
    sys.path.insert(0, str(home))
    router = Router()
    router.defaults(host=literal("example.com"))
    router.load([import_module("handlers")])
    (home / "run").mkdir(exist_ok=True)
    store = open_store("sqlite:///run/monsal.db", base=home)
    await store.open()
    await _accept(Spool(store, router, SystemClock()), number, correspondents)
    names = count()
    while what == "replies" and (rows := await store.claim(_FLIGHT, time.time(), 60.0)):
        await asyncio.gather(*(_answer(store, row, next(names)) for row in rows))
    await store.close()


def main(arguments: list[str]) -> int:
    """Fill it."""
    import uvloop

    home, what, number, correspondents = arguments
    began = time.monotonic()
    uvloop.run(_fill(Path(home), what, int(number), int(correspondents)))
    print(json.dumps({"seconds": round(time.monotonic() - began, 3)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
