"""`monsal keys`: keys are shown without their secrets, made and revoked."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from cli_world import Invoke

from monsal.conversation import Keyring


def ring(home: Path) -> Keyring:
    return Keyring(home / "run" / "keys", now=lambda: 1e9, secret=lambda: b"")


def rows(invoke: Invoke, home: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in invoke("keys", "--json", "--dir", home).stdout.splitlines()]


def test_keys_are_made_rotated_and_revoked(invoke: Invoke, home: Path) -> None:
    assert rows(invoke, home) == []
    assert "no keys yet" in invoke("keys", "list", "--dir", home).stdout

    assert "key 0 signs" in invoke("keys", "rotate", "--dir", home).stdout
    first = ring(home).signing()
    result = invoke("keys", "rotate", "--dir", home)

    assert (result.exit_code, result.stdout) == (0, "key 1 signs from now on; 1 older one still verifies\n")
    assert [(row["id"], row["signs"]) for row in rows(invoke, home)] == [(0, False), (1, True)]
    assert first[1].hex() not in invoke("keys", "--dir", home).stdout
    assert ring(home).secret_of(0) == first[1]

    assert "0 older ones still verify" in invoke("keys", "rotate", "--revoke", "--dir", home).stdout
    assert ring(home).secret_of(0) is None
    assert (home / "run" / "keys").stat().st_mode & 0o777 == 0o600


def test_a_broken_file_is_said_and_left_alone(invoke: Invoke, home: Path) -> None:
    path = home / "run" / "keys"
    path.parent.mkdir(exist_ok=True)
    path.write_text("no keys")

    for action in ("list", "rotate"):
        result = invoke("keys", action, "--dir", home)
        assert result.exit_code != 0
        assert "cannot be read" in result.stderr
    assert path.read_text() == "no keys"


def test_a_store_in_memory_has_no_file(invoke: Invoke, home: Path) -> None:
    (home / "monsal.toml").write_text('store = "memory:"\n')
    result = invoke("keys", "--dir", home)
    assert result.exit_code != 0
    assert "in memory" in result.stderr


def test_the_file_stays_its_owner_s(invoke: Invoke, home: Path) -> None:
    """Root rotates; the server that runs as somebody else still has to read it."""
    invoke("keys", "rotate", "--dir", home)
    path = home / "run" / "keys"
    if os.geteuid() == 0:
        os.chown(path, 1234, 1234)
    before = path.stat()
    invoke("keys", "rotate", "--dir", home)
    assert (path.stat().st_uid, path.stat().st_gid) == (before.st_uid, before.st_gid)
