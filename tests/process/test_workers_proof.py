"""The proof that nothing is lost, over processes: workers, store and supervisor are killed (P1 to P4, P6)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evidence import DeskEvidence
from proof import Trial, desk, put_to_the_proof

pytestmark = pytest.mark.evidence

#: Workers most of all; each is somebody else's to replace.
VICTIMS = ("worker", "worker", "worker", "store", "server")


@pytest.mark.rule("mailbox.B2", "mailbox.B12", "state.B11")
@pytest.mark.timeout(600)
def test_nothing_is_lost_whoever_is_killed(home: Path) -> None:
    # Given an application with states, replies and timers, served by three workers
    application = desk(home)
    # When workers, the store process and the supervisor are killed at moments that a seed chooses
    trial = Trial(kills=5, seed=31, workers=3, victims=VICTIMS, correspondents=500, rate=400, messages=600)
    evidence = put_to_the_proof(application, trial, DeskEvidence)
    # Then what was acknowledged is there, handled once, in order, and answered once
    assert len(evidence.acknowledged) > 300, evidence.summary
    assert evidence.contradictions() == {}, json.dumps(evidence.summary)
