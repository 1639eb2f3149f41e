"""A real server that exposes an API: what it answers is kept, who hangs hurts nobody else, who is told what and when.

The programs here speak JSON-RPC 2.0 by hand, one object a line, so that nothing but the server is tested.
"""

from __future__ import annotations

import json
import os
import smtplib
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from harness import PATIENCE, Server, make_application, wait_until

HANDLERS = """
import threading

from monsal import current, deliver, notify, read, reply, route
from monsal.rpc import RemoteAPI, incoming, outgoing


class Desk(RemoteAPI):
    @incoming
    def put(self, sender: str, text: str, key: str | None = None) -> list[int]:
        return list(deliver(to="desk@example.com", sender="ann@example.net", text=text, key=key).rows)

    @incoming
    def notes(self, sender: str) -> list[str]:
        return [text for (text,) in read("select text from note order by rowid")]

    @incoming
    def hang(self, sender: str) -> None:
        threading.Event().wait()

    @incoming(has_reply=True)
    def hang_and_answer(self, sender: str) -> str:
        threading.Event().wait()

    @incoming
    async def block(self, sender: str) -> str:
        threading.Event().wait()

    @incoming
    async def ping(self, sender: str) -> str:
        return "pong"

    @incoming(has_reply=True)
    def shout(self, sender: str, text: str) -> bool:
        notify(Desk).noted(text=text)
        return True

    @outgoing
    def noted(self, receivers: list[str] | None, text: str) -> None: ...


@route("desk@(host)")
def START(message):
    text = message.text.strip()
    current().write("insert into note values (?)", (text,))
    notify(Desk).noted(text=text)
    if text == "fail":
        raise ValueError("as asked")
    reply("Noted.")
"""


class Program:
    """A program that is connected to the server's socket."""

    def __init__(self, server: Server, at: str = "run/api.sock") -> None:
        if at.startswith("run/"):
            self.socket = socket.socket(socket.AF_UNIX)
            # By a short name: the directory of a test may have a long one.
            directory = os.open(server.directory / "run", os.O_RDONLY)
            self.socket.connect(f"/proc/self/fd/{directory}/api.sock")
            os.close(directory)
        else:
            host, _, port = at.rpartition(":")
            self.socket = socket.create_connection((host, int(port)))
        self.socket.settimeout(PATIENCE)
        self.heard: list[dict[str, Any]] = []
        self._file = self.socket.makefile("rb")
        self._id = 0

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def say(self, method: str, **params: Any) -> int:
        self._id += 1
        packet = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        self.socket.sendall(json.dumps(packet).encode() + b"\n")
        return self._id

    def read(self) -> dict[str, Any]:
        line = self._file.readline()
        assert line, "the server hung up"
        packet: dict[str, Any] = json.loads(line)
        return packet

    def answer(self, identifier: int) -> dict[str, Any]:
        """The answer to a call; notifications that come before it are kept in `heard`."""
        while True:
            packet = self.read()
            if packet.get("id") == identifier and "method" not in packet:
                return packet
            self.heard.append(packet)

    def call(self, method: str, **params: Any) -> Any:
        answer = self.answer(self.say(method, **params))
        assert "error" not in answer, answer
        return answer["result"]

    def next_note(self) -> str:
        """The text of the next notification."""
        while not self.heard:
            self.heard.append(self.read())
        text: str = self.heard.pop(0)["params"]["text"]
        return text


def _application(home: Path, expose: str, **settings: Any) -> Path:
    make_application(home, HANDLERS, tables="create table if not exists note (text text) strict", **settings)
    with (home / "app.py").open("a") as file:
        file.write(f"\nfrom handlers import Desk\n\n{expose}\n")
    return home


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """Two threads for handlers; `limits` at a test says how long a call and a slow reader have, in seconds."""
    deadline, slow_reader = getattr(request, "param", (60.0, 60.0))
    expose = f'app.expose(Desk, at="unix:run/api.sock", slow_reader={slow_reader})'
    with Server(_application(tmp_path, expose, handler_threads=2, deadline=deadline)) as made:
        made.start()
        yield made


def limits(*, deadline: float = 60.0, slow_reader: float = 60.0) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("server", [(deadline, slow_reader)], indirect=True, ids=[""])


def _mail(server: Server, text: str) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=PATIENCE) as smtp:
        smtp.sendmail("bob@example.net", "desk@example.com", f"From: bob@example.net\r\nSubject: x\r\n\r\n{text}\r\n")


@pytest.mark.rule("rpc.B21")
def test_where_it_listens_is_announced(tmp_path: Path) -> None:
    home = _application(tmp_path, 'app.expose(Desk, at="unix:run/api.sock")\napp.expose(Desk, at="tcp://127.0.0.1:0")')
    with Server(home) as server:
        unix, tcp = server.start()["rpc"]
        assert unix == "unix:run/api.sock"
        assert (home / "run" / "api.sock").stat().st_mode & 0o777 == 0o600
        for at in (unix.removeprefix("unix:"), tcp.removeprefix("tcp://")):
            with Program(server, at) as program:
                assert program.call("ping") == "pong"
                assert "put" in {method["name"] for method in program.call("rpc.discover")["methods"]}
        assert server.stop() == 0
        assert not (home / "run" / "api.sock").exists()


