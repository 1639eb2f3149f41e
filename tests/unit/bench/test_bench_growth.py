"""The suite of growth: its ratios, and that its probe fills and empties each kind of store."""

from __future__ import annotations

import json

import pytest
from bench.probes.growth import WHAT, main
from bench.suites.growth import KINDS, Kind, Measured, samples_of

KIND = Kind(name="no such kind", title="t", text="w", unit="things", sizes=(1, 10), base=1)


def test_each_round_is_compared_with_the_same_round_of_the_base() -> None:
    found = {"1": [{"accept": 10.0, "turn": 2.0}, {"accept": 20.0, "turn": 4.0}]}
    found["10"] = [{"accept": 15.0, "turn": 2.0}, {"accept": 20.0, "turn": 8.0}]
    assert samples_of(KIND, 10, found) == {
        "accept": [{"cpu_us": 15.0, "grown": 1.5}, {"cpu_us": 20.0, "grown": 1.0}],
        "turn": [{"cpu_us": 2.0, "grown": 1.0}, {"cpu_us": 8.0, "grown": 2.0}],
    }


def test_the_kinds_are_those_of_the_probe() -> None:
    assert {kind.name for kind in KINDS} == set(WHAT)
    assert all(kind.base in kind.sizes for kind in KINDS)


def test_a_probe_that_fails_leaves_no_figures_in_any_size() -> None:
    measured = Measured(KIND, 0.001)
    for size in KIND.sizes:
        assert all(note.startswith("failed: ") for note in measured.play(size)(1, 1).notes.values())


@pytest.mark.parametrize("what", WHAT)
def test_each_kind_is_filled_and_measured(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Very short; what it finds is looked at by nobody, only that it finds it."""
    main([what, "0.001", "1", "1", "300"])
    (kind,) = (kind for kind in KINDS if kind.name == what)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found) == {"1", "300"}
    for rounds in found.values():
        assert set(kind.lines) <= set(rounds[0])
        assert all(value > 0 for value in rounds[0].values())
