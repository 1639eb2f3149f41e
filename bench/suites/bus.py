"""The process bus, against a plain loop of calls and the buses it descends from."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path

from tools.peers import environment

from bench.document import Column
from bench.harness import (
    Absent,
    Contest,
    Failed,
    Goal,
    Measure,
    Played,
    Sample,
    Suite,
    Table,
    TimesBetter,
    TimesOf,
    in_turn,
)
from bench.processes import ROOT, Child, our_environment, plain_environment, probe, switches, thread_cpu

__all__ = ["SUITE"]

PROBE = ROOT / "bench" / "probes" / "bus.py"
OURS, LOOP, SERVER = "monsal.bus", "loop", "monsal run"
PEERS = ("cherrypy", "magicbus")
#: Idling takes so many times the seconds of another measurement: 30 s in a full run (DESIGN 8).
_IDLE = 100.0
#: Seconds until a process that has just started is idle, and until one that is idle is told to end.
_SETTLE = 2.0
_PAUSE = 0.2
#: How often `block` returns in one measurement.
_RETURNS = 10
#: The example that `monsal run` serves, on any free port.
_EXAMPLE = ROOT / "examples" / "helpdesk"
_MONSAL = "import sys; from monsal.cli import main; sys.exit(main())"

_CPU_NS = Column(key="cpu_ns", heading="ns", spread=True)
_WALL_US = Column(key="wall_us", heading="us", spread=True)
_CPU_US = Column(key="cpu_us", heading="CPU us", digits=2, spread=True)
_WALL_MS = Column(key="wall_ms", heading="ms", digits=2, spread=True)
_SWITCHES = Column(key="switches", heading="voluntary switches", spread=True)
_START_MS = Column(key="start_ms", heading="start ms", digits=1, spread=True)
_STOP_MS = Column(key="stop_ms", heading="stop ms", digits=1, spread=True)
_FIRST_MS = Column(key="first_ms", heading="first line ms", digits=1, spread=True)
_IS, _OF_LOOP = f"{OURS} is", "of the loop"


@cache
def _interpreter(name: str) -> tuple[str, dict[str, str]]:
    """With what a contestant is run: the interpreter of its own environment, and its variables. Raises Absent."""
    if name not in PEERS:
        return sys.executable, our_environment() if name != LOOP else plain_environment()
    try:
        return str(environment(name)), plain_environment()
    except (OSError, RuntimeError) as reason:
        raise Absent(f"not installed: {str(reason).splitlines()[0]}") from reason


def _probe(what: str, name: str, number: int, seconds: float, turn: int) -> Sample:
    python, variables = _interpreter(name)
    return probe([python, str(PROBE), what, name, str(number), str(seconds)], variables)


def _contest(
    title: str, what: str, number: int, seconds: float, names: Sequence[str], *, warm: bool = False
) -> Contest:
    return Contest(title, in_turn({name: partial(_probe, what, name, number, seconds) for name in names}, warm=warm))


def _listeners(number: int) -> str:
    return f"{number} listener{'' if number == 1 else 's'}"


def _publish(seconds: float, peers: Sequence[str]) -> Table:
    names = [LOOP, OURS, *peers]
    return Table(
        name="publish",
        title="Publishing",
        text="Process CPU time of one call with one argument; the listeners return None, in the last contest a value. "
        "`loop` is a\nfunction that calls the same listeners one after the other, and keeps no results and catches "
        "no failures.",
        columns=(_CPU_NS,),
        contests=[
            _contest("no such channel", "publish", -1, seconds, names),
            *(_contest(_listeners(number), "publish", number, seconds, names) for number in (0, 1, 10, 100)),
            _contest("10 listeners with a result", "publish-values", 10, seconds, names),
        ],
        ratios=(TimesOf(_OF_LOOP, LOOP, _CPU_NS), TimesBetter(_IS, OURS, _CPU_NS)),
        goals=(
            Goal(contest="10 listeners", contestant=OURS, of=_OF_LOOP, at_most=2.0),
            Goal(contest="10 listeners", contestant="cherrypy", of=_IS, at_least=3.0),
        ),
    )


def _subscribe(seconds: float, peers: Sequence[str]) -> Table:
    return Table(
        name="subscribe",
        title="Subscribing and unsubscribing",
        text="Process CPU time of both together, where so many listeners are there already.",
        columns=(_CPU_US,),
        contests=[
            _contest(f"{number} there", "subscribe", number, seconds, [OURS, *peers]) for number in (0, 100, 10_000)
        ],
        ratios=(TimesBetter(_IS, OURS, _CPU_US),),
    )


def _life(seconds: float, peers: Sequence[str]) -> Table:
    return Table(
        name="life",
        title="A whole life",
        text="From the call of `start` over STARTED to the return of `exit`, with so many listeners on each of start, "
        f"stop and\nexit. `{OURS}` runs the listeners of each step under a deadline, watched by another thread.",
        columns=(_WALL_US, _CPU_US),
        contests=[_contest(f"{number} a channel", "life", number, seconds, [OURS, *peers]) for number in (0, 10, 100)],
        ratios=(TimesBetter(_IS, OURS, _WALL_US),),
    )


def _block(peers: Sequence[str]) -> Table:
    return Table(
        name="block",
        title="Exit on another thread to the return of block",
        text="The exit comes at a time that is in step with no polling.",
        columns=(_WALL_MS,),
        contests=[_contest("exit", "block", _RETURNS, 0.0, [OURS, *peers])],
        ratios=(TimesBetter(_IS, OURS, _WALL_MS),),
    )


def _child(name: str, directory: Path) -> Child:
    """A process that will be ready soon: a bare script on a bus, or the example's server in `directory`."""
    if name != SERVER:
        python, variables = _interpreter(name)
        return Child([python, str(PROBE), "serve", name], variables, mark=b"ready")
    if not directory.exists():
        shutil.copytree(_EXAMPLE, directory, ignore=shutil.ignore_patterns("run", "__pycache__"))
    return Child(
        [sys.executable, "-c", _MONSAL, "run", "--dir", str(directory), "--log", "json"],
        our_environment(MONSAL_INGRESS="smtp://127.0.0.1:0"),
        mark=b'"action":"ready"',
        on_error=True,
    )


