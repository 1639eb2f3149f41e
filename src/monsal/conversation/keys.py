"""The keys that sign capability addresses: a file of the application's own, `run/keys`, readable by its owner alone.

The last key signs; the others only verify, until whatever they signed has expired. Several processes share the file:
each looks whether it has changed before it uses a key, so that a rotation, or a revocation, is known at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from monsal.errors import ConfigError
from monsal.ids import new_secret

__all__ = ["Key", "Keyring", "keys_of", "read_keys", "rotate_keys"]

log = logging.getLogger("monsal.keys")

#: An id is one octet of an address.
_IDS: Final = 256


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key: its id, its secret of 32 octets, which is not shown, and when it was made, in epoch seconds."""

    id: int
    secret: bytes
    made: float

    def __repr__(self) -> str:
        return f"Key(id={self.id}, made={self.made}, secret=...)"


class _File(msgspec.Struct, frozen=True, kw_only=True):
    keys: tuple[Key, ...]
    version: int = 1


def keys_of(store: str, directory: Path) -> Path | None:
    """The file of the keys of the application in `directory`; None if its store (a URL) is in memory."""
    return None if store.startswith("memory:") else directory / "run" / "keys"


class Keyring:
    """The keys of one application. With `path` None there is one key, derived from `secret()`: for a store in memory.

    Raises ConfigError for a file that cannot be read or is none of ours. Used from any thread.
    """

    def __init__(self, path: Path | None, *, now: Callable[[], float], secret: Callable[[], bytes]) -> None:
        self._path = path
        self._now = now
        self._secret = secret
        self._seen: tuple[int, int, int] = (0, 0, 0)
        self._keys: tuple[Key, ...] = ()

    def keys(self) -> tuple[Key, ...]:
        """All keys, oldest first; the first use of a new application makes one."""
        if self._path is None:
            secret = self._secret()
            if not secret:
                raise ConfigError("the store is not open yet, so there is no key for capability addresses")
            return (Key(id=0, secret=secret, made=0.0),)
        seen = _identity(self._path)
        if seen is None:
            _make(self._path, self._now())
            seen = _identity(self._path)
        if seen != self._seen or not self._keys:
            self._keys, self._seen = read_keys(self._path), seen or (0, 0, 0)
        return self._keys

    def signing(self) -> tuple[int, bytes]:
        """Id and secret of the key that signs."""
        key = self.keys()[-1]
        return key.id, key.secret

    def secret_of(self, number: int) -> bytes | None:
        """The secret of a key that verifies, None if there is none of that id."""
        return next((key.secret for key in self.keys() if key.id == number), None)


def rotate_keys(path: Path, now: float, *, keep: float) -> tuple[Key, ...]:
    """Make a key that signs from now on; all keys there are then. Of the others stay those that signed something
    within the last `keep` seconds: none with 0.

    Raises ConfigError as `Keyring` does, OSError if it cannot be written.
    """
    if _identity(path) is None:
        _make(path, now)
        return read_keys(path)
    with _locked(path):
        before = read_keys(path)
        # A key has signed until its successor was made; the last one until now.
        ends = [*(key.made for key in before[1:]), now]
        kept = [key for key, end in zip(before, ends, strict=True) if keep and end + keep > now][-(_IDS - 1) :]
        used = {key.id for key in kept}
        start = before[-1].id + 1
        number = next(n % _IDS for n in range(start, start + _IDS) if n % _IDS not in used)
        keys = (*kept, Key(id=number, secret=new_secret(), made=now))
        _write(path, keys)
    return keys


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file, oldest first; the last one signs. Raises ConfigError."""
    try:
        if path.stat().st_mode & 0o077:
            log.warning(
                "%s can be read by others; it signs addresses: chmod 600", path, extra={"action": "keys_readable"}
            )
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: the keys of capability addresses cannot be read: {error}") from error
    if not found.keys or found.version != 1 or any(not 0 <= key.id < _IDS or not key.secret for key in found.keys):
        raise ConfigError(f"{path}: it holds no keys of capability addresses that this version of monsal understands")
    return found.keys


def _make(path: Path, now: float) -> None:
    """The first key. Several processes may begin at once: one of them makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if _identity(path) is None:
            _write(path, (Key(id=0, secret=new_secret(), made=now),))


def _write(path: Path, keys: tuple[Key, ...]) -> None:
    """Write the file whole, and on the disk before it has its name: an address that left needs its key for ever."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if os.geteuid() == 0:
            # An operator's own command must not take the file away from the server's user.
            owner = (path if path.exists() else path.parent).stat()
            os.fchown(handle, owner.st_uid, owner.st_gid)
        with open(handle, "wb") as out:
            out.write(msgspec.json.format(msgspec.json.encode(_File(keys=keys)), indent=1) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Rotate one at a time: two at once would lose a key that has signed."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
