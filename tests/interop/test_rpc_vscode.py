"""vscode-jsonrpc under node: frames with Content-Length, `$/cancelRequest`, progress, over tcp and stdio.

Every editor and language server around it speaks this (Language Server Protocol 3.17, base protocol).
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from line_program import LineProgram, TaskFailed

from monsal.errors import CallExpired, ConnectionLost, RemoteFault
from monsal.rpc import RemoteAPI, current, incoming
from monsal.transport import Link, connect, listen
from monsal.wire import Called

pytestmark = pytest.mark.interop

CODEC = "lsp:"
BIG = "ü" * 300_000
OUR_SERVER = Path(__file__).resolve().parent / "rpc_peers" / "our_language_server.py"

Node = Callable[..., LineProgram]


class Language(RemoteAPI):
    """What our server offers."""

    @incoming(allow_positional_args=True)
    async def add(self, sender: str, a: int, b: int) -> int: ...

    @incoming
    async def named(self, sender: str, a: int, b: int) -> dict[str, int]: ...

    @incoming(allow_positional_args=True)
    async def echo(self, sender: str, value: Any) -> Any: ...

    @incoming
    async def wait(self, sender: str) -> str: ...

    @incoming(has_reply=True)
    def wait_in_thread(self, sender: str): ...

    @incoming(allow_positional_args=True)
    async def note(self, sender: str, text: str) -> None: ...


class Happenings:
    """What handlers of ours saw, to be waited for."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def add(self, what: Any) -> None:
        self._loop.call_soon_threadsafe(self.queue.put_nowait, what)

    async def next(self) -> Any:
        return await asyncio.wait_for(self.queue.get(), 30)


def our_language(seen: Happenings) -> Language:
    language = Language()

    @language.add.handler
    async def add(sender: str, a: int, b: int) -> int:
        return a + b

    @language.named.handler
    async def named(sender: str, a: int, b: int) -> dict[str, int]:
        return {"a": a, "b": b}

    @language.echo.handler
    async def echo(sender: str, value: Any) -> Any:
        return value

    @language.wait.handler
    async def wait(sender: str) -> str:
        seen.add("waiting")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.add("cancelled")
            raise
        return "never"

    @language.wait_in_thread.handler
    def wait_in_thread(sender: str) -> None:
        seen.add("waiting")
        call, pause = current(), threading.Event()
        while not call.cancelled:
            pause.wait(0.01)
        seen.add("cancelled")

    @language.note.handler
    async def note(sender: str, text: str) -> None:
        seen.add(text)

    return language


@asynccontextmanager
async def its_client(node: Node) -> AsyncIterator[tuple[LineProgram, Happenings]]:
    """vscode-jsonrpc connected to a server of ours."""
    seen = Happenings()
    acceptor = await our_language(seen).listen("tcp://127.0.0.1:0", codec=CODEC)
    try:
        client = node("vscode_peer.js", "connect", acceptor.addresses[0].rpartition(":")[2])
        assert (await client.heard())["event"] == "ready"
        yield client, seen
    finally:
        await acceptor.close()


@asynccontextmanager
async def our_link(node: Node, **options: Any) -> AsyncIterator[tuple[LineProgram, Link]]:
    """A link of ours to a server made with vscode-jsonrpc."""
    server = node("vscode_peer.js", "listen")
    link = await connect(f"tcp://127.0.0.1:{(await server.heard())['port']}", codec=CODEC, **options)
    try:
        yield server, link
    finally:
        link.close()
        await link.wait_closed()


async def failure(client: LineProgram, **details: Any) -> dict[str, Any]:
    with pytest.raises(TaskFailed) as caught:
        await client.answer("request", **details)
    error: dict[str, Any] = caught.value.error
    return error


