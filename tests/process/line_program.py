"""A foreign program that does what it is told: a line of JSON in for each task, a line of JSON out for each outcome.

    with LineProgram(["node", "jayson_client.js", str(port)]) as program:
        assert program.ask("request", method="add", params=[1, 2]) == 3
        pending = program.begin("request", method="slow")       # a Future
        assert program.event() == {"event": "ready"}
        await program.answer("request", method="add", params=[1, 2])    # as ask, and
        await program.heard()                                           # as event, where a loop must go on

In: `{"n": 1, "task": "request", ...}`. Out: `{"n": 1, "value": ...}` or `{"n": 1, "error": ...}`, in any order, and in
between `{"event": ...}` for what happens to the program. Such a program ends at the end of its standard input.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from harness import PATIENCE

__all__ = ["LineProgram", "TaskFailed"]


class TaskFailed(Exception):
    """The program could not do it; `error` is what it said about that."""

    def __init__(self, error: Any) -> None:
        super().__init__(str(error))
        self.error = error


class LineProgram:
    """The program, from its start to its end. Use as a context manager: it is ended by its own pid."""

    def __init__(self, command: Sequence[str | Path], environ: Mapping[str, str] | None = None) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **(environ or {})}
        )
        self.said = ""
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_complaints)]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> LineProgram:
        return self

    def __exit__(self, *_: object) -> None:
        process = self.process
        assert process.stdin is not None
        try:
            process.stdin.close()
            process.wait(30)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            process.kill()
        process.wait()
        for reader in self._readers:
            reader.join()

    def begin(self, task: str, **details: Any) -> Future[Any]:
        """Tell it to do something; what comes of it, later."""
        outcome: Future[Any] = Future()
        number = next(self._numbers)
        line = json.dumps({"n": number, "task": task, **details}).encode() + b"\n"
        stdin = self.process.stdin
        assert stdin is not None
        with self._lock:
            self._waiting[number] = outcome
            stdin.write(line)
            stdin.flush()
        return outcome

    def ask(self, task: str, **details: Any) -> Any:
        """Tell it to do something and wait for what comes of it. Raises TaskFailed."""
        return self.begin(task, **details).result(PATIENCE)

    def event(self) -> dict[str, Any]:
        """The next thing that happened to it."""
        try:
            event = self._events.get(timeout=PATIENCE)
        except queue.Empty:
            event = {}
        assert event, f"nothing more came from {self.process.args!r}, which said on its standard error:\n{self.said}"
        return event

    async def answer(self, task: str, **details: Any) -> Any:
        """As `ask`, for code on a loop."""
        return await asyncio.wait_for(asyncio.wrap_future(self.begin(task, **details)), PATIENCE)

    async def heard(self) -> dict[str, Any]:
        """As `event`, for code on a loop."""
        return await asyncio.to_thread(self.event)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                outcome = json.loads(line)
                if "n" not in outcome:
                    self._events.put(outcome)
                    continue
                with self._lock:
                    waiting = self._waiting.pop(outcome["n"])
                if "error" in outcome:
                    waiting.set_exception(TaskFailed(outcome["error"]))
                else:
                    waiting.set_result(outcome["value"])
        self._events.put(None)
        with self._lock:
            for waiting in self._waiting.values():
                waiting.set_exception(AssertionError(f"the program ended:\n{self.said}"))

    def _read_complaints(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.said += line.decode(errors="replace")
