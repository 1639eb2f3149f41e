"""`monsal rpc` against real programs on real sockets: results, refusals, and each exit code."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from cli_world import Invoke, Live

from monsal.cli.arguments import value_of
from monsal.cli.openrpc import rows_of, type_of
from monsal.cli.remote import Target
from monsal.errors import UsageError
from monsal.transport import Link, Tcp, Tls, Unix, listen
from monsal.wire.codes import BUSY, INVALID_PARAMS, METHOD_NOT_FOUND
from monsal.wire.events import Called

DOCUMENT = {
    "openrpc": "1.3.2",
    "info": {"title": "Desk", "version": "1"},
    "methods": [
        {
            "name": "add",
            "summary": "The sum.\nAnd more.",
            "params": [
                {"name": "left", "required": True, "schema": {"type": "integer"}},
                {"name": "right", "schema": {"type": "integer", "default": 1}},
            ],
            "result": {"name": "sum", "schema": {"type": "integer"}},
        },
        {"name": "log", "params": [{"name": "text", "schema": {"anyOf": [{"type": "string"}, {"type": "null"}]}}]},
    ],
}


class Program:
    """Answers in every way there is; `heard` is what it was told without a wish for an answer."""

    def __init__(self, path: Path) -> None:
        self.address = f"unix:{path}"
        self.heard: list[tuple[str, Any]] = []
        self.told = threading.Event()
        self._ready: Future[None] = Future()
        self._end: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    def __enter__(self) -> Program:
        self._thread.start()
        self._ready.result(10)
        return self

    def __exit__(self, *_: object) -> None:
        loop, stop = self._end.result(10)
        loop.call_soon_threadsafe(stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        stop = asyncio.Event()
        self._end.set_result((asyncio.get_running_loop(), stop))
        acceptor = await listen(self.address, on_call=self._on_call)
        self._ready.set_result(None)
        await stop.wait()
        await acceptor.close(0.0)

    def _on_call(self, link: Link, called: Called) -> None:
        if called.is_cast:
            self.heard.append((called.method, called.params))
            self.told.set()
            return
        match called.method:
            case "echo":
                link.answer(called.id, called.params)
            case "say":
                link.answer(called.id, called.params["text"])  # type: ignore[call-overload] - named here
            case "rpc.discover":
                link.answer(called.id, DOCUMENT)
            case "refuse":
                link.refuse(called.id, -32010, "no \x1b[31mtea", {"kind": "StoreError", "details": "Traceback\n  here"})
            case "wrong":
                link.refuse(called.id, INVALID_PARAMS, "wrong", {"path": "$.a"})
            case "busy":
                link.refuse(called.id, BUSY, "busy", {"retry_after": 2.0})
            case "break":
                link.abort()
            case "never":
                pass
            case _:
                link.refuse(called.id, METHOD_NOT_FOUND, "Method not found")


@pytest.fixture
def program(home: Path) -> Iterator[Program]:
    (home / "run").mkdir(exist_ok=True)
    with Program(home / "run" / "api.sock") as program:
        yield program


def test_parameters_are_json_or_text_or_a_file(invoke: Invoke, home: Path, program: Program) -> None:
    (home / "letter.txt").write_text("Dear Ann,\n", encoding="utf-8")
    words = ["n=7", "on=true", "none=null", "list=[1,2]", "text=two words", "is=a=b", 'quoted="7"', "empty="]
    found = invoke("rpc", "call", "run/api.sock", "echo", *words, f"letter=@{home}/letter.txt", "--dir", home, "--json")
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout) == {
        "n": 7,
        "on": True,
        "none": None,
        "list": [1, 2],
        "text": "two words",
        "is": "a=b",
        "quoted": "7",
        "empty": "",
        "letter": "Dear Ann,\n",
    }


def test_parameters_come_from_standard_input_and_without_names_too(
    invoke: Invoke, home: Path, program: Program
) -> None:
    read = invoke("rpc", "call", "run/api.sock", "echo", "-", "--dir", home, "--json", input='{"a": {"b": [1]}}')
    assert json.loads(read.stdout) == {"a": {"b": [1]}}
    placed = invoke("rpc", "call", "run/api.sock", "echo", "--positional", "1", "two", "--dir", home, "--json")
    assert json.loads(placed.stdout) == [1, "two"]


@pytest.mark.parametrize(
    ("words", "read", "says"),
    [
        (["seven"], None, "KEY=VALUE"),
        (["=7"], None, "KEY=VALUE"),
        (["a=1", "a=2"], None, "given twice"),
        (["a=@nowhere.txt"], None, "No such file"),
        (["-"], "7", "no object"),
        (["-"], "{", "no JSON"),
    ],
)
def test_parameters_that_are_none_are_a_usage_error(
    invoke: Invoke,
    home: Path,
    words: list[str],
    read: str | None,
    says: str,
) -> None:
    found = invoke("rpc", "call", "run/api.sock", "echo", *words, "--dir", home, input=read)
    assert found.exit_code == 64
    assert says in found.stderr


def test_results_are_shown_to_people(invoke: Invoke, home: Path, program: Program) -> None:
    text = invoke("rpc", "call", "run/api.sock", "say", "text=two\nlines \x1b[31m", "--dir", home)
    assert text.stdout == "two\nlines \\x1b[31m\n"
    number = invoke("rpc", "call", "run/api.sock", "say", "text=7.5", "--dir", home)
    assert number.stdout == "7.5\n"
    nothing = invoke("rpc", "call", "run/api.sock", "say", "text=null", "--dir", home)
    assert nothing.stdout == "null\n"
    record = invoke("rpc", "call", "run/api.sock", "echo", 'a={"b":1}', "--dir", home)
    assert json.loads(record.stdout) == {"a": {"b": 1}}
    assert len(record.stdout.splitlines()) > 1


@pytest.mark.parametrize(
    ("method", "code", "says"),
    [
        ("refuse", 1, "monsal: no \\x1b[31mtea (code -32010)"),
        ("missing", 64, "monsal: Method not found (code -32601)"),
        ("wrong", 65, 'data: {"path":"$.a"}'),
        ("busy", 75, "monsal: busy (code -32000)"),
        ("break", 75, "was lost"),
        ("never", 75, "did not answer"),
    ],
)
def test_each_kind_of_no_has_its_exit_code(
    invoke: Invoke, home: Path, program: Program, method: str, code: int, says: str
) -> None:
    timeout = "0.05" if method == "never" else "10"
    found = invoke("rpc", "call", program.address, method, "--timeout", timeout, "--dir", home)
    assert found.exit_code == code, found.stderr
    assert says in found.stderr
    assert found.stdout == ""


def test_the_details_of_a_refusal_are_shown_once(invoke: Invoke, home: Path, program: Program) -> None:
    found = invoke("rpc", "call", "run/api.sock", "refuse", "--dir", home)
    assert found.stderr.splitlines() == [
        "Traceback",
        "  here",
        "monsal: no \\x1b[31mtea (code -32010)",
        'data: {"kind":"StoreError"}',
    ]


def test_what_is_not_answered_is_sent_before_the_command_ends(invoke: Invoke, home: Path, program: Program) -> None:
    found = invoke("rpc", "--dir", home, "notify", "run/api.sock", "log", "text=It rains.")
    assert (found.exit_code, found.stdout) == (0, "")
    assert program.told.wait(10)
    assert program.heard == [("log", {"text": "It rains."})]


def test_methods_are_listed_with_their_parameters(invoke: Invoke, home: Path, program: Program) -> None:
    found = invoke("rpc", "discover", "run/api.sock", "--dir", home)
    assert [line.split() for line in found.stdout.splitlines()] == [
        ["method", "parameters", "result", "what", "it", "does"],
        ["add", "left:", "integer,", "[right:", "integer", "=", "1]", "integer", "The", "sum."],
        ["log", "[text:", "string|null]"],
    ]
    document = invoke("rpc", "discover", "run/api.sock", "--dir", home, "--json")
    assert json.loads(document.stdout) == DOCUMENT


def test_nobody_there_is_told_apart(invoke: Invoke, home: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        for address in ("run/none.sock", f"tcp://127.0.0.1:{bound.getsockname()[1]}"):
            for action in (["call", address, "x"], ["notify", address, "x"], ["discover", address]):
                found = invoke("rpc", *action, "--dir", home, "--timeout", "5")
                assert found.exit_code == 69, found.stderr
                assert found.stderr.startswith("monsal: nobody listens at ")


@pytest.mark.parametrize("address", ["http://x", "tcpserv::80", "stdio:", "tcp:nowhere", "mux:(stdio:)(stdio:)"])
def test_what_cannot_be_connected_to_is_a_usage_error(invoke: Invoke, home: Path, address: str) -> None:
    found = invoke("rpc", "call", address, "x", "--dir", home)
    assert found.exit_code == 64, found.stderr
    assert invoke("rpc", "call", "a.sock", "x", "--dir", home, "--codec", "morse:").exit_code == 64


def test_a_method_that_is_not_there_is_answered_with_where_to_look(
    invoke: Invoke, home: Path, program: Program
) -> None:
    found = invoke("rpc", "call", "run/api.sock", "missing", "--dir", home)
    assert f"`monsal rpc discover run/api.sock --dir {home}` lists the methods" in found.stderr


def test_the_control_socket_is_such_a_program(invoke: Invoke, live: Live) -> None:
    def call(*words: str) -> Any:
        return invoke("rpc", "--dir", live.home, "call", "run/control.sock", *words)

    assert json.loads(call("server.status", "--json").stdout)["ready"] is True
    assert json.loads(call("store.rows", "what=dead", "limit=1").stdout)[0]["sender"] == "bob@example.net"
    wrong = call("store.rows", "what=secrets")
    assert wrong.exit_code == 65
    assert "$.what" in wrong.stderr
    refused = call("server.reload")
    assert refused.exit_code == 1
    assert 'data: {"kind":"UsageError"}' in refused.stderr
    told = invoke("rpc", "notify", "run/control.sock", "server.stop", "now=true", "--dir", live.home)
    assert told.exit_code == 0
    while not live.stops:
        assert call("server.why").stdout == "[]\n"
    assert live.stops == [True]


@pytest.mark.rule("rpc.B11")
def test_the_control_socket_tells_what_it_can_be_asked(invoke: Invoke, live: Live) -> None:
    found = invoke("rpc", "discover", "run/control.sock", "--dir", live.home)
    rows = {line.split()[0]: line for line in found.stdout.splitlines()}
    assert {"server.status", "server.stop", "store.ledger", "store.rows"} <= rows.keys()
    assert "[limit: integer = 1000]" in rows["store.rows"]
    document = json.loads(invoke("rpc", "discover", "run/control.sock", "--dir", live.home, "--json").stdout)
    assert document["openrpc"].startswith("1.")


def test_addresses_are_below_the_directory() -> None:
    def target(text: str) -> Any:
        return Target.of(text, Path("/desk"), codec="jrpc:\n", timeout=1.0).address

    assert target("run/a.sock") == target("unix:run/a.sock") == Unix("/desk/run/a.sock")
    assert target("/tmp/a.sock") == target("unix:///tmp/a.sock") == Unix("/tmp/a.sock")
    assert target("./odd:name") == Unix("/desk/odd:name")
    assert target("tcp://[::1]:80") == Tcp("::1", 80)
    assert target("tcps://h:1?ca=ca.pem&key=/k.pem&cert=c.pem") == Tls(
        "h", 1, ca="/desk/ca.pem", cert="/desk/c.pem", key="/k.pem"
    )


@pytest.mark.parametrize("text", ["[" * 100_000, "NaN", "01", "{", "x y"])
def test_what_is_no_json_is_text(text: str) -> None:
    assert value_of(text) == text


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        value_of("\udcff")


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "any"),
        (True, "any"),
        ({"type": "array", "items": {"type": "string"}}, "list of string"),
        ({"type": ["string", "null"]}, "string|null"),
        ({"enum": ["queue", "dead"]}, '"queue"|"dead"'),
        ({"const": 5}, "5"),
        ({"oneOf": [{"$ref": "#/components/schemas/Ticket"}, {"type": "null"}]}, "Ticket|null"),
    ],
)
def test_types_are_told_in_a_few_words(schema: object, words: str) -> None:
    assert type_of(schema) == words


@pytest.mark.parametrize("document", [None, [], {}, {"methods": {}}, {"methods": [5]}, {"methods": [{"name": 5}]}])
def test_what_is_no_document_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match=r"methods"):
        rows_of(document)
