"""What the probes of RPC have in common: the value that is echoed, the two clocks, and the command line.

A probe is a contestant: `python -m bench.probes.rpc_pyro5 serve unix:PATH|tcp:HOST:PORT` prints `ready ADDRESS` and
serves until it is killed; `... call ADDRESS PID FLIGHT SECONDS` calls the server with that pid, so many calls in flight
together, and prints what was found as a JSON object. Probes run in the environments of the peers, so this module needs
the standard library only, and theirs are imported by name.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

__all__ = [
    "VALUE",
    "Meter",
    "cpu_time",
    "flood",
    "in_batches",
    "main",
    "one_by_one",
    "percentile",
    "ready",
    "sliding",
    "uvloop_run",
]

#: What each call carries there and back.
VALUE: dict[str, Any] = {"worker": "w1", "number": 3, "share": 0.5, "open": True, "names": ["anna", "bert"]}
#: Calls before the clocks are read.
_WARM = 200

#: Serves at an address.
Serve = Callable[[str], object]
#: Calls the server at an address, which has a pid, with so many calls in flight for so many seconds.
Drive = Callable[[str, int, int, float], dict[str, float]]


def cpu_time(pid: int) -> float:
    """Seconds of CPU that a process has used, with all its threads, to the nanosecond (clock_getcpuclockid(3))."""
    return time.clock_gettime(((~pid) << 3) | 2)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


class Meter:
    """Both clocks, from its making until `over`."""

    def __init__(self, pid: int) -> None:
        gc.collect()
        self._pid = pid
        self._server, self._client = cpu_time(pid), time.process_time()
        self.began = time.perf_counter()

    def over(self, calls: int, waits: Sequence[float] = ()) -> dict[str, float]:
        """The figures of so many calls; `waits` are the seconds that each of them took."""
        passed = time.perf_counter() - self.began
        client, server = time.process_time() - self._client, cpu_time(self._pid) - self._server
        found = {
            "rate": calls / passed,
            "cpu_us": 1e6 * (client + server) / calls,
            "client_us": 1e6 * client / calls,
            "server_us": 1e6 * server / calls,
        }
        if waits:
            found |= {"p50_us": 1e6 * percentile(waits, 0.5), "p99_us": 1e6 * percentile(waits, 0.99)}
        return found


# However short the time is, there is one call at least: on a busy machine it may be over before the first began.


def one_by_one(call: Callable[[], object], pid: int, seconds: float) -> dict[str, float]:
    """Calls that block, one after the other."""
    for _ in range(_WARM):
        _check(call())
    waits: list[float] = []
    meter = Meter(pid)
    until = now = meter.began
    until += seconds
    while now < until or not waits:
        before = now
        call()
        now = time.perf_counter()
        waits.append(now - before)
    return meter.over(len(waits), waits)


def in_batches(calls: Callable[[int], Sequence[object]], pid: int, flight: int, seconds: float) -> dict[str, float]:
    """So many calls at once, again and again; `calls` returns when all of them are answered."""
    for _ in range(max(1, _WARM // flight)):
        for result in calls(flight):
            _check(result)
    count = 0
    meter = Meter(pid)
    until = meter.began + seconds
    while time.perf_counter() < until or not count:
        count += len(calls(flight))
    return meter.over(count)


def sliding(
    begin: Callable[[], Any], finish: Callable[[Any], object], pid: int, flight: int, seconds: float
) -> dict[str, float]:
    """So many calls on their way: when the oldest is answered, another one begins."""
    waiting = deque(begin() for _ in range(flight))
    for _ in range(_WARM):
        _check(finish(waiting.popleft()))
        waiting.append(begin())
    count = 0
    meter = Meter(pid)
    until = meter.began + seconds
    while time.perf_counter() < until or not count:
        finish(waiting.popleft())
        waiting.append(begin())
        count += 1
    found = meter.over(count)
    while waiting:
        finish(waiting.popleft())
    return found


async def flood(call: Callable[[], Awaitable[object]], pid: int, flight: int, seconds: float) -> dict[str, float]:
    """So many tasks, each of which calls one after the other."""
    for _ in range(_WARM):
        _check(await call())
    waits: list[float] = []
    meter = Meter(pid)
    until = meter.began + seconds

    async def one() -> None:
        now = time.perf_counter()
        while now < until or not waits:
            before = now
            await call()
            now = time.perf_counter()
            waits.append(now - before)

    await asyncio.gather(*(one() for _ in range(flight)))
    return meter.over(len(waits), waits if flight == 1 else ())


def _check(result: object) -> None:
    if result != VALUE:
        raise ValueError(f"the echo is {result!r}")


def uvloop_run(main: Awaitable[Any]) -> Any:
    """`asyncio.run` on the loop of libuv."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)  # type: ignore[arg-type]  # what is passed are coroutines


def ready(address: str) -> None:
    """Say that calls are taken there."""
    print(f"ready {address}", flush=True)


def main(serve: Serve, drive: Drive, arguments: Sequence[str] | None = None) -> None:
    """The command line of a probe."""
    what, address, *numbers = sys.argv[1:] if arguments is None else arguments
    if what == "serve":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with suppress(KeyboardInterrupt):
            serve(address)
        return
    pid, flight, seconds = numbers
    print(json.dumps(drive(address, int(pid), int(flight), float(seconds))), flush=True)
