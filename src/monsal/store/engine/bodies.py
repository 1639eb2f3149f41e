"""Large messages as files beside the database, so that they never pass through the one writer (DESIGN 4, *Bodies*).

A file is complete and on the disk before a row points to it: written under another name, flushed, renamed, and the
folder flushed. One that no row points to was left by a crash and is removed at the next opening.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Final, NamedTuple

from monsal.ids import new_token

__all__ = ["BodyFiles", "BodyWriters", "Filed"]

#: Threads that write large bodies: few, so that they do not take the disk from the one writer.
_THREADS: Final = 2


#: Bytes after which a body is flushed on its way. One flush of 20 MB at its end kept the writer's small ones waiting
#: behind it: beside ten such mails their p99 was 8 times the quiet one, in these steps it is 1.7 times.
_STEP: Final = 256 * 1024


class BodyFiles:
    """The folder of large bodies. Its methods block and may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = self._folder = folder
        self._in_doubt: list[str] = []

    def path(self, token: str) -> Path:
        """Where the body with this token is."""
        return self._folder / token[:2] / token

    def write(self, pieces: Sequence[bytes]) -> str:
        """Keep a body; its token, when it is on the disk. Raises OSError; then nothing is left behind."""
        token = new_token()
        path = self.path(token)
        partial = path.with_name("." + token)
        if not path.parent.is_dir():
            self._make_folder(path.parent)
        try:
            with open(partial, "xb", buffering=0, opener=_private) as file:
                _write_in_steps(file, pieces)
                os.fsync(file.fileno())
            partial.rename(path)
            _flush_folder(path.parent)
        except OSError:
            for left in (partial, path):
                with contextlib.suppress(OSError):
                    left.unlink(missing_ok=True)
            raise
        return token

    def _make_folder(self, shard: Path) -> None:
        # mkdir gives its mode to the last folder only, so one after the other.
        for folder in (self._folder, shard):
            folder.mkdir(mode=0o700, exist_ok=True)
            _flush_folder(folder.parent)

    def remove(self, token: str) -> None:
        """Remove a body that no row points to; one that is gone already is no error."""
        with contextlib.suppress(FileNotFoundError):
            self.path(token).unlink()

    def doubt(self, token: str) -> None:
        """It is not known whether a row points to this body; `settle` will tell, or the next opening."""
        self._in_doubt.append(token)

    def settle(self, is_known: Callable[[str], bool]) -> None:
        """The rows can be read again: remove those in doubt that none points to."""
        while self._in_doubt:
            token = self._in_doubt.pop()
            if not is_known(token):
                self.remove(token)

    def sweep(self, is_known: Callable[[str], bool], before: float = float("inf")) -> tuple[int, int]:
        """Remove files that no row points to: how many went, and how many stay because they are too young.

        Those written at the time `before` (epoch seconds) or later may belong to a mail that is on its way to the
        store. Without it, only while nothing is being written.
        """
        removed = young = 0
        for file in self._files():
            if is_known(file.name):
                continue
            with contextlib.suppress(FileNotFoundError):  # its writer gave it up meanwhile
                if file.stat().st_mtime < before:
                    file.unlink()
                    removed += 1
                else:
                    young += 1
        return removed, young

    def _files(self) -> Iterator[Path]:
        for shard in self._folder.iterdir() if self._folder.is_dir() else ():
            yield from shard.iterdir() if shard.is_dir() else ()


class Filed(NamedTuple):
    """A body in a file: its token and its size in octets."""

    token: str
    size: int


class BodyWriters:
    """Writes and removes large bodies on a few threads, for a loop."""

    def __init__(self, files: BodyFiles) -> None:
        self._files = files
        self._threads = ThreadPoolExecutor(_THREADS, "monsal-bodies")

    def write(self, pieces: Sequence[bytes]) -> Future[Filed]:
        """Keep a body; where it is, when it is on the disk. The future raises OSError."""
        return self._threads.submit(lambda: Filed(self._files.write(pieces), sum(map(len, pieces))))

    def remove(self, token: str) -> None:
        """Remove a body in the background."""
        self._threads.submit(self._files.remove, token)

    def stop(self) -> None:
        """Wait for what is being done, and end. Blocks."""
        self._threads.shutdown()


def _write_in_steps(file: FileIO, pieces: Sequence[bytes]) -> None:
    unflushed = 0
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            written = file.write(rest[:_STEP])
            rest = rest[written:]
            unflushed += written
            if unflushed >= _STEP:
                os.fdatasync(file.fileno())
                unflushed = 0


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _flush_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
