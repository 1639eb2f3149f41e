"""`async def` listeners are awaited, on one owner loop (B5)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from monsal.bus import ChannelFailures, Phase

from .conftest import PATIENCE, LoggedBus, short


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of the application, running in its own thread."""
    made = asyncio.new_event_loop()
    begun = threading.Event()
    made.call_soon(begun.set)
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    assert begun.wait(60)
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


@pytest.mark.rule("bus.B5")
def test_all_async_listeners_run_on_the_attached_loop_in_their_turn(
    bus: LoggedBus, loop: asyncio.AbstractEventLoop
) -> None:
    bus.attach_loop(loop)
    seen: list[str] = []

    async def listener(name: str) -> str:
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)
        seen.append(name)
        return name

    bus.subscribe("any", partial(listener, "first"), 10)
    bus.subscribe("any", lambda: seen.append("plain"), 20)
    bus.subscribe("any", lambda: listener("last"), 30)
    assert bus.publish("any") == ["first", None, "last"]
    assert seen == ["first", "plain", "last"]


@pytest.mark.rule("bus.B5")
def test_without_a_loop_the_bus_makes_one_for_all_steps(bus: LoggedBus) -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    done = threading.Event()

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            done.set()

    async def start() -> None:
        loops.append(asyncio.get_running_loop())
        loops[0].task = asyncio.create_task(background())  # type: ignore[attr-defined] - kept alive there

    async def stop() -> None:
        loops.append(asyncio.get_running_loop())

    bus.subscribe("start", start)
    bus.subscribe("stop", stop)
    bus.subscribe("exit", stop)
    bus.start()
    bus.exit()
    assert len(loops) == 3
    assert len(set(loops)) == 1
    assert done.wait(PATIENCE), "what still ran on the bus's loop was not cancelled"


@pytest.mark.rule("bus.B5", "bus.R4")
def test_a_failing_async_listener_fails_as_others_do(bus: LoggedBus) -> None:
    async def fails() -> None:
        raise ValueError("async")

    bus.subscribe("any", fails)
    bus.subscribe("any", lambda value: "good")
    with pytest.raises(ChannelFailures) as caught:
        bus.publish("any")
    assert isinstance(caught.value.exceptions[1], TypeError)
    assert "ValueError: async" in bus.text_of("Error in 'any'")


@pytest.mark.rule("bus.B6")
def test_a_hanging_async_listener_is_cancelled_and_shown(bus: LoggedBus) -> None:
    cancelled = threading.Event()

    async def inner() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    @short
    async def hangs() -> None:
        await inner()

    bus.subscribe("stop", hangs)
    bus.start()
    with pytest.raises(ChannelFailures):
        bus.stop()
    assert cancelled.wait(PATIENCE)
    shown = bus.text_of("Error in 'stop' listener")
    assert "await inner()" in shown
    assert "await asyncio.Event().wait()" in shown
    assert bus.phase is Phase.FAILED


@pytest.mark.rule("bus.B6")
def test_a_listener_that_blocks_the_loop_is_shown(bus: LoggedBus, gate: threading.Event) -> None:
    @short
    async def blocks() -> None:
        gate.wait(PATIENCE)

    bus.subscribe("stop", blocks)
    bus.start()
    with pytest.raises(ChannelFailures):
        bus.stop()
    assert "gate.wait(PATIENCE)" in bus.text_of("Error in 'stop' listener")
    gate.set()


@pytest.mark.rule("bus.B5")
def test_publishing_on_the_loop_itself_is_refused_instead_of_waiting_for_ever(
    bus: LoggedBus, loop: asyncio.AbstractEventLoop
) -> None:
    bus.attach_loop(loop)

    async def listener() -> None:
        pass

    async def publishes() -> None:
        bus.publish("any")

    bus.subscribe("any", listener)
    with pytest.raises(ChannelFailures) as caught:
        asyncio.run_coroutine_threadsafe(publishes(), loop).result(PATIENCE)
    assert "asyncio.to_thread" in str(caught.value)


@pytest.mark.rule("bus.B5")
def test_a_loop_that_does_not_run_is_named(bus: LoggedBus) -> None:
    idle = asyncio.new_event_loop()
    idle.close()
    bus.attach_loop(idle)

    async def listener() -> None:
        pass

    bus.subscribe("any", listener)
    with pytest.raises(ChannelFailures) as caught:
        bus.publish("any")
    assert "attach_loop" in str(caught.value)
    bus.attach_loop(None)
    assert bus.publish("any") == [None]
