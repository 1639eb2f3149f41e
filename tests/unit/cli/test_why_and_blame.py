"""`monsal why` and `monsal blame`: what they print of what a server tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cli_world import Invoke, Live

BLAME: dict[str, Any] = {
    "start": {
        "seconds": 2.0,
        "steps": [
            {"name": "store", "kind": "unit", "channel": "start", "seconds": 1.5, "at": 0.0, "cause": ""},
            {"name": "ingress", "kind": "unit", "channel": "start", "seconds": 0.5, "at": 1.5, "cause": "no\x1b port"},
            {"name": "other", "kind": "unit", "channel": "start", "seconds": 0.1, "at": 0.0, "cause": ""},
        ],
        "chain": ["store", "ingress"],
    },
    "stop": None,
}


@pytest.fixture
def app(home: Path) -> Path:
    (home / "monsal.toml").write_text("")
    return home


def test_nothing_to_wait_for(invoke: Invoke, live: Live) -> None:
    assert "waits for nothing: the server is ready" in invoke("why", "--dir", live.home).stdout


def test_reasons_with_their_stacks(invoke: Invoke, live: Live) -> None:
    live.reasons = ["Unit 'store' starts\n  File x, line 1\x1b[31m", "ingress waits for store"]
    said = invoke("why", "--dir", live.home).stdout
    assert said == "Unit 'store' starts\n      File x, line 1\\x1b[31m\ningress waits for store\n"
    assert json.loads(invoke("why", "--json", "--dir", live.home).stdout)["waiting"] == live.reasons


def test_bars_show_what_followed_what(invoke: Invoke, live: Live) -> None:
    live.blame = BLAME
    head, store, ingress, other = invoke("blame", "--dir", live.home).stdout.splitlines()
    assert head == "start: 2.000 s"
    assert store.startswith("* store")
    assert ingress.startswith("* ingress")
    assert ingress.index("#") > store.rindex("#") - 2
    assert ingress.endswith("no\\x1b port")
    assert other.startswith("  other")
    assert other.index("#") == store.index("#")


def test_after_the_end_the_last_stop_is_told(invoke: Invoke, app: Path) -> None:
    (app / "run").mkdir(exist_ok=True)
    (app / "run" / "last-stop.json").write_bytes(msgspec.json.encode({"blame": {**BLAME, "stop": BLAME["start"]}}))
    said = invoke("blame", "--dir", app).stdout
    assert "start: 2.000 s" in said
    assert "stop: 2.000 s" in said


@pytest.mark.parametrize("command", ["why", "blame", "reload", "restart"])
def test_without_a_server(invoke: Invoke, app: Path, command: str) -> None:
    result = invoke(command, "--dir", app)
    assert result.exit_code == 75
    assert "no server is running" in result.stderr
