"""docs/actors.md on supervision, causes and states: its tables are drawn from the code, its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from page_examples import DOCS, examples, run_example

from monsal.actors import ACTOR_WAYS, ActorSpec, ActorState, Backoff, Exit, ExitKind, GroupSpec, Policy

TEXT = (DOCS / "actors.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    """What stands below a heading."""
    found = re.search(rf"^## {name}$\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert found, f"docs/actors.md has no section {name}"
    return found[1]


@pytest.mark.parametrize(("code", "output"), list(examples(section("Supervision"))))
def test_each_example_runs_as_it_is_written_there(code: str, output: str | None, tmp_path: Path) -> None:
    run_example(code, output, tmp_path)


@pytest.mark.rule("mailbox.R21")
def test_the_states_are_drawn_from_the_table() -> None:
    lines = []
    for state in ActorState:
        after = ", ".join(one.text for one in ActorState if one in ACTOR_WAYS[state])
        lines.append(f"{state.text:<12}-> {after or '(the end)'}")
    drawn = "\n".join(lines)
    assert f"```text\n{drawn}\n```" in section("States"), f"put this into docs/actors.md:\n\n{drawn}"


@pytest.mark.rule("mailbox.B9")
def test_each_kind_of_an_end_is_told_in_the_words_of_the_code() -> None:
    drawn = "\n".join(f"| `{kind}` | {Exit(kind=kind)} |" for kind in ExitKind)
    assert f"|---|---|\n{drawn}\n\n" in section("Causes"), f"put this into docs/actors.md:\n\n{drawn}"


@pytest.mark.rule("mailbox.B10")
def test_the_numbers_are_those_of_the_code() -> None:
    text = section("Supervision")
    spec = ActorSpec(name="a", actor="m:A")
    backoff = Backoff()
    for said in (
        f"the default is {Policy().intensity} in {Policy().period:g} seconds",
        f"that of a `GroupSpec` is {GroupSpec(member=spec).intensity}",
        f"`first` seconds ({backoff.first:g})",
        f"times as long ({backoff.factor:g})",
        f"to `limit` ({backoff.limit:g})",
        f"`reset_after` seconds ({backoff.reset_after:g})",
        f"`shutdown` seconds ({spec.shutdown:g};",
    ):
        assert said in text, said
