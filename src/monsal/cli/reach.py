"""How a command reaches what it is about: the running server, else its store.

Looking goes to the server if one runs, else to the store's file, read-only. Acting goes to the server, else the store
is opened, which takes its lock: two writers there never are.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import click
import msgspec

from monsal.cli.called import typed
from monsal.cli.loading import is_application, no_application, store_url
from monsal.config import mask_secrets
from monsal.control import ControlClient
from monsal.errors import MonsalError, NotRunning
from monsal.wire.jsonrpc import bytes_of

__all__ = [
    "LEDGER",
    "OUTBOX",
    "Ready",
    "View",
    "What",
    "act",
    "control_client",
    "looking",
    "looking_at_file",
    "not_running",
    "read_ready",
    "server_pid",
    "store_file",
    "wait_ready",
]

#: Seconds that a living server may be without its control socket: it has just begun, or is replaced by a fresh image.
_REPLACING = 5.0
_LOOK_AGAIN = 0.05

What = Literal["queue", "dead", "states", "outbox", "suppressed"]

#: The columns of a ledger and the states of outgoing mail, in the order of docs/interface.md.
LEDGER = ("accepted", "done", "waiting", "running", "held", "dead", "dropped", "duplicates")
OUTBOX = ("waiting", "deferred", "sending", "sent", "failed")


class Ready(msgspec.Struct, frozen=True):
    """What a server says of itself in `run/ready.json`."""

    pid: int
    generation: int = 0
    smtp: tuple[str, ...] = ()
    lmtp: tuple[str, ...] = ()
    http: tuple[str, ...] = ()
    control: str = "run/control.sock"


def read_ready(directory: Path) -> Ready | None:
    """What the server of a directory announced, or None. One that was killed leaves this behind."""
    try:
        return msgspec.json.decode((directory / "run" / "ready.json").read_bytes(), type=Ready)
    except (OSError, msgspec.MsgspecError):
        return None


def server_pid(directory: Path) -> int | None:
    """The process that serves from a directory, or is on its way to that or from it; None if none lives."""
    try:
        pid = int((directory / "run" / "server.pid").read_text(encoding="ascii"))
        os.kill(pid, 0)
    except PermissionError:
        return pid
    except (OSError, ValueError, OverflowError):
        return None
    return pid


def wait_ready(directory: Path, patience: float = 30.0) -> Ready | None:
    """What the server of a directory announced; one that is starting, draining or reloading is waited for.

    None if none lives, or none was ready within `patience` seconds.
    """
    end = time.monotonic() + patience
    said = False
    pause = threading.Event()
    while (ready := read_ready(directory)) is None and server_pid(directory) and time.monotonic() < end:
        if not said:
            why = typed("why", directory=directory)
            click.echo(f"the server is starting, draining or reloading; waiting for it (`{why}` says why)", err=True)
            said = True
        pause.wait(_LOOK_AGAIN)
    return ready


class _Patient(ControlClient):
    """Connects to a server that is just being replaced by a fresh image of itself, too."""

    def __init__(self, directory: Path, timeout: float) -> None:
        super().__init__(directory / "run" / "control.sock", timeout)
        self._directory = directory

    def connect(self) -> None:
        end = time.monotonic() + _REPLACING
        pause = threading.Event()
        while True:
            try:
                return super().connect()
            except NotRunning:
                if time.monotonic() > end or server_pid(self._directory) is None:
                    raise
            pause.wait(_LOOK_AGAIN)


def control_client(directory: Path, timeout: float = 10.0) -> ControlClient:
    """A client of the directory's server; it connects at its first call."""
    return _Patient(directory, timeout)


def not_running(directory: Path, *, also: str = "") -> MonsalError:
    """The error that says that there is no server, and what to do; another one where none could be started."""
    if not is_application(directory):
        return no_application(directory, also=also)
    start = typed("run", directory=directory)
    return NotRunning(f"no server is running in {directory.resolve()}: start it with `{start}`{also}")


class View(Protocol):
    """What can be looked at, wherever it comes from."""

    def ledger(self) -> Mapping[str, Mapping[str, int]]:
        """The ledger by source."""
        ...

    def outbox_counts(self) -> Mapping[str, int]: ...

    def rows(self, what: What, limit: int) -> Sequence[Mapping[str, Any]]: ...

    def dead_detail(self, row: int) -> Mapping[str, Any] | None: ...


