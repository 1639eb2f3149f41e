"""What the arbiter of a server does by itself; its children are real in tests/process."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from monsal.actors import ActorRef
from monsal.ingress import Doors
from monsal.processes import supervisor
from monsal.processes.plan import STORE_GROUP
from monsal.processes.supervisor import Supervisor


def nothing_open() -> Doors:
    raise AssertionError("nobody asks for the doors")


def test_who_has_no_file_for_a_connection_to_the_store_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """P6: a worker or the supervisor that gave up would never reach the store again, and say nothing of it."""
    monkeypatch.setattr(supervisor, "_AGAIN", 0.001)
    pair, answers = socket.socketpair, [OSError(errno.EMFILE, "Too many open files")] * 2

    def socketpair(*of: Any) -> tuple[socket.socket, socket.socket]:
        if answers:
            raise answers.pop()
        return pair(*of)

    async def test() -> None:
        arbiter = Supervisor(nothing_open, lambda happening: None, {})
        handed: list[str] = []

        async def hand_over(to: object, what: str, sock: socket.socket) -> None:
            handed.append(what)

        monkeypatch.setattr(arbiter, "hand_over", hand_over)
        monkeypatch.setattr(arbiter, "_living", lambda: ["1"])
        monkeypatch.setattr(supervisor.socket, "socketpair", socketpair)
        arbiter._keeper = ActorRef(aid="0", name="store-1", group=STORE_GROUP)
        arbiter._keeper_is_there.set()
        await arbiter._reconnect("1")
        assert handed == [f"{supervisor.CLIENT}:1", supervisor.STORE]

    asyncio.run(test())
