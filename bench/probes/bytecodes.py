"""The instructions of the interpreter that an answered mail takes: `python -m bench.probes.bytecodes SESSIONS SECONDS`.

CPU time moves by a third on a machine that others use, too; what the interpreter does moves by a hundredth, so a change
of the code can be judged in one run. It says nothing of what is done in C: expressions, SQL, sockets. Everything is
traced, which makes it slow, so groups are smaller than those of a server that is not. Prints the sum, then files and
functions, the most first.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import uvloop

import monsal
from bench.probes.stages import all_sent, broke, door, engine_in, load, sink
from monsal.logs import set_up_logging
from monsal.memory import collect_seldom

__all__ = ["Tracer", "main", "table"]

_ROOT = str(Path(monsal.__file__).parent) + "/"


class Tracer:
    """Counts, by code, the instructions and calls of all threads that begin after `listen`, while `is_on`."""

    def __init__(self) -> None:
        self.is_on = False
        self.instructions: Counter[CodeType] = Counter()
        self.calls: Counter[CodeType] = Counter()

    def listen(self) -> None:
        """Hear of this thread and of those that begin from now on."""
        threading.settrace(self.trace)
        sys.settrace(self.trace)

    def trace(self, frame: FrameType, event: str, _argument: Any) -> Callable[..., Any] | None:
        """What the interpreter calls; a function that began while nothing is counted stays out of it."""
        if not self.is_on:
            return None
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            self.calls[frame.f_code] += 1
        elif event == "opcode":
            self.instructions[frame.f_code] += 1
        return self.trace


def table(tracer: Tracer, mails: int) -> Iterable[str]:
    """Lines for people: instructions and calls of one mail."""
    files: Counter[str] = Counter()
    for code, count in tracer.instructions.items():
        files[_file(code)] += count
    total, calls = tracer.instructions.total() / mails, tracer.calls.total() / mails
    yield f"{total:9.1f} instructions and {calls:.1f} calls a mail, of {mails} mails"
    yield from (f"{count / mails:9.1f}  {file}" for file, count in files.most_common(40))
    for code, count in tracer.instructions.most_common(60):
        yield f"{count / mails:9.1f} {tracer.calls[code] / mails:7.2f}  {_file(code)} {code.co_qualname}"


def _file(code: CodeType) -> str:
    return code.co_filename.removeprefix(_ROOT)


async def _measure(sessions: int, seconds: float) -> tuple[Tracer, int]:
    tracer = Tracer()
    tracer.listen()
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="monsal-bench-")))
        set_up_logging(stream=stack.enter_context((directory / "log").open("w", encoding="utf-8")))
        collect_seldom()
        engine = await stack.enter_async_context(engine_in(directory, stack.enter_context(sink())))
        port = await stack.enter_async_context(door(engine.spool))
        engine.start_worker(broke)
        engine.start_pump(broke)
        warm = await load(port, sessions, seconds / 4, 1001)
        await all_sent(engine, "turn", warm)
        # Coroutines and threads that wait now are heard of when they next call something.
        tracer.is_on = True
        mails = await load(port, sessions, seconds, 1)
        await all_sent(engine, "turn", warm + mails)
        await asyncio.sleep(0.1)
        tracer.is_on = False
    return tracer, mails


def main(words: list[str]) -> None:
    """Measure."""
    sessions, seconds = words
    tracer, mails = uvloop.run(_measure(int(sessions), float(seconds)))
    sys.settrace(None)
    print("\n".join(table(tracer, mails)))


if __name__ == "__main__":
    main(sys.argv[1:])
