"""A store process and its workers, really killed: what was acknowledged is there once, and a death costs nobody else.

The workers write a line to their pipe for each thing that they were promised, after the promise.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import rows_of, wait_until
from store_links import join, link_over

from monsal.store import SqliteStore
from monsal.store.host import StoreHost
from monsal.store.remote import RemoteStore
from monsal.testing.kit.lab import Lab

HERE = Path(__file__).resolve().parent


class Speaker:
    """A process whose lines are read as they come."""

    def __init__(self, program: str, *arguments: str) -> None:
        self.lines: list[bytes] = []
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / program), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read)
        first = self._out.readline()
        if not first:
            raise AssertionError(self.process.communicate()[1].decode())
        self.lines.append(first)
        self._reader.start()

    @property
    def _out(self) -> Any:
        return self.process.stdout

    def _read(self) -> None:
        for line in self._out:
            self.lines.append(line)

    def end(self, number: int) -> None:
        """Send a signal, and take in what it still said."""
        os.kill(self.process.pid, number)
        code = self.process.wait(60)
        self._reader.join()
        self._out.close()
        assert self.process.stderr is not None
        errors = self.process.stderr.read().decode()
        self.process.stderr.close()
        assert code in (0, -number), errors

    def said(self) -> list[dict[str, Any]]:
        # The last line may be torn, when the kill hit the write itself.
        return [json.loads(line) for line in list(self.lines) if line.startswith(b"{") and line.endswith(b"\n")]


@contextlib.contextmanager
def ended(*speakers: Speaker) -> Iterator[None]:
    """End them, whatever happens."""
    try:
        yield
    finally:
        for speaker in speakers:
            if speaker.process.poll() is None:
                speaker.end(signal.SIGKILL)


def found_in(path: Path) -> dict[str, list[Any]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        questions = {
            "messages": "select id, message_id, status from v_messages order by id",
            "turns": "select message, sender, state_before, state_after from v_turns order by id",
            "outbox": "select message_id from v_outbox",
            "states": "select sender, state from v_states",
            "ledger": "select accepted, done + waiting + held + dead + dropped from v_ledger where source = 'mail'",
        }
        return {name: database.execute(question).fetchall() for name, question in questions.items()}


@pytest.mark.evidence
@pytest.mark.rule("state.B10", "state.B11", "state.B16")
def test_what_two_workers_were_promised_is_there_once_however_often_the_store_process_is_killed(home: Path) -> None:
    path, place, dice = home / "monsal.db", str(home / "store.sock"), random.Random(20261129)
    store = Speaker("store_program.py", str(path), place)
    workers = [Speaker("store_worker.py", place, name, "2") for name in ("one", "two")]
    with ended(*workers):
        try:
            for _ in range(6):
                # No waiting for something: the moment of the kill is the one thing that must not be chosen.
                time.sleep(dice.uniform(0.1, 0.4))
                store.end(signal.SIGKILL)
                store = Speaker("store_program.py", str(path), place)
            # Now it is left alone until each of them has been promised something, and something has been done.
            wait_until(lambda: all(any("accepted" in line for line in one.said()) for one in workers), "both workers")
            wait_until(lambda: rows_of(path, "select 1 from v_turns limit 1"), "a turn")
            for worker in workers:
                worker.end(signal.SIGKILL)
        finally:
            store.end(signal.SIGTERM)

    said = [line for worker in workers for line in worker.said()]
    accepted = {line["accepted"]: line["name"] for line in said if "accepted" in line}
    assert len({line.get("name", "").split(".")[0] for line in said if "accepted" in line}) == 2
    found = found_in(path)
    stored = {row: message_id for row, message_id, _ in found["messages"]}
    lost = [row for row, name in accepted.items() if stored.get(row) != f"<{name}@x>"]
    assert lost == [], "acknowledged mail is gone"
    assert len(set(stored.values())) == len(stored), "a mail is there twice"
    assert all(accepted == places for accepted, places in found["ledger"])
    done = [row for row, _, status in found["messages"] if status == "done"]
    assert done, "no turn was ever done"
    assert sorted(message for message, *_ in found["turns"]) == done, "a message without its one turn"
    assert len({message_id for (message_id,) in found["outbox"]}) == len(found["outbox"]) == len(done)
    counts: dict[str, int] = {}
    last: dict[str, int] = {}
    for message, sender, before, after in found["turns"]:
        assert before == ("START" if sender not in counts else str(counts[sender])), "it did not begin where one ended"
        counts[sender] = int(after)
        assert message > last.get(sender, 0), "out of order"
        last[sender] = message
    assert dict(found["states"]) == {sender: str(count) for sender, count in counts.items()}


CLAIMER = """
import asyncio, socket, sys, time
sys.path.insert(0, sys.argv[2])
from store_links import link_over
from monsal.store.remote import RemoteStore

async def main():
    store = RemoteStore()
    link = await link_over(socket.socket(fileno=int(sys.argv[1])), store, "store", greets=True)
    await store.attach(link)
    await store.open()
    rows = await store.claim(10, 1_700_000_000.0, 1e6)
    print(*(row.id for row in rows), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_rows_of_a_killed_worker_are_run_by_another_at_once(tmp_path: Path) -> None:
    async def body() -> None:
        running: list[int] = []
        host = StoreHost(SqliteStore(tmp_path / "monsal.db"), running=lambda name: running if name == "victim" else [])
        await host.open()
        store = RemoteStore()
        await join(store, host)
        await store.open()
        lab = Lab(lambda _: store, tmp_path, None)
        ids = [(await lab.accept(f"c{number}@x")).ids[0] for number in range(3)]
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-c", CLAIMER, str(theirs.fileno()), str(HERE)]
            process = await asyncio.create_subprocess_exec(
                *command, pass_fds=[theirs.fileno()], stdout=asyncio.subprocess.PIPE
            )
        link = await link_over(ours, host, "victim")
        assert process.stdout is not None
        claimed = [int(word) for word in (await process.stdout.readline()).split()]
        assert claimed == ids
        assert await lab.claim() == []
        woken = asyncio.Event()
        store.on_work(woken.set)
        running.append(ids[0])
        process.kill()
        async with asyncio.timeout(60):
            await woken.wait()
        assert {row.id: row.kills for row in await lab.claim()} == {ids[0]: 1, ids[1]: 0, ids[2]: 0}
        await process.wait()
        await link.wait_closed()
        await store.close()
        await host.close()

    asyncio.run(body())
