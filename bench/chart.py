"""Charts as SVG text: bars that stand beside one another, and curves over a size. Pure; the same for the same input.

    bars("Mails a second", "more is better", [Group("10 sessions", [Bar("ours", 9061.0, "9,061", ours=True), ...])])
    curves("A match", "routes", "CPU us", [Line("ours", [(10, 2.1), (10_000, 2.6)], ours=True), ...])

Text is text, so that it can be searched, and the colours follow the reader's choice of light or dark. Lines have their
name at their end and not in a legend, so that nobody needs to tell colours apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from xml.sax.saxutils import escape, quoteattr

__all__ = ["Bar", "Group", "Line", "bars", "curves", "ticks"]

_WIDTH = 820
_MARGIN = 16
#: Font size, and the most that a letter of it is wide on average; both in pixels.
_FONT, _LETTER = 12, 6.7
_ROW, _BAR = 20, 13
_GAP = 8
_PLOT_HEIGHT = 260
#: From here on, an axis is logarithmic: the greatest value by the least.
_LOG_X, _LOG_Y = 50.0, 50.0
_SHADES = 5

_STYLE = """
svg { color-scheme: light dark; font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
.paper { fill: #ffffff; } text { fill: #24292f; } .quiet { fill: #57606a; } .head { font-weight: 600; }
.grid { stroke: #d8dee4; } .axis { stroke: #8c959f; } .spread { stroke: #24292f; stroke-opacity: 0.55; }
.bar { fill: #a9b4c0; } .bar.ours { fill: #1a7f7a; } .line { fill: none; stroke-width: 2; }
.s0 { stroke: #1a7f7a; fill: #1a7f7a; } .s1 { stroke: #b35900; fill: #b35900; } .s2 { stroke: #6639ba; fill: #6639ba; }
.s3 { stroke: #b01048; fill: #b01048; } .s4 { stroke: #3d6bb3; fill: #3d6bb3; } polyline.line { fill: none; }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117; } text { fill: #e6edf3; } .quiet { fill: #9198a1; }
.grid { stroke: #30363d; } .axis { stroke: #6e7681; } .spread { stroke: #e6edf3; }
.bar { fill: #57606a; } .bar.ours { fill: #2fb5ac; }
.s0 { stroke: #2fb5ac; fill: #2fb5ac; } .s1 { stroke: #e8934a; fill: #e8934a; } .s2 { stroke: #b08cff; fill: #b08cff; }
.s3 { stroke: #ff7ba5; fill: #ff7ba5; } .s4 { stroke: #7aa7f0; fill: #7aa7f0; } polyline.line { fill: none; }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar and what is written at its end; without a value there is only what is written."""

    label: str
    value: float | None
    said: str
    least: float | None = None
    most: float | None = None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Bars that are compared with one another, on a scale of their own."""

    title: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve of (x, y), both above zero where an axis is logarithmic; ours is drawn in the first colour."""

    label: str
    points: Sequence[tuple[float, float]]
    ours: bool = False


def bars(title: str, caption: str, groups: Sequence[Group]) -> str:
    """Horizontal bars, grouped; the caption says the unit and what stands beside the bars."""
    every = [bar for group in groups for bar in group.bars]
    left = _MARGIN + _wide(max((bar.label for bar in every), key=len, default="")) + _GAP
    # What has no bar may be longer: its words have the place of the bar as well.
    right = _wide(max((bar.said for bar in every if bar.value is not None), key=len, default="")) + _GAP
    room = max(_WIDTH - left - right - _MARGIN, 80.0)
    body = [*_heading(title, caption)]
    y = 62.0
    for group in groups:
        body.append(_text(_MARGIN, y, group.title, "head"))
        y += 8
        longest = max((bar.most or bar.value or 0.0 for bar in group.bars), default=0.0) or 1.0
        for bar in group.bars:
            body += _bar(bar, left, y, room / longest)
            y += _ROW
        y += 24
    return _document(title, y - 12, body)


def _bar(bar: Bar, left: float, top: float, scale: float) -> Iterator[str]:
    middle = top + _ROW / 2
    yield _text(left - _GAP, middle + 4, bar.label, "head" if bar.ours else "", anchor="end")
    if bar.value is None:
        yield _text(left, middle + 4, bar.said, "quiet")
        return
    length = max(bar.value * scale, 1.0)
    kind = "bar ours" if bar.ours else "bar"
    corner = f'x="{left:.1f}" y="{middle - _BAR / 2:.1f}"'
    yield f'<rect class="{kind}" {corner} width="{length:.1f}" height="{_BAR}" rx="2"/>'
    end = length
    if bar.least is not None and bar.most is not None and bar.most > bar.least:
        end = max(length, bar.most * scale)
        yield _stroke("spread", left + bar.least * scale, middle, left + bar.most * scale, middle)
    yield _text(left + end + _GAP / 2, middle + 4, bar.said)


def curves(title: str, x: str, y: str, lines: Sequence[Line], caption: str = "") -> str:
    """Curves over a size; an axis is logarithmic when its values lie far apart."""
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError(f"{title}: a chart of no points")
    left, top = 76.0, 70.0
    right = _WIDTH - _MARGIN - _wide(max((line.label for line in lines), key=len)) - _GAP
    across = _Axis([point[0] for point in points], left, right, _LOG_X, from_zero=False)
    up = _Axis([point[1] for point in points], top + _PLOT_HEIGHT, top, _LOG_Y, from_zero=True)
    body = [*_heading(title, caption), _text(left, top - 10, y, "quiet")]
    for value in up.ticks:
        at = up.place(value)
        body += [_stroke("grid", left, at, right, at), _text(left - 6, at + 4, _short(value), "quiet", anchor="end")]
    bottom = top + _PLOT_HEIGHT
    for value in across.ticks:
        body.append(_text(across.place(value), bottom + 18, _short(value), "quiet", anchor="middle"))
    body += [_stroke("axis", left, bottom, right, bottom), _text(right, bottom + 36, x, "quiet", anchor="end")]
    body += _lines(lines, across, up)
    return _document(title, bottom + 48, body)


class _Axis:
    """Where values lie, in pixels from `begin` to `end`."""

    def __init__(self, values: Sequence[float], begin: float, end: float, log: float, *, from_zero: bool) -> None:
        low, high = min(values), max(values)
        self._log = low > 0 and high / low >= log
        if self._log:
            self.ticks = _decades(low, high)
            # Sizes end where they end; what is measured ends at a line of the grid.
            low, high = (self.ticks[0], self.ticks[-1]) if from_zero else (low, high)
        elif from_zero:
            self.ticks = ticks(high)
            low, high = 0.0, self.ticks[-1]
        else:
            self.ticks = sorted(set(values))
        self.ticks = [value for value in self.ticks if low <= value <= high]
        self._low, self._high, self._begin, self._end = low, high, begin, end

    def place(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (
            (math.log10(self._low), math.log10(self._high), math.log10(value))
            if self._log
            else (self._low, self._high, value)
        )
        return self._begin + (self._end - self._begin) * ((value - low) / (high - low) if high > low else 0.5)


def ticks(most: float) -> list[float]:
    """Round numbers from zero, in four to eight steps of 1, 2 or 5 times a power of ten, the last not below `most`."""
    if most <= 0:
        return [0.0, 1.0]
    unit = 10.0 ** math.floor(math.log10(most / 4))
    step = next(unit * factor for factor in (1, 2, 5, 10) if most / (unit * factor) <= 6)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    return [10.0**power for power in range(first, last + 1)]


def _lines(lines: Sequence[Line], across: _Axis, up: _Axis) -> Iterator[str]:
    others = count(1)
    drawn = []
    for line in lines:
        shade = f"s{0 if line.ours else 1 + (next(others) - 1) % (_SHADES - 1)}"
        places = [(across.place(x), up.place(y)) for x, y in sorted(line.points)]
        if places:
            drawn.append((line.label, shade, places))
    for _, shade, places in drawn:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline class="line {shade}" points="{path}"/>'
        yield from (f'<circle class="{shade}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)
    # Names keep their distance: each is moved down until it is clear of the one above it.
    free = -math.inf
    for label, shade, places in sorted(drawn, key=lambda one: one[2][-1][1]):
        x, y = places[-1]
        at = max(y, free)
        free = at + _FONT + 2
        yield f'<circle class="{shade}" cx="{x + _GAP + 2:.1f}" cy="{at:.1f}" r="3"/>'
        yield _text(x + _GAP + 9, at + 4, label)


def _heading(title: str, caption: str) -> Iterator[str]:
    yield _text(_MARGIN, 22, title, "head")
    if caption:
        yield _text(_MARGIN, 38, caption, "quiet")


def _document(title: str, height: float, body: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label={quoteattr(title)} '
        f'width="{_WIDTH}" height="{height:.0f}" viewBox="0 0 {_WIDTH} {height:.0f}">'
    )
    paper = f'<rect class="paper" width="{_WIDTH}" height="{height:.0f}" rx="6"/>'
    return (
        "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{_STYLE}</style>", paper, *body, "</svg>"]) + "\n"
    )


def _text(x: float, y: float, text: str, kind: str = "", *, anchor: str = "") -> str:
    attributes = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(text)}</text>'


def _stroke(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _wide(text: str) -> float:
    return _LETTER * len(text)


def _short(value: float) -> str:
    """A number for an axis: 20k rather than 20,000."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"
