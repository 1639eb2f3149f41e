"""monsal.actors: two worker processes that ask each other, and what starts, deaths and idling cost.

python -m bench.probes.actors_monsal ask direct|arbiter FLIGHT SECONDS
python -m bench.probes.actors_monsal deaths spare|fresh NUMBER
python -m bench.probes.actors_monsal start|memory NUMBER
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from bench.probes.rpc_clock import VALUE, cpu_time, flood, uvloop_run
from monsal.actors import Actor, ActorDied, ActorSpec, Arbiter, Backoff, CommandRequest, GroupSpec, Monitor, command

__all__ = ["Worker"]


class Worker(Actor):
    """Echoes, and floods another one."""

    @command()
    async def echo(self, request: CommandRequest, value: Any) -> Any:
        return value

    @command()
    def where(self, request: CommandRequest) -> int:
        return os.getpid()

    @command()
    async def flood(self, request: CommandRequest, target: str, pid: int, flight: int, seconds: float) -> Any:
        return await flood(lambda: self.ask(target, "echo", VALUE), pid, flight, seconds)


def _spec(name: str) -> ActorSpec:
    return ActorSpec(name=name, actor="bench.probes.actors_monsal:Worker")


async def _ask(way: str, flight: int, seconds: float) -> dict[str, Any]:
    async with Arbiter() as arbiter:
        await asyncio.gather(arbiter.spawn(_spec("left")), arbiter.spawn(_spec("right")))
        if way == "direct":
            await arbiter.introduce("left", "right")
        pid = arbiter.record("right").pid
        before = cpu_time(os.getpid())
        found: dict[str, Any] = await arbiter.ask(
            "left", "flood", "right", pid, flight, seconds, timeout=seconds + 60.0
        )
        used = cpu_time(os.getpid()) - before
        if way != "direct":
            found["arbiter_us"] = 1e6 * used / (found["rate"] * seconds)
            found["cpu_us"] += found["arbiter_us"]
        return found


async def _answered(team: Monitor, old: int) -> int:
    """The pid of whoever answers after the death of `old`."""
    while True:
        try:
            pid: int = await team.ask("where", timeout=30.0)
        except ActorDied:  # it was asked before its death was known
            continue
        if pid != old:
            return pid


async def _deaths(how: str, number: int) -> dict[str, Any]:
    waits = []
    async with Arbiter() as arbiter:
        spare = int(how == "spare")
        # The backoff of a crash loop is no part of what is measured.
        patient = Backoff(first=0.001, factor=1.0, limit=0.001)
        team = await arbiter.add_monitor("team", GroupSpec(member=_spec("team"), spare=spare, backoff=patient))
        for _ in range(number):
            pid = await team.ask("where")
            if spare:
                await team.wait_for_spare()
            # What a new spare costs at its start is no part of it, either.
            await asyncio.sleep(0.1)
            began = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            await _answered(team, pid)
            waits.append(1e3 * (time.perf_counter() - began))
    return {"answer_ms": waits}


async def _start(number: int) -> dict[str, Any]:
    waits = []
    async with Arbiter() as arbiter:
        for turn in range(number):
            began = time.perf_counter()
            ref = await arbiter.spawn(_spec(f"worker{turn}"))
            await arbiter.ask(ref, "ping")
            waits.append(1e3 * (time.perf_counter() - began))
            await arbiter.stop_actor(ref)
    return {"start_ms": waits}


async def _memory(number: int) -> dict[str, Any]:
    async with Arbiter() as arbiter:
        refs = [await arbiter.spawn(_spec(f"worker{turn}")) for turn in range(2)]
        await arbiter.ask(refs[0], "flood", "worker1", arbiter.record(refs[1]).pid, 64, 0.5)
        sizes = [_pss(arbiter.record(ref).pid) for ref in refs]
        woken = _switches()
        await asyncio.sleep(float(number))
        return {"pss_mb": sizes, "wakes": float(_switches() - woken)}


def _pss(pid: int) -> float:
    """Megabytes of a process, with its share of what others use, too (proc_pid_smaps_rollup(5))."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("Pss:"))) / 1024.0


def _switches() -> int:
    text = Path("/proc/self/status").read_text("ascii")
    return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def main() -> None:
    what, *arguments = sys.argv[1:]
    work: Coroutine[Any, Any, dict[str, Any]]
    if what == "ask":
        work = _ask(arguments[0], int(arguments[1]), float(arguments[2]))
    elif what == "deaths":
        work = _deaths(arguments[0], int(arguments[1]))
    elif what == "start":
        work = _start(int(arguments[0]))
    else:
        work = _memory(int(arguments[0]))
    print(json.dumps(uvloop_run(work)), flush=True)


if __name__ == "__main__":
    main()
