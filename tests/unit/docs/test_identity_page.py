"""The examples of docs/identity.md work as they are written there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from monsal import App, literal
from monsal.config import Settings
from monsal.testing import client

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "identity.md").read_text(encoding="utf-8")


def test_the_documented_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    asking, addresses = blocks
    head = "from monsal import reply, requires_authenticated, route\n"
    (tmp_path / "asking_of_the_page.py").write_text(head + asking)
    (tmp_path / "addresses_of_the_page.py").write_text(addresses)
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = [importlib.import_module(f"{name}_of_the_page") for name in ("asking", "addresses")]

    with client(App(*modules, captures={"host": literal("example.com")}), directory=tmp_path) as mail:
        mail.deliver("all of it", to="transfer@example.com", sender="ann@example.net")
        question = mail.sent[-1]
        mail.deliver("yes", to=question.message["reply-to"], sender="ann@example.net")
        assert mail.sent[-1].text.strip() == "Done."
        mail.deliver("pears", to="orders@example.com", sender="ann@example.net")
        mail.deliver("plums", to=mail.sent[-1].message["from"], sender="ann@example.net")
        assert mail.sent[-1].text.strip() == "Order 7 is changed."


def test_the_settings_have_the_values_that_the_page_names() -> None:
    settings = Settings()
    assert (settings.authserv_hops, settings.check_auth, settings.check_auth_within) == (1, False, 20)
    assert (settings.confirm_within, settings.max_unconfirmed) == (3 * 86400, 5)
