"""An application's directory with a store in it, seen with and without a server."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from monsal.cli.root import cli

# What the tests of this directory share is a plain module beside them.
sys.path.insert(0, str(Path(__file__).parent))
from cli_world import Invoke, Live, live_server, make_store


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run `monsal` with arguments, in this process."""
    for name in [name for name in os.environ if name.startswith("MONSAL_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str | Path, input: str | bytes | None = None) -> Result:  # noqa: A002 - click's own name
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=input)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


@pytest.fixture
def live(home: Path) -> Iterator[Live]:
    """A server over the filled store."""
    asyncio.run(make_store(home))
    with live_server(home) as live:
        yield live


@pytest.fixture(params=["server", "file"])
def stocked(request: pytest.FixtureRequest, home: Path) -> Iterator[Path]:
    """A directory with the filled store, once behind a running server, once as a file alone."""
    asyncio.run(make_store(home))
    if request.param == "file":
        yield home
        return
    with live_server(home):
        yield home
