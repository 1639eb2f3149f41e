"""Measuring side by side: paired and interleaved rounds, medians and spreads, ratios, goals.

    Contest("10 listeners", in_turn({"monsal.bus": measure_ours, "cherrypy": measure_theirs}))

A measurement is a function of the number of its round that returns a sample: figures by the key of their column. Each
round takes all contestants in turn and in another order, so that what moves on the machine moves all of them, and a
ratio is the median of the ratios of the rounds. A contestant that is not there raises `Absent`, one that does not do
what is measured `Failed`; both become what its row says.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench.document import Column, Picture, Row, Spread, TableReport, Verdict
from bench.machine import Watch

__all__ = [
    "Absent",
    "Contest",
    "Failed",
    "Goal",
    "Measure",
    "Played",
    "Ratio",
    "Sample",
    "Suite",
    "Table",
    "TimesBetter",
    "TimesOf",
    "in_turn",
    "order",
    "paired",
    "run_contest",
    "run_table",
    "spread",
]

#: Figures by key; several for one key are so many samples of one round.
Sample = Mapping[str, float | Sequence[float]]
#: Measures one contestant once; the argument is the number of the round, 0 for the one that only warms up.
Measure = Callable[[int], Sample]
#: A line of progress.
Say = Callable[[str], object]


class Absent(Exception):
    """The contestant is not on this machine; the text says so in its row."""


class Failed(Exception):
    """The contestant did not do what is measured; the text says what it did instead."""


@dataclass
class Played:
    """What came out of a contest: for each contestant one sample a round, or why there is none."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


#: Plays so many rounds of a contest, in an order that depends on the seed.
Play = Callable[[int, int], Played]


@dataclass(frozen=True)
class Contest:
    """One thing that several contestants do; with a size where others do the same with more or less of something."""

    title: str
    play: Play
    size: float | None = None


class Ratio(Protocol):
    """A column that compares rows."""

    @property
    def heading(self) -> str: ...

    def of(self, name: str, played: Played) -> float | None:
        """The ratio in the row of `name`; None if that row has none."""


@dataclass(frozen=True)
class TimesOf:
    """How many times the figure of `base` each row needs."""

    heading: str
    base: str
    column: Column

    def of(self, name: str, played: Played) -> float | None:
        return None if name == self.base else _ratio(name, self.base, self.column.key, played)


@dataclass(frozen=True)
class TimesBetter:
    """How many times better `ours` is than each other row."""

    heading: str
    ours: str
    column: Column

    def of(self, name: str, played: Played) -> float | None:
        if name == self.ours:
            return None
        pair = (self.ours, name) if self.column.more_is_better else (name, self.ours)
        return _ratio(*pair, self.column.key, played)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What DESIGN 8 asks for in one row: a bound for a figure, or for a ratio, which is named by its heading."""

    contest: str
    contestant: str
    of: str
    at_least: float | None = None
    at_most: float | None = None
    #: Every sample counts and not the median alone.
    always: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """Contests that are measured in the same way, with the figures, ratios and goals they have in common."""

    name: str
    title: str
    text: str
    columns: Sequence[Column]
    contests: Sequence[Contest]
    ratios: Sequence[Ratio] = ()
    goals: Sequence[Goal] = ()
    #: Charts of it, beside the page.
    pictures: Sequence[Picture] = ()
    contestant: str = "contestant"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A subject with its tables. `seconds` and `rounds` are what it takes unless others are asked for."""

    title: str
    about: str
    seconds: float
    rounds: int
    #: Called with the seconds of one measurement and whether peers take part.
    tables: Callable[[float, bool], Sequence[Table]]


def order(names: Sequence[str], turn: int, seed: int) -> list[str]:
    """Who comes when in a round: shuffled by the seed once, then turned on by one each round.

    So each contestant has each place equally often, and none always follows the same one's heat.
    """
    shuffled = list(names)
    random.Random(seed).shuffle(shuffled)
    turn %= max(len(shuffled), 1)
    return shuffled[turn:] + shuffled[:turn]


def in_turn(contestants: Mapping[str, Measure], *, warm: bool = False) -> Play:
    """A contest of contestants that are measured one after the other in each round; `warm` adds a round before."""

    def play(rounds: int, seed: int) -> Played:
        played = Played({name: [] for name in contestants})
        for turn in range(0 if warm else 1, rounds + 1):
            for name in order(list(contestants), turn, seed):
                if name in played.notes:
                    continue
                try:
                    sample = contestants[name](turn)
                except (Absent, Failed) as reason:
                    played.notes[name] = f"failed: {reason}" if isinstance(reason, Failed) else str(reason)
                    played.samples[name].clear()
                    continue
                if turn:
                    played.samples[name].append(sample)
        return played

    return play


