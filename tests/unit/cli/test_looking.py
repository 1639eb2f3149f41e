"""Commands that look: the same words with and without a server, and lines that a program can read."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from cli_world import ANN, BOB, EVE, Invoke, Live

from monsal.cli.reach import control_client


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("command", "keys", "sender"),
    [
        ("queue", "id message_id sender recipient state attempts reason created due", EVE),
        ("dead", "id message_id sender recipient state attempts reason created due", BOB),
        ("outbox", "id message_id sender recipient state attempts reason created due", "b@x"),
        ("states", "key sender state version since", ANN),
    ],
)
def test_rows_as_json_have_the_promised_keys(
    stocked: Path, invoke: Invoke, command: str, keys: str, sender: str
) -> None:
    for arguments in ([command, "--json", "--dir", stocked], ["--dir", stocked, command, "--json"]):
        result = invoke(*arguments)
        assert result.exit_code == 0
        [row] = lines(result.stdout)
        assert set(row) >= set(keys.split())
        assert row["sender"] == sender


@pytest.mark.parametrize("command", ["dead", "outbox", "states"])
def test_list_may_be_said_or_left_out(stocked: Path, invoke: Invoke, command: str) -> None:
    plain = invoke(command, "--dir", stocked)
    said = invoke(command, "list", "--dir", stocked)
    before = invoke(command, "--dir", stocked, "list")
    assert plain.exit_code == said.exit_code == before.exit_code == 0
    assert plain.stdout == said.stdout == before.stdout


def test_tables_are_plain_and_whole_where_there_is_no_terminal(stocked: Path, invoke: Invoke) -> None:
    result = invoke("dead", "--dir", stocked)
    head, row = result.stdout.splitlines()
    assert head.split() == ["id", "sender", "recipient", "reason", "created", "message_id"]
    assert BOB in row
    assert "\x1b" not in result.stdout
    assert r"no\x1b[31m price" in row


def test_a_dead_letter_is_shown_with_its_traceback_and_its_message(stocked: Path, invoke: Invoke) -> None:
    [row] = lines(invoke("dead", "--json", "--dir", stocked).stdout)
    shown = invoke("dead", "show", row["id"], "--dir", stocked)
    assert shown.exit_code == 0
    assert "ValueError: no price" in shown.stdout
    assert "Subject: hi" in shown.stdout
    assert "\x1b" not in shown.stdout
    raw = invoke("dead", "show", row["id"], "--raw", "--dir", stocked)
    assert raw.stdout_bytes.endswith(b"Hello \x1b[31m\r\n")
    [detail] = lines(invoke("dead", "show", row["id"], "--json", "--dir", stocked).stdout)
    assert "ValueError: no price" in detail["detail"]
    assert detail["raw"].startswith("From: bob")


def test_a_dead_letter_that_is_none(stocked: Path, invoke: Invoke) -> None:
    result = invoke("dead", "show", "999", "--dir", stocked)
    assert result.exit_code == 1
    assert "no dead letter with the id 999" in result.stderr


def test_states_of_one_correspondent_or_one_machine(stocked: Path, invoke: Invoke) -> None:
    for who in (ANN, ANN.upper(), "orders"):
        [row] = lines(invoke("states", "show", who, "--json", "--dir", stocked).stdout)
        assert (row["key"], row["state"]) == ("orders", "ASKED")
    for who in (BOB, "order"):
        none = invoke("states", "show", who, "--json", "--dir", stocked)
        assert (none.exit_code, none.stdout) == (1, "")
        assert f"no stored conversation has this correspondent or key: {who}" in none.stderr


def test_status_of_a_ready_server(live: Live, invoke: Invoke) -> None:
    live.status = {"relay": {"delivered": 0, "reason": "connection refused", "hosts": {}}, "ingress": {}}
    result = invoke("status", "--json", "--dir", live.home)
    assert result.exit_code == 0
    [facts] = lines(result.stdout)
    assert facts["ready"] is True
    assert facts["generation"] == 1
    assert facts["ledger"] == {
        "accepted": 3, "done": 1, "waiting": 0, "running": 0, "held": 1, "dead": 1, "dropped": 0, "duplicates": 0,
    }  # fmt: skip
    assert facts["outbox"] == {"waiting": 0, "deferred": 1, "sending": 0, "sent": 0, "failed": 0}
    text = invoke("status", "--dir", live.home).stdout
    assert "3 accepted = 1 done + 0 waiting + 0 running + 1 held + 1 dead + 0 dropped; 0 duplicates" in text
    assert "reason connection refused" in text
    assert "monsal release" in text


def test_a_server_that_is_not_ready_yet_is_not_ready(live: Live, invoke: Invoke) -> None:
    live.status = {"ready": False}
    assert invoke("status", "--dir", live.home).exit_code == 1


def test_status_without_a_server(stocked: Path, invoke: Invoke) -> None:
    if (stocked / "run" / "control.sock").exists():
        return
    result = invoke("status", "--json", "--dir", stocked)
    assert result.exit_code == 1
    [facts] = lines(result.stdout)
    assert (facts["ready"], facts["generation"]) == (False, 0)
    assert facts["ledger"]["dead"] == 1
    assert facts["outbox"]["deferred"] == 1


def test_a_directory_of_something_else_is_not_taken_for_an_empty_application(home: Path, invoke: Invoke) -> None:
    for command in ("queue", "dead", "status"):
        result = invoke(command, "--dir", home)
        assert result.exit_code == 64
        assert "there is no application in" in result.stderr


def test_a_server_that_hangs_is_not_ready(home: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(home / "run" / "control.sock"))
        hanging.listen()
        monkeypatch.setattr("monsal.cli.status.control_client", lambda at: control_client(at, timeout=0.05))
        result = invoke("status", "--dir", home)
    assert result.exit_code == 1
    assert "did not answer" in result.stderr


def test_a_directory_that_never_ran_has_nothing(home: Path, invoke: Invoke) -> None:
    (home / "monsal.toml").touch()
    result = invoke("status", "--json", "--dir", home)
    assert result.exit_code == 1
    [facts] = lines(result.stdout)
    assert facts["ready"] is False
    assert set(facts["ledger"].values()) == set(facts["outbox"].values()) == {0}
    for command, says in [
        ("queue", "the queue is empty"),
        ("dead", "there are no dead letters"),
        ("outbox", "all mail has left"),
        ("states", "all conversations are at START"),
    ]:
        assert invoke(command, "--dir", home).stdout.strip() == says
        assert invoke(command, "--json", "--dir", home).stdout == ""
    assert not (home / "run").exists()


def test_the_socket_of_a_killed_server_is_no_server(home: Path, invoke: Invoke) -> None:
    (home / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home / "run" / "control.sock"))
    assert invoke("status", "--dir", home).exit_code == 1
    assert invoke("queue", "--dir", home).exit_code == 0


def test_a_store_that_only_a_server_can_show(home: Path, invoke: Invoke) -> None:
    (home / "monsal.toml").write_text('store = "memory:"\n')
    result = invoke("queue", "--dir", home)
    assert result.exit_code == 75
    assert f"start it with `monsal run --dir {home}`" in result.stderr


def test_a_damaged_store_is_named(home: Path, invoke: Invoke) -> None:
    (home / "run").mkdir()
    (home / "run" / "monsal.db").write_bytes(b"no database" * 500)
    result = invoke("queue", "--dir", home)
    assert result.exit_code == 65
    assert "monsal.db" in result.stderr
    assert "Traceback" not in result.stderr


def test_config_says_where_each_value_comes_from(home: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "monsal.toml").write_text('relay = "smtp://mail:25"\nmax_replies_per_hour = "none"\n')
    monkeypatch.setenv("MONSAL_DRAIN", "5")
    rows = {row["name"]: row for row in lines(invoke("config", "--json", "--dir", home).stdout)}
    assert rows["relay"] == {"name": "relay", "value": "smtp://mail:25", "origin": "monsal.toml"}
    assert rows["drain"] == {"name": "drain", "value": 5.0, "origin": "MONSAL_DRAIN"}
    assert rows["store"]["origin"] == "default"
    text = invoke("config", "--dir", home).stdout
    assert "smtp://127.0.0.1:8825" in text


def test_config_shows_values_that_can_be_pasted_into_the_file(home: Path, invoke: Invoke) -> None:
    written = (
        'check_auth = true\nworkers = 2\ndrain = 1e300\nkeep_history = "none"\nproxy_from = ["unix", "::1"]\n'
        'auth_users = "a \\"b\\\\\\u007f\\u2028\\U000e0001\\t"\ntls_cert = "c"\n'
    )
    (home / "monsal.toml").write_text(written)
    head, *table = invoke("config", "--dir", home).stdout.splitlines()
    value, origin = head.index("value"), head.index("origin")

    def values() -> dict[str, Any]:
        return {row["name"]: row["value"] for row in lines(invoke("config", "--json", "--dir", home).stdout)}

    before = values()
    (home / "monsal.toml").write_text("\n".join(f"{line[:value]} = {line[value:origin]}" for line in table))
    assert values() == before
    assert (before["check_auth"], before["auth_users"]) == (True, 'a "b\\\x7f\u2028\U000e0001\t')


def test_a_wrong_setting_stops_a_command_with_64(home: Path, invoke: Invoke) -> None:
    (home / "monsal.toml").write_text("dran = 5\n")
    result = invoke("config", "--dir", home)
    assert result.exit_code == 64
    assert "did you mean drain?" in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        'ingress = ["http://127.0.0.1:8931"]',
        'relay = "smtp://me:hush@mail:25?tls=off"',
        'store = "postgres://x"',
        'log = "xml"',
    ],
)
def test_config_and_run_refuse_alike(home: Path, invoke: Invoke, line: str) -> None:
    (home / "handlers_alike.py").touch()
    (home / "app.py").write_text('from monsal import App\napp = App("handlers_alike")\n')
    (home / "monsal.toml").write_text(f"{line}\n")
    shown, ran = (invoke(command, "--dir", home) for command in ("config", "run"))
    assert (shown.exit_code, ran.exit_code) == (64, 64)
    assert shown.stderr.splitlines()[-1] == ran.stderr.splitlines()[-1]
    assert shown.stderr.splitlines()[-1].startswith(f"monsal: monsal.toml: {line.partition(' ')[0]} cannot be ")
    assert "hush" not in shown.stderr + ran.stderr


@pytest.mark.parametrize("store", ["app.py/below/monsal.db", "here"])
def test_a_store_that_cannot_be_made_is_73(home: Path, invoke: Invoke, store: str) -> None:
    (home / "handlers_room.py").touch()
    (home / "here").mkdir()
    (home / "app.py").write_text('from monsal import App\napp = App("handlers_room")\n')
    (home / "monsal.toml").write_text(f'store = "sqlite:///{store}"\n')
    result = invoke("run", "--dir", home)
    assert result.exit_code == 73
    assert "the store cannot be made at" in result.stderr


def test_the_directory_may_come_from_the_environment(
    stocked: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONSAL_DIR", str(stocked))
    assert len(lines(invoke("dead", "--json").stdout)) == 1
