"""What follows from a failure."""

from __future__ import annotations

import pytest

from monsal.conversation.policy import after_failure, final_ack, is_transient, suppression
from monsal.errors import DeadlineExceeded, Reject, ResultError, Retry


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (Retry(), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (DeadlineExceeded("late"), True),
        (Reject(451, "later"), True),
        (Reject(550, "never"), False),
        (ValueError(), False),
        (ResultError(), False),
        (OSError(), False),
    ],
)
def test_which_errors_pass(error: BaseException, transient: bool) -> None:
    assert is_transient(error) is transient


def test_the_schedule_is_one_second_to_ten_minutes_and_then_the_end() -> None:
    waits = [after_failure("m:F", TimeoutError(), attempts=n, detail="").wait for n in range(6)]
    assert waits == [1.0, 5.0, 30.0, 120.0, 600.0, None]
    assert "given up after 6 tries" in after_failure("m:F", TimeoutError("x"), attempts=5, detail="").reason


def test_a_handler_may_choose_its_wait_but_not_the_number_of_tries() -> None:
    assert after_failure("m:F", Retry(after=77), attempts=0, detail="").wait == 77
    assert after_failure("m:F", Retry(after=77), attempts=5, detail="").wait is None


def failure(error: BaseException, attempts: int = 0):
    return after_failure("m:F", error, attempts=attempts, detail="trace")


@pytest.mark.parametrize(
    ("errors", "called", "hold", "kind"),
    [
        ([], 1, "dead", "done"),
        ([], 0, "dead", "dead"),
        ([ValueError("x")], 1, "dead", "dead"),
        ([ValueError("x")], 1, "hold", "hold"),
        ([TimeoutError()], 1, "hold", "defer"),
        # A passing failure of one handler keeps the message, whatever became of the others.
        ([ValueError("x"), TimeoutError()], 2, "dead", "defer"),
        ([Reject(550, "no")], 1, "hold", "drop"),
        ([Reject(550, "no"), ValueError("x")], 2, "dead", "dead"),
    ],
)
@pytest.mark.rule("routing.R20", "routing.B3", "routing.B4")
def test_what_becomes_of_the_message(errors: list[BaseException], called: int, hold: str, kind: str) -> None:
    ack = final_ack([failure(error) for error in errors], now=100.0, on_failure=hold, called=called)
    assert ack.kind == kind
    if kind == "dead" and not called:
        assert ack.reason == "no_handler_in_state"
    if kind == "defer":
        assert ack.due == 101.0


def test_reasons_have_one_line() -> None:
    assert "\n" not in failure(ValueError("first\nsecond")).reason
    assert failure(ValueError()).reason == "m:F: ValueError"


def test_loops_are_stopped() -> None:
    fine = {"automatic": None, "from_ourselves": False, "replies": 0, "limit": 10}
    assert suppression(**fine) is None
    assert "automatic" in (suppression(**{**fine, "automatic": "List-Id"}) or "")
    assert "own addresses" in (suppression(**{**fine, "from_ourselves": True}) or "")
    assert suppression(**{**fine, "replies": 9}) is None
    assert "10 mails" in (suppression(**{**fine, "replies": 10}) or "")
    assert suppression(**{**fine, "replies": 1000, "limit": None}) is None
