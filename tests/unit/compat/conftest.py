"""The ancestor's names are in place for a test and gone after it; its modules of handlers are files of the test's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest

from monsal.compat import install, uninstall


@pytest.fixture(autouse=True)
def ancestor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install for the time of a test, in an empty directory; what the test imports from there is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    install()
    yield tmp_path
    uninstall()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "") or "").startswith(str(tmp_path) + os.sep):
            del sys.modules[name]


@pytest.fixture
def module(ancestor: Path) -> Callable[[str, str], ModuleType]:
    """`module(name, source)` writes a module and imports it; a second time it is executed again by whoever asks."""

    def make(name: str, source: str, *, load: bool = True) -> Any:
        path = ancestor.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source), encoding="utf-8")
        invalidate_caches()
        return import_module(name) if load else None

    return make


class Kept:
    """A queue that keeps what is pushed."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    def push(self, message: Any) -> str:
        self.mails.append(message)
        return str(len(self.mails))


@pytest.fixture
def kept() -> Kept:
    return Kept()


def request(to: str, sender: str = "ann@example.net", data: str = "") -> Any:
    """A request as a server makes it."""
    return import_module("salmon.mail").MailRequest("test", sender, to, data)


@pytest.fixture
def write() -> Callable[..., Any]:
    """`write(to, sender, data)` makes a request."""
    return request
