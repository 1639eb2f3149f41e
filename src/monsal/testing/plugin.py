"""Fixtures for pytest: `pytest_plugins = ["monsal.testing.plugin"]` in the `conftest.py` of an application.

| fixture | is |
|---|---|
| `monsal_app` | the application object of the `app.py` above the test's file (pytest.ini may name another) |
| `monsal_client` | a function that makes clients of it: `monsal_client(store="sqlite", seed=7)` |
| `mail` | one client, on a store in memory |
| `conversation` | a function that makes conversations of that client: `conversation("ann@example.net")` |

Each test begins with an empty store, at the same time, with a relay that keeps what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from monsal.app import App
from monsal.loading import TARGET, has_module, import_app
from monsal.testing.inmemory import TestClient, client
from monsal.testing.play import Conversation

__all__ = ["conversation", "mail", "monsal_app", "monsal_client", "pytest_addoption"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The line `monsal_app` of pytest.ini."""
    parser.addini("monsal_app", "the application object, as MODULE:NAME", default=TARGET)


@pytest.fixture
def monsal_app(request: pytest.FixtureRequest) -> App:
    """The application whose tests these are. Raises UsageError if it cannot be imported."""
    target = str(request.config.getini("monsal_app"))
    return import_app(_home(request.path, target), target)


def _home(path: Path, target: str) -> Path:
    module = target.partition(":")[0]
    for folder in path.parents:
        if has_module(folder, module):
            return folder
    raise pytest.UsageError(f"there is no {module}.py in any directory above {path}; set monsal_app in pytest.ini")


@pytest.fixture
def monsal_client(monsal_app: App) -> Iterator[Callable[..., TestClient]]:
    """Makes open clients of the application, which are closed at the end of the test; takes what `client` takes."""
    with ExitStack() as opened:
        yield lambda **more: opened.enter_context(client(monsal_app, **more))


@pytest.fixture
def mail(monsal_client: Callable[..., TestClient]) -> TestClient:
    """A client of the application."""
    return monsal_client()


@pytest.fixture
def conversation(mail: TestClient) -> Callable[..., Conversation]:
    """Makes conversations of that client."""

    def begin(address: str = "ann@example.net", **more: Any) -> Conversation:
        return mail.conversation(address, **more)

    return begin