@pytest.mark.rule("rpc.B14", "rpc.R13")
def test_its_client_calls_us(node: Node) -> None:
    async def scenario() -> None:
        async with its_client(node) as (client, seen):
            assert await client.answer("request", method="add", args=[1, 2]) == 3
            assert await client.answer("request", method="named", args=[{"a": 1, "b": 2}]) == {"a": 1, "b": 2}
            assert await client.answer("request", method="echo", args=[BIG, None][:1]) == BIG
            assert await client.answer("many", method="add", times=1000) == list(range(1, 1001))
            await client.answer("notify", method="note", args=["told"])
            assert await seen.next() == "told"

    asyncio.run(scenario())


@pytest.mark.rule("rpc.B8")
def test_its_client_is_told_of_errors(node: Node) -> None:
    async def scenario() -> None:
        async with its_client(node) as (client, _):
            assert (await failure(client, method="nowhere", args=[]))["code"] == -32601
            assert (await failure(client, method="add", args=["one", 2]))["code"] == -32602
            assert (await failure(client, method="named", args=[1, 2]))["code"] == -32602
            # After all that it is served as before.
            assert await client.answer("request", method="add", args=[1, 2]) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("method", ["wait", "wait_in_thread"])
@pytest.mark.rule("rpc.B4", "rpc.B12")
def test_its_cancel_reaches_our_handler_and_the_call_is_answered(node: Node, method: str) -> None:
    async def scenario() -> None:
        async with its_client(node) as (client, seen):
            pending = client.begin("cancellable", method=method, args=[], name="mine")
            assert await seen.next() == "waiting"
            await client.answer("cancel", name="mine")
            assert await seen.next() == "cancelled"
            with pytest.raises(TaskFailed) as caught:
                await asyncio.wait_for(asyncio.wrap_future(pending), 30)
            assert caught.value.error["code"] == -32800
            assert await client.answer("request", method="add", args=[1, 2]) == 3

    asyncio.run(scenario())


@pytest.mark.rule("rpc.B4")
def test_its_cancel_of_a_call_that_has_not_begun_skips_it(node: Node) -> None:
    async def scenario() -> None:
        async with its_client(node) as (client, seen):
            first = client.begin("cancellable", method="wait", args=[], name="first")
            assert await seen.next() == "waiting"
            # Calls of one peer keep their order: this one stands behind the other.
            queued = client.begin("cancellable", method="echo", args=["late"], name="queued")
            await client.answer("cancel", name="queued")
            await client.answer("cancel", name="first")
            for pending in (queued, first):
                with pytest.raises(TaskFailed) as caught:
                    await asyncio.wait_for(asyncio.wrap_future(pending), 30)
                assert caught.value.error["code"] == -32800

    asyncio.run(scenario())


@pytest.mark.rule("rpc.B12")
def test_its_cancel_of_a_call_that_is_answered_is_passed_over(node: Node) -> None:
    async def scenario() -> None:
        async with its_client(node) as (client, _):
            assert await client.answer("cancellable", method="add", args=[1, 2], name="done") == 3
            await client.answer("notify", method="$/cancelRequest", args=[{"id": 0}])
            await client.answer("notify", method="$/cancelRequest", args=[{"id": "unknown"}])
            assert await client.answer("request", method="add", args=[1, 2]) == 3

    asyncio.run(scenario())


def test_its_progress_comes_to_us_as_any_notification(node: Node) -> None:
    async def scenario() -> None:
        seen = Happenings()

        def on_call(link: Link, called: Called) -> None:
            seen.add((called.method, called.params, called.is_cast))
            if called.method == "start":
                link.cast("$/progress", {"token": "ours", "value": {"done": 50}})
                link.answer(called.id, "started")

        acceptor = await listen("tcp://127.0.0.1:0", codec=CODEC, on_call=on_call)
        try:
            client = node("vscode_peer.js", "connect", acceptor.addresses[0].rpartition(":")[2])
            assert (await client.heard())["event"] == "ready"
            await client.answer("send_progress", token=1, value={"done": 10})
            assert await seen.next() == ("$/progress", {"token": 1, "value": {"done": 10}}, True)
            await client.answer("hear_progress", token="ours")
            assert await client.answer("request", method="start", args=[]) == "started"
            assert await client.heard() == {"event": "progress", "value": {"done": 50}}
        finally:
            await acceptor.close()

    asyncio.run(scenario())