class _Live:
    """A running server."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def ledger(self) -> Mapping[str, Mapping[str, int]]:
        found: Mapping[str, Mapping[str, int]] = self._client.call("store.ledger")
        return found

    def outbox_counts(self) -> Mapping[str, int]:
        found: Mapping[str, int] = self._client.call("store.outbox_counts")
        return found

    def rows(self, what: What, limit: int) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self._client.call("store.rows", what=what, limit=limit)
        return found

    def dead_detail(self, row: int) -> Mapping[str, Any] | None:
        found: dict[str, Any] | None = self._client.call("store.dead_detail", row=row)
        if found and found.get("raw") is not None:
            found["raw"] = bytes_of(found["raw"])
        return found


class _File:
    """The file of a store that no server has open."""

    def __init__(self, inspector: Any) -> None:
        self._inspector = inspector

    def ledger(self) -> Mapping[str, Mapping[str, int]]:
        return {source: msgspec.to_builtins(ledger) for source, ledger in self._inspector.ledger().items()}

    def outbox_counts(self) -> Mapping[str, int]:
        found: Mapping[str, int] = self._inspector.outbox_counts()
        return found

    def rows(self, what: What, limit: int) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self._inspector.rows(what, limit)
        return found

    def dead_detail(self, row: int) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = self._inspector.dead_detail(row)
        return found


class _Nothing:
    """A store that was never opened: there is nothing in it."""

    def ledger(self) -> Mapping[str, Mapping[str, int]]:
        return {}

    def outbox_counts(self) -> Mapping[str, int]:
        return {}

    def rows(self, what: What, limit: int) -> Sequence[Mapping[str, Any]]:
        return ()

    def dead_detail(self, row: int) -> Mapping[str, Any] | None:
        return None


@contextmanager
def looking(directory: Path) -> Iterator[View]:
    """Something to look at: the running server, else the store's file.

    Raises NotRunning if no server runs and the store can only be seen through one.
    """
    with control_client(directory) as client:
        try:
            client.connect()
        except NotRunning:
            pass
        else:
            yield _Live(client)
            return
    with looking_at_file(directory) as view:
        yield view


@contextmanager
def looking_at_file(directory: Path) -> Iterator[View]:
    """The store's file to look at. Raises NotRunning if the store can only be seen through a server."""
    path = store_file(directory)
    if not path.exists():
        yield _Nothing()
        return
    from monsal.store.inspect import Inspector

    with Inspector(path) as inspector:
        yield _File(inspector)


def act(directory: Path, method: str, **params: Any) -> Any:
    """Have one method of the store's API done: by the running server, else by opening the store here.

    Raises StoreLocked saying who holds it, if that is neither.
    """
    with control_client(directory, timeout=60.0) as client:
        try:
            return client.call(f"store.{method}", **params)
        except NotRunning:
            return _act_here(directory, method, params)


def _act_here(directory: Path, method: str, params: Mapping[str, Any]) -> Any:
    path = store_file(directory)
    if not path.exists():
        raise MonsalError(f"there is no store at {path} yet, so there is nothing to act on")
    import asyncio

    from monsal.clock import SystemClock
    from monsal.control.api import StoreApi
    from monsal.store import open as open_store

    async def do() -> Any:
        store = open_store(f"sqlite:///{path}", base=directory)
        await store.open()
        try:
            return await getattr(StoreApi(lambda: store, SystemClock()), method)("cli", **params)
        finally:
            await store.close()

    return asyncio.run(do())


def store_file(directory: Path) -> Path:
    """The file of the application's store.

    Raises NotRunning if it is none that is kept in a file, UsageError in a directory that is no application's: to say
    there that the queue is empty would be a false comfort.
    """
    if not is_application(directory):
        raise no_application(directory)
    url = store_url(directory)
    if not url.startswith("sqlite:///"):
        error = not_running(directory)
        raise NotRunning(f"{error} (its store, {mask_secrets(url)}, can only be seen through a server)")
    return directory.resolve() / url.removeprefix("sqlite:///")
