"""The proof that nothing is lost and nothing is done twice, whenever the server is killed.

`put_to_the_proof` runs a load against a server and kills it again and again; `Evidence` is what is left when it is
over: what the load was promised, what the database says, what was sent. Each method of `Evidence` is one claim and
returns what contradicts it, so that a failure names the mails it is about.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from harness import ROOT, Server, background, wait_until

__all__ = ["HANDLERS", "RECIPIENT", "TABLES", "Evidence", "Trial", "Witness", "put_to_the_proof", "smtp_witness"]

RECIPIENT = "desk@example.com"

#: A small application with all that a turn can do: states, replies, timers, rows of its own, a stateless handler.
HANDLERS = '''
from monsal import after, current, reply, route, stateless


def answer(message, text):
    """One reply, and one row that is not the same twice: a turn that ran twice would show."""
    current().write("insert into work (sender, seq) values (?, ?)", (message.sender, int(message["X-Seq"])))
    reply(f"{text} {message['X-Seq']}", headers={"X-Answers": message["X-Seq"]}, even_if_automatic=True)


@route("desk@(host)")
def START(message):
    answer(message, "opened by")
    after(seconds=0.4, run=REMIND)
    return OPEN


@route("desk@(host)")
def OPEN(message):
    answer(message, "noted")
    return WAITING


@route("desk@(host)")
def WAITING(message):
    answer(message, "noted again")
    after(seconds=0.4, run=REMIND)
    return OPEN


def REMIND(message):
    current().write("insert into reminder (sender) values (?)", (message.sender,))
    reply("still open", headers={"X-Reminder": "yes"}, even_if_automatic=True)


@stateless
@route("desk@(host)")
def COUNT(message):
    current().write("insert into seen (sender, seq) values (?, ?)", (message.sender, int(message["X-Seq"])))
'''
TABLES = (
    "create table if not exists work (id integer primary key, sender text, seq integer)",
    "create table if not exists seen (id integer primary key, sender text, seq integer)",
    "create table if not exists reminder (id integer primary key, sender text)",
)
STATEFUL = ("handlers:START", "handlers:OPEN", "handlers:WAITING")
STATELESS = "handlers:COUNT"
REMINDER = "handlers:REMIND"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How hard it is: kills in all, mails a second, who writes, over how many connections."""

    kills: int
    seed: int = 1
    rate: float = 500.0
    correspondents: int = 300
    connections: int = 10
    size: int = 1000


class Witness(Protocol):
    """Keeps what left: (Message-ID, bytes) of each mail, as often as it came."""

    def mails(self) -> list[tuple[str, bytes]]: ...


