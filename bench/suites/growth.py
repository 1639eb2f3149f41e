"""What a mail costs as work grows: conversations, mails that wait, timers, routes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.document import Column, Picture
from bench.harness import Contest, Failed, Goal, Play, Played, Sample, Suite, Table
from bench.probes.growth import ANYBODY
from bench.processes import ROOT, our_environment, probe

__all__ = ["KINDS", "SUITE", "Kind", "Measured", "samples_of"]

ACCEPT, TURN = "accept", "turn"
#: What may be added to the cost of a mail, however much there is.
WITHIN = 1.2

_CPU = Column(key="cpu_us", heading="CPU us", digits=0, spread=True)
_GROWN = Column(key="grown", heading="of the base", digits=2, spread=True)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Something that there is more and more of. `base` is the size that the others are compared with."""

    name: str
    title: str
    text: str
    #: What sizes are of; a contest is called after it.
    unit: str
    sizes: tuple[int, ...]
    base: int
    lines: tuple[str, ...] = (ACCEPT, TURN)


KINDS = (
    Kind(
        name="conversations",
        title="Conversations in the store",
        text="So many conversations with a state and a handled mail each. 500 correspondents write often: their mails "
        f"are accepted and\nhave their turns; `{ANYBODY}` is of one of all, at random.",
        unit="conversations",
        sizes=(500, 10_000, 100_000, 1_000_000),
        base=500,
        lines=(ACCEPT, TURN, ANYBODY),
    ),
    Kind(
        name="backlog",
        title="Mails that wait",
        text="A turn is that of a mail that waited, while as many come as have their turns. 100 that wait are one of a "
        "correspondent each,\nand still in memory; with 1,000 and more, each and the one after it are read from the "
        "disk, which does not get dearer the\nmore there are.",
        unit="mails wait",
        sizes=(100, 1_000, 10_000, 100_000),
        base=1_000,
    ),
    Kind(
        name="later",
        title="Timers that are not due",
        text="Mails beside so many timers of other conversations.",
        unit="timers later",
        sizes=(1, 1_000, 10_000, 100_000),
        base=1,
    ),
    Kind(
        name="due",
        title="Timers that are due",
        text="A turn is that of a timer: the row that it becomes, its claim and its commit, for up to 5,000.",
        unit="timers due",
        sizes=(1_000, 10_000, 100_000),
        base=1_000,
        lines=(TURN,),
    ),
    Kind(
        name="routes",
        title="Routes in the table",
        text="Asking at RCPT and accepting, for addresses of all routes in turn, whose patterns were compiled before.",
        unit="routes",
        sizes=(10, 10_000),
        base=10,
    ),
)


def samples_of(kind: Kind, size: int, found: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, list[Sample]]:
    """For each line the samples of all rounds at a size; `found` is what the probe says, by size."""
    base = found[str(kind.base)]
    return {
        line: [
            {"cpu_us": here[line], "grown": here[line] / there[line]}
            for here, there in zip(found[str(size)], base, strict=True)
        ]
        for line in kind.lines
    }


@dataclass
class Measured:
    """All sizes of a kind at once: they are measured by the contest that is played first."""

    kind: Kind
    seconds: float
    _found: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    _failure: str = ""

    def play(self, size: int) -> Play:
        """The contest of one size."""

        def play(rounds: int, seed: int) -> Played:
            if not self._found and not self._failure:
                self._measure(rounds)
            if self._failure:
                return Played({line: [] for line in self.kind.lines}, dict.fromkeys(self.kind.lines, self._failure))
            return Played(samples_of(self.kind, size, self._found))

        return play

    def _measure(self, rounds: int) -> None:
        words = [self.kind.name, str(self.seconds), str(rounds), *map(str, self.kind.sizes)]
        environment = our_environment(PYTHONPATH=f"{ROOT / 'src'}:{ROOT}")
        try:
            self._found = probe([sys.executable, "-m", "bench.probes.growth", *words], environment)
        except Failed as reason:
            self._failure = f"failed: {reason}"


def _title(kind: Kind, size: int) -> str:
    return f"{size:,} {kind.unit}"


def _table(kind: Kind, seconds: float) -> Table:
    measured = Measured(kind, seconds)
    return Table(
        name=kind.name,
        title=kind.title,
        text=f"{kind.text}\nThe base is {_title(kind, kind.base)}; nothing may cost more than {WITHIN:g}x of that.",
        contestant="what",
        columns=(_CPU, _GROWN),
        contests=[Contest(_title(kind, size), measured.play(size), size) for size in kind.sizes],
        goals=[
            Goal(contest=_title(kind, kind.sizes[-1]), contestant=line, of=_GROWN.key, at_most=WITHIN)
            for line in kind.lines
        ],
        pictures=(Picture(column=_CPU.key, ours=TURN, size=kind.unit),),
    )


def _tables(seconds: float, peers: bool) -> Sequence[Table]:
    return [_table(kind, seconds) for kind in KINDS]


SUITE = Suite(
    title="Cost as work grows",
    about="CPU of accept and turn with up to a million conversations, 100,000 mails or timers, 10,000 routes",
    seconds=6.0,
    rounds=3,
    tables=_tables,
)
