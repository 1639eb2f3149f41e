"""The suite of actors: who takes part, and that our own probes do what they say."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from bench.probes import actors_monsal, actors_pipe
from bench.processes import ROOT, our_environment
from bench.suites.actors import CONTESTANTS, OURS, PIPE, SUITE


def test_each_peer_has_its_pins() -> None:
    for contestant in CONTESTANTS.values():
        assert (ROOT / "bench" / "probes" / f"{contestant.module}.py").is_file()
        if contestant.peer is not None:
            assert (ROOT / "requirements" / "peers" / f"{contestant.peer}.txt").is_file()


def test_goals_are_for_what_is_measured() -> None:
    for table in SUITE.tables(1.0, True):
        titles = {contest.title for contest in table.contests}
        names = {column.key for column in table.columns} | {ratio.heading for ratio in table.ratios}
        for goal in table.goals:
            assert goal.contest in titles
            assert goal.of in names
    alone = SUITE.tables(1.0, False)[0]
    assert [goal.contestant for goal in alone.goals] == [OURS, OURS]


@pytest.mark.parametrize(
    ("module", "arguments", "figures"),
    [
        (actors_pipe, ["1", "0.05"], {"rate", "cpu_us"}),
        (actors_pipe, ["64", "0.05"], {"rate", "cpu_us"}),
        (actors_monsal, ["ask", "direct", "64", "0.05"], {"rate", "cpu_us"}),
        (actors_monsal, ["ask", "arbiter", "1", "0.05"], {"rate", "cpu_us", "arbiter_us"}),
        (actors_monsal, ["deaths", "spare", "1"], {"answer_ms"}),
        (actors_monsal, ["memory", "0"], {"pss_mb", "wakes"}),
    ],
)
def test_a_probe_measures(module: object, arguments: list[str], figures: set[str]) -> None:
    ours = our_environment()
    name = module.__name__  # type: ignore[attr-defined] # it is a module
    done = subprocess.run(
        [sys.executable, "-m", name, *arguments],
        env={**ours, "PYTHONPATH": f"{ROOT}:{ours['PYTHONPATH']}"},
        capture_output=True,
        text=True,
        timeout=100.0,
        check=True,
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert figures <= set(found)
    assert PIPE in CONTESTANTS