class CaptureWitness:
    """The maildir of the capture relay."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def mails(self) -> list[tuple[str, bytes]]:
        return [_identified(path.read_bytes()) for path in sorted(self._directory.glob("[nc][eu][wr]/*"))]


class SmtpWitness:
    """A mail server in the test's own process that outlives all kills and keeps every mail, also the second time."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.port = 0

    def mails(self) -> list[tuple[str, bytes]]:
        return [_identified(raw) for raw in self.kept]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One session. It knows just enough SMTP, with PIPELINING (RFC 2920), to be quick."""
        writer.write(b"220 witness\r\n")
        try:
            while line := (await reader.readline()).upper():
                if line.startswith(b"DATA"):
                    writer.write(b"354 go on\r\n")
                    raw = await reader.readuntil(b"\r\n.\r\n")
                    self.kept.append(raw)
                    writer.write(b"250 2.0.0 kept\r\n")
                elif line.startswith(b"EHLO"):
                    writer.write(b"250-witness\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                else:
                    writer.write(b"221 2.0.0 bye\r\n" if line.startswith(b"QUIT") else b"250 2.0.0 ok\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the peer was killed: that is what this is about
        finally:
            writer.close()


@contextmanager
def smtp_witness() -> Iterator[SmtpWitness]:
    """A SmtpWitness that listens on `port`, on a loop in a thread of its own."""
    witness = SmtpWitness()
    loop = asyncio.new_event_loop()
    # asyncio turns Nagle's algorithm off only where the socket names its protocol; create_server leaves that out.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    witness.port = listener.getsockname()[1]

    async def body() -> None:
        server = await asyncio.start_server(witness.serve, sock=listener, limit=1 << 20)
        loop.call_soon(started.set)
        await over.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    started, over = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(body(),), name="witness")
    thread.start()
    started.wait(10)
    try:
        yield witness
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def _identified(raw: bytes) -> tuple[str, bytes]:
    return BytesHeaderParser().parsebytes(raw)["Message-ID"], raw


def put_to_the_proof(directory: Path, trial: Trial, *, witness: Witness | None = None) -> Evidence:
    """Load a server, kill it `kills` times at seeded moments, let it finish, stop it cleanly; what is left.

    Without a `witness`, what left is what the capture relay filed.
    """
    dice = random.Random(trial.seed)
    files = {name: directory / f"{name}.jsonl" for name in ("acknowledged", "sent", "summary")}
    command = [
        *(sys.executable, "-m", "bench.load", "--ready", directory / "run" / "ready.json", "--recipient", RECIPIENT),
        *("--correspondents", trial.correspondents, "--connections", trial.connections, "--rate", trial.rate),
        *("--seed", trial.seed, "--size", trial.size, "--out", files["acknowledged"], "--json-sent", files["sent"]),
        *("--summary", files["summary"]),
    ]
    with Server(directory) as server, background([str(part) for part in command], cwd=ROOT) as load:
        server.start()
        for _ in range(trial.kills):
            _live_for_a_while(server, load, dice)
            server.kill()
            server.spawn()
            if dice.random() < 0.25:
                # In the middle of its start, while it repairs what the last kill left.
                time.sleep(dice.uniform(0.0, 0.6))
                server.kill()
                server.spawn()
            server.wait_ready()
        _live_for_a_while(server, load, dice)
        load.send_signal(signal.SIGTERM)
        assert load.wait(60) == 0, "the load was not stopped cleanly"
        server.wait_idle(patience=120)
        code = server.stop()
        assert code == 0, f"the last stop was not clean, exit {code}:\n{server.log()}"
        assert not server.ready_file.exists(), "run/ready.json is there after the server has gone"
    captured = (witness or CaptureWitness(directory / "run" / "sent")).mails()
    return Evidence(server, _lines(files["sent"]), _lines(files["acknowledged"]), _lines(files["summary"])[0], captured)


def _live_for_a_while(server: Server, load: subprocess.Popen[bytes], dice: random.Random) -> None:
    """Let mail come in, and then go on for a moment that the seed decides."""
    count = "select accepted from v_ledger where source = 'mail'"
    before = server.rows(count)[0][0]

    def moving() -> bool:
        assert load.poll() is None, f"the load ended with {load.returncode}"
        return bool(server.rows(count)[0][0] > before)

    wait_until(moving, f"new mail in the store; the server says:\n{server.log()}")
    # This is no waiting for something: the moment of the kill is the one thing here that must not be chosen.
    time.sleep(dice.uniform(0.0, 1.2))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@dataclass
class Evidence:
    """What is left of a trial: the mails that were `sent`, those `acknowledged`, those that were `captured` on
    their way out as (Message-ID, bytes), the `summary` of the load, and the server's files."""

    server: Server
    sent: list[dict[str, Any]]
    acknowledged: list[dict[str, Any]]
    summary: dict[str, Any]
    captured: list[tuple[str, bytes]]

    @cached_property
    def messages(self) -> list[tuple[int, str, str, str]]:
        """(row, Message-ID, recipient, status) of each mail that came from outside."""
        return self.server.rows(
            "select id, message_id, recipient, status from v_messages where message_id is not null order by id"
        )

    @cached_property
    def turns(self) -> list[tuple[int, int, str, str, str, str, str]]:
        """(turn, row, Message-ID, sender, handler, state before, state after) in order of commit."""
        return self.server.rows(
            "select id, message, message_id, sender, handler, state_before, state_after from v_turns order by id"
        )

    @cached_property
    def number(self) -> dict[str, tuple[str, int]]:
        """Message-ID -> (sender, X-Seq) of each mail that was ever sent."""
        return {row["message_id"]: (row["sender"], row["seq"]) for row in self.sent}

    @cached_property
    def outbox(self) -> list[tuple[int, int, str, str]]:
        """(row, turn, Message-ID, status) of each mail that turns wrote."""
        return self.server.rows("select id, turn, message_id, status from v_outbox order by id")

    def acknowledged_but_not_stored_once(self) -> Iterator[str]:
        """P1: what was acknowledged is there, exactly once."""
        stored = Counter((message_id, recipient) for _, message_id, recipient, _ in self.messages)
        for row in self.acknowledged:
            if stored[row["message_id"], row["recipient"]] != 1:
                yield f"{row['message_id']} for {row['recipient']}: {stored[row['message_id'], row['recipient']]} rows"

    def stored_but_never_sent(self) -> Iterator[str]:
        sent = {(row["message_id"], recipient) for row in self.sent for recipient in row["recipients"]}
        for _, message_id, recipient, _ in self.messages:
            if (message_id, recipient) not in sent:
                yield f"{message_id} for {recipient}"

    def turns_that_are_not_one_for_each_handler(self) -> Iterator[str]:
        """P2: each message has one turn of the stateless handler and one of the state machine, and no other."""
        done: dict[int, list[str]] = defaultdict(list)
        for _, row, _, _, handler, _, _ in self.turns:
            done[row].append("machine" if handler in STATEFUL else handler)
        for row, message_id, _, status in self.messages:
            if status != "done" or sorted(done[row]) != [STATELESS, "machine"]:
                yield f"row {row} {message_id} is {status} and has the turns {done[row]}"
        for row, message, handler in self.server.rows(
            "select count(*), message, handler from v_turns group by message, handler having count(*) > 1"
        ):
            yield f"message {message} has {row} turns of {handler}"

    def turns_out_of_order(self) -> Iterator[str]:
        """P3: for each handler, a correspondent's mails were handled in the order in which they were written."""
        last: dict[tuple[str, str], int] = {}
        for turn, _, message_id, sender, handler, _, _ in self.turns:
            if handler == REMINDER:
                continue
            role = "machine" if handler in STATEFUL else handler
            seq = self.number[message_id][1]
            if seq <= last.get((sender, role), 0):
                yield f"turn {turn}: {sender} had number {last[sender, role]} handled before number {seq}"
            last[sender, role] = seq

    def broken_chains_of_states(self) -> Iterator[str]:
        """Each turn began in the state in which the one before it had left the conversation."""
        state: dict[str, str] = {}
        for turn, _, _, sender, handler, before, after in self.turns:
            if handler in STATEFUL:
                if before != state.get(sender, "START") or handler != f"handlers:{before}":
                    yield f"turn {turn} of {handler} for {sender} began in {before}, not {state.get(sender, 'START')}"
                state[sender] = after
        kept = dict(self.server.rows("select sender, state from v_states"))
        if kept != state:
            yield f"v_states differs from the last turns: {sorted(kept.items() ^ state.items())[:10]}"

    def ledger_that_does_not_balance(self) -> Iterator[str]:
        """P4: accepted = done + waiting + running + held + dead + dropped, and these are the rows that are there."""
        for (source,) in self.server.rows("select source from v_ledger"):
            row = self.server.ledger(source)
            parts = sum(row[name] for name in ("done", "waiting", "running", "held", "dead", "dropped"))
            if row["accepted"] != parts:
                yield f"{source}: {row['accepted']} accepted, but {parts} in all places: {row}"
        mail = self.server.ledger("mail")
        there = Counter(status for _, _, _, status in self.messages)
        counted = {name: mail[name] for name in ("done", "waiting", "held", "dead", "dropped") if mail[name]}
        if mail["accepted"] != len(self.messages) or counted != dict(there):
            yield f"the ledger says {mail}, the rows are {dict(there)}"

    def rows_of_the_application_that_differ(self) -> Iterator[str]:
        """P2: what a handler wrote to the application's tables is there once for each turn."""
        machine = [self.number[message_id] for _, _, message_id, _, handler, _, _ in self.turns if handler in STATEFUL]
        counted = [self.number[message_id] for _, _, message_id, _, handler, _, _ in self.turns if handler == STATELESS]
        for table, expected in (("work", machine), ("seen", counted)):
            written = Counter(self.server.rows(f"select sender, seq from {table}"))
            for key in (written - Counter(expected)) | (Counter(expected) - written):
                yield f"{table}: {key} is there {written[key]} times, its turns {Counter(expected)[key]} times"
        reminders = sum(handler == REMINDER for _, _, _, _, handler, _, _ in self.turns)
        if (found := self.server.rows("select count(*) from reminder")[0][0]) != reminders:
            yield f"reminder: {found} rows, {reminders} turns"

    def replies_that_are_not_one_for_each_turn(self) -> Iterator[str]:
        """P2: each turn that replied has its mail in the outbox, once, and nothing else is in there."""
        expected = {turn for turn, _, _, _, handler, _, _ in self.turns if handler != STATELESS}
        written = Counter(turn for _, turn, _, _ in self.outbox)
        for turn in expected | set(written):
            if written[turn] != (turn in expected):
                yield f"turn {turn} has {written[turn]} mails in the outbox"

    def mails_that_did_not_leave_as_written(self) -> Iterator[str]:
        """The last hop is at-least-once: what is sent twice is the same to the byte, under one Message-ID.

        What a timer wrote in the moment of the stop may still wait; it leaves after the next start.
        """
        left: dict[str, set[bytes]] = defaultdict(set)
        for message_id, raw in self.captured:
            left[message_id].add(raw)
        status = {message_id: status for _, _, message_id, status in self.outbox}
        for message_id in left.keys() | status:
            forms, said = len(left[message_id]), status.get(message_id, "nothing")
            if forms > 1 or said not in ("sent", "waiting") or (said == "sent" and not forms):
                yield f"{message_id}: left in {forms} forms, the outbox says {said}"

    def answers_that_were_given_twice(self) -> Iterator[str]:
        """No mail of a correspondent has two different answers."""
        answers: dict[tuple[str, str], set[str]] = defaultdict(set)
        for message_id, raw in self.captured:
            headers = BytesHeaderParser().parsebytes(raw)
            if headers["X-Answers"]:
                answers[headers["To"], headers["X-Answers"]].add(message_id)
        for (sender, seq), ids in answers.items():
            if len(ids) > 1:
                yield f"{sender} has {len(ids)} answers to number {seq}: {sorted(ids)}"

    def damage(self) -> Iterator[str]:
        """What SQLite itself finds wrong with the file."""
        for (found,) in self.server.rows("pragma integrity_check"):
            if found != "ok":
                yield found

    CLAIMS = (
        acknowledged_but_not_stored_once,
        stored_but_never_sent,
        turns_that_are_not_one_for_each_handler,
        turns_out_of_order,
        broken_chains_of_states,
        ledger_that_does_not_balance,
        rows_of_the_application_that_differ,
        replies_that_are_not_one_for_each_turn,
        mails_that_did_not_leave_as_written,
        answers_that_were_given_twice,
        damage,
    )

    def contradictions(self) -> dict[str, list[str]]:
        """All that contradicts a claim, at most ten lines for each."""
        found = {claim.__name__: list(claim(self)) for claim in self.CLAIMS}
        return {name: [f"{len(lines)} in all", *lines[:10]] for name, lines in found.items() if lines}
