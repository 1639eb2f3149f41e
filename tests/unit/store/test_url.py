"""From a URL to a store, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import monsal.store
from monsal.errors import ConfigError
from monsal.store import MemoryStore, SqliteStore, open_store


def test_a_relative_path_begins_at_the_base(tmp_path: Path) -> None:
    store = open_store("sqlite:///run/monsal.db", base=tmp_path)
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "run" / "monsal.db"
    assert list(tmp_path.iterdir()) == []


def test_an_absolute_path_stays(tmp_path: Path) -> None:
    store = open_store("sqlite:////var/lib/monsal.db", base=tmp_path)
    assert isinstance(store, SqliteStore)
    assert store.path == Path("/var/lib/monsal.db")


def test_memory_is_a_store_that_promises_less() -> None:
    store = monsal.store.open("memory:")
    assert isinstance(store, MemoryStore)
    assert not store.capabilities.durable_ack


@pytest.mark.rule("state.B14", "state.B18")
def test_capabilities_are_declared() -> None:
    durable = open_store("sqlite:///x.db").capabilities
    assert (durable.durable_ack, durable.atomic_turn, durable.fence, durable.order, durable.timers) == (True,) * 5
    assert not durable.multi_host


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://localhost/x", "extra `postgres`"),
        ("postgres://localhost/x", "later monsal"),
        ("sqlite:run.db", "names no file"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///run/", "names no file"),
        ("mysql://x", "is no store"),
        ("run/monsal.db", "is no store"),
        ("", "is no store"),
    ],
)
def test_anything_else_is_refused_with_what_would_do(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        open_store(url)
    assert "sqlite:///run/monsal.db" in str(caught.value)


def test_importing_the_store_loads_no_database() -> None:
    code = "import sys, monsal.store; print([name for name in ('apsw', 'asyncio', 'shelve') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_of_the_package_is_there() -> None:
    for name in monsal.store.__all__:
        assert getattr(monsal.store, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = monsal.store.nothing
