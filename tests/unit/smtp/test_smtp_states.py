"""The table of states is complete, and a hole in it would be found."""

from __future__ import annotations

import pytest

from monsal.smtp import states
from monsal.smtp.replies import OK
from monsal.smtp.states import TRANSITIONS, Input, SessionState, session_table_defects


def test_the_table_is_complete() -> None:
    assert session_table_defects() == []


@pytest.mark.parametrize(
    ("state", "given", "entry", "defect"),
    [
        (SessionState.READY, Input.MAIL, None, "READY lacks MAIL"),
        (SessionState.CONTENT, Input.MAIL, SessionState.READY, "CONTENT cannot get MAIL"),
        (SessionState.MAIL, Input.DATA, OK, "MAIL refuses with 250 2.0.0 OK"),
        (SessionState.RCPT, Input.DATA, SessionState.RCPT, "CONTENT is never reached"),
        (SessionState.RCPT, Input.CLOSE, SessionState.READY, "RCPT does not close"),
    ],
)
def test_a_hole_would_be_found(
    monkeypatch: pytest.MonkeyPatch, state: SessionState, given: Input, entry: object, defect: str
) -> None:
    broken = {name: dict(row) for name, row in TRANSITIONS.items()}
    if entry is None:
        del broken[state][given]
    else:
        broken[state][given] = entry  # type: ignore[assignment]  # wrong on purpose
    monkeypatch.setattr(states, "TRANSITIONS", broken)

    assert defect in session_table_defects()
