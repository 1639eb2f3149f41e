"""bench/RESULTS.md, from the document and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from bench.document import Column, Document, Machine, Report, Row, Spread, TableReport
from bench.harness import verdict_word
from bench.pictures import draw, file_name

__all__ = ["page"]

_HEAD = """# Results

Written by `make bench` from `bench/results.json`. Each round measures all contestants of a contest in turn, in another
order each time. A figure is the median of all samples, with the least and the greatest in brackets where they matter; a
ratio is the median of the ratios of the rounds. Lines of one contest can be compared with one another; those of other
machines and other days cannot. Goals are those of the design; `short` is one that is not reached yet."""


def page(document: Document) -> str:
    """The page, with the suites in the order of the document."""
    parts = [_HEAD]
    for name, report in document.suites.items():
        parts += [f"## {report.title}", _circumstances(name, report)]
        for table in report.tables:
            # A suite of one table has its title already.
            parts += [] if table.title == report.title else [f"### {table.title}"]
            parts += [table.text, *_pictures(name, table), "\n".join(_table(table))]
            parts += _remarks(table)
    return "\n\n".join(parts) + "\n"


def _circumstances(name: str, report: Report) -> str:
    commit = f", commit {report.commit}" if report.commit else ""
    return (
        f"`make bench SUITE={name}` on {report.date}{commit}: {report.rounds} rounds of {report.seconds:g} s a "
        f"measurement; {_machine(report.machine)}.{_loads(report)}"
    )


def _pictures(suite: str, table: TableReport) -> Iterator[str]:
    for picture in table.pictures:
        if draw(table, picture) is not None:
            heading = next(column.heading for column in table.columns if column.key == picture.column)
            yield f"![{picture.title or table.title}: {heading}]({file_name(suite, table, picture)})"


def _loads(report: Report) -> str:
    """What else the machine did during the run, in one sentence."""
    loads = [row.load for table in report.tables for row in table.rows]
    averages = [value for load in loads for value in (load.before, load.after) if value is not None]
    if not averages:
        return ""
    said = f" Load {min(averages):.2f} to {max(averages):.2f}, that of the bench included"
    for name, values in (
        ("other processes", [load.others for load in loads]),
        ("the host", [load.steal for load in loads]),
    ):
        known = [value for value in values if value is not None]
        said += f"; {name} took up to {max(known):.2f} CPUs" if known else ""
    return said + "."


def _machine(machine: Machine) -> str:
    return (
        f"{machine.cpus} CPUs ({machine.processor}) shared by all that is measured, {machine.memory_gb:g} GB, "
        f"{machine.system}, Python {machine.python}"
    )


def _table(table: TableReport) -> Iterator[str]:
    goals = any(row.verdicts for row in table.rows)
    heads = ["contest", table.contestant, *(column.heading for column in table.columns), *table.ratios]
    heads += ["goal"] if goals else []
    yield _line(heads)
    yield "|" + "---|" * len(heads)
    for row in table.rows:
        figures = [_figure(row, column) for column in table.columns]
        if row.note:
            figures[0] = row.note.replace("|", "/")
        ratios = [f"{row.ratios[heading]:.2f}x" if heading in row.ratios else "" for heading in table.ratios]
        verdicts = ["; ".join(f"{one.goal}: {verdict_word(one)}" for one in row.verdicts)] if goals else []
        yield _line([row.contest, row.contestant, *figures, *ratios, *verdicts])


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _figure(row: Row, column: Column) -> str:
    found = row.figures.get(column.key)
    return "" if found is None else _spread(found, column)


def _spread(found: Spread, column: Column) -> str:
    median, least, most = (f"{value:.{column.digits}f}" for value in (found.median, found.least, found.most))
    return f"{median} ({least}–{most})" if column.spread and found.samples > 1 else median


def _remarks(table: TableReport) -> Iterator[str]:
    """What else the machine did, where that was enough to matter."""
    seen = {row.contest: row.load.remark for row in table.rows if row.load.remark}
    if seen:
        yield "The machine was not quiet. " + "; ".join(f"{contest}: {said}" for contest, said in seen.items()) + "."
