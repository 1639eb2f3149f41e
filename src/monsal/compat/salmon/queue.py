"""`salmon.queue`: maildirs as queues.

What the ancestor lost stays here: mail that is too large or cannot be read is moved into a folder of the maildir
(`.oversize`, `.unreadable`), the envelope of a request is kept with it, and `pop(hold=True)` gives a mail away only
when `release` is called.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import mailbox
import os
import socket
from pathlib import Path
from typing import Any

from monsal.compat.salmon import mail

__all__ = ["Queue", "QueueError", "SafeMaildir"]

_count = itertools.count(1)

LOG = logging.getLogger("salmon.queue")

#: Fields before the header of a request in a queue: its envelope. They are taken off when it is read.
_SENDER = b"X-Monsal-Envelope-From: "
_RECIPIENT = b"X-Monsal-Envelope-To: "


class QueueError(Exception):
    """A queue cannot do what it was asked; `data` is the mail."""

    def __init__(self, message: str, data: Any) -> None:
        super().__init__(message)
        self.data = data


class SafeMaildir(mailbox.Maildir):
    """A maildir whose file names do not tell the name of this host, only that it is another than others."""

    def _create_tmp(self) -> Any:
        path = Path(self._path, "tmp", self._unique())
        try:
            os.stat(path)
        except FileNotFoundError:
            return mailbox._create_carefully(str(path))  # type: ignore[attr-defined]  # the base makes files so
        raise mailbox.ExternalClashError(f"there is a file of that name: {path}")

    def _unique(self) -> str:
        host = hashlib.md5(socket.gethostname().encode(), usedforsecurity=False).hexdigest()
        return f"{os.urandom(8).hex()}.P{os.getpid()}Q{next(_count)}.{host}"


class Queue:
    """A maildir as a queue: push at one end, pop at the other, oldest first.

    `safe` keeps the name of the host out of file names. Mail larger than `pop_limit` bytes (0: any size) is not popped
    but moved to the maildir `oversize_dir`, or into the folder `.oversize`.
    """

    def __init__(self, queue_dir: str, safe: bool = False, pop_limit: int = 0, oversize_dir: str | None = None) -> None:
        self.dir = str(queue_dir)
        Path(self.dir).parent.mkdir(parents=True, exist_ok=True)
        self.mbox = (SafeMaildir if safe else mailbox.Maildir)(self.dir, create=True)
        self.pop_limit = pop_limit
        self.oversize_dir = oversize_dir
        if oversize_dir:
            Path(oversize_dir).parent.mkdir(parents=True, exist_ok=True)
            mailbox.Maildir(oversize_dir, create=True)

    def push(self, message: Any) -> str:
        """Add a mail: text, bytes, a request or a response. Returns its key."""
        if isinstance(message, mail.MailRequest):
            data = _with_envelope(message)
        elif isinstance(message, bytes):
            data = message
        else:
            data = str(message).encode("utf-8", "surrogateescape")
        return str(self.mbox.add(data))

    def pop(self, hold: bool = False) -> tuple[str | None, mail.MailRequest | None]:
        """The key and mail that are there longest, taken out; (None, None) if there is none.

        With `hold` the mail goes to the folder `.held` and stays there until `release`; `restore` brings back what
        somebody held who has died.
        """
        for key in self._oldest_first():
            if self.oversize(key):
                self._move(key, Path(self.oversize_dir or Path(self.dir, ".oversize")), "it is too large")
                continue
            found = self.get(key)
            if found is None:
                if key in self.mbox:
                    self._move(key, Path(self.dir, ".unreadable"), "it cannot be read")
                continue
            if hold:
                self._move(key, Path(self.dir, ".held"), "")
            else:
                self.mbox.discard(key)
            return key, found
        return None, None

    def release(self, key: str) -> None:
        """Give up a mail that was popped to be held: it is dealt with."""
        for path in Path(self.dir, ".held", "new").glob(f"{key}*"):
            path.unlink(missing_ok=True)

    def restore(self) -> int:
        """Put back what was held; how many there were."""
        found = sorted(Path(self.dir, ".held", "new").glob("*"))
        for path in found:
            path.rename(Path(self.dir, "new", path.name))
        return len(found)

    def get(self, key: str) -> mail.MailRequest | None:
        """The mail of that key, None if there is none or it cannot be read."""
        try:
            data = self.mbox.get_bytes(key)
        except KeyError:
            return None
        try:
            return _without_envelope(data)
        except Exception:
            LOG.exception("the mail %s of %s cannot be read; it stays where it is", key, self.dir)
            return None

    def remove(self, key: str) -> None:
        """Delete the mail of that key; KeyError if there is none."""
        self.mbox.remove(key)

    def keys(self) -> list[str]:
        return list(self.mbox.keys())

    def count(self) -> int:
        return len(self.mbox)

    def __len__(self) -> int:
        return len(self.mbox)

    def clear(self) -> None:
        """Delete all mail that is waiting."""
        self.mbox.clear()

    def oversize(self, key: str) -> bool:
        """Whether the mail of that key is larger than `pop_limit`."""
        path = self._path_of(key)
        return bool(self.pop_limit and path is not None and path.stat().st_size > self.pop_limit)

    def _path_of(self, key: str) -> Path | None:
        for folder in ("new", "cur"):
            for path in Path(self.dir, folder).glob(f"{key}*"):
                if path.name.partition(":")[0] == key:
                    return path
        return None

    def _oldest_first(self) -> list[str]:
        times = {key: path.stat().st_mtime_ns for key in self.mbox.keys() if (path := self._path_of(key)) is not None}  # noqa: SIM118 - a maildir iterates over mails
        return sorted(times, key=lambda key: (times[key], key))

    def _move(self, key: str, to: Path, why: str) -> None:
        """Move a mail's file into another maildir, so that it is in one of both at any instant."""
        path = self._path_of(key)
        if path is None:
            return
        for folder in ("tmp", "new", "cur"):
            (to / folder).mkdir(parents=True, exist_ok=True)
        path.rename(to / "new" / path.name)
        if why:
            LOG.warning("the mail %s of %s is moved to %s: %s", key, self.dir, to, why)


def _with_envelope(request: mail.MailRequest) -> bytes:
    lines = [
        name + " ".join(value.split()).encode("utf-8", "surrogateescape") + b"\n"
        for name, value in ((_SENDER, str(request.From or "")), (_RECIPIENT, str(request.To or "")))
        if value
    ]
    return b"".join(lines) + bytes(request)


def _without_envelope(data: bytes) -> mail.MailRequest:
    found: dict[bytes, str | None] = {_SENDER: None, _RECIPIENT: None}
    for name in found:
        if data.startswith(name):
            line, _, data = data.partition(b"\n")
            found[name] = line.removeprefix(name).strip().decode("utf-8", "surrogateescape")
    return mail.MailRequest("queue", found[_SENDER], found[_RECIPIENT], data)
