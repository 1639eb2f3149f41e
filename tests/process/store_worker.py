"""A worker process of the tests of the store's host: `python store_worker.py SOCKET NAME [TURNS]`.

It accepts mail as fast as it can, and prints a line of JSON for each that was acknowledged. With TURNS it also handles
what it can claim. When the store process ends, it looks for the next one.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

import uvloop
from store_links import setup_of

from monsal.errors import RemoteError, StoreUnavailable
from monsal.store.contract import (
    Accept,
    Ack,
    Expected,
    OutgoingMail,
    Recipient,
    StateChange,
    StateKey,
    TurnCommit,
    TurnRow,
)
from monsal.store.remote import RemoteStore
from monsal.transport import Link, connect

place, name = sys.argv[1:3]


def say(**what: Any) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())


async def stay_linked(store: RemoteStore, link: Link) -> None:
    """Attach the store to each store process that comes after the one that ended."""
    while True:
        await link.wait_closed()
        while True:
            try:
                link = await connect(f"unix:{place}", setup_of(store))
                await store.attach(link)
                break
            except (OSError, RemoteError, StoreUnavailable):
                await asyncio.sleep(0.01)


async def write(store: RemoteStore, client: int) -> None:
    number = 0
    while True:
        number += 1
        text = f"{name}.{client}.{number}"
        who = f"{name}.{client}@x"
        body = text.encode() + b" " + b"x" * (200_000 if number % 40 == 0 else 500)
        mail = Accept(
            sender=who,
            correspondent=who,
            recipients=(Recipient("desk@y", who),),
            body=(body,),
            received=1000.0,
            message_id=f"<{text}@x>",
            digest=text.encode().ljust(32),
        )
        while True:
            try:
                receipt = await store.accept(mail)
            except StoreUnavailable as error:
                say(refused=text, why=str(error))
                continue  # a 451, after which the sender tries again
            say(accepted=receipt.ids[0], name=text, again=receipt.duplicates[0])
            break


async def work(store: RemoteStore) -> None:
    wake = asyncio.Event()
    store.on_work(wake.set)
    while True:
        wake.clear()
        try:
            rows = await store.claim(20, time.time(), 60.0)
            if not rows:
                await wake.wait()
            for row in rows:
                await turn(store, row)
        except StoreUnavailable as error:
            say(unavailable=str(error))


async def turn(store: RemoteStore, row: Any) -> None:
    state = StateKey("m", row.correspondent)
    value = (await store.read_states([state]))[state]
    count = str(1 if value.state == "START" else int(value.state) + 1)
    body = row.body if isinstance(row.body, bytes) else row.body.read_bytes()
    text = body.split()[0].decode()
    mail = OutgoingMail(
        token=text, message_id=f"<o{text}@y>", sender="b@y", recipients=(row.correspondent,), body=b"re: " + body
    )
    await store.commit(
        TurnCommit(
            fence=row.fence,
            lease_key=row.lease_key,
            message=row.id,
            now=time.time(),
            ack=Ack(kind="done"),
            turn=TurnRow(handler="m:COUNT", stateful=True, state=state, before=value.state, after=count),
            expected=(Expected(state, value.version),),
            changes=(StateChange(state, count),),
            outgoing=(mail,),
        )
    )


async def main() -> None:
    store = RemoteStore(patience=20.0)
    link = await connect(f"unix:{place}", setup_of(store))
    await store.attach(link)
    await store.open()
    say(open=store.epoch)
    tasks = [stay_linked(store, link), *(write(store, client) for client in range(3))]
    if len(sys.argv) > 3:
        tasks += [work(store) for _ in range(int(sys.argv[3]))]
    await asyncio.gather(*tasks)


uvloop.run(main())
