"""The same measurements on each bus: `python bus.py WHAT CONTESTANT [NUMBER] [SECONDS]`, run by `../suites/bus.py`.

It runs in the environments of the peers, so it needs the standard library only and is called by its path. Its last line
on standard output is a JSON object; `serve` says `ready` instead.
"""
# ruff: noqa: E402 - the clock is read before the rest is imported

from __future__ import annotations

import os
import sys
import time

#: When this image came to its first line, for `restart`.
_FIRST_LINE = time.monotonic()

import gc
import json
import random
import signal
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["CONTESTANTS", "MEASUREMENTS", "main"]

Listener = Callable[..., Any]
#: A restarted image finds here when its predecessor called `restart`.
_RESTARTED = "BENCH_RESTARTED_AT"
#: Parts of one measurement, each a sample.
_PARTS = 5
#: For `block`: `exit` is called after a time that is not in step with any polling.
_EARLIEST, _LATEST = 0.02, 0.12


class Loop:
    """No bus at all: a loop of calls. As a process: an interpreter that waits for SIGTERM."""

    life = ("start", "stop", "exit")

    def __init__(self, embedded: bool = True) -> None:
        self._listeners: dict[str, list[Listener]] = {}

    def subscribe(self, channel: str, listener: Listener) -> None:
        self._listeners.setdefault(channel, []).append(listener)

    def unsubscribe(self, channel: str, listener: Listener) -> None:
        self._listeners[channel].remove(listener)

    def publisher(self, channel: str) -> Listener:
        listeners = self._listeners.get(channel, [])

        def publish(name: str, argument: object) -> None:
            for listener in listeners:
                listener(argument)

        return publish

    def start(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    def block(self) -> None:
        signal.sigwait([signal.SIGTERM])

    def restart(self) -> None:
        """Become a fresh process at once."""
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class Ours:
    """monsal.bus; with signals if it is to be a process of its own."""

    life = ("start", "stop", "exit")

    def __init__(self, embedded: bool = True) -> None:
        self.bus = self.make(embedded)
        self.subscribe = self.bus.subscribe
        self.unsubscribe = self.bus.unsubscribe
        self.start, self.exit, self.block = self.bus.start, self.bus.exit, self.bus.block
        self.restart = self.bus.restart

    def make(self, embedded: bool) -> Any:
        made = import_module("monsal.bus").Bus()
        if not embedded:
            import_module("monsal.bus.plugins").SignalHandler(made).subscribe()
        return made

    def publisher(self, channel: str) -> Listener:
        found: Listener = self.bus.publish
        return found


class CherryPy(Ours):
    """CherryPy's bus; as a process its engine, with signals and without HTTP server and reloader."""

    def make(self, embedded: bool) -> Any:
        if embedded:
            return import_module("cherrypy.process.wspbus").Bus()
        cherrypy = import_module("cherrypy")
        cherrypy.config.update({"log.screen": False})
        cherrypy.server.unsubscribe()
        cherrypy.engine.autoreload.unsubscribe()
        cherrypy.engine.signal_handler.subscribe()
        return cherrypy.engine


class MagicBus:
    """magicbus's ProcessBus.

    Its wait for other threads calls what Python 3.9 removed, so it is left out wherever another thread asks for the
    exit; there it would end the process.
    """

    life = ("START", "STOP", "EXIT")

    def __init__(self, embedded: bool = True) -> None:
        self.bus = import_module("magicbus").ProcessBus()
        if embedded:
            self.bus.thread_wait.unsubscribe()
        else:
            import_module("magicbus.plugins.signalhandler").SignalHandler(self.bus).subscribe()
        self.subscribe, self.unsubscribe, self.block = self.bus.subscribe, self.bus.unsubscribe, self.bus.block

    def publisher(self, channel: str) -> Listener:
        found: Listener = self.bus.publish
        return found

    def start(self) -> None:
        self.bus.transition("RUN")

    def exit(self) -> None:
        self.bus.transition("EXITED")

    def restart(self) -> None:
        self.bus.thread_wait.unsubscribe()
        self.bus.restart()


CONTESTANTS: dict[str, Callable[[bool], Any]] = {
    "loop": Loop,
    "monsal.bus": Ours,
    "cherrypy": CherryPy,
    "magicbus": MagicBus,
}


def _listener(result: object, arguments: int) -> Listener:
    """A function of its own; a bus holds each one once."""
    if arguments:
        return lambda argument: result
    return lambda: result


def _timed(call: Callable[[int], object], seconds: float) -> list[float]:
    """Nanoseconds of CPU of the whole process for one of the things that `call(n)` does n times."""
    share, count = seconds * 1e9 / _PARTS, 1
    while True:
        before = time.process_time_ns()
        call(count)
        used = time.process_time_ns() - before
        if used > share / 10:
            break
        count *= 4
    count = max(1, int(count * share / max(used, 1)))
    gc.collect()
    found = []
    for _ in range(_PARTS):
        before = time.process_time_ns()
        call(count)
        found.append((time.process_time_ns() - before) / count)
    return found


def publish(name: str, number: int, seconds: float, result: object = None) -> dict[str, Any]:
    """A call of `publish` with one argument, with so many listeners; -1 is a channel that was never heard of."""
    bus = CONTESTANTS[name](True)
    if number >= 0:
        # The channel is there, even if nobody listens.
        listener = _listener(result, 1)
        bus.subscribe("tick", listener)
        bus.unsubscribe("tick", listener)
    for _ in range(number):
        bus.subscribe("tick", _listener(result, 1))
    call = bus.publisher("tick")

    def many(count: int) -> None:
        for _ in range(count):
            call("tick", 1)

    return {"cpu_ns": _timed(many, seconds)}


def publish_values(name: str, number: int, seconds: float) -> dict[str, Any]:
    """The same with listeners that return something."""
    return publish(name, number, seconds, "something")


def subscribe(name: str, number: int, seconds: float) -> dict[str, Any]:
    """Subscribing and unsubscribing one listener, where so many are already."""
    bus = CONTESTANTS[name](True)
    for _ in range(number):
        bus.subscribe("tick", _listener(None, 1))
    comes, goes, listener = bus.subscribe, bus.unsubscribe, _listener(None, 1)

    def many(count: int) -> None:
        for _ in range(count):
            comes("tick", listener)
            goes("tick", listener)

    return {"cpu_us": [value / 1e3 for value in _timed(many, seconds)]}


def life(name: str, number: int, seconds: float) -> dict[str, Any]:
    """From the call of `start` to the return of `exit`, with so many listeners on each channel of the way."""
    wall: list[float] = []
    cpu: list[float] = []
    until = time.monotonic() + seconds
    while len(wall) < _PARTS or time.monotonic() < until:
        bus = CONTESTANTS[name](True)
        for channel in bus.life:
            for _ in range(number):
                bus.subscribe(channel, _listener(None, 0))
        began, used = time.perf_counter(), time.process_time()
        bus.start()
        bus.exit()
        cpu.append(1e6 * (time.process_time() - used))
        wall.append(1e6 * (time.perf_counter() - began))
    return {"wall_us": wall, "cpu_us": cpu}


def block(name: str, number: int, seconds: float) -> dict[str, Any]:
    """From the call of `exit` on another thread to the return of `block`, so many times."""
    found = []
    for _ in range(number):
        bus = CONTESTANTS[name](True)
        bus.start()
        asked: list[float] = []

        def leave(bus: Any = bus, asked: list[float] = asked) -> None:
            time.sleep(random.uniform(_EARLIEST, _LATEST))
            asked.append(time.perf_counter())
            bus.exit()

        # A daemon: otherwise `block` waits for the thread, too.
        threading.Thread(target=leave, daemon=True).start()
        bus.block()
        found.append(1e3 * (time.perf_counter() - asked[0]))
    return {"wall_ms": found}


def serve(name: str, number: int, seconds: float) -> dict[str, Any]:
    """Start, say so, and wait for SIGTERM."""
    bus = CONTESTANTS[name](False)
    bus.start()
    print("ready", flush=True)
    bus.block()
    return {}


def restart(name: str, number: int, seconds: float) -> dict[str, Any]:
    """From the call of `restart` to the first line of the new image, and to its being started."""
    bus = CONTESTANTS[name](False)
    bus.start()
    asked = os.environ.get(_RESTARTED)
    if asked is not None:
        now = time.monotonic()
        found = {"first_ms": 1e3 * (_FIRST_LINE - float(asked)), "started_ms": 1e3 * (now - float(asked))}
        signal.raise_signal(signal.SIGTERM)
        bus.block()
        return found

    def ask() -> None:
        time.sleep(random.uniform(_EARLIEST, _LATEST))
        os.environ[_RESTARTED] = repr(time.monotonic())
        bus.restart()

    threading.Thread(target=ask, daemon=True).start()
    bus.block()
    raise RuntimeError("there was no fresh image")


MEASUREMENTS: dict[str, Callable[[str, int, float], dict[str, Any]]] = {
    "publish": publish,
    "publish-values": publish_values,
    "subscribe": subscribe,
    "life": life,
    "block": block,
    "serve": serve,
    "restart": restart,
}


def main(what: str, name: str, number: str = "0", seconds: str = "0") -> None:
    """Measure, and print what was found."""
    print(json.dumps(MEASUREMENTS[what](name, int(number), float(seconds))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
