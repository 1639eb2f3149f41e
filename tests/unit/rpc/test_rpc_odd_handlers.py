"""Handlers that end in a way nobody expects: their call is answered, and those after it are handled (rpc.B1, B8)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from monsal.rpc import (
    CallExpired,
    Cancelled,
    ErrorTable,
    HandlerExpired,
    InternalError,
    RemoteAPI,
    RemoteError,
    incoming,
)
from monsal.rpc.classic import Message, Transport
from monsal.rpc.wirecodec import WireCodec
from monsal.transport.memory import link_pair
from monsal.wire.codes import DEADLINE
from monsal.wire.packets import Fault


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("this cannot be shown")


class OfItsOwn(BaseException):
    """Nobody but its maker knows it."""


class Odd(RemoteAPI):
    @incoming
    async def at_once(self, sender: str, number: int) -> Any: ...

    @incoming
    async def later(self, sender: str, number: int) -> Any: ...

    @incoming(ordered=False)
    async def beside(self, sender: str, number: int) -> Any: ...

    @incoming
    def in_thread(self, sender: str, number: int) -> Any: ...


ENDS: list[Callable[[], BaseException]] = [
    SystemExit,
    GeneratorExit,
    asyncio.CancelledError,
    StopIteration,
    StopAsyncIteration,
    RecursionError,
    Unprintable,
    OfItsOwn,
    lambda: BaseExceptionGroup("several", [SystemExit()]),
    lambda: ValueError("x" * 2_000_000),
    lambda: ValueError("\ud800"),
]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


RESULTS: list[Any] = [object(), float("nan"), {"a": [float("-inf")]}, "\ud800", {(1, 2): 3}, nested(100), nested(5000)]


def run_plain(number: int) -> Any:
    if number < len(ENDS):
        raise ENDS[number]()
    return RESULTS[number - len(ENDS)]


@pytest.mark.rule("rpc.B1", "rpc.B8", "rpc.R18", "rpc.R19")
@pytest.mark.parametrize("name", ["at_once", "later", "beside", "in_thread"])
def test_each_call_is_answered_and_the_next_one_handled(name: str, caplog: pytest.LogCaptureFixture) -> None:
    async def at_once(sender: str, number: int) -> Any:
        return number if number < 0 else run_plain(number)

    async def later(sender: str, number: int) -> Any:
        await asyncio.sleep(0)
        return await at_once(sender, number)

    async def scene() -> None:
        server, client = Odd(), Odd(invert=True)
        server.at_once.connect(at_once)
        server.beside.connect(later)
        server.later.connect(later)
        server.in_thread.connect(lambda sender, number: number if number < 0 else run_plain(number))
        links = link_pair(client._setup({}), server._setup({}))
        call = getattr(client.call, name)
        for number in range(len(ENDS) + len(RESULTS)):
            with pytest.raises((InternalError, Cancelled)) as caught:
                await call(number=number)
            assert isinstance(caught.value, RemoteError)
            assert await call(number=-1) == -1
        for link in links:
            link.abort()
        await asyncio.gather(*(link.wait_closed() for link in links))
        await server.close()

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(scene())


@pytest.mark.rule("rpc.B4", "rpc.B9")
def test_whichever_side_sees_the_deadline_first_the_call_has_expired() -> None:
    error = ErrorTable().error(Fault(1, DEADLINE, "Deadline exceeded", {"a": 1}))
    assert isinstance(error, HandlerExpired)
    assert isinstance(error, CallExpired)
    assert isinstance(error, TimeoutError)
    assert (str(error), error.code, error.data) == ("Deadline exceeded", DEADLINE, {"a": 1})


@pytest.mark.rule("rpc.R18")
def test_no_handler_ends_the_thread_that_receives() -> None:
    answers: list[bytes] = []

    class Kept(Transport):
        def send(self, data: bytes, receivers: Any = None) -> None:
            answers.append(data)

    api = Odd(transport=Kept())
    api.in_thread.connect(lambda sender, number: number if number < 0 else run_plain(number))
    for number in range(len(ENDS)):
        api._handle_received("somebody", WireCodec().encode("in_thread", {"number": number}, number + 1))
    api._handle_received("somebody", WireCodec().encode("in_thread", {"number": -1}, 99))
    assert len(answers) == len(ENDS) + 1
    [last], _ = WireCodec().decode(answers[-1])
    assert not isinstance(last, Message)
    assert (last.id, last.result) == (99, -1)


@pytest.mark.rule("rpc.B1")
def test_an_interrupt_of_the_keyboard_ends_the_program_all_the_same() -> None:
    async def stop(sender: str, number: int) -> Any:
        raise KeyboardInterrupt

    async def scene() -> None:
        server, client = Odd(), Odd(invert=True)
        server.at_once.connect(stop)
        links = link_pair(client._setup({}), server._setup({}))
        try:
            await client.call.at_once(number=1)
        finally:
            for link in links:
                link.abort()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(scene())
