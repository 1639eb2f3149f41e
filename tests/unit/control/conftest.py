"""A control server on a loop in a thread of its own, so that the blocking client can be used against it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager

import pytest
import uvloop

from monsal.control.server import ControlServer


@contextmanager
def _serving(control: ControlServer, factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[ControlServer]:
    ready: Future[None] = Future()
    end: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def main() -> None:
        stop = asyncio.Event()
        end.set_result((asyncio.get_running_loop(), stop))
        try:
            await control.start()
        except BaseException as error:
            ready.set_exception(error)
            raise
        ready.set_result(None)
        await stop.wait()
        await control.stop()

    def run() -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        ready.result(60)
        yield control
    finally:
        loop, stop = end.result(60)
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture(params=["asyncio", "uvloop"])
def serve(request: pytest.FixtureRequest) -> Iterator[Callable[[ControlServer], ControlServer]]:
    """Start a control server; it is closed at the end of the test."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with ExitStack() as stack:
        yield lambda control: stack.enter_context(_serving(control, factory))
