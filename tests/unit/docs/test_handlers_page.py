"""The example of docs/handlers.md works as it is written there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from monsal import App, literal
from monsal.testing import client

PAGE = Path(__file__).resolve().parents[3] / "docs" / "handlers.md"


def test_the_documented_approval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "approval_of_the_page.py").write_text(next(block for block in blocks if "BOSS" in block))
    monkeypatch.syspath_prepend(str(tmp_path))
    approval = importlib.import_module("approval_of_the_page")
    app = App(
        approval, captures={"host": literal("example.com")}, tables="create table request (who text, what text) strict"
    )
    with client(app) as mail:
        mail.deliver("A holiday.", to="approve@example.com", sender="ann@example.net")
        assert mail.state_of(approval.BOSS, approval) == "ASKED"
        mail.advance(days=2)
        assert mail.sent_to(approval.BOSS)[-1].subject == "Still waiting"
        mail.deliver("Yes.", to="approve@example.com", sender=approval.BOSS)
        assert mail.sent_to("ann@example.net")[-1].text.strip() == "Yes."
        assert mail.state_of(approval.BOSS, approval) == "START"