@pytest.mark.parametrize("round_", range(3))
def test_a_call_that_was_answered_is_handled_once(server: Server, round_: int) -> None:
    with Program(server) as program:
        rows = [program.call("put", text=f"note {number}") for number in range(round_ * 3 + 1)]
        server.kill()
    server.start()
    server.wait_idle()
    notes = [f"note {number}" for number in range(len(rows))]
    assert [text for (text,) in server.rows("select text from note order by rowid")] == notes
    assert server.ledger("call")["done"] == server.ledger("call")["accepted"] == len(rows)


def test_who_asks_again_after_a_crash_has_one_row(server: Server) -> None:
    with Program(server) as program:
        first = program.call("put", text="once", key="k")
        server.kill()
    server.start()
    with Program(server) as program:
        assert program.call("put", text="once", key="k") == first
    server.wait_idle()
    assert server.rows("select text from note") == [("once",)]
    assert server.ledger("call")["duplicates"] == 1


@pytest.mark.rule("rpc.B5")
@limits(deadline=4.0)
@pytest.mark.parametrize("method", ["hang_and_answer", "block"])
def test_a_method_that_hangs_stops_neither_mail_nor_other_calls(server: Server, method: str) -> None:
    with Program(server) as stuck, Program(server) as other:
        asked = stuck.say(method)
        _mail(server, "mail goes on")
        server.wait_idle()
        assert other.call("notes") == ["mail goes on"]
        # Its caller is told when the time is up, and may go on.
        assert stuck.answer(asked)["error"]["code"] == -32001
        assert stuck.call("notes") == ["mail goes on"]
        assert stuck.call("ping") == "pong"


@pytest.mark.rule("rpc.B7")
@limits(deadline=4.0)
def test_when_too_many_hang_others_are_told_to_come_later(server: Server) -> None:
    with ExitStack() as stack:
        stuck = [stack.enter_context(Program(server)) for _ in range(2)]
        asked = [program.say("hang_and_answer") for program in stuck]
        for program, identifier in zip(stuck, asked, strict=True):
            assert program.answer(identifier)["error"]["code"] == -32001
        # That they hang, and do not only take their time, shows a moment later.
        error = wait_until(lambda: stuck[0].answer(stuck[0].say("notes")).get("error"), "a refusal")
        assert error["code"] == -32000
        assert error["data"]["retry_after"] > 0
        _mail(server, "mail goes on")
        server.wait_idle()
        assert server.rows("select text from note") == [("mail goes on",)]


@pytest.mark.rule("rpc.B7")
@limits(slow_reader=4.0)
def test_a_program_that_does_not_read_is_cut_and_others_hear_everything(server: Server) -> None:
    text = "x" * 200_000
    with Program(server) as deaf, Program(server) as hearing, Program(server) as speaker:
        deaf.call("ping")
        hearing.call("ping")
        for _ in range(30):
            assert speaker.call("shout", text=text) is True
            assert hearing.next_note() == text
            assert speaker.next_note() == text
        wait_until(lambda: _is_cut(deaf), "the end of the connection that does not read")
        assert hearing.call("ping") == "pong"


def _is_cut(program: Program) -> bool:
    """Whether the server has hung up; looks without reading."""
    try:
        program.socket.send(b"\n")
    except OSError:
        return True
    return False


def test_what_a_turn_tells_is_told_after_its_commit_only(server: Server) -> None:
    with Program(server) as program:
        program.call("ping")
        program.call("put", text="fail")
        wait_until(lambda: server.rows("select 1 from v_ledger where source = 'call' and dead = 1"), "a dead letter")
        program.call("put", text="good")
        assert program.next_note() == "good"
        # Who is told of it finds it on the disk.
        assert server.rows("select text from note") == [("good",)]
        assert program.heard == []


def test_calls_that_run_are_answered_when_the_server_stops(server: Server) -> None:
    with Program(server) as program:
        asked = [program.say("put", text=f"note {number}") for number in range(20)]
        program.answer(asked[0])
        assert server.stop() == 0
        answers = {}
        for line in program._file:
            packet = json.loads(line)
            answers[packet.get("id")] = packet
    kept = [answers[each] for each in asked[1:] if "result" in answers.get(each, {})]
    told = [answers[each] for each in asked[1:] if "error" in answers.get(each, {})]
    assert len(kept) + len(told) == 19, "each call is answered"
    assert {each["error"]["code"] for each in told} <= {-32005}
    assert server.ledger("call")["accepted"] == len(kept) + 1
