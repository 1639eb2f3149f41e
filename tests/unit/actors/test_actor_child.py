"""The beginning of an actor's process: what it imports, and what it leaves as it was."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monsal.actors.child import import_all

MODULE = """
import gc
enabled = gc.isenabled()
{more}
"""


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Python looks for garbage afterwards as it did before."""
    enabled = gc.isenabled()
    yield
    (gc.enable if enabled else gc.disable)()


def imported(path: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> object:
    (path / "brought.py").write_text(MODULE.format(more=more))
    monkeypatch.syspath_prepend(path)
    monkeypatch.delitem(sys.modules, "brought", raising=False)
    import_all(["there_is_none", "brought"])
    return sys.modules["brought"].enabled


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_not_looked_for_while_modules_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    (gc.enable if enabled else gc.disable)()
    assert imported(tmp_path, monkeypatch) is False
    assert gc.isenabled() is enabled


def test_it_is_looked_for_again_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.enable()
    with pytest.raises(ZeroDivisionError):
        imported(tmp_path, monkeypatch, "1 / 0")
    assert gc.isenabled()
