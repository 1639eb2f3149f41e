"""The table of docs/performance.md, from what the suite `stages` found: where the microseconds of one mail go.

It stands between two marks, and is written anew when the results of the project itself are.
"""

from __future__ import annotations

from bench.document import Report, Row

__all__ = ["BEGIN", "END", "excerpt", "with_excerpt"]

BEGIN, END = "<!-- stages: written by make bench -->", "<!-- stages: end -->"


def excerpt(report: Report) -> str:
    """The table: a line a stage, and the kinds of mail beside one another."""
    (table,) = report.tables
    contests = list(dict.fromkeys(row.contest for row in table.rows))
    # The longest way has all stages, in its order.
    stages = max(([row.contestant for row in table.rows if row.contest == contest] for contest in contests), key=len)
    found = {(row.contest, row.contestant): row for row in table.rows}
    lines = [f"| stage | {' | '.join(contests)} |", "|---|" + "---|" * len(contests)]
    for stage in stages:
        cells = [_cell(found.get((contest, stage))) for contest in contests]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    commit = f", commit {report.commit}" if report.commit else ""
    machine = report.machine
    said = (
        f"`make bench SUITE=stages` on {report.date}{commit}: {report.rounds} rounds of {report.seconds:g} s, "
        f"{machine.cpus} CPUs ({machine.processor}),\nPython {machine.python}. CPU microseconds of one mail:"
    )
    remarks = dict.fromkeys(row.load.remark for row in table.rows if row.load.remark)
    busy = [f"\nThe machine was not quiet: {'; '.join(remarks)}."] if remarks else []
    return "\n".join([said, "", *lines, *busy])


def _cell(row: Row | None) -> str:
    return "" if row is None or "us" not in row.figures else f"{row.figures['us'].median:.1f}"


def with_excerpt(text: str, report: Report) -> str:
    """A page with the table put between its marks. Raises ValueError if it has no marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{excerpt(report)}\n{END}{after}"
