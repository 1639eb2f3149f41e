"""Storage alone: what a turn costs in the store's own process, over links from worker processes, and elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from bench.document import Column, Picture
from bench.harness import Contest, Goal, Measure, Sample, Suite, Table, TimesBetter, TimesOf, in_turn
from bench.mailers import peer_python
from bench.processes import ROOT, our_environment, plain_environment, probe

__all__ = ["SUITE"]

ALONE = "in process"
WORKERS = {ALONE: 0, "1 worker": 1, "2 workers": 2}
OURS = "monsal, sqlite"
#: Peers, and what they are called in their probe.
PEERS = {
    "DBOS, sqlite": "dbos-sqlite",
    "DBOS, PostgreSQL": "dbos-postgres",
    "procrastinate, PostgreSQL": "procrastinate",
}
DURABLE = ROOT / "bench" / "probes" / "durable.py"
#: Mails of one batch: as many as the store commits at once at most.
BATCH = 200

_RATE = Column(key="rate", heading="turns/s", spread=True, more_is_better=True)
_CPU = Column(key="cpu_us", heading="CPU us a turn", spread=True)
_IS = "monsal is"
_BATCHES = f"batches of {BATCH}"


def _store(*words: object) -> Sample:
    # The children that it starts import this package, too.
    environment = our_environment(PYTHONPATH=f"{ROOT / 'src'}:{ROOT}")
    return probe([sys.executable, "-m", "bench.probes.store", *map(str, words)], environment)


def _measure(workers: int, flight: int, seconds: float, turn: int) -> Sample:
    return _store(workers, flight, seconds)


def _in_batches(seconds: float, turn: int) -> Sample:
    return _store("batches", BATCH, seconds)


def _peer(name: str, seconds: float, turn: int) -> Sample:
    return probe([peer_python("durable"), str(DURABLE), PEERS[name], str(seconds)], plain_environment())


def _durable(seconds: float, peers: bool) -> Table:
    contestants: dict[str, Measure] = {OURS: partial(_in_batches, seconds)}
    contestants |= {name: partial(_peer, name, seconds) for name in (PEERS if peers else ())}
    return Table(
        name="durable",
        title="Durable turns, against libraries that keep work in a database",
        text="Not the same work, so here is what each makes durable.\nmonsal: a mail of 1 kB; its claim; next state, a "
        "reply of 1 kB, history and acknowledgement in one commit. `synchronous=full`,\none flush for all that wait "
        "together; of each correspondent one turn at a time, in order.\nDBOS: that a workflow of one step was called, "
        "the result of the step, which stands for the state, and its end, each a commit;\nno order between workflows, "
        "no reply.\nprocrastinate: a job that is deferred with a lock for each correspondent, fetched, writes one row "
        "and is finished, each a\ncommit, so a job whose process dies may have its row written and run again; no "
        "reply.\nThe peers have eight turns under way at once. CPU is that of the process itself: the server of "
        "PostgreSQL comes on top.",
        columns=(_RATE, _CPU),
        contests=[Contest(_BATCHES, in_turn(contestants))],
        ratios=(TimesBetter(_IS, OURS, _RATE),),
        goals=(
            Goal(contest=_BATCHES, contestant=OURS, of=_RATE.key, at_least=15_000.0),
            Goal(contest=_BATCHES, contestant="DBOS, sqlite", of=_IS, at_least=50.0),
            Goal(contest=_BATCHES, contestant="DBOS, PostgreSQL", of=_IS, at_least=50.0),
            Goal(contest=_BATCHES, contestant="procrastinate, PostgreSQL", of=_IS, at_least=10.0),
        ),
        pictures=(Picture(column=_RATE.key, ratio=_IS, ours=OURS),),
    )


def _turns(seconds: float) -> Table:
    return Table(
        name="turns",
        title="Turns of a store, alone and shared",
        text="A turn is accept, claim (up to 64 at once), read of a state, commit with a reply of 1 kB, on a file "
        f"with full sync. `{ALONE}` calls\nthe store directly; the others are processes that are linked to one "
        "store process. CPU of all of them together.",
        columns=(
            _RATE,
            _CPU,
            Column(key="worker_us", heading="of it workers"),
            Column(key="store_us", heading="of it the store process"),
        ),
        contests=[
            Contest(
                f"{flight} accepts in flight",
                in_turn({name: partial(_measure, number, flight, seconds) for name, number in WORKERS.items()}),
            )
            for flight in (10, 64)
        ],
        ratios=(TimesOf("of in process", ALONE, _CPU),),
    )


def _tables(seconds: float, peers: bool) -> Sequence[Table]:
    return [_turns(seconds), _durable(seconds, peers)]


SUITE = Suite(
    title="Turns of a store",
    about="storage turns a second and their CPU: in one process, over links to one, and against DBOS and procrastinate",
    seconds=2.0,
    rounds=3,
    tables=_tables,
)
