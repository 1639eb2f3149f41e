"""The fixtures of the pytest plugin, as an application's tests have them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from monsal.testing.plugin import _home

APP = """
from monsal import App, literal
{name} = App("{module}", captures={{"host": literal("example.com")}})
"""
HANDLERS = """
from monsal import reply, route

@route("desk@(host)")
def START(message):
    reply("What would you like?")
    return CHOOSING

@route("desk@(host)")
def CHOOSING(message): ...
"""
TESTS = """
def test_a_play(conversation):
    conversation("ann@example.net").say("desk@example.com", "Hello").expect("like").expect_state("CHOOSING")

def test_each_test_begins_anew(mail, conversation):
    assert mail.sent == []
    bob = conversation("bob@example.net")
    assert bob.client is mail
    bob.say("desk@example.com", "Hello").expect("like")

def test_a_client_with_a_file(monsal_client, monsal_app):
    one, other = monsal_client(store="sqlite", seed=3), monsal_client()
    assert one.app is other.app is monsal_app
    one.conversation().say("desk@example.com", "Hello").expect("like")
    assert other.sent == []
"""


def run_tests(home: Path) -> str:
    """What pytest says, run as the author of an application would."""
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    return ended.stdout + ended.stderr


def test_the_fixtures_find_the_application_above_the_tests(tmp_path: Path) -> None:
    """docs/testing.md has one whose name is the usual one, and is tested there."""
    file, name = "shop", "application"
    (tmp_path / f"{file}.py").write_text(APP.format(name=name, module="shop_handlers"))
    (tmp_path / "shop_handlers.py").write_text(HANDLERS)
    (tmp_path / "tests").mkdir()
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["monsal.testing.plugin"]')
    (tmp_path / "tests" / "test_shop.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\naddopts = --strict-config\nmonsal_app = {file}:{name}\n")
    assert "3 passed" in run_tests(tmp_path)


def test_no_application_is_told(tmp_path: Path) -> None:
    with pytest.raises(pytest.UsageError, match=r"there is no nowhere_to_be\.py in any directory above"):
        _home(tmp_path / "test_it.py", "nowhere_to_be:found")
