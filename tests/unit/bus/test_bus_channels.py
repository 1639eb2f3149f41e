"""Subscribing and publishing: order, failures, and others who do the same at the same time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from monsal.bus import Bus, Channel, ChannelFailures

from .conftest import LoggedBus


def recorder(seen: list[Any], name: Any) -> Callable[..., Any]:
    """A listener of its own that notes its name and returns it."""

    def listener(*args: Any, **kwargs: Any) -> Any:
        seen.append(name)
        return name

    return listener


def failing(error: BaseException) -> Callable[..., Any]:
    def listener(*args: Any, **kwargs: Any) -> Any:
        raise error

    return listener


def test_the_channels_of_the_bus_are_there_from_the_start() -> None:
    assert set(Bus().listeners) >= {"start", "stop", "exit", "graceful", "log", "main"}
    assert isinstance(Bus().listeners, dict)


@pytest.mark.rule("bus.R1")
def test_publishing_to_a_channel_that_nobody_knows_has_no_effect(bus: LoggedBus) -> None:
    assert bus.publish("nobody") == []
    assert "nobody" not in bus.listeners
    assert bus.lines == []


@pytest.mark.rule("bus.R1")
def test_any_name_is_a_channel(bus: LoggedBus) -> None:
    bus.subscribe("before request", lambda path: f"got {path}")
    assert bus.publish("before request", "/") == ["got /"]


@pytest.mark.rule("bus.R22")
def test_a_framework_hands_data_to_a_component_through_the_bus(bus: LoggedBus) -> None:
    class Watcher:
        files: set[str] = set()

        def watch(self, *paths: str) -> None:
            self.files.update(paths)

    watcher = Watcher()
    bus.subscribe("watch", watcher.watch)
    bus.publish("watch", "a.html", "b.html")
    assert watcher.files == {"a.html", "b.html"}


@pytest.mark.parametrize("arguments", [((), {}), ((1,), {}), ((1, 2), {}), ((), {"a": 1}), ((1,), {"b": 2})])
def test_arguments_and_results_pass_through(bus: LoggedBus, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    positional, named = arguments
    bus.subscribe("any", lambda *args, **kwargs: (args, kwargs))
    bus.subscribe("any", lambda *args, **kwargs: None)
    assert bus.publish("any", *positional, **named) == [arguments, None]


@pytest.mark.rule("bus.R2")
def test_a_callback_is_held_once_and_gets_the_new_priority(bus: LoggedBus) -> None:
    seen: list[str] = []
    first, second = recorder(seen, "first"), recorder(seen, "second")
    bus.subscribe("any", first, 10)
    bus.subscribe("any", second, 20)
    bus.subscribe("any", first, 30)
    assert bus.publish("any") == ["second", "first"]
    assert len(bus.listeners["any"]) == 2


@pytest.mark.rule("bus.R2")
def test_the_same_method_of_the_same_object_is_the_same_callback(bus: LoggedBus) -> None:
    seen: list[int] = []
    bus.subscribe("any", seen.append)
    bus.subscribe("any", seen.append)
    bus.publish("any", 1)
    assert seen == [1]


@pytest.mark.rule("bus.R3")
def test_priority_is_the_argument_else_the_attribute_else_fifty(bus: LoggedBus) -> None:
    seen: list[str] = []
    early, middle, late, over = (recorder(seen, name) for name in ("early", "middle", "late", "over"))
    late.priority = 51  # type: ignore[attr-defined] - functions take attributes
    early.priority = 49  # type: ignore[attr-defined] - functions take attributes
    over.priority = 1  # type: ignore[attr-defined] - functions take attributes
    for listener in (late, middle, early):
        bus.subscribe("any", listener)
    bus.subscribe("any", over, 90)
    bus.publish("any")
    assert seen == ["early", "middle", "late", "over"]


@pytest.mark.rule("bus.B2")
def test_equal_priorities_run_in_the_order_of_subscription(bus: LoggedBus) -> None:
    seen: list[int] = []
    for number in range(20):
        bus.subscribe("any", recorder(seen, number))
    bus.publish("any")
    assert seen == list(range(20))


def test_without_a_callback_subscribe_decorates(bus: LoggedBus) -> None:
    @bus.subscribe("any", priority=10)
    def decorated() -> str:
        return "decorated"

    bus.subscribe("any", lambda: "first", 5)
    assert decorated() == "decorated"
    assert bus.publish("any") == ["first", "decorated"]


def test_unsubscribing_what_is_not_there_is_no_error(bus: LoggedBus) -> None:
    bus.unsubscribe("nobody", print)
    bus.unsubscribe("start", print)
    assert "nobody" not in bus.listeners


@pytest.mark.rule("bus.B19")
def test_others_may_put_channels_and_listeners_into_the_dict(bus: LoggedBus) -> None:
    seen: list[str] = []
    first, second, third = (recorder(seen, name) for name in ("first", "second", "third"))
    first.priority = 1  # type: ignore[attr-defined] - functions take attributes
    bus.listeners["theirs"] = {second, first}
    bus.listeners["start"].add(third)
    assert bus.publish("theirs") == ["first", "second"]
    bus.subscribe("theirs", third, 0)
    assert bus.publish("theirs") == ["third", "first", "second"]
    assert bus.publish("start") == ["third"]
    bus.listeners["theirs"].discard(second)
    assert bus.publish("theirs") == ["third", "first"]
    assert bus.listeners["start"] == {third}


def test_a_channel_is_a_set_that_is_iterated_in_order() -> None:
    channel = Channel([print, len])
    channel.add(repr, 1)
    assert list(channel) == [repr, print, len]
    assert len(channel) == 3
    assert print in channel
    channel.remove(print)
    assert channel == {repr, len}
    channel.clear()
    assert not channel


@pytest.mark.rule("bus.R4", "bus.R8")
def test_all_listeners_run_and_each_failure_is_logged_with_channel_and_listener(bus: LoggedBus) -> None:
    seen: list[str] = []
    bad = failing(ValueError("broken"))
    bus.subscribe("any", bad, 10)
    bus.subscribe("any", recorder(seen, "next"), 20)
    with pytest.raises(ChannelFailures):
        bus.publish("any")
    assert seen == ["next"]
    ((level, text),) = bus.lines
    assert level == 40
    assert text.startswith(f"Error in 'any' listener {bad!r}\nTraceback")
    assert text.rstrip().endswith("ValueError: broken")


@pytest.mark.rule("bus.R5", "bus.B3")
def test_all_failures_are_raised_together_with_the_results_of_the_others(bus: LoggedBus) -> None:
    errors = [ValueError("one"), KeyError("two")]
    bus.subscribe("any", failing(errors[0]))
    bus.subscribe("any", lambda: "good")
    bus.subscribe("any", failing(errors[1]))
    with pytest.raises(ChannelFailures) as caught:
        bus.publish("any")
    assert caught.value.get_instances() == errors
    assert list(caught.value.exceptions) == errors
    assert caught.value.results == ["good"]
    assert str(caught.value) == "ValueError('one')\nKeyError('two')"
    assert bool(caught.value)


@pytest.mark.rule("bus.B3")
def test_failures_are_an_exception_group(bus: LoggedBus) -> None:
    bus.subscribe("any", failing(ValueError("one")))
    bus.subscribe("any", failing(KeyError("two")))
    keys: list[BaseException] = []

    def publish() -> None:
        try:
            bus.publish("any")
        except* KeyError as group:
            keys.extend(group.exceptions)

    with pytest.raises(ChannelFailures) as rest:
        publish()
    assert [type(error) for error in rest.value.exceptions] == [ValueError]
    assert [str(key) for key in keys] == ["'two'"]


@pytest.mark.rule("bus.B3")
def test_failures_can_be_collected_by_hand() -> None:
    failures = ChannelFailures()
    assert not failures
    assert str(failures) == ""
    try:
        raise ValueError("one")
    except ValueError:
        failures.handle_exception()
    assert failures
    assert repr(failures.get_instances()) == "[ValueError('one')]"
    matching, rest = failures.split(ValueError)
    assert matching.get_instances() == failures.get_instances()
    assert rest is None
    assert failures.subgroup(KeyError) is None


@pytest.mark.rule("bus.R6")
@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(3)])
def test_interrupt_and_system_exit_end_the_publishing_at_once(bus: LoggedBus, end: BaseException) -> None:
    seen: list[str] = []
    bus.subscribe("any", failing(end))
    bus.subscribe("any", recorder(seen, "next"))
    with pytest.raises(type(end)):
        bus.publish("any")
    assert seen == []
    assert bus.lines == []


@pytest.mark.rule("bus.R6")
@pytest.mark.parametrize(("code", "becomes"), [(0, 1), (None, 1), (3, 3), ("text", "text")])
def test_the_exit_code_tells_of_an_earlier_failure(bus: LoggedBus, code: Any, becomes: Any) -> None:
    bus.subscribe("any", failing(SystemExit(code)), 20)
    with pytest.raises(SystemExit) as clean:
        bus.publish("any")
    assert clean.value.code == code
    bus.subscribe("any", failing(ValueError("earlier")), 10)
    with pytest.raises(SystemExit) as caught:
        bus.publish("any")
    assert caught.value.code == becomes


@pytest.mark.rule("bus.R7", "bus.B4")
def test_a_failing_log_listener_is_not_logged_and_stops_nobody(bus: LoggedBus) -> None:
    bus.subscribe("log", failing(ValueError("log is broken")), 10)
    bus.log("first")
    bus.start()
    assert bus.said == ["first", "Bus STARTING", "Bus STARTED"]
    assert "log is broken" in bus.statistics().events[0].cause
    with pytest.raises(ChannelFailures):
        bus.publish("log", "published by others", 20)


@pytest.mark.rule("bus.R8")
def test_log_appends_the_traceback_on_a_new_line(bus: LoggedBus) -> None:
    try:
        raise NameError("foo")
    except NameError:
        bus.log("lost", level=40, traceback=True)
    ((level, text),) = bus.lines
    assert level == 40
    assert text.startswith("lost\nTraceback (most recent call last):\n")
    assert "NameError: foo" in text
    bus.log()
    assert bus.lines[-1] == (20, "")


@pytest.mark.rule("bus.B2")
def test_changes_during_a_publishing_take_effect_next_time(bus: LoggedBus) -> None:
    seen: list[str] = []
    later, gone = recorder(seen, "later"), recorder(seen, "gone")

    def changes() -> None:
        bus.subscribe("any", later)
        bus.unsubscribe("any", gone)

    bus.subscribe("any", changes)
    bus.subscribe("any", gone)
    bus.publish("any")
    assert seen == ["gone"]
    bus.publish("any")
    assert seen == ["gone", "later"]


@pytest.fixture
def _busy_switching() -> Iterator[None]:
    former = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(former)


@pytest.mark.rule("bus.B2")
@pytest.mark.usefixtures("_busy_switching")
def test_others_subscribe_on_other_threads_while_one_publishes(bus: LoggedBus) -> None:
    always = 0

    def stays() -> None:
        nonlocal always
        always += 1

    ended = threading.Event()

    def comes_and_goes() -> None:
        mine = recorder([], "mine")
        while not ended.is_set():
            bus.subscribe("any", mine)
            bus.unsubscribe("any", mine)

    bus.subscribe("any", stays)
    threads = [threading.Thread(target=comes_and_goes) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2000):
            bus.publish("any")
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert always == 2000
    assert list(bus.listeners["any"]) == [stays]
