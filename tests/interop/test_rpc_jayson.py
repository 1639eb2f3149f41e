"""jayson under node, over tcp with one JSON value a line: its client at our server, our clients at its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from line_program import LineProgram

from monsal.errors import RemoteFault
from monsal.rpc import AppError, InternalError, InvalidParams, MethodNotFound, RemoteAPI, incoming
from monsal.transport import connect

pytestmark = pytest.mark.interop

#: One JSON value a line, as jayson has it.
CODEC = "jrpc:\n"
#: Longer than what one read brings, with letters of two octets, and well below the limit of 1 MiB.
BIG = "ü" * 300_000


class NoTicket(AppError, code=1404):
    """There is no such ticket."""


class Desk(RemoteAPI):
    """The calls that both servers have."""

    errors = (NoTicket,)

    @incoming(allow_positional_args=True)
    async def add(self, sender: str, a: int, b: int) -> int: ...

    @incoming(allow_positional_args=True)
    async def echo(self, sender: str, value: Any) -> Any: ...

    @incoming
    async def fail(self, sender: str) -> int: ...

    @incoming(allow_positional_args=True)
    async def forbid(self, sender: str) -> int: ...

    @incoming(allow_positional_args=True)
    async def nothing(self, sender: str) -> Any: ...

    @incoming(allow_positional_args=True)
    async def hold(self, sender: str) -> str: ...

    @incoming(allow_positional_args=True)
    async def note(self, sender: str, text: str) -> None: ...


def our_desk(noted: asyncio.Queue[str]) -> Desk:
    """Our side of what jayson_server.js does."""
    desk = Desk(codec=CODEC)

    @desk.add.handler
    async def add(sender: str, a: int, b: int) -> int:
        return a + b

    @desk.echo.handler
    async def echo(sender: str, value: Any) -> Any:
        return value

    @desk.fail.handler
    async def fail(sender: str) -> int:
        raise RuntimeError("secret")

    @desk.forbid.handler
    async def forbid(sender: str) -> int:
        raise NoTicket("no such ticket", data={"number": 7})

    @desk.note.handler
    async def note(sender: str, text: str) -> None:
        noted.put_nowait(text)

    return desk


class Scene:
    """jayson's client at our server."""

    def __init__(self, client: LineProgram, noted: asyncio.Queue[str]) -> None:
        self.client = client
        self.noted = noted

    async def request(self, method: str, params: Any, identifier: Any = "a") -> Any:
        """The response as jayson's client hands it over."""
        return await self.client.answer("request", method=method, params=params, id=identifier)


Node = Callable[..., LineProgram]


