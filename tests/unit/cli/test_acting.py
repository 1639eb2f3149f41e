"""Commands that act: through the server if one runs, else on the store; never on a store that another one holds."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from cli_world import ANN, BOB, EVE, Invoke, Live, make_store

from monsal.store import open as open_store


def ids(invoke: Invoke, command: str, home: Path) -> list[int]:
    shown = invoke(command, "list", "--json", "--dir", home).stdout
    return [json.loads(line)["id"] for line in shown.splitlines()]


@pytest.mark.parametrize(("action", "remains"), [("replay", "waiting"), ("drop", None)])
def test_a_dead_letter_is_replayed_or_dropped(stocked: Path, invoke: Invoke, action: str, remains: str | None) -> None:
    [row] = ids(invoke, "dead", stocked)
    result = invoke("dead", action, row, "--dir", stocked)
    assert result.exit_code == 0, result.stderr
    assert str(row) in result.stdout
    assert ids(invoke, "dead", stocked) == []
    assert (row in ids_of_queue(invoke, stocked)) is (remains is not None)
    again = invoke("dead", action, row, "--dir", stocked)
    assert again.exit_code == 1
    assert f"no dead letter with the id {row}" in again.stderr


def ids_of_queue(invoke: Invoke, home: Path) -> list[int]:
    return [json.loads(line)["id"] for line in invoke("queue", "--json", "--dir", home).stdout.splitlines()]


def test_several_at_once_are_each_told(stocked: Path, invoke: Invoke) -> None:
    [row] = ids(invoke, "dead", stocked)
    result = invoke("dead", "replay", row, 999, "--dir", stocked)
    assert result.exit_code == 1
    assert f"{row} waits" in result.stdout
    assert "999" in result.stderr


def test_outgoing_mail_is_tried_again_or_cancelled(stocked: Path, invoke: Invoke) -> None:
    [row] = ids(invoke, "outbox", stocked)
    assert invoke("outbox", "retry", row, "--dir", stocked).exit_code == 0
    assert invoke("outbox", "cancel", row, "--dir", stocked).exit_code == 0
    shown = [json.loads(line) for line in invoke("outbox", "--json", "--dir", stocked).stdout.splitlines()]
    assert [each["state"] for each in shown] == ["failed"]
    assert invoke("outbox", "cancel", row, "--dir", stocked).exit_code == 1


def test_addresses_are_suppressed_and_written_to_again(stocked: Path, invoke: Invoke) -> None:
    assert invoke("suppressed", "--dir", stocked).stdout == "every address is written to\n"
    added = invoke("suppressed", "add", "Ann@x.example", "--days", "3", "--reason", "asked", "--dir", stocked)
    assert (added.exit_code, added.stdout) == (0, "Ann@x.example is not written to any more\n")
    assert invoke("suppressed", "add", "bob@x.example", "--dir", stocked).exit_code == 0
    shown = [json.loads(line) for line in invoke("suppressed", "--json", "--dir", stocked).stdout.splitlines()]
    assert [(row["address"], row["reason"], row["until"] is None) for row in shown] == [
        ("ann@x.example", "asked", False),
        ("bob@x.example", "by an operator", True),
    ]
    assert invoke("suppressed", "remove", "ANN@x.example", "--dir", stocked).exit_code == 0
    again = invoke("suppressed", "remove", "ann@x.example", "--dir", stocked)
    assert again.exit_code == 1
    assert "not on the list" in again.stderr
    assert invoke("suppressed", "add", "nobody", "--dir", stocked).exit_code == 64


def test_a_held_conversation_goes_on(stocked: Path, invoke: Invoke) -> None:
    result = invoke("release", EVE.upper(), "--dir", stocked)
    assert result.exit_code == 0
    assert result.stdout == "1 message goes on\n"
    again = invoke("release", EVE, "--dir", stocked)
    assert again.exit_code == 1
    assert "nothing is held for" in again.stderr


def test_a_state_is_set_and_renamed(stocked: Path, invoke: Invoke) -> None:
    assert invoke("states", "set", "orders", ANN.upper(), "PAID", "--force", "--dir", stocked).exit_code == 0
    renamed = invoke("states", "rename", "orders", "PAID", "SETTLED", "--force", "--dir", stocked)
    assert renamed.stdout == "1 conversation is now in SETTLED\n"
    [row] = invoke("states", "--json", "--dir", stocked).stdout.splitlines()
    assert json.loads(row)["state"] == "SETTLED"
    assert invoke("states", "rename", "orders", "PAID", "X", "--force", "--dir", stocked).exit_code == 1


def test_a_store_that_another_process_holds_is_left_alone(home: Path, invoke: Invoke) -> None:
    asyncio.run(make_store(home))

    async def hold() -> None:
        store = open_store("sqlite:///run/monsal.db", base=home)
        await store.open()
        for arguments in (["dead", "replay", "1"], ["release", EVE], ["outbox", "retry", "1"]):
            result = await asyncio.to_thread(invoke, *arguments, "--dir", home)
            assert result.exit_code == 75
            assert "is in use by process" in result.stderr
        await store.close()

    asyncio.run(hold())


def test_there_is_nothing_to_act_on_and_nothing_is_made(home: Path, invoke: Invoke) -> None:
    (home / "monsal.toml").touch()
    result = invoke("dead", "drop", "1", "--dir", home)
    assert result.exit_code == 1
    assert "no store" in result.stderr
    assert not (home / "run").exists()


def test_stopping_when_nothing_runs(home: Path, invoke: Invoke) -> None:
    (home / "app.py").touch()
    result = invoke("stop", "--dir", home)
    assert result.exit_code == 75
    assert f"monsal run --dir {home}" in result.stderr


def test_a_server_that_does_not_end_is_told_with_1(live: Live, invoke: Invoke) -> None:
    result = invoke("stop", "--now", "--timeout", "0.05", "--dir", live.home)
    assert result.exit_code == 1
    assert "still runs after 0.05 seconds" in result.stderr
    assert live.stops == [True]


def test_a_server_that_ended_is_gone(live: Live, invoke: Invoke) -> None:
    # A number that no process has: the pid of the server, ended before anybody looked.
    live.status = {"pid": 2**22 + 1}
    assert invoke("stop", "--timeout", "1", "--dir", live.home).exit_code == 0
    assert live.stops == [False]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["reload"],
        ["dead", "show"],
        ["dead", "replay"],
        ["dead", "replay", "first"],
        ["queue", "--limit", "0"],
        ["queue", "--dir", "/nowhere/at/all"],
        ["queue", "--colour"],
        ["states", "set", "orders"],
        ["send", "--from", ANN],
        ["routes", "--test", "x@y", "--check"],
    ],
)
def test_a_wrong_use_ends_with_64(home: Path, invoke: Invoke, arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 64
    assert result.stderr


@pytest.mark.rule("state.B8")
def test_a_correspondent_is_erased_after_a_look(stocked: Path, invoke: Invoke) -> None:
    look = invoke("erase", BOB.upper(), "--dir", stocked)
    assert look.exit_code == 0
    assert "1 message (1 not handled), 0 turns" in look.stdout
    assert f"monsal erase BOB@EXAMPLE.NET --yes --dir {stocked}" in look.stdout
    assert invoke("erase", BOB, "--dry-run", "--yes", "--dir", stocked).exit_code == 0
    assert len(invoke("dead", "--json", "--dir", stocked).stdout.splitlines()) == 1
    before = json.loads(invoke("status", "--json", "--dir", stocked).stdout)["ledger"]
    done = json.loads(invoke("erase", BOB, "--yes", "--json", "--dir", stocked).stdout)
    assert (done["erased"], done["messages"], done["running"]) == (True, 1, 0)
    assert any("backups" in line for line in done["stays"])
    assert invoke("dead", "--json", "--dir", stocked).stdout == ""
    after = json.loads(invoke("status", "--json", "--dir", stocked).stdout)["ledger"]
    assert after == {**before, "dead": before["dead"] - 1, "dropped": before["dropped"] + 1}
    ann = json.loads(invoke("erase", ANN, "--yes", "--json", "--dir", stocked).stdout)
    assert (ann["messages"], ann["turns"], ann["mails"], ann["unsent"], ann["states"]) == (1, 1, 1, 1, 1)
    nothing = invoke("erase", ANN, "--dir", stocked)
    assert (nothing.exit_code, nothing.stdout) == (1, f"nothing is stored of {ANN}\n")


@pytest.mark.rule("state.B8")
def test_a_backup_is_made_beside_a_server_or_without_one(stocked: Path, invoke: Invoke, tmp_path: Path) -> None:
    made = invoke("store", "backup", tmp_path / "kept.tar", "--json", "--dir", stocked)
    assert made.exit_code == 0
    assert json.loads(made.stdout)["ledger"]["mail"]["accepted"] == 3
    again = invoke("store", "backup", tmp_path / "kept.tar", "--dir", stocked)
    assert again.exit_code == 73
    assert "exists" in again.stderr
    # docs/operating.md: unpacked into D/run of an application, it is its store.
    (tmp_path / "run").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "kept.tar", "-C", tmp_path / "run"], check=True)
    (tmp_path / "monsal.toml").touch()
    [row] = invoke("dead", "--json", "--dir", tmp_path).stdout.splitlines()
    assert json.loads(row)["sender"] == BOB
    assert invoke("dead", "replay", json.loads(row)["id"], "--dir", tmp_path).exit_code == 0
