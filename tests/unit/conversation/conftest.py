"""Applications made of a text, run in memory."""

from __future__ import annotations

import importlib
import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from monsal import App, literal
from monsal.testing import TestClient

_numbers = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Makes a module of handlers from its source; `from monsal import *`-like names are already there."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def make(source: str) -> ModuleType:
        name = f"handlers_{next(_numbers)}"
        head = (
            "from monsal import *\nfrom monsal import after, current, otherwise, reject, reply, route, route_like\n"
            "from monsal import send, start, stateless, state_key_generator, requires_authenticated, Retry\n"
            "calls = []\n"
        )
        (tmp_path / f"{name}.py").write_text(head + textwrap.dedent(source))
        made.append(name)
        return importlib.import_module(name)

    yield make
    for name in made:
        sys.modules.pop(name, None)


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Opens a client of an application made of modules; the host is example.com."""
    opened: list[TestClient] = []

    def begin(*modules: ModuleType, **settings: Any) -> TestClient:
        app = App(*modules, captures={"host": literal("example.com")}, **settings)
        opened.append(TestClient(app, directory=tmp_path).__enter__())
        return opened[-1]

    yield begin
    for mail in opened:
        mail.__exit__(None, None, None)
