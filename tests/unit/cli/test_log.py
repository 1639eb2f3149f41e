"""`monsal log`: what happened, from the store's tables, beside a running server and without one."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from cli_world import ANN, BOB, EVE, Invoke, make_store, message

from monsal.cli.log import _events
from monsal.cli.output import print_json
from monsal.cli.reach import store_file
from monsal.store import open as open_store
from monsal.store.contract import Settled
from monsal.store.engine.chronicle import Asked, Event, Marks
from monsal.store.inspect import Inspector

PATIENCE = 30.0


def events(invoke: Invoke, home: Path, *more: str) -> list[dict[str, Any]]:
    result = invoke("log", "--json", "--dir", home, *more)
    assert result.exit_code == 0
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_everything_that_happened_is_told_in_its_order(stocked: Path, invoke: Invoke) -> None:
    told = [(event["action"], event["conversation"]) for event in events(invoke, stocked)]
    assert told == [
        ("stored", ANN),
        ("stored", BOB),
        ("stored", EVE),
        ("turn_failed", BOB),
        ("turn_failed", EVE),
        ("turn", ANN),
        ("mail", ANN),
    ]


def test_the_names_of_the_servers_own_log_lines_come_first(stocked: Path, invoke: Invoke) -> None:
    for event in events(invoke, stocked):
        assert list(event)[:6] == ["time", "level", "action", "message_id", "conversation", "message"]
        assert event["level"] == ("error" if event["action"] == "turn_failed" else "info")
        assert event["message_id"] not in event["message"]


def test_people_read_a_line_for_each_and_the_traceback(stocked: Path, invoke: Invoke) -> None:
    text = invoke("log", "--dir", stocked).stdout
    assert "stored: mail of ann@example.net for desk@example.com  <ann@x>" in text
    assert "orders:START: START -> ASKED" in text
    assert "mail to ann@example.net: deferred until 2096-10-02T07:06:40.000Z (451 later)  <out@x>" in text
    assert r"dead letter: orders:START: ValueError: no\x1b[31m price" in text
    assert "\n    Traceback (most recent call last):\n" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("said", ["<ann@x>", "ann@x", "<out@x>", "1"])
def test_one_message_by_any_of_its_names(stocked: Path, invoke: Invoke, said: str) -> None:
    found = events(invoke, stocked, "--message", said)
    assert [(event["action"], event["row"]) for event in found] == [("stored", 1), ("turn", 1), ("mail", 1)]


@pytest.mark.parametrize("said", ["<nobody@x>", "99", "9" * 30])
def test_a_message_that_is_none(stocked: Path, invoke: Invoke, said: str) -> None:
    result = invoke("log", "--message", said, "--dir", stocked)
    assert result.exit_code == 1
    assert f"no stored message is {said}" in result.stderr


@pytest.mark.parametrize(("key", "rows"), [(ANN, {1}), ("Bob@Example.net", {2}), ("orders", {1}), ("orders:no", set())])
def test_one_conversation_by_its_correspondent_or_its_machine(
    stocked: Path, invoke: Invoke, key: str, rows: set[int]
) -> None:
    assert {event["row"] for event in events(invoke, stocked, "--conversation", key)} == rows


def test_what_is_older_is_left_out(stocked: Path, invoke: Invoke) -> None:
    assert {event["action"] for event in events(invoke, stocked, "--since", "2023-11-14T22:13:21")} == {
        "turn_failed",
        "turn",
        "mail",
    }
    assert events(invoke, stocked, "--since", "1h") == []
    assert invoke("log", "--since", "1h", "--dir", stocked).stdout == "nothing of that is in the store\n"


def test_the_newest_are_kept_when_there_are_too_many(stocked: Path, invoke: Invoke) -> None:
    assert events(invoke, stocked, "--limit", "3") == events(invoke, stocked)[-3:]


def test_a_time_that_is_none(home: Path, invoke: Invoke) -> None:
    result = invoke("log", "--since", "yesterday", "--dir", home)
    assert result.exit_code == 64
    assert "'yesterday' is neither a span" in result.stderr


def test_a_store_that_was_never_opened_and_a_directory_that_is_none(home: Path, tmp_path: Path, invoke: Invoke) -> None:
    (home / "monsal.toml").touch()
    assert invoke("log", "--dir", home).stdout == "nothing is in the store of what happened\n"
    assert invoke("log", "--message", "1", "--dir", home).exit_code == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    assert invoke("log", "--dir", empty).exit_code == 64


def test_who_reads_on_gets_only_what_is_new(home: Path) -> None:
    marks, asked = Marks(), Asked()

    def look() -> list[Event]:
        with Inspector(home / "run" / "monsal.db") as store:
            return store.events(asked, marks)

    async def more() -> None:
        store = open_store("sqlite:///run/monsal.db", base=home)
        await store.open()
        await store.accept(message("dora"))
        [mail] = await store.take_outgoing(10, 5_000_000_000.0)
        await store.settle([Settled(id=mail.id, status="sent")])
        await store.close()

    asyncio.run(make_store(home))
    assert len(look()) == 7
    assert look() == []
    asyncio.run(more())
    assert [(event.action, event.status) for event in look()] == [("stored", "waiting"), ("mail", "sent")]
    assert look() == []


def test_it_follows_what_happens_until_it_is_interrupted(home: Path) -> None:
    (home / "monsal.toml").touch()
    command = [sys.executable, "-m", "monsal.cli", "log", "--follow", "--json", "--dir", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as following:
        assert following.stdout is not None
        # It began before there was a store.
        asyncio.run(make_store(home))
        first = json.loads(following.stdout.readline())
        following.send_signal(signal.SIGINT)
        following.stdout.read()
    assert first["action"] == "stored"
    assert following.returncode == 130


def test_who_follows_is_told_what_happens_in_a_store_that_took_the_place(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backup that was put back counts its rows from where it was: what is new in it would be taken for read."""
    monkeypatch.setattr("monsal.cli.log._LOOK_AGAIN", 0.01)
    asyncio.run(make_store(home))
    path = store_file(home)
    other = tmp_path / "other"
    shutil.copytree(home, other)
    told: list[Event] = []
    before, after = threading.Event(), threading.Event()

    def follow() -> None:
        for event in _events(path, Asked(), follow=True):
            told.append(event)
            if len(told) == 7:
                before.set()
            if len(told) == 14:
                after.set()
                return

    threading.Thread(target=follow, daemon=True).start()
    assert before.wait(PATIENCE)
    store_file(other).rename(path)
    assert after.wait(PATIENCE), f"told {len(told)} events"
    assert told[:7] == told[7:]
    assert "another store" in capsys.readouterr().err


def test_what_steers_a_terminal_is_an_escape_in_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    said = {"reason": "a\x9b31m \x7f \u202e \u2028 \u2066 \U000e0041 \x1b \ud800é"}
    print_json(said)
    print_json({"reason": said["reason"].replace("\ud800", "")})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert "é" in lines[1]
    assert json.loads(lines[0]) == said


def test_a_replay_leaves_the_traceback_that_made_it_necessary(stocked: Path, invoke: Invoke) -> None:
    before = invoke("log", "--message", "2", "--dir", stocked).stdout
    assert "no price" in before
    assert invoke("dead", "replay", "2", "--dir", stocked).exit_code == 0
    stored, *failed = invoke("log", "--message", "2", "--dir", stocked).stdout.splitlines()
    assert "; it waits" in stored
    assert failed == before.splitlines()[1:]