def _idle_together(names: Sequence[str], seconds: float) -> Callable[[int, int], Played]:
    """A contest of processes that do nothing: they disturb no one, so they are watched at the same time."""

    def play(rounds: int, seed: int) -> Played:
        played = Played({name: [] for name in names})
        with ExitStack() as stack:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="monsal-bench-")))
            children = {}
            for name in names:
                try:
                    children[name] = stack.enter_context(_child(name, place / "desk"))
                    children[name].wait_ready()
                except Absent as reason:
                    played.notes[name] = str(reason)
                except Failed as reason:
                    played.notes[name] = f"failed: {reason}"
                    children.pop(name, None)
            time.sleep(min(_SETTLE, seconds))
            for _ in range(rounds):
                before = {name: (switches(child.pid), thread_cpu(child.pid)) for name, child in children.items()}
                time.sleep(seconds)
                for name, child in children.items():
                    count, cpu = before[name]
                    found = {"switches": switches(child.pid) - count, "cpu_ms": 1e3 * (thread_cpu(child.pid) - cpu)}
                    played.samples[name].append(found)
        return played

    return play


def _idle(seconds: float, peers: Sequence[str]) -> Table:
    window = seconds * _IDLE
    names = [OURS, SERVER, *peers]
    title = f"{window:g} s"
    return Table(
        name="idle",
        title="Idle",
        text="Voluntary context switches of all threads of a process that waits in `block`, and its CPU time, in a "
        f"window of\n{window:g} s; the windows follow one another. `{SERVER}` is the server of examples/helpdesk "
        "without mail; the others are bare scripts.",
        columns=(_SWITCHES, Column(key="cpu_ms", heading="CPU ms", digits=2)),
        contests=[Contest(title, _idle_together(names, window))],
        goals=[Goal(contest=title, contestant=name, of="switches", at_most=0, always=True) for name in (OURS, SERVER)],
    )


def _start_stop(name: str, directory: Path, turn: int) -> Sample:
    with _child(name, directory) as child:
        start, start_cpu = child.wait_ready()
        time.sleep(_PAUSE + 0.037 * turn % 0.1)  # in step with no polling
        stop, stop_cpu = child.end()
    found = {"start_ms": start, "start_cpu_ms": start_cpu, "stop_ms": stop, "stop_cpu_ms": stop_cpu}
    return {key: 1e3 * value for key, value in found.items()}


def _processes(peers: Sequence[str]) -> Table:
    names = [LOOP, OURS, SERVER, *peers]

    def play(rounds: int, seed: int) -> Played:
        with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place:
            measures: Mapping[str, Measure] = {name: partial(_start_stop, name, Path(place) / "desk") for name in names}
            return in_turn(measures, warm=True)(rounds, seed)

    title = "start, SIGTERM when idle"
    return Table(
        name="process",
        title="Start to ready, SIGTERM to the end of the process",
        text=f"Wall and CPU milliseconds. `{LOOP}` is an interpreter that waits for the signal and nothing else; "
        f"`{SERVER}` opens its\nstore and listens, the others are bare scripts on a bus with its signal handler.",
        columns=(
            _START_MS,
            Column(key="start_cpu_ms", heading="start CPU ms", digits=1),
            _STOP_MS,
            Column(key="stop_cpu_ms", heading="stop CPU ms", digits=1),
        ),
        contests=[Contest(title, play)],
        goals=[
            Goal(contest=title, contestant=name, of="stop_ms", at_most=100.0, always=True) for name in (OURS, SERVER)
        ]
        + [Goal(contest=title, contestant=SERVER, of="start_ms", at_most=600.0)],
    )


def _restart(peers: Sequence[str]) -> Table:
    return Table(
        name="restart",
        title="Restart",
        text="From the call of `restart` to the first line of the fresh image, and to its being started, on a bare "
        f"script. `{LOOP}` calls\n`os.execv` at once. A bus that closes descriptors goes through all numbers up to "
        "the limit of open files.",
        columns=(_FIRST_MS, Column(key="started_ms", heading="started ms", digits=1, spread=True)),
        contests=[_contest("restart", "restart", 0, 0.0, [LOOP, OURS, *peers], warm=True)],
        ratios=(TimesBetter(_IS, OURS, _FIRST_MS),),
    )


def _tables(seconds: float, with_peers: bool) -> Sequence[Table]:
    peers = PEERS if with_peers else ()
    return [
        _publish(seconds, peers),
        _subscribe(seconds, peers),
        _life(seconds, peers),
        _block(peers),
        _idle(seconds, peers),
        _processes(peers),
        _restart(peers),
    ]


SUITE = Suite(
    title="The process bus",
    about="publish, subscribe, start and exit, idling, restart, against cherrypy's and magicbus's bus",
    seconds=0.3,
    rounds=5,
    tables=_tables,
)
