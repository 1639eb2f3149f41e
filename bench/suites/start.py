"""What it takes to be there: imports, commands, the time from start to the first 220, and memory after load."""

from __future__ import annotations

import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from bench.document import Column, Picture
from bench.harness import Contest, Failed, Goal, Sample, Suite, Table, TimesOf, in_turn
from bench.mailers import peer_python
from bench.processes import ROOT, cpu_seconds, our_environment, plain_environment
from bench.together import together

__all__ = ["AIOSMTPD", "BARE", "SUITE", "commands", "family", "memory_alone", "proportional_set"]

BARE, IMPORT, FACE, SERVER = "python -c pass", "import monsal", "all names of an application", "monsal run"
WORKERS, SALMON, AIOSMTPD = "monsal run --workers 1", "salmon", "aiosmtpd"
#: What its processes are called, by the last words of their command lines.
_PARTS = {"worker": "its worker", "store": "its store process", "run": "its supervisor"}
_PATIENCE = 60.0

_HANDLERS = """
from monsal import reply, route

@route("help@(host)")
def START(message):
    reply("What would you like?", even_if_automatic=True)
    return NEXT

@route("help@(host)")
def NEXT(message):
    reply("What else?", even_if_automatic=True)
    return START
"""
_APP = """
from monsal import App, literal
app = App("handlers", captures={"host": literal("example.com")}, relay="capture:run/sent", max_replies_per_hour=None,
          log_level="warning")
"""
_AIOSMTPD = """
import asyncio, sys
from aiosmtpd.smtp import SMTP

class Sink:
    async def handle_DATA(self, server, session, envelope):
        return "250 OK"

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Sink(), hostname="peer", loop=loop), "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""
_SALMON = """
import sys, threading
from salmon.routing import Router, route
from salmon.server import SMTPReceiver

@route("help@(host)", host="example.com")
def START(message, host=None):
    return NEXT

@route("help@(host)", host="example.com")
def NEXT(message, host=None):
    return START

