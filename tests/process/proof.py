"""The proof that nothing is lost and nothing is done twice, whenever the server is killed.

`put_to_the_proof` runs a load against a server and kills it again and again; what is left when it is over is judged by
`evidence.py`.

    evidence = put_to_the_proof(desk(home), Trial(kills=6), DeskEvidence)
    assert evidence.contradictions() == {}
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, Protocol, TypeVar

from evidence import Evidence
from harness import ROOT, Server, background, make_application, wait_until

__all__ = ["Trial", "Witness", "desk", "helpdesk", "put_to_the_proof", "smtp_witness"]

E = TypeVar("E", bound=Evidence)

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


def desk(directory: Path, **settings: Any) -> Path:
    """Write that application into a directory; its evidence is DeskEvidence."""
    return make_application(directory, HANDLERS, tables=TABLES, **settings)


def helpdesk(directory: Path) -> Path:
    """Copy the example application into a directory; its evidence is HelpdeskEvidence."""
    own = ("run", "__pycache__", "tests")
    shutil.copytree(ROOT / "examples" / "helpdesk", directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*own))
    (directory / "monsal.toml").write_text('ingress = ["smtp://127.0.0.1:0"]\n', encoding="utf-8")
    return directory


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How hard it is: kills in all, mails a second, who writes, over how many connections.

    `workers` are processes beside the server; then `victims` says who is killed: names of `monsal workers` (without
    their number), or `server`. `messages` is how many mails there have to be in the end. With `rate` 0 nobody waits
    between two mails; what is left to do then at the end may need more `patience`, in seconds.
    """

    kills: int
    workers: int = 0
    victims: tuple[str, ...] = ("server",)
    messages: int = 0
    seed: int = 1
    rate: float = 500.0
    correspondents: int = 300
    connections: int = 10
    size: int = 1000
    patience: float = 120.0


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
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        # Until each has closed its connection: what is left open would be found by a later test.
        await asyncio.gather(*left, return_exceptions=True)

    started, over = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(body(),), name="witness")
    thread.start()
    assert started.wait(60)
    try:
        yield witness
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def _identified(raw: bytes) -> tuple[str, bytes]:
    return BytesHeaderParser().parsebytes(raw)["Message-ID"], raw


def put_to_the_proof(directory: Path, trial: Trial, kind: type[E], *, witness: Witness | None = None) -> E:
    """Load a server, kill it `kills` times at seeded moments, let it finish, stop it cleanly; what is left.

    `kind` says which application is in the directory. Without a `witness`, what left is what the capture relay filed.
    """
    dice = random.Random(trial.seed)
    files = {name: directory / f"{name}.jsonl" for name in ("acknowledged", "sent", "summary")}
    command = [
        *(
            sys.executable,
            "-m",
            "bench.load",
            "--ready",
            directory / "run" / "ready.json",
            "--recipient",
            kind.RECIPIENT,
        ),
        *("--correspondents", trial.correspondents, "--connections", trial.connections, "--rate", trial.rate),
        *("--seed", trial.seed, "--size", trial.size, "--out", files["acknowledged"], "--json-sent", files["sent"]),
        *("--summary", files["summary"]),
    ]
    options = ("--workers", str(trial.workers)) if trial.workers else ()
    with Server(directory) as server, background([str(part) for part in command], cwd=ROOT) as load:
        server.start(*options)
        for _ in range(trial.kills):
            _live_for_a_while(server, load, dice)
            victim = dice.choice(trial.victims)
            if victim != "server":
                _kill_one(server, victim, dice)
                continue
            server.kill()
            server.spawn(*options)
            if dice.random() < 0.25:
                # In the middle of its start, while it repairs what the last kill left.
                time.sleep(dice.uniform(0.0, 0.6))
                server.kill()
                server.spawn(*options)
            server.wait_ready()
        wait_until(lambda: server.ledger()["accepted"] >= trial.messages, "all of the mails", patience=240)
        _live_for_a_while(server, load, dice)
        load.send_signal(signal.SIGTERM)
        assert load.wait(120) == 0, "the load was not stopped cleanly"
        server.wait_idle(patience=trial.patience)
        code = server.stop()
        assert code == 0, f"the last stop was not clean, exit {code}:\n{server.log()}"
        assert not server.ready_file.exists(), "run/ready.json is there after the server has gone"
    captured = (witness or CaptureWitness(directory / "run" / "sent")).mails()
    return kind(server, _lines(files["sent"]), _lines(files["acknowledged"]), _lines(files["summary"])[0], captured)


def _kill_one(server: Server, name: str, dice: random.Random) -> None:
    """kill -9 of one process that serves; somebody else takes its place without our help."""
    found = [row for row in server.workers() if row["name"].rstrip("0123456789").rstrip("-") == name]
    if found:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself since then
            os.kill(dice.choice(found)["pid"], signal.SIGKILL)


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
