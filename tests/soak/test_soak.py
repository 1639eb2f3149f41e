"""Long runs: the crash proof again and again with new seeds, until the time is over (`make soak SECONDS=600`)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from evidence import DeskEvidence, Evidence, HelpdeskEvidence
from proof import Trial, desk, helpdesk, put_to_the_proof, smtp_witness

SECONDS = float(os.environ.get("MONSAL_SOAK_SECONDS", "60"))
SEED = int(os.environ.get("MONSAL_SOAK_SEED", "1"))
_KINDS: tuple[tuple[Callable[[Path], Path], type[Evidence]], ...] = (
    (desk, DeskEvidence),
    (helpdesk, HelpdeskEvidence),
)


@pytest.mark.timeout(SECONDS * 2 + 600)
def test_twenty_kills_a_round(home: Path) -> None:
    """Each round has twenty kills; its seed is printed, so that a failure can be had again (MONSAL_SOAK_SEED)."""
    end = time.monotonic() + SECONDS
    seed = SEED
    while True:
        directory = home / f"round-{seed}"
        directory.mkdir()
        application, kind = _KINDS[seed % len(_KINDS)]
        evidence = put_to_the_proof(application(directory), Trial(kills=20, seed=seed), kind)
        print(f"seed {seed}, {application.__name__}: {json.dumps(evidence.summary)}")
        contradictions = evidence.contradictions()
        assert contradictions == {}, f"seed {seed}; kept in {keep(directory, seed)}"
        seed += 1
        if time.monotonic() > end:
            return


@pytest.mark.timeout(SECONDS + 1200)
def test_ten_thousand_mails_over_four_workers(home: Path) -> None:
    """Workers, the store process and the supervisor are killed in turn, by a seed, while 500 correspondents write."""
    trial = Trial(
        kills=20,
        workers=4,
        victims=("worker", "worker", "worker", "store", "server"),
        messages=10_000,
        correspondents=500,
        rate=0,
        seed=SEED,
    )
    evidence = put_to_the_proof(desk(home), trial, DeskEvidence)
    print(f"seed {SEED}, four workers: {json.dumps(evidence.summary)}")
    assert len(evidence.acknowledged) >= 10_000
    contradictions = evidence.contradictions()
    assert contradictions == {}, f"seed {SEED}; kept in {keep(home, SEED)}"


#: For one process, and for two workers beside those that they need: who is killed.
_AT_FULL_LOAD = ((0, ("server",)), (2, ("worker", "worker", "store", "server")))


@pytest.mark.timeout(SECONDS * 2 + 2400)
def test_kills_at_full_load(home: Path) -> None:
    """Given fifty sessions that are never idle and a mail server that takes the answers, so that mails wait for their
    turn and answers to leave at each kill, all claims hold; without workers and with two of them in turn."""
    end = time.monotonic() + SECONDS
    seed = SEED
    while seed < SEED + len(_AT_FULL_LOAD) or time.monotonic() < end:
        directory = home / f"round-{seed}"
        directory.mkdir()
        workers, victims = _AT_FULL_LOAD[seed % len(_AT_FULL_LOAD)]
        trial = Trial(
            kills=10,
            workers=workers,
            victims=victims,
            connections=50,
            correspondents=500,
            rate=0,
            seed=seed,
            patience=600,
        )
        with smtp_witness() as witness:
            application = desk(directory, relay=f"smtp://127.0.0.1:{witness.port}")
            evidence = put_to_the_proof(application, trial, DeskEvidence, witness=witness)
        print(
            f"seed {seed}, full load, {workers} workers: {len(evidence.captured)} left; {json.dumps(evidence.summary)}"
        )
        contradictions = evidence.contradictions()
        assert contradictions == {}, f"seed {seed}; kept in {keep(directory, seed)}"
        seed += 1


def keep(directory: Path, seed: int) -> Path:
    """Move what is left of a failed round to where it survives the test."""
    place = Path("run") / f"soak-{seed}-{os.getpid()}"
    place.parent.mkdir(exist_ok=True)
    return directory.rename(place) if directory.stat().st_dev == place.parent.stat().st_dev else directory
