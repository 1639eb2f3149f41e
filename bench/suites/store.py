"""Storage alone: what a turn costs in the store's own process, and what over links from worker processes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from bench.document import Column
from bench.harness import Contest, Sample, Suite, Table, TimesOf, in_turn
from bench.processes import ROOT, our_environment, probe

__all__ = ["SUITE"]

ALONE = "in process"
WORKERS = {ALONE: 0, "1 worker": 1, "2 workers": 2}

_CPU = Column(key="cpu_us", heading="CPU us a turn", spread=True)


def _measure(workers: int, flight: int, seconds: float, turn: int) -> Sample:
    # The children that it starts import this package, too.
    environment = our_environment(PYTHONPATH=f"{ROOT / 'src'}:{ROOT}")
    return probe([sys.executable, "-m", "bench.probes.store", str(workers), str(flight), str(seconds)], environment)


def _tables(seconds: float, peers: bool) -> Sequence[Table]:
    return [
        Table(
            name="turns",
            title=SUITE.title,
            text="A turn is accept, claim (up to 64 at once), read of a state, commit with a reply of 1 kB, on a file "
            f"with full sync. `{ALONE}` calls\nthe store directly; the others are processes that are linked to one "
            "store process. CPU of all of them together.",
            columns=(
                Column(key="rate", heading="turns/s", spread=True, more_is_better=True),
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
    ]


SUITE = Suite(
    title="Turns of a store, alone and shared",
    about="storage turns a second and their CPU, in one process and over links to one store process",
    seconds=2.0,
    rounds=3,
    tables=_tables,
)
