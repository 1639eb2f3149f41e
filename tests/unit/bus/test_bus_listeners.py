"""What may be a listener, and that odd ones harm nobody but themselves."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial, wraps
from types import MappingProxyType
from typing import Any

import pytest

from monsal.bus import Bus, ChannelFailures, Phase, SimplePlugin

from .conftest import PATIENCE, LoggedBus

Run = Callable[[Callable[[], object]], threading.Thread]


class Unhashable:
    """Equal by value, as a dataclass is, and therefore without a hash."""

    def __call__(self) -> str:
        return "called"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable)


class Callback:
    """An object that is called, with attributes of its own that mean something else."""

    def __init__(self) -> None:
        self.priority = "high"
        self.limit = MappingProxyType({"requests": 3})

    def __call__(self) -> str:
        return "object"


class Plugin:
    """Something with methods."""

    def listen(self) -> str:
        return "method"

    @staticmethod
    def static() -> str:
        return "static"

    @classmethod
    def of_class(cls) -> str:
        return cls.__name__


@pytest.mark.rule("bus.R1", "bus.R2")
def test_all_kinds_of_callables_are_listeners(bus: LoggedBus) -> None:
    plugin = Plugin()
    kinds = [
        plugin.listen,
        Plugin.static,
        Plugin.of_class,
        partial("{}".format, "partial"),
        Callback(),
        dict,
        lambda: "lambda",
        wraps(plugin.listen)(lambda: "wrapped"),
    ]
    for kind in kinds * 2:
        bus.subscribe("any", kind)
    # A method is another object each time it is looked up, but the same listener.
    bus.subscribe("any", plugin.listen)
    assert bus.publish("any") == ["method", "static", "Plugin", "partial", "object", {}, "lambda", "wrapped"]
    for kind in kinds:
        bus.unsubscribe("any", kind)
    assert bus.publish("any") == []


@pytest.mark.rule("bus.R3")
def test_attributes_that_are_no_numbers_are_neither_priority_nor_limit(bus: LoggedBus) -> None:
    seen: list[str] = []
    odd = Callback()
    bus.subscribe("start", lambda: seen.append("before"), 49)
    bus.subscribe("start", odd)
    bus.subscribe("start", lambda: seen.append("after"), 51)
    bus.start()
    assert list(bus.listeners["start"])[1] is odd
    assert seen == ["before", "after"]


@pytest.mark.parametrize(
    ("listener", "priority", "reason"),
    [
        (Unhashable(), None, "no hash"),
        (["not", "callable"], None, "called"),
        ("start", 10, "called"),
        (print, "first", "a number"),
    ],
)
def test_what_cannot_be_a_listener_is_refused_at_once(
    bus: LoggedBus, listener: Any, priority: Any, reason: str
) -> None:
    with pytest.raises(TypeError, match=reason):
        bus.subscribe("any", listener, priority)
    assert bus.publish("any") == []
    bus.subscribe("any", Unhashable().__call__)
    assert bus.publish("any") == ["called"]


@pytest.mark.rule("bus.R2")
def test_the_bus_keeps_its_listeners_alive_until_they_are_unsubscribed(bus: LoggedBus) -> None:
    plugin = Plugin()
    alive = weakref.ref(plugin)
    bus.subscribe("any", plugin.listen)
    del plugin
    gc.collect()
    assert bus.publish("any") == ["method"]
    bus.listeners["any"].clear()
    bus.publish("any")
    gc.collect()
    assert alive() is None


class HalfMade:
    """A plugin whose text needs what only a successful start makes."""

    def __repr__(self) -> str:
        return f"<HalfMade {self.made}>"  # type: ignore[attr-defined] - that is the point

    def start(self, *args: object) -> None:
        raise BadText


class BadText(ValueError):
    """An error that cannot even be shown."""

    def __repr__(self) -> str:
        raise AttributeError("no text")

    __str__ = __repr__


@pytest.mark.rule("bus.R4", "bus.B4")
@pytest.mark.parametrize("channel", ["any", "stop"])
def test_a_listener_whose_text_fails_is_told_of_and_the_rest_goes_on(bus: LoggedBus, channel: str) -> None:
    seen: list[str] = []
    bus.subscribe(channel, HalfMade().start, 10)
    bus.subscribe(channel, lambda: seen.append("next"), 20)
    with pytest.raises(ChannelFailures) as caught:
        bus.publish(channel) if channel == "any" else bus.stop()
    assert seen == ["next"]
    assert [type(error) for error in caught.value.exceptions] == [BadText]
    assert "without a text" in str(caught.value)
    assert f"Error in {channel!r} listener <method without a text: AttributeError>" in bus.said


class Closed:
    """An object that computes its attributes, and cannot now."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def __call__(self, *args: object) -> None:
        self.seen.append("closed")

    @property
    def limit(self) -> float:
        raise RuntimeError("the connection is closed")

    own_time = limit
    __module__ = limit  # type: ignore[assignment] - as above


