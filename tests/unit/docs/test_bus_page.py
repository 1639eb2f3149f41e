"""docs/bus.md: its pictures are drawn from the tables, its priorities are true, its examples run as they are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from page_examples import DOCS, examples, run_example

from monsal import bus
from monsal.bus import ASKED, UNIT_WAYS, WAYS, Phase, State, UnitPhase

TEXT = (DOCS / "bus.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("code", "output"), list(examples(TEXT)))
def test_each_example_runs_as_it_is_written_there(code: str, output: str | None, tmp_path: Path) -> None:
    run_example(code, output, tmp_path)


def picture_of_states() -> str:
    """One column for each state, one line for each way from one to another, and who goes it."""
    states, wide = list(State), 12
    lines = ["".join(state.name.ljust(wide) for state in states).rstrip()]
    ways = {(phase.state, after.state) for phase, found in WAYS.items() for after in found}
    for origin, target in sorted(ways, key=lambda way: [states.index(state) for state in way]):
        if origin is target:
            continue
        begin, end = (states.index(state) * wide for state in (origin, target))
        low, high = min(begin, end), max(begin, end)
        shaft = "-" * (high - low - 2)
        line = f"o{shaft}>" if begin < end else f" <{shaft}o"
        asked = [
            f"{action}()"
            for action in ("start", "stop", "exit")
            if any(
                isinstance(ASKED[phase][action], Phase)
                and phase.state is origin
                and ASKED[phase][action].state is target
                for phase in Phase
            )
        ]
        lines.append(f"{' ' * (low + 2)}{line}".ljust(len(states) * wide) + (", ".join(asked) or "by itself"))
    return "\n".join(lines)


def table_of_phases() -> str:
    lines = []
    for state in State:
        name = state.name
        for phase in Phase:
            if phase.state is state:
                after = ", ".join(one.value for one in Phase if one in WAYS[phase]) or "(the end)"
                lines.append(f"{name:<12}{phase.value:<14}-> {after}")
                name = ""
    return "\n".join(lines)


def table_of_units() -> str:
    return "\n".join(
        f"{phase.value:<10}-> {', '.join(one.value for one in UnitPhase if one in UNIT_WAYS[phase])}"
        for phase in UnitPhase
    )


@pytest.mark.rule("bus.B1")
@pytest.mark.parametrize("draw", [picture_of_states, table_of_phases, table_of_units])
def test_the_pictures_are_drawn_from_the_tables(draw: object) -> None:
    drawn = draw()  # type: ignore[operator] - one of the three above
    assert f"```text\n{drawn}\n```" in TEXT, f"the table has changed; put this into docs/bus.md:\n\n{drawn}"


@pytest.mark.rule("bus.B19")
def test_the_priorities_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\d+) \|", TEXT, re.MULTILINE)
    assert rows
    for plugin, channel, priority in rows:
        assert getattr(getattr(getattr(bus, plugin), channel), "priority", 50) == int(priority), plugin


def test_each_plugin_and_the_whole_bus_are_there() -> None:
    inner = {"find_gid", "find_uid", "find_umask"}
    for name in set(bus.plugins.__all__) - inner:
        assert f"`{name}" in TEXT or f" {name}" in TEXT, f"docs/bus.md does not tell of {name}"
