"""The charts of a document: what a table's pictures show, drawn by `chart`, each a file of its own.

A table asks for them: `Table(pictures=[Picture(column="rate", ratio="ours is", ours="ours")])`. They are bars, one
group a contest; where contests have a size, `Contest(title, play, size=10_000)`, they are curves over it, one a
contestant.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.chart import Bar, Group, Line, bars, curves
from bench.document import Column, Document, Picture, Row, TableReport

__all__ = ["draw", "file_name", "pictures"]

#: The directory beside the page.
PLACE = "charts"


def file_name(suite: str, table: TableReport, picture: Picture) -> str:
    """The path of a picture from the page."""
    return f"{PLACE}/{suite}-{table.name}-{picture.column}.svg"


def pictures(document: Document) -> dict[str, str]:
    """The text of each picture, by its path from the page."""
    return {
        file_name(name, table, picture): drawn
        for name, report in document.suites.items()
        for table in report.tables
        for picture in table.pictures
        if (drawn := draw(table, picture)) is not None
    }


def draw(table: TableReport, picture: Picture) -> str | None:
    """A picture of a table; None if nothing of it was measured."""
    column = next(column for column in table.columns if column.key == picture.column)
    shown = [row for row in table.rows if not picture.contests or row.contest in picture.contests]
    if not any(column.key in row.figures for row in shown):
        return None
    if any(row.size is not None for row in shown):
        return _curves(table, picture, column, shown)
    return _bars(table, picture, column, shown)


def _bars(table: TableReport, picture: Picture, column: Column, rows: Sequence[Row]) -> str:
    contests = list(dict.fromkeys(row.contest for row in rows))
    groups = [
        Group(contest, [_bar(row, picture, column) for row in rows if row.contest == contest]) for contest in contests
    ]
    better = "more is better" if column.more_is_better else "less is better"
    beside = f"; beside it, how many times: {picture.ratio}" if picture.ratio else ""
    return bars(picture.title or table.title, f"{column.heading}, {better}{beside}. Each group has its scale.", groups)


def _bar(row: Row, picture: Picture, column: Column) -> Bar:
    figure = row.figures.get(column.key)
    ours = bool(picture.ours) and row.contestant == picture.ours
    if figure is None:
        return Bar(row.contestant, None, _first(row.note) or "not measured", ours=ours)
    ratio = row.ratios.get(picture.ratio)
    said = f"{figure.median:,.{column.digits}f}" + (f" ({ratio:.2f}x)" if ratio is not None else "")
    return Bar(row.contestant, figure.median, said, figure.least, figure.most, ours)


def _first(note: str) -> str:
    """Enough of a note for one line of a chart; the page has all of it."""
    return note if len(note) <= 60 else note[:57] + "..."


def _curves(table: TableReport, picture: Picture, column: Column, rows: Sequence[Row]) -> str:
    lines = []
    for name in dict.fromkeys(row.contestant for row in rows):
        points = sorted(
            (row.size, row.figures[column.key].median)
            for row in rows
            if row.contestant == name and row.size is not None and column.key in row.figures
        )
        if points:
            first, last = points[0][1], points[-1][1]
            grown = f" {last / first:.2f}x" if first and len(points) > 1 else ""
            lines.append(Line(name + grown, points, bool(picture.ours) and name == picture.ours))
    better = "more is better" if column.more_is_better else "less is better"
    caption = f"{better[0].upper()}{better[1:]}; at the end of each line, the last value by the first."
    return curves(picture.title or table.title, picture.size, column.heading, lines, caption)
