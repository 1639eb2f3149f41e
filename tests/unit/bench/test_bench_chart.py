"""The charts of the bench: what is drawn is what was measured."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from bench.chart import Bar, Group, Line, bars, curves, ticks
from bench.document import Column, Document, Load, Machine, Picture, Report, Row, Spread, TableReport
from bench.page import page
from bench.pictures import draw, pictures

SVG = "{http://www.w3.org/2000/svg}"
RATE = Column(key="rate", heading="mails/s", more_is_better=True)
PICTURE = Picture(column="rate", ratio="ours is", ours="ours")


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def row(contest: str, contestant: str, value: float | None, *, size: float | None = None, ratio: float = 0.0) -> Row:
    figures = {} if value is None else {"rate": Spread(value, value * 0.9, value * 1.1, 3)}
    note = "not installed" if value is None else ""
    return Row(contest, contestant, Load(), figures, {"ours is": ratio} if ratio else {}, [], note, size)


def table(*rows: Row) -> TableReport:
    return TableReport("mails", "Mails <& more>", "Words.", "server", [RATE], ["ours is"], list(rows), [PICTURE])


def test_a_bar_is_as_long_as_its_value() -> None:
    drawn = bars("Mails", "mails/s", [Group("10", [Bar("a", 200.0, "200"), Bar("b", 50.0, "50", ours=True)])])
    found = [one for one in ElementTree.fromstring(drawn).iter(f"{SVG}rect") if "bar" in one.get("class", "")]
    assert float(found[0].get("width", "")) == pytest.approx(4 * float(found[1].get("width", "")), abs=0.5)
    assert [one.get("class") for one in found] == ["bar", "bar ours"]
    assert texts(drawn) == ["Mails", "mails/s", "10", "a", "200", "b", "50"]


def test_nothing_is_drawn_beyond_the_edge() -> None:
    # Given a long name, long words and a spread far above the median
    long = Bar("a server with a long name", 10.0, "10 and the like", least=1.0, most=90.0)
    drawn = ElementTree.fromstring(bars("T", "c", [Group("g", [long, Bar("b", 80.0, "80")])]))
    # Then whatever is drawn, and the text beside it, ends before the chart does
    width = float(drawn.get("width", ""))
    for one in drawn.iter(f"{SVG}text"):
        if one.get("text-anchor") != "end":
            assert float(one.get("x", "")) + 6 * len(one.text or "") < width
    assert all(float(one.get("x2", "")) < width for one in drawn.iter(f"{SVG}line"))


def test_a_contestant_without_a_value_says_why() -> None:
    drawn = bars("T", "c", [Group("g", [Bar("a", None, "not installed")])])
    assert "not installed" in texts(drawn)
    assert "bar" not in [one.get("class") for one in ElementTree.fromstring(drawn).iter(f"{SVG}rect")]


def test_what_is_written_is_text_and_no_markup() -> None:
    drawn = bars('a "b" <c> & d', "<x>", [Group("&", [Bar("<script>", 1.0, "1 < 2")])])
    assert texts(drawn) == ['a "b" <c> & d', "<x>", "&", "<script>", "1 < 2"]
    assert not list(ElementTree.fromstring(drawn).iter(f"{SVG}script"))


@pytest.mark.parametrize(
    ("most", "expected"),
    [(1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), (4.1, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), (90.0, [0, 20, 40, 60, 80, 100])],
)
def test_ticks_are_round_and_reach_the_greatest(most: float, expected: list[float]) -> None:
    assert ticks(most) == pytest.approx(expected)


def test_ticks_of_nothing() -> None:
    assert ticks(0.0) == [0.0, 1.0]


@pytest.mark.parametrize("values", [(2.0, 2.5), (2.0, 5000.0), (0.0, 0.0), (3.0, 3.0)])
def test_a_curve_rises_as_its_values_do(values: tuple[float, float]) -> None:
    drawn = ElementTree.fromstring(curves("T", "routes", "us", [Line("a", [(10, values[0]), (10_000, values[1])])]))
    (path,) = drawn.iter(f"{SVG}polyline")
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in path.get("points", "").split())
    assert x1 < x2
    assert y2 < y1 if values[1] > values[0] else y1 == y2
    assert all(0 < value < float(drawn.get("height", "")) for value in (y1, y2))


def test_sizes_far_apart_are_at_equal_steps_of_ten() -> None:
    drawn = curves("T", "routes", "us", [Line("a", [(10, 1.0), (100, 1.0), (1000, 1.0)])])
    (path,) = ElementTree.fromstring(drawn).iter(f"{SVG}polyline")
    x1, x2, x3 = (float(point.split(",")[0]) for point in path.get("points", "").split())
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    assert {"10", "100", "1k"} <= set(texts(drawn))


def test_the_names_of_lines_that_end_together_do_not_lie_on_one_another() -> None:
    drawn = curves("T", "n", "us", [Line(name, [(1, 1.0), (2, 1.0)]) for name in ("one", "two", "three")])
    places = [
        float(one.get("y", ""))
        for one in ElementTree.fromstring(drawn).iter(f"{SVG}text")
        if one.text in {"one", "two", "three"}
    ]
    assert all(later - earlier >= 12 for earlier, later in zip(sorted(places), sorted(places)[1:], strict=False))


def test_a_line_alone_and_one_point_alone_are_drawn() -> None:
    assert "alone" in texts(curves("T", "n", "us", [Line("alone", [(5, 3.0)])]))
    with pytest.raises(ValueError, match="no points"):
        curves("T", "n", "us", [])


def test_a_table_is_drawn_as_bars_with_its_ratios() -> None:
    rows = [row("10", "ours", 9061.0), row("10", "theirs", 1551.0, ratio=5.84), row("10", "gone", None)]
    drawn = draw(table(*rows), PICTURE)
    assert drawn is not None
    assert texts(drawn)[2:] == ["10", "ours", "9,061", "theirs", "1,551 (5.84x)", "gone", "not installed"]


def test_a_table_with_sizes_is_drawn_as_curves() -> None:
    rows = [row(f"{size} routes", "ours", value, size=size) for size, value in ((1000, 3.0), (10, 2.0), (100, 2.5))]
    drawn = draw(table(*rows, row("10 routes", "theirs", 9.0, size=10)), PICTURE)
    assert drawn is not None
    assert "ours 1.50x" in texts(drawn)
    assert "theirs" in texts(drawn)


def test_a_table_of_which_nothing_was_measured_has_no_picture() -> None:
    assert draw(table(row("10", "ours", None)), PICTURE) is None


def test_the_page_shows_the_pictures_that_are_written() -> None:
    machine = Machine("Linux", "a processor", 2, 4.0, "3.11", 1024)
    found = table(row("10", "ours", 5.0), row("50", "ours", None))
    document = Document({"accept": Report("Accept", "2026-01-01", None, machine, 1.0, 1, [found])})
    assert list(pictures(document)) == ["charts/accept-mails-rate.svg"]
    assert "![Mails <& more>: mails/s](charts/accept-mails-rate.svg)" in page(document)
    # And are the same each time
    assert pictures(document) == pictures(document)
