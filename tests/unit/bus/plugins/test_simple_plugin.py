"""Plugins: methods named after channels."""

from __future__ import annotations

import pytest

from monsal.bus import Bus
from monsal.bus.plugins import SimplePlugin


class Server(SimplePlugin):
    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        self.done: list[str] = []

    def start(self) -> None:
        self.done.append("start")

    start.priority = 75  # type: ignore[attr-defined] - functions take attributes

    def stop(self) -> None:
        self.done.append("stop")

    def request(self) -> None:
        self.done.append("request")


@pytest.mark.rule("bus.R3")
def test_each_method_whose_name_is_a_known_channel_is_subscribed() -> None:
    bus = Bus()
    server = Server(bus)
    bus.subscribe("start", lambda: server.done.append("later than 50"), 74)
    server.subscribe()
    bus.publish("request")
    bus.start()
    bus.exit()
    assert server.done == ["later than 50", "start", "stop"]


def test_a_channel_that_exists_at_that_moment_counts() -> None:
    bus = Bus()
    server = Server(bus)
    bus.listeners["request"] = set()
    server.subscribe()
    bus.publish("request")
    assert server.done == ["request"]


def test_unsubscribe_undoes_it() -> None:
    bus = Bus()
    server = Server(bus)
    server.subscribe()
    server.unsubscribe()
    assert not any(bus.listeners.values())
