"""Real bounces, as other programs collected them: recognised, and with the right recipients (docs/bounces.md)."""

from __future__ import annotations

import pytest
from tools.bounces import main


def test_at_least_95_of_100_are_recognised_and_none_raises(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--misses"])
    assert code == 0, capsys.readouterr().out
