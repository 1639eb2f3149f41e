"""Contests of which one measurement gives the samples of all contestants.

    Contest("grows", together(("10", "10,000"), measure))     # measure(turn) -> {"10": sample, "10,000": sample}

What is compared by a few percent is measured so: in one process, each in turn every few milliseconds, because the clock
of a shared machine moves by more than that from one process to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bench.harness import Absent, Failed, Play, Played, Sample

__all__ = ["together"]


def together(names: Sequence[str], measure: Callable[[int], Mapping[str, Sample]]) -> Play:
    """A contest of these contestants; `measure` gets the number of the round. If it fails, none of them has figures."""

    def play(rounds: int, seed: int) -> Played:
        played = Played({name: [] for name in names})
        for turn in range(1, rounds + 1):
            try:
                found = measure(turn)
            except (Absent, Failed) as reason:
                words = f"failed: {reason}" if isinstance(reason, Failed) else str(reason)
                played.samples = {name: [] for name in names}
                played.notes = dict.fromkeys(names, words)
                break
            for name in names:
                played.samples[name].append(found[name])
        return played

    return play
