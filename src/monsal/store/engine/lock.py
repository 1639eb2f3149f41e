"""Who owns a store: one process, by a lock that the kernel takes away when it dies."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from monsal.errors import StoreLocked, StoreUnavailable
from monsal.forks import close_in_children

__all__ = ["OwnerLock"]


class OwnerLock:
    """An flock on a file that says in words who holds it. It belongs to the open file, so it binds threads too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def take(self) -> None:
        """Raises StoreLocked naming the owner, StoreUnavailable if the file cannot be made."""
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(file, 4096, 0).decode("utf-8", "replace").strip() or "another process"
            os.close(file)
            raise StoreLocked(f"the store beside {self._path} is in use by {owner}") from error
        line = f"process {os.getpid()} ({' '.join(sys.argv)[:500]})\n"
        os.ftruncate(file, 0)
        os.pwrite(file, line.encode("utf-8", "replace"), 0)
        self._file = file
        close_in_children(self, OwnerLock._forget)

    def _forget(self) -> int:
        """In a forked child, which owns nothing: the descriptor to be closed. To unlock it would unlock the parent."""
        file, self._file = self._file, None
        return -1 if file is None else file

    def give_back(self) -> None:
        """Free the lock; harmless if it is not held. The file stays: to remove it would let two processes in."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None
