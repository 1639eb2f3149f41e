"""What a unit may look like and which units fit together; nothing is started here (B8)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from monsal.bus import UNIT_WAYS, Bus, Unit, UnitError, UnitPhase, Units
from monsal.bus.inner.crew import Member

pytestmark = pytest.mark.rule("bus.B8")


def made(*several: Unit) -> Units:
    units = Units(Bus())
    for unit in several:
        units.add(unit)
    return units


def test_each_comes_after_what_it_waits_for_and_else_in_the_order_of_adding() -> None:
    units = made(
        Unit("web", requires=("store",), after=("console",)),
        Unit("mail", wants=("store",)),
        Unit("store"),
        Unit("console"),
    )
    assert units.check() == ("store", "console", "web", "mail")


def test_a_unit_may_require_one_that_is_added_later() -> None:
    units = made(Unit("outbox", requires=("store",)))
    with pytest.raises(UnitError, match="outbox: requires names 'store', which is no unit"):
        units.check()
    units.add(Unit("store"))
    assert units.check() == ("store", "outbox")


@pytest.mark.parametrize("kind", ["requires", "wants", "after"])
def test_an_unknown_name_is_an_error_of_whatever_kind(kind: str) -> None:
    with pytest.raises(UnitError, match=f"outbox: {kind} names 'sotre'"):
        made(Unit("outbox", **{kind: ("sotre",)})).check()  # type: ignore[arg-type] - one of three alike


def test_units_that_wait_for_each_other_are_told_as_a_whole_circle() -> None:
    units = made(
        Unit("web", requires=("store",)),
        Unit("store", after=("outbox",)),
        Unit("outbox", wants=("relay",)),
        Unit("relay", requires=("store",)),
    )
    with pytest.raises(UnitError, match=r"store -> outbox -> relay -> store$"):
        units.check()
    with pytest.raises(UnitError, match=r"store -> store$"):
        made(Unit("store", after=("store",))).check()


def test_a_chain_may_be_longer_than_the_stack_of_the_interpreter() -> None:
    names = [str(number) for number in range(3000)]
    several = [Unit(name, requires=(before,)) for before, name in pairwise(names)]
    assert made(*several, Unit("0")).check() == tuple(names)


def test_two_of_one_name_are_an_error_at_once() -> None:
    units = made(Unit("store"))
    with pytest.raises(UnitError, match="there is a unit 'store' already"):
        units.add(Unit("store"))


def test_what_must_be_started_cannot_require_what_may_fail() -> None:
    units = made(Unit("store", optional=True), Unit("outbox", requires=("store",)))
    with pytest.raises(UnitError, match="outbox requires store, which is optional; let it want store"):
        units.check()
    made(Unit("store", optional=True), Unit("outbox", requires=("store",), optional=True)).check()
    made(Unit("store", optional=True), Unit("outbox", wants=("store",))).check()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"name": ""}, "has a name"),
        ({"name": "a", "requires": "bc"}, r"a: requires takes several names, so write \('bc',\)"),
        ({"name": "a", "start_limit": -1}, "a: start_limit is a number of seconds"),
        ({"name": "a", "stop_limit": float("nan")}, "a: stop_limit is a number of seconds"),
    ],
)
def test_fields_that_cannot_be_meant_are_refused(fields: dict[str, object], text: str) -> None:
    with pytest.raises(UnitError, match=text):
        Unit(**fields)  # type: ignore[arg-type] - wrong on purpose


def test_a_list_of_names_is_welcome_and_cannot_change_afterwards() -> None:
    names = ["store"]
    unit = Unit("outbox", requires=names)  # type: ignore[arg-type] - a list, as many would write it
    names.append("relay")
    assert unit.requires == ("store",)


def test_the_table_of_phases_is_whole_and_is_checked() -> None:
    assert set(UNIT_WAYS) == set(UnitPhase)
    reached = {UnitPhase.INACTIVE}
    for _ in UNIT_WAYS:
        reached |= {after for before in reached for after in UNIT_WAYS[before]}
    assert reached == set(UnitPhase)
    for phase in UnitPhase:
        for after in UnitPhase:
            member = Member(Unit("store"))
            member.phase = phase
            if after in UNIT_WAYS[phase]:
                member.enter(after)
                assert member.phase is after
            else:
                with pytest.raises(UnitError, match=f"no way from {phase.value} to {after.value}"):
                    member.enter(after)


def test_a_unit_stays_as_it_was_made() -> None:
    unit = Unit("0", requires=["1"])
    with pytest.raises(AttributeError, match="start_limit"):
        unit.start_limit = 1.0
    with pytest.raises(AttributeError):
        unit.more = 1  # type: ignore[attr-defined]
    assert (unit.requires, unit.start_limit) == (("1",), 30.0)
