"""The CPU time of one mail by its stages: `python -m bench.probes.stages accept|turn CONNECTIONS SECONDS`.

The product in one process under a load in another: `accept` is ingress, spool and store as in `bench.servers`, `turn`
the whole of it, with the log of `monsal run` and a plain handler that answers each mail over a relay. The last line is
a JSON object: `mails`, and `seconds` of CPU by stage.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvloop

import monsal
from bench.processes import our_environment
from bench.sampling import Sampler
from bench.sinks import free_port, smtp_sink, wait_for_port
from bench.stages import THREADS, stage_of
from monsal import App, literal, reply, route
from monsal.clock import SystemClock
from monsal.conversation import Spool
from monsal.delivery import open_relay
from monsal.engine import Engine
from monsal.ingress import SmtpIngress
from monsal.logs import set_up_logging
from monsal.memory import collect_seldom
from monsal.store import SqliteStore

__all__ = ["all_sent", "broke", "door", "engine_in", "load", "main", "sink"]

_PATIENCE = 60.0


@route("help@(host)")
def START(message: Any) -> Any:
    reply("What would you like?")
    return NEXT


@route("help@(host)")
def NEXT(message: Any) -> Any:
    reply("What else?")
    return START


@asynccontextmanager
async def engine_in(directory: Path, relay: int) -> AsyncIterator[Engine]:
    """An application with these two states; its worker and outbox are not started yet."""
    app = App(
        sys.modules[__name__],
        captures={"host": literal("example.com")},
        relay=f"smtp://127.0.0.1:{relay}",
        ingress=["smtp://127.0.0.1:0"],
        max_replies_per_hour=None,
    )
    app.load()
    settings = app.settings(directory, environ={}).settings
    engine = Engine(
        app.parts(),
        directory=directory,
        settings=settings,
        clock=SystemClock(),
        store=SqliteStore(directory / "monsal.db"),
        relay=open_relay(settings.relay, directory, connections=settings.relay_connections, name=settings.hostname),
        page=directory / "turns.page",
    )
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


@contextmanager
def sink() -> Iterator[int]:
    """A sink in another process, to which nobody here pays attention: that would be work of the server's process."""
    port, program = free_port(), smtp_sink()
    command = [sys.executable, "-m", "bench.sinks", str(port)]
    if program is not None:
        command = [program, *(["-u", "nobody"] if os.geteuid() == 0 else []), f"127.0.0.1:{port}", "1000"]
    process = subprocess.Popen(command, env=our_environment(PYTHONPATH=":".join(sys.path)), stdout=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@asynccontextmanager
async def door(spool: Spool) -> AsyncIterator[int]:
    ingress = SmtpIngress("smtp://127.0.0.1:0", spool)
    await ingress.start()
    try:
        yield int(ingress.addresses[0].rpartition(":")[2])
    finally:
        await ingress.stop(5.0)


async def load(port: int, connections: int, seconds: float, seed: int) -> int:
    """Send mails as fast as they are taken; how many were: one at least, however long that takes on a busy machine."""
    words = ["--port", port, "--recipient", "help@example.com", "--correspondents", 500, "--connections", connections]
    words += ["--seconds", seconds, "--seed", seed]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.load", *map(str, words)),
        env=our_environment(PYTHONPATH=":".join(sys.path)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load ended with {process.returncode}: {said.decode(errors='replace')}")
    mails = int(json.loads(said.splitlines()[-1])["acknowledged"])
    return mails or await load(port, connections, 2 * seconds, seed + 1)


async def _measure(kind: str, connections: int, seconds: float) -> dict[str, Any]:
    root = str(Path(monsal.__file__).parent) + "/"
    sampler = Sampler(root, stage_of, THREADS)
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="monsal-bench-")))
        if kind == "turn":
            set_up_logging(stream=stack.enter_context((directory / "log").open("w", encoding="utf-8")))
        collect_seldom()  # as `monsal run` does
        # A relay that nobody uses is no work.
        engine = await stack.enter_async_context(engine_in(directory, stack.enter_context(sink())))
        port = await stack.enter_async_context(door(engine.spool))
        if kind == "turn":
            engine.start_worker(broke)
            engine.start_pump(broke)
        warm = await load(port, connections, min(seconds / 4, 1.0), 1001)
        await all_sent(engine, kind, warm)
        sampler.begin()
        mails = await load(port, connections, seconds, 1)
        await all_sent(engine, kind, warm + mails)
        found = sampler.end()
    return {"mails": mails, "seconds": found}


async def all_sent(engine: Engine, kind: str, mails: int) -> None:
    """Until so many answers have left, where there are any."""
    end = time.monotonic() + _PATIENCE
    while kind == "turn" and engine.pump.statistics().sent < mails:
        if time.monotonic() > end:
            raise RuntimeError(f"only {engine.pump.statistics().sent} of {mails} answers have left")
        await asyncio.sleep(0.02)


def broke(error: BaseException) -> None:
    raise error


def main(words: list[str]) -> None:
    """Measure."""
    kind, connections, seconds = words
    print(json.dumps(uvloop.run(_measure(kind, int(connections), float(seconds)))))


if __name__ == "__main__":
    main(sys.argv[1:])
