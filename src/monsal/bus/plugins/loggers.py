"""Loggers: they write what arrives on the channel `log`, whatever the state of the bus.

    StdoutLogger(bus, level=30).subscribe()
    FileLogger(bus, "run/bus.log").subscribe()

Each line is written at once and whole, by whatever thread. A write that fails raises; the bus keeps that among its
events and goes on (B4, R7).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from io import BufferedIOBase, FileIO, RawIOBase
from threading import RLock
from typing import Any

from monsal.bus.core import Bus
from monsal.bus.plugins.simple import SimplePlugin

__all__ = ["FileLogger", "StderrLogger", "StdoutLogger", "StreamLogger"]

#: What a line is made of when nobody says otherwise.
DEFAULT_FORMAT = "[%(timestamp)s] %(levelname)s %(message)s"

#: The names that the `logging` module gives to its levels; they are fixed, and that module is slow to load.
_LEVEL_NAMES = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}

Format = str | Callable[[Mapping[str, Any]], str]


class StreamLogger(SimplePlugin):
    """Writes to a stream of texts, or of bytes as `encoding`; which of them it is, is found out.

    Lines below `level` are left out. `format` is a template for the operator %, or a function: it gets a mapping with
    `timestamp` (UTC, ISO 8601), `level`, `levelname`, `message` and `bus`. A line feed is added if it makes none.
    What the encoding cannot express is written with backslashes.
    """

    def __init__(
        self,
        bus: Bus,
        stream: Any,
        level: float | None = None,
        format: Format | None = None,  # noqa: A002 - its name in the contract (B19)
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(bus)
        self.stream = stream
        self.level = level
        self.format: Format = format or DEFAULT_FORMAT
        self.encoding = encoding or "utf-8"
        # Reentrant, because a signal handler of the program may log while this thread is in the middle of a line (C16).
        self._lock = RLock()

    def log(self, msg: object = "", level: int = 20) -> None:
        """Write one line, if the level is not below the wanted one. Raises what the stream raises."""
        if self.level is not None and level < self.level:
            return
        text = self._line(msg, level)
        with self._lock:
            if self.stream is None:
                raise ValueError(f"nowhere to write to: {text.rstrip()}")
            self._write(self.stream, text)

    def _line(self, msg: object, level: int) -> str:
        parts = {
            # Text from the start (M3), and of one time zone whatever the machine's is.
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "levelname": _LEVEL_NAMES.get(level, str(level)),
            "message": msg,
            "bus": getattr(self.bus, "id", id(self.bus)),
        }
        text = self.format % parts if isinstance(self.format, str) else self.format(parts)
        return text if text.endswith("\n") else f"{text}\n"

    def _write(self, stream: Any, text: str) -> None:
        """Write to a stream of either kind (M2); what is of no class of `io` is asked by trying."""
        if isinstance(stream, RawIOBase | BufferedIOBase):
            _write_bytes(stream, self._encoded(text))
        else:
            try:
                stream.write(text)
            except TypeError:
                stream.write(self._encoded(text))
            except UnicodeEncodeError as error:
                # The stream has an encoding of its own, for example that of the terminal.
                stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
        stream.flush()

    def _encoded(self, text: str) -> bytes:
        return text.encode(self.encoding, "backslashreplace")


def _write_bytes(stream: RawIOBase | BufferedIOBase, line: bytes) -> None:
    """Write all of it: a stream without a buffer may take only a part."""
    rest = memoryview(line)
    while rest:
        taken = stream.write(rest)
        if not taken:
            raise BlockingIOError(f"{stream!r} takes no more")
        rest = rest[taken:]


class StdoutLogger(StreamLogger):
    """Writes to the standard output that the program has when this is made."""

    def __init__(
        self,
        bus: Bus,
        level: float | None = None,
        format: Format | None = None,  # noqa: A002 - as above
    ) -> None:
        super().__init__(bus, sys.stdout, level, format)


class StderrLogger(StreamLogger):
    """Writes to the standard error stream that the program has when this is made."""

    def __init__(
        self,
        bus: Bus,
        level: float | None = None,
        format: Format | None = None,  # noqa: A002 - as above
    ) -> None:
        super().__init__(bus, sys.stderr, level, format)


class FileLogger(StreamLogger):
    """Appends to the file of a name, or writes to a file that is open already.

    `graceful` opens the name again, so that logs can be rotated: rename the file, then send the signal. If that fails,
    the old file stays in use. Raises ValueError without both, and OSError if the file cannot be opened.
    """

    def __init__(
        self,
        bus: Bus,
        filename: str | os.PathLike[str] | None = None,
        file: Any = None,
        level: float | None = None,
        format: Format | None = None,  # noqa: A002 - as above
        *,
        encoding: str = "utf-8",
    ) -> None:
        if file is None and filename is None:
            raise ValueError("Either file or filename must be given.")
        #: Absolute, so that it is the same file after a change of the directory.
        self.filename = None if filename is None else os.path.abspath(filename)
        self._own: FileIO | None = None
        super().__init__(bus, file, level, format, encoding)
        if file is None:
            self._open()

    def subscribe(self) -> None:
        if self.stream is None:
            self._open()
        super().subscribe()

    def unsubscribe(self) -> None:
        """Undo `subscribe`; a file that was opened here is closed, until `subscribe` opens it again."""
        super().unsubscribe()
        with self._lock:
            own, self._own = self._own, None
            if own is not None:
                self.stream = None
                own.close()

    def graceful(self) -> None:
        """Open the file of that name again; one that was given open is left alone."""
        if self._own is not None:
            self._open()

    def _open(self) -> None:
        # Without a buffer a line is one write at the end of the file (O_APPEND of open(2)): two processes can share it.
        fresh = FileIO(str(self.filename), "ab")
        with self._lock:
            former, self.stream, self._own = self._own, fresh, fresh
        if former is not None:
            former.close()