def spread(values: Sequence[float]) -> Spread:
    """Median, least and greatest, to four digits that count."""
    median, least, most = map(_short, (statistics.median(values), min(values), max(values)))
    return Spread(median, least, most, len(values))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The median of the ratios of the rounds; None if there is nothing to compare or to divide by."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True) if other]
    return _short(statistics.median(ratios)) if ratios else None


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _values(sample: Sample, key: str) -> list[float]:
    found = sample[key]
    return list(found) if isinstance(found, Sequence) else [found]


def _ratio(above: str, below: str, key: str, played: Played) -> float | None:
    """The paired ratio of two contestants, each with the median of each round."""
    samples = [played.samples.get(name, []) for name in (above, below)]
    # A contestant may have no such figure: there is nothing to compare then.
    if not all(one and all(key in sample for sample in one) for one in samples):
        return None
    one, other = (
        [statistics.median(_values(sample, key)) for sample in played.samples[name]] for name in (above, below)
    )
    return paired(one, other)


def run_contest(table: Table, contest: Contest, rounds: int, seed: int) -> list[Row]:
    """Play a contest and judge it."""
    watch = Watch()
    played = contest.play(rounds, seed)
    load = watch.over()
    rows = []
    for name, samples in played.samples.items():
        figures = {
            column.key: spread([value for sample in samples for value in _values(sample, column.key)])
            for column in table.columns
            if samples and column.key in samples[0]
        }
        found = {ratio.heading: ratio.of(name, played) for ratio in table.ratios}
        ratios = {heading: value for heading, value in found.items() if value is not None}
        verdicts = [
            _verdict(goal, table.columns, figures, ratios)
            for goal in table.goals
            if (goal.contest, goal.contestant) == (contest.title, name)
        ]
        note = played.notes.get(name, "")
        rows.append(Row(contest.title, name, load, figures, ratios, verdicts, note, contest.size))
    return rows


def _verdict(
    goal: Goal, columns: Sequence[Column], figures: Mapping[str, Spread], ratios: Mapping[str, float]
) -> Verdict:
    """Whether a goal is reached; of a figure that must always hold, the worst sample decides."""
    bound, sign = (goal.at_least, ">=") if goal.at_least is not None else (goal.at_most, "<=")
    if bound is None:
        raise ValueError(f"the goal for {goal.of} has no bound")
    headings = {column.key: column.heading for column in columns}
    words = f"{headings.get(goal.of, goal.of)} {sign} {bound:g}{'' if goal.of in headings else 'x'}"
    value: float | None
    if goal.of in figures:
        figure = figures[goal.of]
        value = figure.median if not goal.always else figure.least if sign == ">=" else figure.most
    else:
        value = ratios.get(goal.of)
    if value is None:
        return Verdict(words, None)
    return Verdict(words, value >= bound if sign == ">=" else value <= bound)


def run_table(table: Table, rounds: int, seed: int, say: Say) -> TableReport:
    """Play all contests of a table."""
    say(f"{table.title}")
    rows: list[Row] = []
    for number, contest in enumerate(table.contests):
        found = run_contest(table, contest, rounds, seed + number)
        rows += found
        for row in found:
            say("  " + _line(row, table.columns))
        if found and found[0].load.remark:
            say(f"  not quiet: {found[0].load.remark}")
    headings = [ratio.heading for ratio in table.ratios]
    columns, pictures = list(table.columns), list(table.pictures)
    return TableReport(table.name, table.title, table.text, table.contestant, columns, headings, rows, pictures)


def _line(row: Row, columns: Sequence[Column]) -> str:
    figures = [
        f"{row.figures[column.key].median:.{column.digits}f} {column.heading}"
        for column in columns
        if column.key in row.figures
    ]
    ratios = [f"{heading} {value:.2f}x" for heading, value in row.ratios.items()]
    verdicts = [f"[{verdict.goal}: {verdict_word(verdict)}]" for verdict in row.verdicts]
    note = [row.note] if row.note else []
    return f"{row.contest:36} {row.contestant:16} " + ", ".join([*figures, *ratios, *verdicts, *note])


def verdict_word(verdict: Verdict) -> str:
    """One word for a verdict."""
    return {True: "met", False: "short", None: "not measured"}[verdict.met]
