"""Two APIs and a link between them, in asyncio: order, deadlines, cancelling, errors, ends (contract rpc, 4)."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monsal.errors import ConnectionLost, NotRunning
from monsal.rpc import (
    AppError,
    Busy,
    CallExpired,
    Codec,
    DecodeError,
    EncodeError,
    Forbidden,
    InternalError,
    InvalidParams,
    Message,
    MethodNotFound,
    PromiseDeadlockError,
    RemoteAPI,
    RemoteError,
    Reply,
    Security,
    current,
    incoming,
    outgoing,
)
from monsal.transport.memory import link_pair
from monsal.wire.limits import PeerLimits
from monsal.wire.security import Hmac, SecurityError


class NotFound(AppError, code=1404):
    """No such thing."""


class Ticket(msgspec.Struct):
    number: int
    scan: bytes = b""


class Desk(RemoteAPI):
    errors = (NotFound,)

    @incoming
    async def echo(self, sender: str, value: Any = None) -> Any: ...

    @incoming
    async def find(self, sender: str, number: int) -> Ticket: ...

    @incoming
    def work(self, sender: str, name: str) -> str: ...

    @incoming
    async def wait(self, sender: str, name: str = "") -> str: ...

    @incoming(key="ticket")
    async def keyed(self, sender: str, ticket: int, name: str) -> None: ...

    @incoming(ordered=False)
    async def beside(self, sender: str, name: str) -> str: ...

    @incoming
    async def note(self, sender: str, text: str) -> None: ...

    @outgoing
    def told(self, receivers: list[str] | None, text: str) -> None: ...

    @outgoing(timeout=20.0)
    def ask(self, receivers: list[str] | None, question: str) -> str: ...


class Both:
    """A server and a client, linked in memory."""

    def __init__(self, server: Any, client: Any) -> None:
        self.server, self.client = server, client
        self.links = link_pair(client._setup({}), server._setup({}), names=("client", "server"))

    async def close(self) -> None:
        for link in self.links:
            link.close()
            await link.wait_closed()
        self.server._dispatcher.close()


@contextlib.asynccontextmanager
async def both(desk: type[RemoteAPI] = Desk, **options: Any) -> AsyncIterator[Both]:
    made = Both(desk(**options), desk.peer()(**options))
    try:
        yield made
    finally:
        await made.close()


def run(scenario: Callable[[], Awaitable[Any]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(bounded())


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_calls_in_both_directions() -> None:
    async def scenario() -> None:
        async with both() as pair:
            heard: list[Any] = []

            @pair.server.echo.handler
            async def echo(sender: str, value: Any) -> Any:
                heard.append(sender)
                return value

            @pair.client.ask.handler
            async def ask(sender: str, question: str) -> str:
                return f"{question}? said {sender}"

            pair.client.told.connect(lambda sender, text: heard.append(text))
            assert await pair.client.call.echo(value={"x": [1, None]}) == {"x": [1, None]}
            assert await pair.server.call.ask(question="why") == "why? said server"
            pair.server.notify.told(text="news")
            await until(lambda: len(heard) == 2)
            assert heard == ["client", "news"]
            assert pair.server.peers == ["client"]

    run(scenario)


@pytest.mark.rule("rpc.B15", "rpc.R31")
def test_results_are_what_they_are_declared_to_be() -> None:
    async def scenario() -> None:
        async with both() as pair:
            given: list[Any] = [Ticket(1, b"xy"), {"number": 2}, {"number": "two"}, None]

            @pair.server.find.handler
            async def find(sender: str, number: int) -> Any:
                return given[number]

            assert await pair.client.call.find(number=0) == Ticket(1, b"xy")
            assert await pair.client.call.find(number=1) == Ticket(2)
            with pytest.raises(InternalError):
                await pair.client.call.find(number=2)
            with pytest.raises(DecodeError, match="find"):
                await pair.client.call.find(number=3)

    run(scenario)


@pytest.mark.rule("rpc.R8", "rpc.R2", "rpc.R10")
def test_wrong_calls_never_leave() -> None:
    async def scenario() -> None:
        async with both() as pair:
            made = pair.links[0].peer.statistics().made
            with pytest.raises(TypeError):
                await pair.client.call.find()
            with pytest.raises(TypeError):
                await pair.client.call.find(number=1, colour=2)
            with pytest.raises(ValueError):
                await pair.client.call.find(1)
            with pytest.raises(EncodeError):
                await pair.client.call.echo(value=object())
            assert pair.links[0].peer.statistics().made == made

    run(scenario)


@pytest.mark.rule("rpc.B9", "rpc.R14", "rpc.R12", "rpc.R18", "rpc.R30")
def test_errors_are_of_the_same_class_on_both_sides() -> None:
    async def scenario() -> None:
        async with both() as pair:
            raised: list[Exception] = [
                NotFound("no 7", data={"number": 7}),
                Busy("later", 3.0),
                Forbidden("not you"),
                KeyError("the secret"),
            ]

            @pair.server.echo.handler
            async def echo(sender: str, value: int) -> None:
                raise raised[value]

            with pytest.raises(NotFound, match="no 7") as known:
                await pair.client.call.echo(value=0)
            assert known.value.data == {"number": 7}
            with pytest.raises(Busy) as busy:
                await pair.client.call.echo(value=1)
            assert busy.value.retry_after == 3.0
            with pytest.raises(Forbidden):
                await pair.client.call.echo(value=2)
            with pytest.raises(InternalError) as internal:
                await pair.client.call.echo(value=3)
            assert "secret" not in str(internal.value)
            with pytest.raises(InvalidParams) as wrong:
                await pair.client.call.find(number="x")
            assert wrong.value.data["path"] == "$.number"  # type: ignore[index]
            with pytest.raises(MethodNotFound):
                await pair.links[0].call("nothing")
            for kind in (NotFound, Busy, Forbidden, InternalError, InvalidParams, MethodNotFound):
                assert issubclass(kind, RemoteError)

    run(scenario)


@pytest.mark.rule("rpc.B2")
def test_listeners_of_one_instance_are_not_those_of_another() -> None:
    async def scenario() -> None:
        async with both() as one, both() as other:
            one.server.echo.connect(lambda sender, value: "one")
            assert await one.client.call.echo() == "one"
            assert await other.client.call.echo() is None

    run(scenario)


@pytest.mark.rule("rpc.B5")
def test_calls_of_one_peer_keep_their_order_and_others_do_not_wait() -> None:
    async def scenario() -> None:
        server = Desk()
        first, second = (Both(server, Desk.peer()()) for _ in range(2))
        # Names in memory are given by the test.
        seen: list[str] = []
        go = asyncio.Event()

        @server.wait.handler
        async def wait(sender: str, name: str) -> str:
            if name == "slow":
                await go.wait()
            seen.append(name)
            return name

        slow = asyncio.ensure_future(first.client.call.wait(name="slow"))
        behind = [asyncio.ensure_future(first.client.call.wait(name=f"behind {n}")) for n in range(3)]
        await until(lambda: first.links[1].peer.in_flight == 4)
        assert await second.client.call.wait(name="other") == "other"
        go.set()
        assert await asyncio.gather(slow, *behind) == ["slow", "behind 0", "behind 1", "behind 2"]
        assert seen == ["other", "slow", "behind 0", "behind 1", "behind 2"]
        await first.close()
        await second.close()

    run(scenario)


@pytest.mark.rule("rpc.B5")
def test_plain_functions_run_in_threads_in_order_for_each_peer_and_beside_each_other() -> None:
    async def scenario() -> None:
        server = Desk()
        pairs = [Both(server, Desk.peer()()) for _ in range(2)]
        barrier = threading.Barrier(2, timeout=60)
        seen: list[str] = []

        @server.work.handler
        def work(sender: str, name: str) -> str:
            if name == "together":
                barrier.wait()
            seen.append(name)
            return threading.current_thread().name

        names = await asyncio.gather(*(pair.client.call.work(name="together") for pair in pairs))
        assert threading.current_thread().name not in names
        seen.clear()
        await asyncio.gather(*(pairs[0].client.call.work(name=str(n)) for n in range(20)))
        assert seen == [str(n) for n in range(20)]
        for pair in pairs:
            await pair.close()

    run(scenario)


@pytest.mark.rule("rpc.B5")
def test_calls_with_a_key_wait_for_those_with_the_same_key_of_any_peer() -> None:
    async def scenario() -> None:
        server = Desk()
        pairs = [Both(server, Desk.peer()()) for _ in range(2)]
        go = {1: asyncio.Event(), 2: asyncio.Event()}
        seen: list[str] = []

        @server.keyed.handler
        async def keyed(sender: str, ticket: int, name: str) -> None:
            seen.append(f"+{name}")
            await go[ticket].wait()
            seen.append(f"-{name}")

        pairs[0].client.notify.keyed(ticket=1, name="a")
        await until(lambda: seen == ["+a"])
        pairs[1].client.notify.keyed(ticket=1, name="b")
        pairs[1].client.notify.keyed(ticket=2, name="c")
        await until(lambda: seen == ["+a", "+c"])
        go[2].set()
        await until(lambda: seen[-1] == "-c")
        go[1].set()
        await until(lambda: len(seen) == 6)
        assert seen == ["+a", "+c", "-c", "-a", "+b", "-b"]
        assert server._dispatcher._by_key == {}
        for pair in pairs:
            await pair.close()

    run(scenario)


@pytest.mark.rule("rpc.B5")
def test_an_unordered_call_waits_for_nobody() -> None:
    async def scenario() -> None:
        async with both() as pair:
            go = asyncio.Event()

            @pair.server.wait.handler
            async def wait(sender: str, name: str) -> str:
                await go.wait()
                return "done"

            @pair.server.beside.handler
            async def beside(sender: str, name: str) -> str:
                return name

            slow = asyncio.ensure_future(pair.client.call.wait())
            assert await pair.client.call.beside(name="quick") == "quick"
            assert not slow.done()
            go.set()
            assert await slow == "done"

    run(scenario)


@pytest.mark.rule("rpc.B5", "rpc.R22")
def test_a_handler_may_wait_for_a_further_call() -> None:
    async def scenario() -> None:
        async with both() as pair:

            @pair.server.wait.handler
            async def wait(sender: str, name: str) -> str:
                answer: str = await pair.server.call.with_(to=sender).ask(question=name)
                return answer + "!"

            @pair.server.work.handler
            def work(sender: str, name: str) -> str:
                answer: str = pair.server.sync.ask(question=name)
                return answer + "!!"

            @pair.client.ask.handler
            async def ask(sender: str, question: str) -> str:
                await asyncio.sleep(0)
                return question + "?"

            assert await pair.client.call.wait(name="who") == "who?!"
            assert await pair.client.call.work(name="who") == "who?!!"

    run(scenario)


@pytest.mark.rule("rpc.B4")
def test_giving_up_reaches_the_handler_and_drops_what_waits() -> None:
    async def scenario() -> None:
        async with both() as pair:
            seen: list[str] = []

            @pair.server.wait.handler
            async def wait(sender: str, name: str) -> str:
                seen.append(name)
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    seen.append(f"{name} cancelled {current().cancelled}")
                    raise
                return ""

            await until(lambda: pair.links[0].peer.theirs)
            running, waiting = (asyncio.ensure_future(pair.client.call.wait(name=name)) for name in ("one", "two"))
            await until(lambda: pair.links[1].peer.in_flight == 2)
            waiting.cancel()
            await until(lambda: pair.links[1].peer.in_flight == 1)
            running.cancel()
            await until(lambda: pair.links[1].peer.in_flight == 0)
            await asyncio.wait([running, waiting])
            assert seen == ["one", "one cancelled True"]
            pair.server.echo.connect(lambda sender, value: value)
            assert await pair.client.call.echo(value="well") == "well"

    run(scenario)


@pytest.mark.rule("rpc.B4")
def test_a_handler_in_a_thread_sees_that_it_was_given_up_and_its_caller_is_answered_at_once() -> None:
    async def scenario() -> None:
        async with both() as pair:
            begun, ended, go = threading.Event(), threading.Event(), threading.Event()

            @pair.server.work.handler
            def work(sender: str, name: str) -> str:
                call = current()
                begun.set()
                while not call.cancelled:
                    go.wait(0.001)
                ended.set()
                return "too late"

            await until(lambda: pair.links[0].peer.theirs)
            task = asyncio.ensure_future(pair.client.call.work(name="x"))
            await until(begun.is_set)
            task.cancel()
            await until(ended.is_set)
            await until(lambda: pair.links[1].peer.in_flight == 0)
            await asyncio.wait([task])

    run(scenario)


@pytest.mark.rule("rpc.B4")
def test_the_deadline_is_sent_along_and_stops_the_handler() -> None:
    async def scenario() -> None:
        async with both() as pair:
            seen: list[Any] = []

            @pair.server.wait.handler
            async def wait(sender: str, name: str) -> str:
                seen.append(current().time_left)
                try:
                    await asyncio.sleep(20)
                finally:
                    seen.append("stopped")
                return ""

            await until(lambda: pair.links[0].peer.theirs)
            with pytest.raises(CallExpired):
                await pair.client.call.with_(timeout=0.05).wait()
            await until(lambda: len(seen) == 2)
            assert 0 < seen[0] <= 0.05
            await until(lambda: pair.links[1].peer.in_flight == 0)
            assert pair.client._links._by_name["server"].link.peer.pending == 0

    run(scenario)


@pytest.mark.rule("rpc.B4")
def test_calls_have_a_deadline_of_thirty_seconds_or_their_own() -> None:
    assert RemoteAPI.limits.timeout == 30.0
    assert Desk().ask.terms.timeout == 20.0 if hasattr(Desk().ask, "terms") else True
    assert Desk().call.ask._terms.timeout == 20.0
    assert Desk().call.with_(timeout=2.0).ask._terms.timeout == 2.0
    assert Desk().call.ask.with_(timeout=3.0)._terms.timeout == 3.0


def test_key_and_trace_travel_to_the_handler() -> None:
    async def scenario() -> None:
        async with both() as pair:

            @pair.server.echo.handler
            async def echo(sender: str, value: Any) -> list[str]:
                return [current().key, current().trace]

            await until(lambda: pair.links[0].peer.theirs)
            assert await pair.client.call.with_(key="k1", trace="00-a-b-01").echo() == ["k1", "00-a-b-01"]
            assert await pair.client.call.echo() == ["", ""]

    run(scenario)


def test_outside_of_a_handler_there_is_no_current_call() -> None:
    with pytest.raises(LookupError):
        current()


@pytest.mark.rule("rpc.B3")
def test_a_link_that_ends_fails_all_that_waits_at_once() -> None:
    async def scenario() -> None:
        async with both() as pair:

            @pair.server.wait.handler
            async def wait(sender: str, name: str) -> str:
                await asyncio.Event().wait()
                return ""

            calls = [asyncio.ensure_future(pair.client.call.wait()) for _ in range(3)]
            await until(lambda: pair.links[1].peer.in_flight == 3)
            pair.links[1].abort()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [ConnectionLost] * 3
            assert all(outcome.sent for outcome in outcomes)  # type: ignore[union-attr]
            with pytest.raises(ConnectionLost) as caught:
                await pair.client.call.wait()
            assert not caught.value.sent

    run(scenario)


@pytest.mark.rule("rpc.B3", "rpc.B4")
def test_handlers_of_a_peer_that_has_gone_are_stopped_and_casts_are_not() -> None:
    async def scenario() -> None:
        async with both() as pair:
            seen: list[str] = []
            go = asyncio.Event()

            @pair.server.wait.handler
            async def wait(sender: str, name: str) -> str:
                try:
                    await asyncio.Event().wait()
                finally:
                    seen.append("stopped")
                return ""

            @pair.server.note.handler
            async def note(sender: str, text: str) -> None:
                await go.wait()
                seen.append(text)

            task = asyncio.ensure_future(pair.client.call.wait())
            await until(lambda: pair.links[1].peer.in_flight == 1)
            pair.client.notify.note(text="one")
            pair.client.notify.note(text="two")
            await until(lambda: pair.links[1].peer.in_flight == 3)
            pair.links[0].abort()
            await asyncio.wait([task])
            await until(lambda: seen == ["stopped"])
            go.set()
            await until(lambda: seen == ["stopped", "one", "two"])

    run(scenario)


@pytest.mark.rule("rpc.B7", "rpc.B8")
def test_too_many_calls_are_told_to_come_later() -> None:
    class Small(Desk):
        limits = PeerLimits(in_flight=2, queue=3)

    async def scenario() -> None:
        async with both(Small) as pair:
            go = asyncio.Event()

            @pair.server.wait.handler
            async def wait(sender: str, name: str) -> str:
                await go.wait()
                return "done"

            calls = [asyncio.ensure_future(pair.client.call.wait()) for _ in range(8)]
            await until(lambda: sum(call.done() for call in calls) == 3)
            go.set()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert outcomes[:5] == ["done"] * 5
            assert all(isinstance(outcome, Busy) and outcome.retry_after > 0 for outcome in outcomes[5:])

    run(scenario)


@pytest.mark.rule("rpc.B7")
def test_a_flood_of_casts_takes_room_too() -> None:
    class Small(Desk):
        limits = PeerLimits(in_flight=2, queue=3)

    async def scenario() -> None:
        async with both(Small) as pair:
            go, seen = asyncio.Event(), []

            @pair.server.note.handler
            async def note(sender: str, text: str) -> None:
                await go.wait()
                seen.append(text)

            for number in range(4):
                pair.client.notify.note(text=str(number))
                await asyncio.sleep(0.001)
            await until(lambda: pair.links[1].peer.in_flight == 2)
            assert pair.links[1].peer.waiting == 2
            go.set()
            await until(lambda: len(seen) == 4)
            assert seen == ["0", "1", "2", "3"]
            await until(lambda: pair.links[1].peer.in_flight == 0)

    run(scenario)


@pytest.mark.rule("rpc.R19", "rpc.B8")
def test_a_result_that_cannot_be_carried_is_logged_and_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with both() as pair:
            pair.server.echo.connect(lambda sender, value: object())
            with pytest.raises(RemoteError):
                await pair.client.call.echo()

    run(scenario)
    assert logging.ERROR in [record.levelno for record in caplog.records]


@pytest.mark.rule("rpc.R23")
def test_blocking_on_the_thread_of_the_link_is_refused_at_once() -> None:
    async def scenario() -> None:
        async with both() as pair:
            with pytest.raises(PromiseDeadlockError):
                pair.client.sync.echo()
            promise = pair.client.echo(None, value=1)
            with pytest.raises(PromiseDeadlockError):
                promise.result()
            assert await promise is None

    run(scenario)


@pytest.mark.rule("rpc.B13")
def test_blocking_calls_from_threads_and_promises() -> None:
    async def scenario() -> None:
        async with both() as pair:
            pair.server.echo.connect(lambda sender, value: value)

            def block() -> list[Any]:
                promise = pair.client.echo(None, value=3)
                return [pair.client.sync.echo(value=1), promise.result(), promise.then(lambda got: got + 1).result()]

            assert await asyncio.to_thread(block) == [1, 3, 4]
            cancelled = pair.client.echo(None, value=1)
            assert cancelled.cancel()

    run(scenario)


def test_with_several_peers_one_is_named() -> None:
    async def scenario() -> None:
        server = Desk()
        clients = [Desk.peer()() for _ in range(2)]
        links = [
            link_pair(client._setup({}), server._setup({}), names=(f"client {n}", "server"))
            for n, client in enumerate(clients)
        ]
        for number, client in enumerate(clients):
            client.ask.connect(lambda sender, question, number=number: f"{number} {question}")
        assert sorted(server.peers) == ["client 0", "client 1"]
        with pytest.raises(ValueError, match="2 peers"):
            await server.call.ask(question="who")
        assert await server.call.with_(to="client 1").ask(question="who") == "1 who"
        assert await server.call.ask.with_(to=["client 0"])(question="who") == "0 who"
        assert await server.ask(["client 1"], question="who") == "1 who"
        assert (await server.ask(None, question="anybody")).endswith("anybody")
        with pytest.raises(ConnectionLost, match="client 9"):
            await server.call.with_(to="client 9").ask(question="who")
        for pair in links:
            for link in pair:
                link.close()

    run(scenario)


@pytest.mark.rule("rpc.R25", "rpc.B1")
def test_trouble_on_a_link_reaches_the_hook() -> None:
    class Strict(Desk):
        def message_error(self, sender: str, exception: Exception, in_reply_to: Any = None) -> None:
            seen.append((sender, type(exception)))
            raise RuntimeError("the hook itself")

    seen: list[Any] = []

    async def scenario() -> None:
        async with both(Strict) as pair:
            pair.links[0]._transport.write(b"garbage\0")  # type: ignore[union-attr]
            with pytest.raises(MethodNotFound):
                await pair.links[0].call("nothing")
            await until(lambda: len(seen) >= 2)
            assert [kind.__name__ for sender, kind in seen if sender == "client"] == ["ParseError", "MethodNotFound"]

    run(scenario)


def test_handlers_know_their_task_and_their_context() -> None:
    """A handler begins where its call was read; what it sees of asyncio must be as in a task all the same."""
    mine = contextvars.ContextVar("mine", default="unset")

    async def scenario() -> None:
        async with both() as pair:
            tasks: list[Any] = []

            @pair.server.wait.handler
            async def wait(sender: str, name: str) -> str:
                token = mine.set(name)
                tasks.append(asyncio.current_task())
                try:
                    async with asyncio.timeout(0.02):
                        await asyncio.Event().wait()
                except TimeoutError:
                    tasks.append(asyncio.current_task())
                async with asyncio.TaskGroup() as group:
                    child = group.create_task(asyncio.sleep(0, mine.get()))
                mine.reset(token)
                return f"{child.result()} {current().method}"

            assert [await pair.client.call.wait(name=name) for name in ("a", "b")] == ["a wait", "b wait"]
            assert tasks[0] is tasks[1]
            assert tasks[0] is not None
            assert mine.get() == "unset"

    run(scenario)


def test_a_cancelled_handler_cancels_what_it_waits_for_even_before_its_task_has_taken_it_over() -> None:
    async def scenario() -> None:
        server = Desk()
        inner: list[asyncio.Task[Any]] = []

        @server.wait.handler
        async def wait(sender: str, name: str) -> str:
            inner.append(asyncio.ensure_future(asyncio.Event().wait()))
            await inner[0]
            return ""

        pair = Both(server, Desk.peer()())
        await until(lambda: pair.links[0].peer.theirs)
        future = pair.links[0].request("wait", {"name": "x"})
        future.cancel()  # call and cancelling are read together
        await until(lambda: inner and inner[0].cancelled())
        await until(lambda: pair.links[1].peer.in_flight == 0)
        await pair.close()

    run(scenario)


def test_a_handler_that_swallows_its_cancelling_leaves_its_lane_in_order() -> None:
    async def scenario() -> None:
        async with both() as pair:

            @pair.server.wait.handler
            async def wait(sender: str, name: str) -> str:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
                return "swallowed"

            @pair.server.echo.handler
            async def echo(sender: str, value: Any) -> Any:
                async with asyncio.timeout(60):
                    await asyncio.sleep(0)
                return value

            await until(lambda: pair.links[0].peer.theirs)
            task = asyncio.ensure_future(pair.client.call.wait())
            await until(lambda: pair.links[1].peer.in_flight == 1)
            task.cancel()
            assert await pair.client.call.echo(value=1) == 1
            await asyncio.wait([task])

    run(scenario)


@pytest.mark.rule("rpc.B16")
def test_connecting_and_leaving_are_events() -> None:
    events: list[tuple[str, ...]] = []

    class Watched(Desk):
        def peer_connected(self, sender: str) -> None:
            events.append(("connected", sender))

        def peer_disconnected(self, sender: str, reason: str) -> None:
            events.append(("disconnected", sender))

    async def scenario() -> None:
        server, client = Watched(), Desk.peer()()
        pair = Both(server, client)
        assert events == [("connected", "client")]
        await pair.close()
        assert events == [("connected", "client"), ("disconnected", "client")]
        assert server.peers == client.peers == []

    run(scenario)


@pytest.mark.rule("rpc.B6")
def test_a_signed_link_between_apis() -> None:
    async def scenario() -> None:
        key = b"0123456789abcdef"
        async with both(security=Hmac(key, "desk")) as pair:
            pair.server.note.pass_secinfo(True)
            pair.server.echo.pass_secinfo(True)
            pair.server.echo.connect(lambda sender, value, secinfo: secinfo)
            assert await pair.client.call.echo() == {"user": "desk"}
        stranger = Desk.peer()(security=Hmac(b"another key of 16", "desk"))
        server = Desk(security=Hmac(key, "desk"))
        ran: list[str] = []
        server.echo.connect(lambda sender, value: ran.append(sender))
        links = link_pair(stranger._setup({}), server._setup({}), names=("stranger", "server"))
        with pytest.raises(RemoteError):
            await stranger.call.with_(timeout=0.2).echo()
        assert ran == []
        for link in links:
            link.abort()

    run(scenario)


class Sum(Security):
    """The sum of the octets, for a test only."""

    def sec_out(self, payload: bytes) -> tuple[dict[str, Any], bytes | None]:
        return {"sum": sum(payload) % 100}, payload[::-1]

    def sec_in(self, payload: bytes, secinfo: dict[str, Any]) -> bytes | None:
        if secinfo["sum"] != sum(payload) % 100:
            raise SecurityError("the sum is wrong")
        return payload[::-1]


@pytest.mark.rule("rpc.B6", "rpc.R16")
def test_a_security_of_ones_own_on_a_link() -> None:
    async def scenario() -> None:
        async with both(security=Sum()) as pair:
            pair.server.echo.pass_secinfo(True)
            pair.server.echo.connect(lambda sender, value, secinfo: [value, list(secinfo)])
            assert await pair.client.call.echo(value=1) == [1, ["sum"]]

    run(scenario)


class Words(Codec):
    """JSON in words of one's own: `[kind, id, name or value, params]` a line."""

    def encode(self, method: str, kwargs: Any = None, id: Any = 0, sec_out: Any = None) -> bytes:  # noqa: A002 - the name is the contract's
        return msgspec.json.encode(["call", id, method, kwargs]) + b"\n"

    def encode_reply(self, in_reply_to: Any, result: Any, sec_out: Any = None) -> bytes:
        return msgspec.json.encode(["reply", in_reply_to.id, result]) + b"\n"

    def encode_error(self, in_reply_to: Any, exception: Any, errorcode: int = 0, sec_out: Any = None) -> bytes:
        return msgspec.json.encode(["error", in_reply_to.id, str(exception), errorcode]) + b"\n"

    def decode(self, data: bytes, sec_in: Any = None) -> tuple[list[Any], bytes]:
        *lines, rest = data.split(b"\n")
        return [self.item(msgspec.json.decode(line)) for line in lines], rest

    @staticmethod
    def item(said: Any) -> Any:
        from monsal.rpc import ErrorReply

        match said:
            case ["call", known, name, params]:
                return Message(name, params, known)
            case ["reply", known, value]:
                return Reply(value, known)
            case ["error", known, words, code]:
                return ErrorReply(words, known, code)
            case _:
                return DecodeError("what?")