SMTPReceiver("127.0.0.1", int(sys.argv[1])).start()
threading.Event().wait()
"""

_WALL = Column(key="wall_ms", heading="ms", digits=1, spread=True)
_CPU = Column(key="cpu_ms", heading="CPU ms", digits=1, spread=True)
_OVER = Column(key="over_ms", heading="ms over bare python", digits=1, spread=True)
_FIRST = Column(key="first_ms", heading="ms to the first 220", spread=True)
_AGAIN = Column(key="again_ms", heading="ms, started again", spread=True)
_MEMORY = Column(key="pss_mb", heading="PSS MB", digits=1, spread=True)
_OF_BARE = "of bare python"

_IMPORT_SALMON = "import salmon.server"
_MONSAL = "import sys; from monsal.cli import main; sys.exit(main())"
#: Python code, and the words after it.
_COMMANDS: Mapping[str, tuple[str, ...]] = {
    BARE: ("pass",),
    IMPORT: ("import monsal",),
    FACE: ("import monsal; [getattr(monsal, name) for name in monsal.__all__]",),
    "monsal --help": (_MONSAL, "--help"),
    "monsal status": (_MONSAL, "status"),
    "import aiosmtpd.smtp": ("import aiosmtpd.smtp",),
}


def _run(python: str, words: Sequence[str], environment: Mapping[str, str], home: Path) -> tuple[float, float]:
    """Milliseconds and CPU milliseconds of a process from its start to its end."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([python, "-c", *words], env=environment, cwd=home, capture_output=True, check=False)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise Failed(f"exit code {done.returncode}: {done.stderr.decode('utf-8', 'replace')[-200:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1e3 * took, 1e3 * used


def commands(names: Sequence[str], seconds: float, turn: int) -> Mapping[str, Sample]:
    """Each again and again, in turn; the median of each."""
    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place:
        home = Path(place)
        with _running(SERVER, home):
            return _taken_in_turn(names, seconds, home)


def _taken_in_turn(names: Sequence[str], seconds: float, home: Path) -> Mapping[str, Sample]:
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    until = time.monotonic() + seconds * len(names)
    while time.monotonic() < until or len(taken[BARE]) < 2:
        for name in names:
            if name == _IMPORT_SALMON:
                once = _run(peer_python(SALMON), [_IMPORT_SALMON], plain_environment(), home)
            else:
                once = _run(sys.executable, _COMMANDS[name], our_environment(), home)
            taken[name].append(once)
    found: dict[str, Sample] = {}
    bare = statistics.median(wall for wall, _ in taken[BARE])
    for name, samples in taken.items():
        wall, cpu = (statistics.median(values) for values in zip(*samples, strict=True))
        found[name] = {"wall_ms": wall, "cpu_ms": cpu, "over_ms": wall - bare}
    return found


def _write_application(home: Path) -> None:
    (home / "app.py").write_text(_APP, encoding="utf-8")
    (home / "handlers.py").write_text(_HANDLERS, encoding="utf-8")


# -- servers ---------------------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _command(name: str, home: Path, port: int) -> tuple[list[str], dict[str, str]]:
    if name == AIOSMTPD:
        return [sys.executable, "-c", _AIOSMTPD, str(port)], our_environment()
    if name == SALMON:
        return [peer_python(SALMON), "-c", _SALMON, str(port)], plain_environment()
    _write_application(home)
    workers = "1" if name == WORKERS else "0"
    words = ["run", "--dir", str(home), "--workers", workers]
    return [sys.executable, "-c", _MONSAL, *words], our_environment(MONSAL_INGRESS=f"smtp://127.0.0.1:{port}")


@contextmanager
def _running(name: str, home: Path) -> Iterator[tuple[int, int, float]]:
    """A server; its pid, its port, and the seconds until it said 220."""
    port = _free_port()
    command, environment = _command(name, home, port)
    with (home / "log").open("ab") as log:
        began = time.monotonic()
        process = subprocess.Popen(command, env=environment, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process.pid, port, _greeted(process, port, home) - began
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _greeted(process: subprocess.Popen[bytes], port: int, home: Path) -> float:
    """When the server said 220. Raises Failed if it ends, or says nothing for too long."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as client:
            client.settimeout(max(end - time.monotonic(), 0.1))
            try:
                client.connect(("127.0.0.1", port))
                said = client.recv(512)
            except OSError:
                # Nobody listens yet; a connection of every millisecond costs the server nothing.
                time.sleep(0.001)
                continue
            if said.startswith(b"220"):
                return time.monotonic()
    words = (home / "log").read_text(errors="replace").strip().splitlines()
    raise Failed(f"no 220: {words[-1] if words else 'nothing was said'}")


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += family(int(child))
    return found


def proportional_set(pid: int) -> float:
    """The memory of a process in MB, with its share of what it shares with others (PSS, proc(5))."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise Failed("the kernel tells no PSS")


def _start(name: str, turn: int) -> Sample:
    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place:
        home = Path(place)
        with _running(name, home) as (pid, _, first):
            used = sum(map(cpu_seconds, family(pid)))
        with _running(name, home) as (_, _, again):
            pass
    return {"first_ms": 1e3 * first, "again_ms": 1e3 * again, "cpu_ms": 1e3 * used}


def _parts(pid: int) -> dict[str, float]:
    """The memory of each process of a server with workers, by what it is; of several alike, the largest."""
    found: dict[str, float] = {}
    for member in family(pid):
        words = Path(f"/proc/{member}/cmdline").read_text().rstrip("\0").split("\0")
        last = words[-1].split()[-1].partition("-")[0] if member != pid else "run"
        if last in _PARTS:
            found[_PARTS[last]] = max(found.get(_PARTS[last], 0.0), proportional_set(member))
    return found


def _loaded(name: str, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place, _running(name, Path(place)) as (pid, port, _):
        command = [
            *(sys.executable, "-m", "bench.load", "--port", str(port), "--recipient", "help@example.com"),
            *("--correspondents", "500", "--connections", "10", "--seconds", str(seconds)),
        ]
        done = subprocess.run(command, cwd=ROOT, env=our_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"the load ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        return _parts(pid) if name == WORKERS else {name: proportional_set(pid)}


def memory_alone(name: str, seconds: float, turn: int) -> Sample:
    return {"pss_mb": _loaded(name, seconds)[name]}


def _memory_parts(seconds: float, turn: int) -> Mapping[str, Sample]:
    found = _loaded(WORKERS, seconds)
    missing = set(_PARTS.values()) - found.keys()
    if missing:
        raise Failed(f"no {', '.join(sorted(missing))} was found")
    return {name: {"pss_mb": memory} for name, memory in found.items()}


# -- tables ----------------------------------------------------------------------------------------------------------


def _imports(seconds: float, peers: bool) -> Table:
    names = [*_COMMANDS, *([_IMPORT_SALMON] if peers else [])]
    return Table(
        name="imports",
        title="Imports and commands",
        text="A process from its start to its end. `monsal status` asks a running server. All take turns.",
        contestant="command",
        columns=(_WALL, _CPU, _OVER),
        contests=[Contest("start to end", together(names, partial(commands, names, seconds)))],
        ratios=(TimesOf(_OF_BARE, BARE, _CPU),),
        goals=(Goal(contest="start to end", contestant=IMPORT, of=_OVER.key, at_most=30.0),),
    )


def _contestants(
    measure: Callable[..., Sample], names: Sequence[str], *more: float
) -> dict[str, Callable[[int], Sample]]:
    return {name: partial(measure, name, *more) for name in names}


def _starts(peers: bool) -> Table:
    names = [SERVER, WORKERS, AIOSMTPD, *([SALMON] if peers else [])]
    return Table(
        name="starts",
        title="Start to the first 220",
        text="From the start of the process to 220 on a new connection: in an empty directory, where a store is made, "
        "and once\nmore in the same one. CPU is that of all its processes until the first 220. The peers have no store "
        "to open.",
        contestant="server",
        columns=(_FIRST, _AGAIN, _CPU),
        contests=[Contest("a server", in_turn(_contestants(_start, names)))],
        goals=[Goal(contest="a server", contestant=name, of=_FIRST.key, at_most=600.0) for name in (SERVER, WORKERS)],
        pictures=(Picture(column=_FIRST.key, ours=SERVER),),
    )


def _memory(seconds: float, peers: bool) -> Table:
    alone, parts = "one process", WORKERS
    names = [SERVER, AIOSMTPD, *([SALMON] if peers else [])]
    return Table(
        name="memory",
        title="Memory after load",
        text="Proportional set size after load on 10 connections from 500 correspondents: whole turns with an answer "
        "each. `aiosmtpd`\nthrows mail away, salmon changes a state in memory and answers nothing.",
        contestant="process",
        columns=(_MEMORY,),
        contests=[
            Contest(alone, in_turn(_contestants(memory_alone, names, seconds))),
            Contest(parts, together(list(_PARTS.values()), partial(_memory_parts, seconds))),
        ],
        goals=(
            Goal(contest=alone, contestant=SERVER, of=_MEMORY.key, at_most=40.0),
            Goal(contest=parts, contestant=_PARTS["worker"], of=_MEMORY.key, at_most=40.0),
        ),
        pictures=(Picture(column=_MEMORY.key, ours=SERVER),),
    )


def _tables(seconds: float, peers: bool) -> Sequence[Table]:
    return [_imports(seconds, peers), _starts(peers), _memory(seconds, peers)]


SUITE = Suite(
    title="Import, start, memory",
    about="imports and commands, start to the first 220, memory after load, against aiosmtpd and salmon",
    seconds=3.0,
    rounds=3,
    tables=_tables,
)
