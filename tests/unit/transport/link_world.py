"""What the tests of links share: a side that answers, one that only watches, and waiting for something to be so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from monsal.transport import Link, LinkSetup
from monsal.wire import Called

#: What the fixture `run` is.
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def serve(link: Link, called: Called) -> None:
    """A few methods, answered at once."""
    params: Any = called.params
    match called.method:
        case "echo":
            link.answer(called.id, params)
        case "refuse":
            link.refuse(called.id, params["code"], "no", params.get("data"))
        case "break":
            raise RuntimeError("a bug")
        case "unsayable":
            link.answer(called.id, object())
        case "back":
            link.request("echo", params).add_done_callback(lambda done: link.answer(called.id, done.result()))


class Watcher:
    """Notes what it is told of."""

    def __init__(self) -> None:
        self.calls: list[Called] = []
        self.events: list[Any] = []

    def on_call(self, link: Link, called: Called) -> None:
        self.calls.append(called)

    def on_event(self, link: Link, event: Any) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    def setup(self, **fields: Any) -> LinkSetup:
        return LinkSetup(on_call=self.on_call, on_event=self.on_event, **fields)


SERVER = LinkSetup(on_call=serve)


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.001)