def test_a_codec_of_ones_own_on_a_link() -> None:
    async def scenario() -> None:
        async with both(codec=Words()) as pair:
            pair.server.echo.connect(lambda sender, value: value)
            assert await pair.client.call.echo(value={"a": [1]}) == {"a": [1]}
            with pytest.raises(InvalidParams):
                await pair.client.call.find(number="x")
            pair.links[0]._transport.write(b"[5]\nno json\n")  # type: ignore[union-attr]
            assert await pair.client.call.echo(value=2) == 2

    run(scenario)


@pytest.mark.parametrize("codec", ["jrpc", "jrpc:\n", "terse:", "msgpack:", "lsp:"])
def test_over_any_codec(codec: str) -> None:
    async def scenario() -> None:
        async with both(codec=codec) as pair:

            @pair.server.find.handler
            async def find(sender: str, number: int) -> Ticket:
                if number == 7:
                    raise NotFound("no 7")
                return Ticket(number, b"\0xy\n")

            assert await pair.client.call.find(number=3) == Ticket(3, b"\0xy\n")
            with pytest.raises(NotFound, match="no 7"):
                await pair.client.call.find(number=7)
            with pytest.raises(InvalidParams):
                await pair.client.call.find(number="x")
            pair.server.echo.connect(lambda sender, value: value)
            assert await pair.client.call.echo(value=[1, "ü", True, None]) == [1, "ü", True, None]

    run(scenario)


