"""Kill -9 at any moment under load: nothing lost, nothing done twice, nothing out of order (P1 to P4)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evidence import DeskEvidence, HelpdeskEvidence
from proof import Trial, desk, helpdesk, put_to_the_proof, smtp_witness

pytestmark = pytest.mark.evidence


@pytest.mark.rule("routing.B1", "routing.B2", "routing.B3", "state.B5", "state.B10", "state.B11")
@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_is_done_twice(home: Path) -> None:
    # Given an application with states, replies and timers, and 300 correspondents who write to it
    application = desk(home)
    # When its server is killed at moments that a seed chooses, and comes back each time
    evidence = put_to_the_proof(application, Trial(kills=6, seed=20, messages=600), DeskEvidence)
    # Then what was acknowledged is there, handled once, in order, and answered once
    assert len(evidence.acknowledged) > 300, evidence.summary
    assert evidence.contradictions() == {}, json.dumps(evidence.summary)


@pytest.mark.timeout(600)
def test_the_example_stands_it_too(home: Path) -> None:
    # Given the help desk of the examples, with tables of its own and a second machine for its tickets
    application = helpdesk(home)
    # When its server is killed again and again
    evidence = put_to_the_proof(application, Trial(kills=6, seed=22, messages=600), HelpdeskEvidence)
    # Then each customer has one ticket with all that he wrote
    assert len(evidence.acknowledged) > 300, evidence.summary
    assert evidence.contradictions() == {}, json.dumps(evidence.summary)


@pytest.mark.timeout(600)
def test_what_leaves_twice_is_the_same_to_the_byte(home: Path) -> None:
    # Given the first application, whose replies go to a mail server that keeps each mail as often as it comes
    with smtp_witness() as witness:
        application = desk(home, relay=f"smtp://127.0.0.1:{witness.port}")
        # When its server is killed in the middle of sending, among other things
        evidence = put_to_the_proof(application, Trial(kills=3, seed=21), DeskEvidence, witness=witness)
    # Then all the same holds, and a mail that came twice came with the same bytes
    assert evidence.contradictions() == {}, json.dumps(evidence.summary)
