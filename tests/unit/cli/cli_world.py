"""A store with something of everything in it, a control socket over it, and a mail server that obeys a script."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import Result

from monsal.clock import SystemClock
from monsal.control import ControlServer, ServerApi, StoreApi
from monsal.store import open as open_store
from monsal.store.contract import (
    Accept,
    Ack,
    OutgoingMail,
    Recipient,
    Settled,
    StateChange,
    StateKey,
    Store,
    TurnCommit,
    TurnRow,
)

Invoke = Callable[..., Result]

ANN = "ann@example.net"
BOB = "bob@example.net"
EVE = "eve@example.net"


def message(name: str) -> Accept:
    raw = f"From: {name}@example.net\r\nSubject: hi\r\nMessage-ID: <{name}@x>\r\n\r\nHello \x1b[31m\r\n".encode()
    return Accept(
        sender=f"{name}@example.net",
        correspondent=f"{name}@example.net",
        recipients=(Recipient("desk@example.com", f"{name}@example.net"),),
        body=(raw,),
        received=1_700_000_000.0,
        message_id=f"<{name}@x>",
    )


async def fill(store: Store) -> None:
    """Ann's message is done and moved her to ASKED with an answer that was deferred; Bob's is dead, Eve's is held."""
    durable = asyncio.Event()
    store.on_outgoing(durable.set)
    for name in ("ann", "bob", "eve"):
        await store.accept(message(name))
    now = 1_700_000_001.0
    for claimed in await store.claim(10, now, 60.0):
        done = claimed.sender == ANN
        key = StateKey("orders", claimed.sender)
        await store.commit(
            TurnCommit(
                fence=claimed.fence,
                lease_key=claimed.lease_key,
                message=claimed.id,
                now=now,
                ack=Ack(
                    kind="done" if done else "dead" if claimed.sender == BOB else "hold",
                    reason="" if done else "orders:START: ValueError: no\x1b[31m price \ud800",
                    detail="" if done else "Traceback (most recent call last):\n  ValueError: no price \ud800",
                ),
                turn=TurnRow(handler="orders:START", stateful=True, state=key, before="START", after="ASKED")
                if done
                else None,
                changes=(StateChange(key, "ASKED"),) if done else (),
                outgoing=(OutgoingMail(token="t", message_id="<out@x>", sender="b@x", recipients=(ANN,), body=b"x"),)
                if done
                else (),
            )
        )
    await asyncio.wait_for(durable.wait(), 10)
    [row] = await store.take_outgoing(10, now)
    await store.settle([Settled(id=row.id, status="deferred", reason="451 later", due=4_000_000_000.0)])


async def make_store(home: Path) -> None:
    store = open_store("sqlite:///run/monsal.db", base=home)
    await store.open()
    await fill(store)
    await store.close()


@dataclass
class Live:
    """A control socket over an open store, as a server has it."""

    home: Path
    stops: list[bool] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    settings: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    blame: dict[str, Any] = field(default_factory=dict)

    async def serve(self, ready: Future[None], end: Future[tuple[Any, asyncio.Event]]) -> None:
        stop = asyncio.Event()
        end.set_result((asyncio.get_running_loop(), stop))
        store = open_store("sqlite:///run/monsal.db", base=self.home)
        await store.open()

        async def status() -> dict[str, Any]:
            ledger = (await store.ledger())["mail"]
            names = ("accepted", "done", "waiting", "running", "held", "dead", "dropped", "duplicates")
            return {
                "ready": True,
                "generation": 1,
                "pid": os.getpid(),
                "ledger": {name: getattr(ledger, name) for name in names},
                "outbox": await store.outbox_counts(),
                **self.status,
            }

        control = ControlServer(self.home / "run" / "control.sock")
        control.mount("store", StoreApi(lambda: store, SystemClock()))
        server = ServerApi(
            status=status,
            stop=self.stops.append,
            config=lambda: self.settings,
            why=lambda: self.reasons,
            blame=lambda: self.blame,
        )
        control.mount("server", server)
        await control.start()
        ready.set_result(None)
        await stop.wait()
        await control.stop()
        await store.close()


@contextmanager
def live_server(home: Path) -> Iterator[Live]:
    live = Live(home)
    ready: Future[None] = Future()
    end: Future[tuple[Any, asyncio.Event]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(live.serve(ready, end)))
    thread.start()
    try:
        ready.result(10)
        yield live
    finally:
        loop, stop = end.result(10)
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive()


class MailServer:
    """Speaks SMTP or LMTP with one peer after the other, answers as it is told, and keeps what it got.

    `script` gives the answers to verbs (RCPT may have one for each address); `on_message` is called with each mail.
    """

    def __init__(self, *, lmtp: bool = False, path: Path | None = None) -> None:
        self.lmtp = lmtp
        self.script: dict[str, str] = {}
        self.greeting = "220 here"
        self.mails: list[tuple[str, list[str], bytes]] = []
        self.on_message: Callable[[bytes], None] = lambda raw: None
        self._listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._listener.bind(str(path) if path else ("127.0.0.1", 0))
        self._listener.listen()
        self._listener.settimeout(60)
        self.address = str(path) if path else f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> MailServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Waking the thread that accepts: closing alone does not do it everywhere.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer, peer.makefile("rwb") as stream:
                self._session(stream)

    def _session(self, stream: Any) -> None:
        def say(text: str) -> None:
            stream.write(text.encode() + b"\r\n")
            stream.flush()

        say(self.greeting)
        sender, recipients = "", list[str]()
        while line := stream.readline().decode().rstrip("\r\n"):
            verb = line.upper().partition(" ")[0]
            address = line.partition("<")[2].partition(">")[0]
            answer = self.script.get(f"RCPT {address}") or self.script.get(verb) or "250 fine"
            if verb == "MAIL":
                sender, recipients = address, []
            elif verb == "RCPT" and answer.startswith("2"):
                recipients.append(address)
            elif verb == "QUIT":
                say("221 bye")
                return
            if verb == "DATA" and answer.startswith("2"):
                say("354 go on")
                raw = b"".join(iter(stream.readline, b".\r\n")).replace(b"\r\n..", b"\r\n.")
                self.mails.append((sender, recipients, raw))
                self.on_message(raw)
                for recipient in recipients if self.lmtp else [""]:
                    say(self.script.get(f"DATA {recipient}", answer))
                continue
            if answer == "hang up":
                return
            say(answer)


def announce(home: Path, **facts: Any) -> None:
    """Write the ready.json of a server."""
    (home / "run").mkdir(exist_ok=True)
    (home / "run" / "ready.json").write_text(json.dumps({"pid": os.getpid(), "generation": 1, **facts}))
