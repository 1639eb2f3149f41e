"""The answers that `monsal say` waits for: mails that the capture relay files in a maildir."""

from __future__ import annotations

import email
import email.policy
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path

from monsal.address import fold

__all__ = ["CapturedMail", "SentFolder", "wait_for_answers"]

#: Seconds between two looks into the folder: below what a person notices.
STEP = 0.05


class CapturedMail:
    """A mail that was filed instead of sent."""

    def __init__(self, raw: bytes) -> None:
        parsed = email.message_from_bytes(raw, policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        self._parsed = parsed

    def header(self, name: str) -> str:
        """A header's text; empty if there is none."""
        return str(self._parsed.get(name, ""))

    @property
    def text(self) -> str:
        """Its text, or its HTML if it has nothing else."""
        part = self._parsed.get_body(("plain", "html"))
        return "" if part is None else str(part.get_content()).replace("\r\n", "\n").rstrip("\n")


class SentFolder:
    """The maildir of the capture relay, from now on: what is there already is not looked at."""

    def __init__(self, path: Path) -> None:
        self._new = path / "new"
        self._known = set(self._names())

    def fresh(self, correspondent: str) -> Iterator[CapturedMail]:
        """The mails for a correspondent that came since the last call."""
        found = [name for name in self._names() if name not in self._known]
        self._known.update(found)
        paths = [self._new / name for name in found]
        for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns):
            mail = CapturedMail(path.read_bytes())
            if fold(mail.header("X-Envelope-To").strip()) == fold(correspondent):
                yield mail

    def _names(self) -> list[str]:
        try:
            return [entry.name for entry in self._new.iterdir()]
        except FileNotFoundError:
            return []  # made with the first mail


def wait_for_answers(
    folder: SentFolder, correspondent: str, patience: float, is_idle: Callable[[], bool]
) -> Iterator[CapturedMail]:
    """The answers as they come, until the server has nothing left to do, at most `patience` seconds."""
    end = time.monotonic() + patience
    pause = threading.Event()
    while True:
        # Asked before the look into the folder: what was filed by then is found.
        last = is_idle() or time.monotonic() >= end
        yield from folder.fresh(correspondent)
        if last:
            return
        pause.wait(STEP)