# -- our client at its server -----------------------------------------------------------------------------------


@pytest.mark.rule("rpc.B14", "rpc.B9")
def test_we_call_its_server(node: Node) -> None:
    async def scenario() -> None:
        async with our_link(node) as (server, link):
            assert await link.call("add", [1, 2]) == 3
            assert await link.call("named", {"a": BIG, "b": 2}) == {"a": BIG, "b": 2}
            assert await asyncio.gather(*(link.call("add", [n, 1]) for n in range(1000))) == list(range(1, 1001))
            link.cast("note", {"text": "told"})
            assert await server.heard() == {"event": "noted", "params": {"text": "told"}}
            codes = []
            for method in ("fail", "crash", "nowhere"):
                with pytest.raises(RemoteFault) as caught:
                    await link.call(method, [])
                codes.append(caught.value.code)
            assert codes == [1404, -32603, -32601]
            # It knows no hello, and then it is told nothing that is not of JSON-RPC.
            assert link.peer.theirs is None

    asyncio.run(scenario())


@pytest.mark.rule("rpc.B4", "rpc.B12")
def test_our_cancel_reaches_its_handler(node: Node) -> None:
    async def scenario() -> None:
        async with our_link(node) as (server, link):
            task = asyncio.ensure_future(link.call("wait", []))
            assert await server.heard() == {"event": "waiting"}
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await server.heard() == {"event": "cancelled"}
            # Its answer to what was given up is passed over.
            assert await link.call("add", [1, 2]) == 3
            assert link.statistics().troubles == 0

    asyncio.run(scenario())


@pytest.mark.rule("rpc.B4")
def test_a_deadline_of_ours_reaches_its_handler_as_a_cancel(node: Node) -> None:
    async def scenario() -> None:
        async with our_link(node) as (server, link):
            with pytest.raises(CallExpired):
                await link.call("wait", [], timeout=2.0)
            assert await server.heard() == {"event": "waiting"}
            assert await server.heard() == {"event": "cancelled"}

    asyncio.run(scenario())


def test_the_progress_of_its_server_comes_before_the_answer(node: Node) -> None:
    async def scenario() -> None:
        heard: list[Any] = []

        def on_call(link: Link, called: Called) -> None:
            heard.append((called.method, called.params))

        async with our_link(node, on_call=on_call) as (_, link):
            assert await link.call("progressive", {"token": "t", "steps": 3}) == 3
            assert heard == [("$/progress", {"token": "t", "value": {"step": step}}) for step in (1, 2, 3)]

    asyncio.run(scenario())


@pytest.mark.rule("rpc.B3")
def test_its_server_killed_during_a_call_is_a_lost_connection(node: Node) -> None:
    async def scenario() -> None:
        async with our_link(node) as (server, link):
            task = asyncio.ensure_future(link.call("wait", []))
            assert await server.heard() == {"event": "waiting"}
            server.process.kill()
            with pytest.raises(ConnectionLost) as caught:
                await asyncio.wait_for(task, 30)
            assert caught.value.sent

    asyncio.run(scenario())


# -- as an editor and its language server -----------------------------------------------------------------------


@pytest.mark.rule("rpc.B14")
def test_it_starts_our_program_and_talks_with_it_over_stdio(node: Node) -> None:
    editor = node("vscode_peer.js", "spawn", sys.executable, OUR_SERVER)
    assert editor.event() == {"event": "ready"}
    assert editor.ask("request", method="add", args=[1, 2]) == 3
    assert editor.ask("many", method="add", times=1000) == list(range(1, 1001))
    # It is asked back while it waits for its answer, and told something before.
    assert editor.ask("request", method="ask_back", args=[]) == {"a": 1, "b": 2}
    assert editor.event() == {"event": "noted", "params": {"text": "one moment"}}
    editor.ask("hang_up")
    # The end of standard input is the end of our program.
    events = [editor.event(), editor.event()]
    assert {"event": "exited", "code": 0} in events
