"""Actors: asks between two worker processes, starts, deaths and memory, against a pipe and three other libraries."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tools.peers import environment

from bench.document import Column
from bench.harness import Absent, Contest, Goal, Measure, Sample, Suite, Table, TimesBetter, in_turn
from bench.processes import ROOT, our_environment, plain_environment, probe

__all__ = ["SUITE"]

OURS = "monsal.actors"
OVER_ARBITER = f"{OURS}, over the arbiter"
PIPE = "multiprocessing.Pipe"


@dataclass(frozen=True)
class Contestant:
    """A module of `../probes` with its first arguments, and the environment of a peer it runs in, if not in ours."""

    module: str
    arguments: tuple[str, ...] = ()
    peer: str | None = None


#: In the order of the page.
CONTESTANTS: Mapping[str, Contestant] = {
    OURS: Contestant("actors_monsal", ("ask", "direct")),
    OVER_ARBITER: Contestant("actors_monsal", ("ask", "arbiter")),
    PIPE: Contestant("actors_pipe"),
    "xoscar": Contestant("actors_xoscar", peer="xoscar"),
    "Thespian": Contestant("actors_thespian", peer="thespian"),
    "Ray": Contestant("actors_ray", peer="ray"),
}
#: DESIGN 8: asks a second with 1 and with 64 in flight, and how many times those of the best peer.
_RATES = {1: 12_000.0, 64: 60_000.0}
_TIMES = 5.0
#: DESIGN 8: milliseconds from kill -9 to an answer of the replacement, with a spare and without.
_ANSWERS = {"spare": 5.0, "fresh": 150.0}
_MEGABYTES = 40.0
#: Deaths, starts, and idle seconds in one round.
_DEATHS = 5
_STARTS = 3
_IDLE = 5

_RATE = Column(key="rate", heading="asks/s", spread=True, more_is_better=True)
_CPU = Column(key="cpu_us", heading="CPU us an ask", digits=1, spread=True)
_ANSWER = Column(key="answer_ms", heading="ms to an answer", digits=1, spread=True)
_START = Column(key="start_ms", heading="ms to an answer", digits=1, spread=True)
_PSS = Column(key="pss_mb", heading="PSS MB", digits=1, spread=True)
_WAKES = Column(key="wakes", heading=f"wake-ups of the arbiter in {_IDLE} s", digits=0, spread=True)
_IS = f"asks/s, {OURS} has"


def _run(contestant: Contestant, *arguments: str) -> Sample:
    module = f"bench.probes.{contestant.module}"
    if contestant.peer is None:
        ours = our_environment()
        python, variables = sys.executable, {**ours, "PYTHONPATH": f"{ROOT}:{ours['PYTHONPATH']}"}
    else:
        try:
            python = str(environment(contestant.peer))
        except (OSError, RuntimeError) as reason:
            raise Absent(f"not installed: {str(reason).splitlines()[0]}") from reason
        variables = {**plain_environment(), "PYTHONPATH": str(ROOT)}
    return probe([python, "-m", module, *contestant.arguments, *arguments], variables)


def _ask(name: str, flight: int, seconds: float, turn: int) -> Sample:
    return _run(CONTESTANTS[name], str(flight), str(seconds))


def _ours(what: Sequence[str], turn: int) -> Sample:
    return _run(Contestant("actors_monsal"), *what)


def _in_flight(number: int) -> str:
    return f"{number} in flight"


def _asks(names: Sequence[str], seconds: float) -> Table:
    peers = [name for name in names if CONTESTANTS[name].peer is not None]
    return Table(
        name="ask",
        title="Asks between two worker processes",
        text="A dict of five members goes there and back; CPU is that of both processes, and of the arbiter where it "
        "passes them on.\nThe pipe is blocking and has no names, deadlines or errors; 64 in flight are 64 that are "
        "sent and then 64 that are read.",
        columns=(
            _RATE,
            _CPU,
            Column(key="client_us", heading="asker us", digits=1),
            Column(key="server_us", heading="asked us", digits=1),
            Column(key="p50_us", heading="p50 us"),
            Column(key="p99_us", heading="p99 us"),
        ),
        contests=[
            Contest(_in_flight(number), in_turn({name: partial(_ask, name, number, seconds) for name in names}))
            for number in _RATES
        ],
        ratios=(TimesBetter(_IS, OURS, _RATE),),
        goals=[
            *(Goal(contest=_in_flight(n), contestant=OURS, of=_RATE.key, at_least=rate) for n, rate in _RATES.items()),
            *(Goal(contest=_in_flight(n), contestant=name, of=_IS, at_least=_TIMES) for n in _RATES for name in peers),
        ],
    )


def _alone(name: str, title: str, text: str, columns: Sequence[Column], measures: Mapping[str, Measure]) -> Table:
    bounds = {"answer_ms": _ANSWERS, "pss_mb": {"memory": _MEGABYTES}}
    return Table(
        name=name,
        title=title,
        text=text,
        columns=columns,
        contests=[Contest(contest, in_turn({OURS: measure})) for contest, measure in measures.items()],
        goals=[
            Goal(contest=contest, contestant=OURS, of=column.key, at_most=bounds[column.key][contest])
            for contest in measures
            for column in columns
            if contest in bounds.get(column.key, {})
        ],
    )


def _tables(seconds: float, with_peers: bool) -> Sequence[Table]:
    names = [name for name, one in CONTESTANTS.items() if with_peers or one.peer is None]
    return [
        _asks(names, seconds),
        _alone(
            "death",
            "From kill -9 to an answer of the replacement",
            "The only worker of a group is killed and asked at once; `fresh` starts an interpreter, `spare` has one "
            "that waits.",
            (_ANSWER,),
            {how: partial(_ours, ("deaths", how, str(_DEATHS))) for how in _ANSWERS},
        ),
        _alone(
            "start",
            "From spawn to the first answer",
            "A fresh interpreter that imports the actor.",
            (_START,),
            {"start": partial(_ours, ("start", str(_STARTS)))},
        ),
        _alone(
            "memory",
            "Memory of a worker, and an arbiter that idles",
            "After a flood of asks with 64 in flight; the arbiter has two workers and nothing to do.",
            (_PSS, _WAKES),
            {"memory": partial(_ours, ("memory", str(_IDLE)))},
        ),
    ]


SUITE = Suite(
    title="Actors",
    about="asks between two worker processes, 1 and 64 in flight, kill -9 to an answer, start and memory, against a "
    "pipe, xoscar, Thespian and Ray",
    seconds=1.0,
    rounds=5,
    tables=_tables,
)