@pytest.mark.rule("bus.R4", "bus.B4", "bus.B17")
@pytest.mark.parametrize("channel", ["start", "drain", "stop", "exit"])
@pytest.mark.parametrize("kind", ["slot", "object"])
def test_a_listener_whose_attributes_cannot_be_read_is_called_and_so_is_the_rest(
    bus: LoggedBus, channel: str, kind: str
) -> None:
    """A method of a built-in type has a name but no module: to note that it was called failed, and ended the step."""
    seen: list[str] = []
    bus.subscribe(channel, seen.__len__ if kind == "slot" else Closed(seen), 10)
    bus.subscribe(channel, lambda: seen.append("next"), 20)
    running: list[str] = []
    bus.subscribe("log", lambda msg, level: running.append(bus.statistics().running))
    bus.start()
    bus.exit()
    assert seen == (["next"] if kind == "slot" else ["closed", "next"])
    calls = [event for event in bus.history.last() if event.kind == "call" and event.channel == channel]
    assert len(calls) == 2
    assert ("method-wrapper" if kind == "slot" else "Closed") in calls[0].name
    assert [text for level, text in bus.lines if level > 20] == []


class Talkative:
    """A listener that says something when it is looked up, as a finalizer may at any time."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    def __hash__(self) -> int:
        self.bus.log("hash")
        self.bus.subscribe("log", print)
        self.bus.unsubscribe("log", print)
        return 1

    def __call__(self, *args: object) -> None:
        """Nothing to do."""


@pytest.mark.rule("bus.B2")
def test_who_subscribes_may_use_the_channel_meanwhile(bus: LoggedBus) -> None:
    """It dead-locked on the lock of the channel that it held itself."""
    late: list[str] = []

    class Late(float):
        """A priority that has another listener come while the order is found out."""

        def __lt__(self, other: object) -> bool:
            bus.subscribe("log", hears)
            return super().__lt__(other)  # type: ignore[operator] - as floats are

    def hears(msg: str, level: int) -> None:
        late.append(msg)

    talkative = Talkative(bus)
    bus.subscribe("log", talkative, Late(60))
    bus.log("first")
    bus.log("second")
    assert late[-1] == "second"
    bus.unsubscribe("log", talkative)
    assert bus.said[-2:] == ["second", "hash"]


@pytest.mark.rule("bus.R4", "bus.B4")
def test_after_a_start_that_fails_so_the_error_is_raised_and_the_exit_done(bus: LoggedBus) -> None:
    bus.subscribe("start", HalfMade().start)
    with pytest.raises(ChannelFailures):
        bus.start()
    assert bus.phase is Phase.EXITED


class Part(SimplePlugin):
    def __init__(self, bus: Bus, seen: list[str], name: str) -> None:
        super().__init__(bus)
        self.seen, self.name = seen, name

    def start(self) -> None:
        self.seen.append(f"+{self.name}")

    def stop(self) -> None:
        self.seen.append(f"-{self.name}")


@pytest.mark.rule("bus.B2", "bus.R12")
def test_a_part_that_comes_while_the_bus_starts_is_not_started_by_it_but_stopped(bus: LoggedBus) -> None:
    """Who subscribes it then starts it by hand, as the snapshot of the start does not have it."""
    seen: list[str] = []

    def brings_one() -> None:
        late = Part(bus, seen, "late")
        late.subscribe()
        late.start()

    bus.subscribe("start", brings_one)
    bus.start()
    bus.stop()
    assert seen == ["+late", "-late"]


def test_a_part_that_was_never_started_does_not_lend_its_identity_to_another(bus: LoggedBus) -> None:
    seen: list[str] = []
    part = Part(bus, seen, "never")
    part.subscribe()
    bus.subscribe("start", bus.stop, 1)
    bus.start()
    part.unsubscribe()
    del part
    gc.collect()
    others = [Part(bus, seen, str(number)) for number in range(50)]
    for other in others:
        bus.subscribe("stop", other.stop)
    bus.exit()
    assert seen == [] or len(seen) == 50


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


@pytest.mark.rule("bus.B5", "bus.R6")
@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()])
def test_system_exit_of_an_async_listener_ends_the_publishing_and_not_the_loop(
    bus: LoggedBus, loop: asyncio.AbstractEventLoop, attached: bool, end: BaseException
) -> None:
    seen: list[str] = []

    async def ends() -> None:
        await asyncio.sleep(0)
        raise end

    async def works() -> str:
        return "works"

    if attached:
        bus.attach_loop(loop)
    bus.subscribe("any", ends)
    bus.subscribe("any", lambda: seen.append("next"))
    with pytest.raises(type(end)) as caught:
        bus.publish("any")
    assert caught.value is end
    assert seen == []
    bus.subscribe("other", works)
    assert bus.publish("other") == ["works"]


@pytest.mark.rule("bus.B5", "bus.R6")
def test_system_exit_of_an_async_stop_listener_is_raised_by_exit(bus: LoggedBus) -> None:
    async def ends() -> None:
        raise SystemExit(3)

    seen: list[str] = []

    async def exits() -> None:
        seen.append("exit")

    bus.subscribe("stop", ends)
    bus.subscribe("exit", exits)
    bus.start()
    with pytest.raises(SystemExit):
        bus.exit()
    assert seen == ["exit"]
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.B5", "bus.B1")
@pytest.mark.parametrize("attached", [True, False])
def test_an_exit_asked_for_on_the_owner_loop_waits_for_no_listener_there(
    bus: LoggedBus, loop: asyncio.AbstractEventLoop, attached: bool
) -> None:
    """The loop goes on, so that its async stop listeners can run."""
    seen: list[str] = []

    async def stops() -> None:
        await asyncio.sleep(0)
        seen.append("stop")

    async def asks() -> None:
        bus.exit()
        seen.append("asked")

    if attached:
        bus.attach_loop(loop)
    bus.subscribe("ask", asks)
    bus.subscribe("stop", stops)
    bus.start()
    bus.publish("ask")
    bus.wait(Phase.EXITED)
    assert seen == ["asked", "stop"]


@pytest.mark.rule("bus.B5")
def test_many_threads_publish_to_async_listeners(bus: LoggedBus, in_thread: Run) -> None:
    results: list[list[int]] = []

    async def listener(number: int) -> int:
        await asyncio.sleep(0)
        return number

    def publishes(number: int) -> None:
        results.append(bus.publish("any", number))

    bus.subscribe("any", listener)
    threads = [in_thread(partial(publishes, number)) for number in range(8)]
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(results) == [[number] for number in range(8)]


@pytest.mark.rule("bus.B6", "bus.B9")
def test_the_next_start_is_in_no_hurry(bus: LoggedBus) -> None:
    bus.start()
    bus.hurry.set()
    bus.stop()
    assert bus.hurry.is_set()
    bus.start()
    assert not bus.hurry.is_set()
    assert bus.hurry.since == float("inf")