# -- over sockets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["unix:{home}/api.sock", "tcp://127.0.0.1:0", "tcpserv:127.0.0.1:0"])
def test_over_sockets(home: Path, address: str) -> None:
    async def scenario() -> None:
        async with Desk() as server, Desk.peer()() as client:
            server.echo.connect(lambda sender, value: [sender, value])
            acceptor = await server.listen(address.format(home=home))
            where = acceptor.addresses[0]
            link = await client.connect(f"{'unix' if where.startswith('/') else 'tcp'}:{where}")
            sender, value = await client.call.echo(value=1)
            assert value == 1
            assert server.peers == [sender]
            server.told(None, text="all")
            server.told([sender], text="you")
            link.close()
            await link.wait_closed()
            await until(lambda: not server.peers)
            server.told(None, text="nobody is there, which is no error for a server")

    run(scenario)


@pytest.mark.rule("rpc.B16")
def test_nobody_listens_there(home: Path) -> None:
    async def scenario() -> None:
        client = Desk.peer()()
        with pytest.raises(NotRunning):
            await client.connect(f"unix:{home}/nothing.sock")
        with pytest.raises(ConnectionLost):
            await client.call.echo()

    run(scenario)


@pytest.mark.rule("rpc.B16")
def test_a_link_that_comes_back(home: Path) -> None:
    async def scenario() -> None:
        client = Desk.peer()()
        first = Desk()
        await first.listen(f"unix:{home}/api.sock")
        await client.open(f"restart:0.05:unix:{home}/api.sock")
        await until(lambda: client.peers)
        await first.close()
        await until(lambda: not client.peers)
        second = Desk()
        second.echo.connect(lambda sender, value: "second")
        await second.listen(f"unix:{home}/api.sock")
        await until(lambda: client.peers)
        assert await client.call.echo() == "second"
        await client.close()
        await second.close()

    run(scenario)


