"""Actors for the tests of real processes: they are imported there by this name."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from monsal.actors import Actor, ActorSpec, Arbiter, Happening, command, runnable
from monsal.actors.message import CommandRequest
from monsal.actors.turn import current_turn


class Greeter(Actor):
    """Does a bit of everything."""

    commands = ("actor_functions",)
    allows_run = True

    def __init__(self, greeting: str = "Hello") -> None:
        self.greeting = greeting
        self.log: list[str] = []
        self.gate: asyncio.Event | None = None
        self.sockets: dict[str, socket.socket] = {}

    @command()
    def greet(self, request: CommandRequest, name: str) -> str:
        return f"{self.greeting} {name}"

    @command()
    async def greet_later(self, request: CommandRequest, name: str) -> str:
        await asyncio.sleep(0)
        return f"{self.greeting} {name}"

    @command()
    def where(self, request: CommandRequest) -> int:
        return os.getpid()

    @command()
    def whose(self, request: CommandRequest) -> str:
        return request.caller.aid if request.caller else ""

    @command()
    def over_what(self, request: CommandRequest) -> list[Any]:
        """Over what kind of link this came, of whom, and with which trace."""
        turn = current_turn.get()
        caller = request.caller.aid if request.caller else None
        return [type(request.connection).__name__, caller, turn.trace if turn else None]

    @command()
    async def traced(self, request: CommandRequest, target: str, trace: str) -> Any:
        turn = current_turn.get()
        assert turn is not None
        turn.trace = trace
        return await self.ask(target, "relay", self.name + "-2", "over_what")

    @command()
    def fail(self, request: CommandRequest, text: str) -> None:
        raise ValueError(text)

    @command()
    def unsayable(self, request: CommandRequest) -> object:
        return object()

    @command()
    async def wait(self, request: CommandRequest) -> str:
        """Until `open`, which overtakes it, is told."""
        self.gate = self.gate or asyncio.Event()
        await self.gate.wait()
        return "opened"

    @command(control=True)
    def open(self, request: CommandRequest) -> None:
        self.gate = self.gate or asyncio.Event()
        self.gate.set()

    @command()
    async def note(self, request: CommandRequest, text: str) -> None:
        self.log.append(f"begin {text}")
        await asyncio.sleep(0)
        self.log.append(f"end {text}")

    @command(control=True)
    def notes(self, request: CommandRequest) -> list[str]:
        return self.log

    @command(ack=False)
    def remember(self, request: CommandRequest, text: str) -> str:
        self.log.append(text)
        return "never said"

    @command()
    async def relay(self, request: CommandRequest, target: str, name: str, *args: Any) -> Any:
        """Ask another one, within what is left of the time."""
        return await self.ask(target, name, *args, timeout=60.0)

    @command()
    async def relay_keyed(self, request: CommandRequest, target: str, key: str, name: str, *args: Any) -> Any:
        return await self.ask(target, name, *args, key=key)

    @command()
    async def get_to_know(self, request: CommandRequest, target: str) -> int:
        await self.meet(target)
        return len(self.station.peers)

    @command(control=True)
    def friends(self, request: CommandRequest) -> list[str]:
        return sorted(ref.name for ref in self.station.peers.values())

    @command(control=True)
    def cut_off(self, request: CommandRequest, name: str) -> None:
        for link, ref in list(self.station.peers.items()):
            if ref.name == name:
                link.abort("a rat was hungry")

    @command()
    async def spawn_one(self, request: CommandRequest, name: str) -> Any:
        return await self.spawn(ActorSpec(name=name, actor="actor_programs:Greeter", args={"greeting": "Hi"}))

    @command()
    def block(self, request: CommandRequest, seconds: float) -> None:
        """Hold the loop up, as code that waits without `await` does."""
        time.sleep(seconds)

    @command()
    def hold_the_interpreter(self, request: CommandRequest, seconds: float) -> None:
        """For ever, as C code can that does not let go of it: no other thread runs."""
        re.match(r"(a+)+$", "a" * 64 + "b")

    @command()
    def take_memory(self, request: CommandRequest, octets: int) -> int:
        return len(bytearray(octets))

    @command()
    def read_null(self, request: CommandRequest) -> None:
        ctypes.string_at(0)

    @command()
    def leave_by(self, request: CommandRequest, code: int) -> None:
        os._exit(code)

    @command()
    def raise_exit(self, request: CommandRequest, code: int) -> None:
        error = RuntimeError("it is over")
        error.exit_code = code  # type: ignore[attr-defined]
        raise error

    @command()
    def stop_oneself(self, request: CommandRequest) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    @command()
    def descriptors(self, request: CommandRequest) -> list[str]:
        """What is open here, as the kernel names it."""
        found = []
        for name in os.listdir("/proc/self/fd"):
            try:
                found.append(os.readlink(f"/proc/self/fd/{name}"))
            except OSError:  # the directory itself
                continue
        return found

    async def introduced(self, purpose: str, sock: socket.socket, peer: Any) -> None:
        if purpose == "refused":
            await super().introduced(purpose, sock, peer)
        self.sockets[purpose] = sock

    def stopping(self) -> None:
        for sock in self.sockets.values():
            sock.close()

    @command()
    def port_of(self, request: CommandRequest, purpose: str) -> int:
        port: int = self.sockets[purpose].getsockname()[1]
        return port

    @command()
    def say_over(self, request: CommandRequest, purpose: str, text: str) -> None:
        self.sockets[purpose].sendall(text.encode())


class Hooked(Actor):
    """Writes down its hooks in a file."""

    def __init__(self, path: str, fails: str = "") -> None:
        self.path = path
        self.fails = fails

    def _note(self, what: str) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(what + "\n")
        if what == self.fails:
            raise RuntimeError(f"{what} goes wrong")

    def boot(self) -> None:
        self._note("boot")

    async def start(self) -> None:
        self._note(f"start {self.name} {self.state.text}" if self.fails != "start" else "start")

    async def stopping(self) -> None:
        self._note("stopping")

    def periodic_task(self) -> None:
        self._note("periodic")

    def on_info(self, info: dict[str, Any]) -> None:
        info["extra"]["hooked"] = True

    @command()
    async def work(self, request: CommandRequest, seconds: float) -> str:
        self._note("work begins")
        await asyncio.sleep(seconds)
        self._note("work ends")
        return "done"


class Loud(Actor):
    """Says something on standard error, and dies while it is imported by its arbiter."""

    def __init__(self) -> None:
        print("the disk is on fire", file=sys.stderr, flush=True)
        os._exit(3)


@runnable
def add_name(actor: Actor, text: str) -> str:
    return f"{actor.name}: {text}"


def not_declared(actor: Actor) -> str:
    return "never run"


def spec(name: str = "greeter", kind: Any = "process", **fields: Any) -> ActorSpec:
    return ActorSpec(**{"name": name, "actor": "actor_programs:Greeter", "kind": kind, **fields})


@asynccontextmanager
async def house(happenings: list[Happening] | None = None) -> AsyncIterator[Arbiter]:
    """An arbiter, that is stopped in the end."""
    async with Arbiter(on_event=None if happenings is None else happenings.append) as arbiter:
        yield arbiter


def on_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test that is a coroutine, on a loop of its own."""

    def test() -> None:
        asyncio.run(asyncio.wait_for(work(), 120.0))

    test.__name__, test.__doc__ = work.__name__, work.__doc__
    test.__dict__.update(work.__dict__)
    return test


async def until(condition: Callable[[], bool], patience: float = 60.0) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(0.002)


async def fails_with(kind: type[BaseException], work: Awaitable[Any]) -> Any:
    """The error that something raises."""
    try:
        result = await work
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised, but {result!r} came")


def limit_memory(actor: Actor) -> None:
    """A hook: give the process 2 GiB of addresses more than it has."""
    pages = int(open("/proc/self/statm", encoding="ascii").read().split()[0])  # noqa: SIM115 - read once
    limit = pages * resource.getpagesize() + 2 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def needs_socket(actor: Greeter) -> None:
    """A hook: what it is given is there."""
    actor.sockets["http"].getsockname()


def sleep_long(actor: Actor) -> None:
    """A hook that takes too long."""
    time.sleep(60.0)
