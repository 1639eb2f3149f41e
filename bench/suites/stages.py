"""Where the microseconds of one mail go: the CPU time of the product by stages that add up to all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from bench.document import Column, Picture
from bench.harness import Contest, Failed, Played, Sample, Suite, Table
from bench.processes import probe_module
from bench.sampling import TOTAL
from bench.stages import ACCEPT, TURN

__all__ = ["SUITE", "by_stage"]

_SESSIONS = 10
_US = Column(key="us", heading="CPU us a mail", digits=1)
_SHARE = Column(key="share", heading="% of all", digits=1)


def by_stage(stages: Sequence[str], seconds: Mapping[str, float], mails: int) -> dict[str, Sample]:
    """Microseconds of a mail and the share for each stage and for all of it; what has no stage here is in the last."""
    *_, rest = stages
    used = {stage: seconds.get(stage, 0.0) for stage in stages}
    used[rest] += sum(value for stage, value in seconds.items() if stage not in used and stage != TOTAL)
    used[TOTAL] = total = sum(used.values())
    return {stage: {"us": 1e6 * value / mails, "share": 100 * value / total} for stage, value in used.items()}


def _play(kind: str, stages: Sequence[str], time: float, rounds: int, seed: int) -> Played:
    """All stages are measured together, and all rounds are one sample: medians of lines would not add up."""
    seconds: Counter[str] = Counter()
    mails = 0
    for _ in range(rounds):
        try:
            found = probe_module("stages", kind, _SESSIONS, time)
        except Failed as reason:
            return Played({TOTAL: []}, {TOTAL: f"failed: {reason}"})
        seconds.update(found["seconds"])
        mails += found["mails"]
    return Played({stage: [sample] for stage, sample in by_stage(stages, seconds, mails).items()})


def _tables(seconds: float, peers: bool) -> Sequence[Table]:
    kinds = {"accept": ("a mail that is taken", ACCEPT), "turn": ("a mail that is answered", TURN)}
    return [
        Table(
            name="stages",
            title=SUITE.title,
            text=f"CPU of the server in one process, over {_SESSIONS} kept connections with mails of 1 kB of 500 "
            "correspondents; the load and the sink are\nother processes. The loop's thread is interrupted some hundred "
            "times a second of its CPU time, and what it used since the\nlast time belongs to the code that it was in; "
            "other threads are counted by the kernel. So the lines add up;\nthey are of all rounds together. The mail "
            "that is answered is logged as `monsal run` does it.",
            contestant="stage",
            columns=(_US, _SHARE),
            contests=[Contest(title, partial(_play, kind, stages, seconds)) for kind, (title, stages) in kinds.items()],
            pictures=[Picture(column="us", ours=TOTAL)],
        )
    ]


SUITE = Suite(
    title="Where the microseconds of one mail go",
    about="the CPU time of a mail by its stages: protocol, spool, store, flush, turn, relay",
    seconds=6.0,
    rounds=3,
    tables=_tables,
)
