"""Throw-away handler modules."""

from __future__ import annotations

import importlib
import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from monsal.routing import Router, literal

_number = itertools.count()


@dataclass
class Letter:
    """All that routing asks of a message."""

    sender: str = "alice@home.net"
    recipient: str = "order@example.com"


class Modules:
    """Writes modules into a directory on the path; each test has names of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._prefix = f"handlers_{next(_number)}_"
        self.made: set[str] = set()

    def name(self, short: str) -> str:
        return self._prefix + short

    def write(self, short: str, source: str) -> str:
        """(Over)write a module; the text `{prefix}` in it becomes the prefix of all names of this test."""
        name = self.name(short)
        text = "from monsal.routing import *\n" + textwrap.dedent(source).replace("{prefix}", self._prefix)
        (self._directory / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        self.made.add(name)
        return name

    def remove(self, short: str) -> None:
        (self._directory / f"{self.name(short)}.py").unlink()


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Modules]:
    monkeypatch.syspath_prepend(tmp_path)
    # Sources change within one second, and a cached byte code file would hide that.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Modules(tmp_path)
    yield made
    for name in made.made:
        sys.modules.pop(name, None)


@pytest.fixture
def router() -> Router:
    made = Router()
    made.defaults(host=literal("example.com"))
    return made


@pytest.fixture
def load(modules: Modules, router: Router) -> Callable[..., str]:
    """Write one module and load it; gives its name."""

    def write_and_load(source: str, short: str = "shop") -> str:
        name = modules.write(short, source)
        router.load([name])
        return name

    return write_and_load


@pytest.fixture
def letter() -> Callable[..., Any]:
    return Letter
