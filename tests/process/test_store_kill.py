"""A store whose process is killed, or whose disk is full for the kernel: what was acknowledged is there, nothing half.

The child writes a line to its pipe for each thing that it was promised, after the promise and before the next step.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from monsal.store import Inspector, SqliteStore
from monsal.testing.kit.lab import Lab

pytestmark = pytest.mark.evidence

CHILD = """
import asyncio, json, os, sys
from pathlib import Path
from monsal.store import SqliteStore
from monsal.store.contract import (Accept, Ack, Expected, OutgoingMail, Recipient, Settled, SetTimer, StateChange,
                                   StateKey, Statement, TurnCommit, TurnRow)

def say(**what):
    os.write(1, (json.dumps(what) + "\\n").encode())

async def write(store, life, client):
    number = 0
    while True:
        number += 1
        name = f"{life}.{client}.{number}"
        body = name.encode() + b" " + b"x" * (200_000 if number % 40 == 0 else 500)
        receipt = await store.accept(Accept(
            sender=f"c{client}@x", correspondent=f"c{client}@x", recipients=(Recipient("desk@y", f"c{client}@x"),),
            body=(body,), received=1000.0, message_id=f"<{name}@x>", digest=name.encode().ljust(32)))
        say(accepted=receipt.ids[0], name=name)

async def work(store):
    wake = asyncio.Event()
    store.on_work(wake.set)
    while True:
        wake.clear()
        rows = await store.claim(20, 2000.0, 1e6)
        if not rows:
            await wake.wait()
        for row in rows:
            state = StateKey("m", row.correspondent)
            value = (await store.read_states([state]))[state]
            count = 0 if value.state == "START" else int(value.state)
            body = row.body if isinstance(row.body, bytes) else row.body.read_bytes()
            name = body.split()[0].decode()
            await store.commit(TurnCommit(
                fence=row.fence, lease_key=row.lease_key, message=row.id, now=2000.0, ack=Ack(kind="done"),
                turn=TurnRow(handler="m:COUNT", stateful=True, state=state, before=value.state, after=str(count + 1)),
                expected=(Expected(state, value.version),), changes=(StateChange(state, str(count + 1)),),
                outgoing=(OutgoingMail(token=name, message_id=f"<o{name}@y>", sender="b@y",
                                       recipients=(row.correspondent,), body=b"re " + body),),
                statements=(Statement("insert into work values (?, ?)", (row.id, name)),)))

async def send(store):
    wake = asyncio.Event()
    store.on_outgoing(wake.set)
    while True:
        wake.clear()
        rows = await store.take_outgoing(50, 3000.0)
        for row in rows:
            say(left=row.id, message_id=row.message_id)
        if rows:
            await store.settle([Settled(id=row.id, status="sent") for row in rows])
        else:
            await wake.wait()

async def main():
    store = SqliteStore(Path(sys.argv[1]), tables=["create table if not exists work(message int unique, name text)"])
    await store.open()
    say(open=store.epoch)
    await asyncio.gather(*(write(store, store.epoch, client) for client in range(6)), work(store), send(store))

