"""What the tests of the store share: a disk that can be told to fail, and a lab on a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from monsal.store import SqliteStore
from monsal.store.engine.place import EngineSettings
from monsal.testing.kit.lab import Lab

#: Of queues: operations are applied during each flush, which is the harder way.
ANY_NUMBER = 1_000_000


class FaultyDisk(apsw.VFS):
    """SQLite's own files, whose syncs and writes fail when the test says so. `name` is the VFS to ask for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sync_fails: Callable[[str], bool] = lambda path: False
        self.write_fails: Callable[[str], bool] = lambda path: False
        self.syncs = 0
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _FaultyFile(self, name, flags)


class _FaultyFile(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:
        self._disk.syncs += 1
        if self._disk.sync_fails(self._path):
            raise apsw.IOError("the test's disk does not sync")
        super().xSync(flags)

    def xWrite(self, data: Any, offset: int) -> None:
        if self._disk.write_fails(self._path):
            raise apsw.FullError("the test's disk is full")
        super().xWrite(data, offset)


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    faulty = FaultyDisk("faulty")
    yield faulty
    faulty.unregister()


def sqlite_lab(place: Path, **settings: Any) -> Lab:
    """A lab whose stores have these settings; the caller opens and closes it."""

    def factory(where: Path) -> SqliteStore:
        return SqliteStore(where / "monsal.db", settings=EngineSettings(**{"narrow": ANY_NUMBER, **settings}))

    async def crash(store: Any) -> None:
        await store.abandon()

    return Lab(factory, place, crash)


@pytest.fixture
def make_lab(tmp_path: Path) -> Callable[..., Lab]:
    """Makes a lab with the settings given, at the test's own place or at `place`."""
    return lambda place=tmp_path, **settings: sqlite_lab(place, **settings)