def at_our_server(node: Node, check: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    """Run `check` with jayson's client connected to a server of ours."""

    async def scenario() -> None:
        noted: asyncio.Queue[str] = asyncio.Queue()
        acceptor = await our_desk(noted).listen("tcp://127.0.0.1:0", codec=CODEC)
        try:
            await check(Scene(node("jayson_client.js", acceptor.addresses[0].rpartition(":")[2]), noted))
        finally:
            await acceptor.close()

    asyncio.run(scenario())


@pytest.mark.rule("rpc.B8", "rpc.R13")
def test_its_client_calls_us_by_position_and_by_name(node: Node) -> None:
    async def check(scene: Scene) -> None:
        assert await scene.request("add", [1, 2], "a") == {"jsonrpc": "2.0", "id": "a", "result": 3}
        assert await scene.request("add", {"a": 3, "b": 4}, 0) == {"jsonrpc": "2.0", "id": 0, "result": 7}
        assert await scene.request("echo", [{"deep": [None, 1.5, "ü", {}]}], 7) == {
            "jsonrpc": "2.0",
            "id": 7,
            "result": {"deep": [None, 1.5, "ü", {}]},
        }

    at_our_server(node, check)


@pytest.mark.rule("rpc.B8", "rpc.B9", "rpc.R14")
def test_its_client_is_told_of_errors_by_their_codes(node: Node) -> None:
    async def check(scene: Scene) -> None:
        async def error(method: str, params: Any) -> Any:
            response = await scene.request(method, params)
            assert response["id"] == "a"
            assert "result" not in response
            return response["error"]

        assert (await error("nowhere", []))["code"] == -32601
        wrong = await error("add", {"a": 1, "b": "two"})
        assert wrong["code"] == -32602
        assert wrong["data"]["path"] == "$.b"
        assert (await error("add", [1, 2, 3]))["code"] == -32602
        assert (await error("add", {"a": 1}))["code"] == -32602
        assert (await error("fail", {}))["code"] == -32603
        assert "secret" not in str(await error("fail", {}))
        known = await error("forbid", [])
        assert (known["code"], known["message"]) == (1404, "no such ticket")

    at_our_server(node, check)


@pytest.mark.rule("rpc.B8")
def test_its_client_is_answered_although_it_says_something_that_is_no_call(node: Node) -> None:
    async def check(scene: Scene) -> None:
        answers = await scene.client.answer("raw", items=[1, {"foo": "boo"}])
        assert [(one["id"], one["error"]["code"]) for one in answers] == [(None, -32600), (None, -32600)]

    at_our_server(node, check)


@pytest.mark.rule("rpc.R18", "rpc.B8")
def test_its_notifications_reach_us_although_it_hangs_up_at_once(node: Node) -> None:
    async def check(scene: Scene) -> None:
        for number in range(20):
            # jayson's client opens a connection for each, writes, and closes it.
            assert await scene.client.answer("notify", method="note", params=[f"note {number}"]) == "no answer"
        heard = [await asyncio.wait_for(scene.noted.get(), 30) for _ in range(20)]
        assert sorted(heard) == sorted(f"note {number}" for number in range(20))

    at_our_server(node, check)


@pytest.mark.rule("rpc.B8")
def test_its_batch_is_answered_as_one(node: Node) -> None:
    async def check(scene: Scene) -> None:
        calls = [
            {"method": "add", "params": [1, 2], "id": "a"},
            {"method": "note", "params": ["in a batch"], "id": None},
            {"method": "nowhere", "params": [], "id": "b"},
            {"method": "add", "params": {"a": 3, "b": 4}, "id": "c"},
            {"method": "forbid", "params": [], "id": "d"},
        ]
        answers = await scene.client.answer("batch", calls=calls)
        by_id = {one["id"]: one.get("result", one.get("error", {}).get("code")) for one in answers}
        assert by_id == {"a": 3, "b": -32601, "c": 7, "d": 1404}
        assert await asyncio.wait_for(scene.noted.get(), 30) == "in a batch"

    at_our_server(node, check)


@pytest.mark.rule("rpc.B7")
def test_its_client_sends_and_gets_much_at_once(node: Node) -> None:
    async def check(scene: Scene) -> None:
        assert (await scene.request("echo", [BIG]))["result"] == BIG
        answers = await scene.client.answer("batch", calls=[{"method": "add", "params": [n, 1]} for n in range(100)])
        assert sorted(one["result"] for one in answers) == list(range(1, 101))
        too_many = await scene.client.answer("batch", calls=[{"method": "add", "params": [n, 1]} for n in range(101)])
        assert too_many["error"]["code"] == -32004

    at_our_server(node, check)


@pytest.mark.rule("rpc.B5", "rpc.B7")
def test_a_thousand_of_its_calls_on_one_connection_are_answered_in_order(node: Node) -> None:
    async def check(scene: Scene) -> None:
        answers = await scene.client.answer("pipeline", method="add", times=1000)
        assert [(one["id"], one["result"]) for one in answers] == [(n + 1, n + 1) for n in range(1000)]

    at_our_server(node, check)


@pytest.mark.rule("rpc.B5")
def test_hundreds_of_its_connections_at_once_are_served(node: Node) -> None:
    async def check(scene: Scene) -> None:
        assert await scene.client.answer("many", method="add", times=300) == list(range(1, 301))

    at_our_server(node, check)


# -- our clients at its server ----------------------------------------------------------------------------------


@asynccontextmanager
async def its_server(node: Node) -> AsyncIterator[tuple[LineProgram, str]]:
    """A jayson server, and its address."""
    server = node("jayson_server.js")
    ready = await server.heard()
    yield server, f"tcp://127.0.0.1:{ready['port']}"


@pytest.mark.rule("rpc.B8", "rpc.R7")
def test_our_client_calls_its_server(node: Node) -> None:
    async def scenario() -> None:
        async with its_server(node) as (server, address):
            desk = Desk.peer()()
            link = await desk.connect(address, codec=CODEC)
            assert await desk.call.add(a=1, b=2) == 3
            assert await desk.call.echo(value=BIG) == BIG
            assert await desk.call.nothing() is None
            desk.notify.note(text="told")
            assert await server.heard() == {"event": "noted", "params": {"text": "told"}}
            calls = [desk.call.add(a=n, b=1) for n in range(1000)]
            assert await asyncio.gather(*calls) == list(range(1, 1001))
            link.close()
            await link.wait_closed()

    asyncio.run(scenario())


@pytest.mark.rule("rpc.B9", "rpc.R30")
def test_our_client_is_told_of_its_errors_by_classes(node: Node) -> None:
    async def scenario() -> None:
        async with its_server(node) as (_, address):
            desk = Desk.peer()()
            link = await desk.connect(address, codec=CODEC)
            with pytest.raises(NoTicket, match="no such ticket") as caught:
                await desk.call.forbid()
            assert caught.value.data == {"number": 7}
            with pytest.raises(InternalError):
                await desk.call.fail()
            with pytest.raises(InvalidParams):
                await desk.call.add(a=1, b=None)
            with pytest.raises(MethodNotFound):
                await link.call("nowhere", [])
            link.close()
            await link.wait_closed()

    asyncio.run(scenario())


@pytest.mark.rule("rpc.B11")
def test_its_server_which_knows_no_hello_is_told_nothing_beyond_json_rpc(node: Node) -> None:
    async def scenario() -> None:
        async with its_server(node) as (_, address):
            link = await connect(address, codec=CODEC)
            # It passes over members that it does not know, so its answers would not show one: the peer is asked.
            assert await link.call("echo", [1], timeout=20.0) == 1
            assert link.peer.theirs is None
            link.close()
            await link.wait_closed()

    asyncio.run(scenario())


@pytest.mark.rule("rpc.B8")
def test_our_batch_is_answered_by_its_server(node: Node) -> None:
    async def scenario() -> None:
        async with its_server(node) as (server, address):
            link = await connect(address, codec=CODEC)
            first, note, wrong, last = link.batch(
                [
                    ("add", [1, 2], True),
                    ("note", ["in a batch"], False),
                    ("nowhere", [], True),
                    ("add", {"a": 3, "b": 4}, True),
                ]
            )
            assert note is None
            assert first is not None
            assert last is not None
            assert wrong is not None
            assert await asyncio.gather(first, last) == [3, 7]
            with pytest.raises(RemoteFault) as caught:
                await wrong
            assert caught.value.code == -32601
            assert await server.heard() == {"event": "noted", "params": ["in a batch"]}
            link.close()
            await link.wait_closed()

    asyncio.run(scenario())


@pytest.mark.rule("rpc.B5")
def test_its_answers_may_come_in_any_order(node: Node) -> None:
    async def scenario() -> None:
        async with its_server(node) as (server, address):
            link = await connect(address, codec=CODEC)
            held = [asyncio.ensure_future(link.call("hold", [])) for _ in range(3)]
            for _ in held:
                assert await server.heard() == {"event": "held"}
            assert await link.call("add", [1, 2]) == 3
            for value in "abc":
                await server.answer("release", value=value)
            assert await asyncio.gather(*held) == ["a", "b", "c"]
            link.close()
            await link.wait_closed()

    asyncio.run(scenario())