asyncio.run(main())
"""


def live_and_die(path: Path, dice: random.Random) -> list[dict[str, Any]]:
    """Run a child for a moment that the seed decides, kill it, and give what it said."""
    # Unbuffered: `communicate` does not see what `readline` has read beyond its line, and would begin inside another.
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stderr is not None
    first = child.stdout.readline()
    assert first, child.stderr.read().decode()
    # No waiting for something: the moment of the kill is the one thing that must not be chosen.
    time.sleep(dice.uniform(0.02, 0.35))
    os.kill(child.pid, signal.SIGKILL)
    rest, errors = child.communicate()
    assert child.returncode == -signal.SIGKILL, errors.decode()
    lines = [first, *rest.splitlines(keepends=True)]
    # The last line may be torn, when the kill hit the write itself.
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def inspect(path: Path) -> dict[str, list[Any]]:
    """What a fresh opening finds; its views must agree with one another."""

    async def look() -> dict[str, list[Any]]:
        store = SqliteStore(path, tables=["create table if not exists work(message int unique, name text)"])
        await store.open()
        found = {
            "messages": await store.read("select id, message_id, sender, status from v_messages order by id"),
            "turns": await store.read("select id, message, sender, state_before, state_after from v_turns order by id"),
            "outbox": await store.read("select id, turn, message_id, status from v_outbox order by id"),
            "states": await store.read("select sender, state from v_states"),
            "work": await store.read("select message from work order by message"),
        }
        lab = Lab(lambda place: store, path.parent, None)
        totals = await lab.balanced()
        assert totals["accepted"] == len(found["messages"])
        assert totals["done"] == len(found["turns"])
        for row in await store.claim(1000, 2000.0, 10.0):
            body = row.body if isinstance(row.body, bytes) else row.body.read_bytes()
            assert f"<{body.split()[0].decode()}@x>" == row.message_id, "a message lost its body"
        await store.close()
        return found

    found = asyncio.run(look())
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    return found


@pytest.mark.rule("state.R6", "state.B10", "state.B11", "state.B12")
def test_killed_ten_times_it_has_everything_acknowledged_and_nothing_half(tmp_path: Path) -> None:
    path, dice = tmp_path / "monsal.db", random.Random(20260807)
    accepted: dict[int, str] = {}
    left: dict[int, str] = {}
    for _ in range(10):
        for said in live_and_die(path, dice):
            if "accepted" in said:
                accepted[said["accepted"]] = said["name"]
            elif "left" in said:
                assert left.setdefault(said["left"], said["message_id"]) == said["message_id"], "an id changed its mail"
    found = inspect(path)
    stored = {row: message_id for row, message_id, _, _ in found["messages"]}
    assert accepted, "nothing was ever acknowledged"
    lost = [row for row, name in accepted.items() if stored.get(row) != f"<{name}@x>"]
    assert lost == [], "acknowledged mail is gone"
    assert len(set(stored.values())) == len(stored)
    written = {row: message_id for row, _, message_id, _ in found["outbox"]}
    assert left.items() <= written.items(), "a mail left whose turn is not there"

    done = [row for row, _, _, status in found["messages"] if status == "done"]
    assert sorted(message for _, message, *_ in found["turns"]) == done, "a message without its one turn"
    assert sorted(message for (message,) in found["work"]) == done, "the application's table differs from the history"
    assert [turn for _, turn, *_ in found["outbox"]] == [turn for turn, *_ in found["turns"]]
    counts: dict[str, int] = {}
    last: dict[str, int] = {}
    for _, message, sender, before, after in found["turns"]:
        assert before == ("START" if sender not in counts else str(counts[sender])), (
            "a turn did not begin where the last ended"
        )
        counts[sender] = int(after)
        assert message > last.get(sender, 0), "out of order"
        last[sender] = message
    assert dict(found["states"]) == {sender: str(count) for sender, count in counts.items()}


FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from monsal.errors import StoreUnavailable
from monsal.store import SqliteStore
from monsal.testing.kit.lab import Lab

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    lab = Lab(lambda place: store, Path("."), None)
    ids = [(await lab.accept(f"c{number}@x", body=(b"x" * 3000,))).ids[0] for number in range(20)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    refused = 0
    for number in range(400):
        try:
            ids.append((await lab.accept(f"d{number}@x", body=(b"x" * 3000,))).ids[0])
        except StoreUnavailable:
            refused += 1
            if refused == 5:
                break
    assert refused == 5, refused
    try:
        await lab.accept("large@x", body=(b"x" * 600_000,))
        raise SystemExit("a large body was accepted on a full disk")
    except StoreUnavailable:
        pass
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for _ in range(500):
        try:
            ids.append((await lab.accept("after@x")).ids[0])
            break
        except StoreUnavailable:
            await asyncio.sleep(0.02)
    rows = await lab.claim(10_000)
    assert sorted(row.id for row in rows) == sorted(ids), (len(rows), len(ids))
    await lab.balanced()
    await store.close()
    print("ok", len(ids), store.statistics().recoveries)

asyncio.run(main())
"""


@pytest.mark.rule("state.B11")
def test_a_disk_that_is_full_for_the_kernel_refuses_and_recovers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "monsal.db")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok")
    with contextlib.suppress(FileNotFoundError):
        assert [path for path in (tmp_path / "bodies").rglob("*") if path.is_file()] == []


@pytest.mark.rule("state.B16")
def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "monsal.db"
    said = live_and_die(path, random.Random(1))
    # Whoever only looks can do so before the next owner comes.
    with Inspector(path) as inspector:
        accepted = inspector.ledger()["mail"].accepted
    assert accepted >= sum("accepted" in line for line in said)
    assert (tmp_path / "store.lock").read_text().startswith("process ")
    inspect(path)
    assert (tmp_path / "store.lock").read_text() == ""
