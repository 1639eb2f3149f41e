"""What the bench found, as one JSON document (bench/results.json): its form, and how a new run is put into it.

Each suite stands for itself, with its date, commit and machine: they are run apart from one another, and running one
keeps what the others found.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

__all__ = [
    "Column",
    "Document",
    "Load",
    "Machine",
    "Picture",
    "Report",
    "Row",
    "Spread",
    "TableReport",
    "Verdict",
    "load",
    "save",
]


class Spread(msgspec.Struct, frozen=True):
    """The median of some samples, the least and the greatest of them, and how many there were."""

    median: float
    least: float
    most: float
    samples: int


class Verdict(msgspec.Struct, frozen=True):
    """A goal in words, and whether it was reached; None if it could not be measured."""

    goal: str
    met: bool | None


class Load(msgspec.Struct, frozen=True, omit_defaults=True):
    """The load average before and after a contest, and what else the machine did meanwhile; None is unknown.

    CPUs are an average over the time of the contest.
    """

    before: float | None = None
    after: float | None = None
    others: float | None = None
    steal: float | None = None
    remark: str = ""


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One contestant in one contest; if it could not be measured, `note` says why and there are no figures.

    `size` is that of the contest, where what is asked is how the figures grow with it.
    """

    contest: str
    contestant: str
    load: Load
    figures: dict[str, Spread] = {}
    ratios: dict[str, float] = {}
    verdicts: list[Verdict] = []
    note: str = ""
    size: float | None = None


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of figure: its heading, the digits it is shown with, and whether its spread is shown."""

    key: str
    heading: str
    digits: int = 0
    spread: bool = False
    more_is_better: bool = False


class Picture(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A chart of one column: bars, with the ratio of that heading beside them, or curves where rows have a size.

    `ours` is the contestant to be seen first, `size` what sizes are of, `contests` those that are shown, all without.
    Pictures of one table have different columns.
    """

    column: str
    ratio: str = ""
    ours: str = ""
    size: str = "size"
    title: str = ""
    contests: list[str] = []


class TableReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """Contests that are measured in the same way. `ratios` are headings, too, in the order to be shown."""

    name: str
    title: str
    text: str
    contestant: str
    columns: list[Column]
    ratios: list[str]
    rows: list[Row]
    pictures: list[Picture] = []


class Machine(msgspec.Struct, frozen=True):
    """What the figures depend on; nothing that names the machine or places on it."""

    system: str
    processor: str
    cpus: int
    memory_gb: float
    python: str
    open_files: int


class Report(msgspec.Struct, frozen=True):
    """One run of one suite."""

    title: str
    date: str
    commit: str | None
    machine: Machine
    seconds: float
    rounds: int
    tables: list[TableReport]


class Document(msgspec.Struct, frozen=True):
    """All suites, by name."""

    suites: dict[str, Report]
    format: int = 1

    def merged(self, name: str, report: Report, order: Sequence[str] = ()) -> Document:
        """The same with one suite replaced or added; those in `order` come first, and in that order."""
        suites = {**self.suites, name: report}
        return Document({name: suites[name] for name in [*order, *suites] if name in suites})


def load(path: Path) -> Document:
    """Read a document; one that does not exist is empty. Raises msgspec.DecodeError if it is something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Document)
    except FileNotFoundError:
        return Document({})


def save(path: Path, document: Document) -> None:
    """Write a document, so that its changes can be read line by line."""
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    os.replace(temporary, path)