def test_inside_the_process_and_several_at_once(home: Path) -> None:
    async def scenario() -> None:
        server = Desk()
        server.echo.connect(lambda sender, value: value)
        await server.open(f"mux:(internal:links:desk)(unixserv:{home}/api.sock)")
        one, two = Desk.peer()(), Desk.peer()()
        await one.open("internal:links:visitor")
        await two.connect(f"unix:{home}/api.sock")
        await until(lambda: len(server.peers) == 2 and one.peers)
        assert await one.call.with_(to="desk").echo(value="in") == "in"
        assert await two.call.echo(value="out") == "out"
        for api in (one, two, server):
            await api.close()

    run(scenario)


@pytest.mark.rule("rpc.B18")
def test_objects_stay_where_they_are() -> None:
    """What travels is values: no object of ours is made a proxy there, nothing that comes is run."""

    class Thing:
        def __reduce__(self) -> Any:
            return (print, ("run",))

    async def scenario() -> None:
        async with both() as pair:
            pair.server.echo.connect(lambda sender, value: Thing() if value == "thing" else type(value).__name__)
            with pytest.raises(RemoteError):
                await pair.client.call.echo(value="thing")
            with pytest.raises(EncodeError):
                await pair.client.call.echo(value=Thing())
            assert await pair.client.call.echo(value={"__class__": "Thing", "py/object": "os.system"}) == "dict"

    run(scenario)
