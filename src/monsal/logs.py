"""The log lines of a server: for people, or one JSON object each (`--log json`).

Whoever logs gives `extra={"action": ..., "message_id": ..., "conversation": ...}` and more where it helps; both forms
show all of it. `set_up_logging` is called once, by whoever runs the process; importing this changes nothing (P9).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from threading import get_ident
from typing import Any, TextIO

import msgspec

from monsal.logline import LineHandler

__all__ = ["JsonFormatter", "TextFormatter", "set_up_logging"]

#: What a record carries anyway; everything else came with `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: What ends a line for some who read it, or has what follows shown from right to left.
_STEERS = (*range(0x200E, 0x2010), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
#: Control characters as their escapes: what a peer sent must not make a line of its own, or steer a terminal.
_ESCAPES = {
    **{code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))},
    **{code: f"\\u{code:04x}" for code in _STEERS},
    9: "\\t",
    10: "\\n",
    13: "\\r",
}
#: The same in JSON, which has escapes for the first 32 in any case.
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(127, 160), *_STEERS)}
_NONE = id(None)


class _Formatter(logging.Formatter):
    """What both forms share: UTC times in milliseconds, and the extras of a record."""

    def __init__(self) -> None:
        super().__init__()
        self._second = -1
        self._text = ""

    def format(self, record: logging.LogRecord) -> str:
        return self.line(
            record.created,
            record.levelname,
            record.name,
            record.getMessage(),
            self.extras(record),
            trace=self.trace(record),
        )

    def line(
        self, created: float, level: str, logger: str, text: str, facts: Mapping[str, Any], *, trace: str = ""
    ) -> str:
        """What is written of a record, or of what would be one."""
        raise NotImplementedError

    def time_of(self, created: float) -> str:
        second = int(created)
        if second != self._second:  # a busy server writes many lines a second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._text}.{int(created * 1000) % 1000:03d}Z"

    def extras(self, record: logging.LogRecord) -> dict[str, Any]:
        return {name: value for name, value in vars(record).items() if name not in _STANDARD}

    def trace(self, record: logging.LogRecord) -> str:
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        parts = [record.exc_text or "", self.formatStack(record.stack_info) if record.stack_info else ""]
        return "\n".join(part for part in parts if part)


class TextFormatter(_Formatter):
    """`time LEVEL message name=value ...`; further lines of the message and a traceback follow, indented.

    A line that begins with anything but four blanks is a record of its own, whatever a peer put into its mail.
    """

    def line(
        self, created: float, level: str, logger: str, text: str, facts: Mapping[str, Any], *, trace: str = ""
    ) -> str:
        # By identity: to `None in ...` the values of an application would be asked whether they are equal to it.
        if _NONE in map(id, facts.values()):
            facts = {name: value for name, value in facts.items() if value is not None}
        told = _form_of(tuple(facts)) % tuple(facts.values())
        begun = f"{self.time_of(created)} {level:<7} "
        if text.isprintable() and not trace:
            return begun + _one_line(text + told)
        text, *more = text.rstrip("\r\n").replace("\r\n", "\n").split("\n")
        if trace:
            more += trace.replace("\r\n", "\n").split("\n")
        return "".join([begun, _one_line(text + told), *(f"\n    {_one_line(each)}" for each in more)])


@lru_cache(maxsize=256)  # the lines of each mail have the same few
def _form_of(names: tuple[str, ...]) -> str:
    return "".join([f" {name.replace('%', '%%')}=%s" for name in names])


def _one_line(text: str) -> str:
    """The text with its control characters escaped. `translate` took half of the time that a line takes, and nearly
    none has one."""
    return text if text.isprintable() else text.translate(_ESCAPES)


class JsonFormatter(_Formatter):
    """One object: time, level, action, message_id, conversation, message, logger, the other extras, traceback."""

    def __init__(self) -> None:
        super().__init__()
        self._encoder = msgspec.json.Encoder(enc_hook=str)

    def line(
        self, created: float, level: str, logger: str, text: str, facts: Mapping[str, Any], *, trace: str = ""
    ) -> str:
        said = {
            "time": self.time_of(created),
            "level": level.lower(),
            "action": None,
            "message_id": None,
            "conversation": None,
            "message": text,
            "logger": logger,
        }
        said |= facts
        if trace:
            said["traceback"] = trace
        try:
            line = self._encoder.encode(said).decode()
        except (TypeError, ValueError):
            # A key or text without a JSON form (half a surrogate pair): the line matters more than its letters.
            line = self._encoder.encode({str(name): _plain(str(value)) for name, value in said.items()}).decode()
        return line if line.isprintable() else line.translate(_JSON_ESCAPES)


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


#: When a line was said, where, its text, and the facts behind it.
_Line = tuple[float, str, str, Mapping[str, Any]]

#: Seconds for which lines of mails may wait, and how many of them at most. A server that has little to do has answered
#: by then, and one that has much to do writes many lines at once.
_PAUSE = 0.005
_MOST = 1000


class _Handler(LineHandler):
    """Marks the handler that `set_up_logging` made, and gives each record the name of the process that wrote it.

    On a loop, lines without a record are made and written together a moment later, or before the next record.
    """

    def __init__(self, stream: TextIO, form: _Formatter, process: str) -> None:
        super().__init__(stream)
        self._form = form
        self._facts = {"worker": process} if process else {}
        #: Whoever tells a line puts it there without the lock; who writes them has that.
        self._lines: deque[_Line] = deque()
        #: The loop that will write them, and its thread.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self.setFormatter(form)

    def emit(self, record: logging.LogRecord) -> None:
        self.write_waiting()
        vars(record).update(self._facts)
        super().emit(record)

    def flush(self) -> None:
        """Write what was told, as at the end of the process."""
        self.write_waiting()
        super().flush()

    def write_line(self, logger: str, text: str, facts: Mapping[str, Any]) -> bool:
        if self.formatter is not self._form or self.level > logging.INFO:
            return False
        self._lines.append((time.time(), logger, text, facts))
        loop = self._loop  # looked up once: another thread may change it meanwhile
        try:
            if len(self._lines) >= _MOST:
                self.flush()
            elif loop is None or self._thread != get_ident() or not loop.is_running():
                self._have_written()
        except Exception:  # noqa: BLE001 - as `emit` does it: the log never stops what it tells of
            self.handleError(logging.makeLogRecord({"name": logger, "msg": text, **facts}))
        return True

    def begin_anew(self) -> None:
        """In a forked child: the lines that wait are the parent's, which writes them."""
        self._lines, self._loop = deque(), None

    def _have_written(self) -> None:
        """Have what waits written, by the loop of this thread in a moment, or now if there is none."""
        # Asked once for the lines of a moment: to know its loop, Python asks for the number of the process.
        loop = asyncio._get_running_loop()
        self._loop, self._thread = loop, get_ident()
        if loop is None:
            self.flush()
        else:
            loop.call_later(_PAUSE, self._write_later)

    def _write_later(self) -> None:
        self._loop = None
        try:
            self.flush()
        except Exception:  # noqa: BLE001 - see above
            self.handleError(logging.makeLogRecord({"name": "monsal", "msg": "the log cannot be written"}))

    def write_waiting(self) -> None:
        """Write the lines that wait."""
        lines: list[_Line] = []
        self.acquire()
        try:
            # The lock does not keep out what logs on this thread in the midst of this: a signal handler, an object that
            # ends. It writes those that are left here.
            with contextlib.suppress(IndexError):
                for _ in range(len(self._lines)):
                    lines.append(self._lines.popleft())
            if lines:
                self.stream.write("".join(map(self._made, lines)))
        except Exception:  # noqa: BLE001 - see above
            for _, logger, text, facts in lines:
                self.handleError(logging.makeLogRecord({"name": logger, "msg": text, **facts}))
        finally:
            self.release()

    def _made(self, line: _Line) -> str:
        created, logger, text, facts = line
        try:
            return self._form.line(created, "INFO", logger, text, {**facts, **self._facts}) + self.terminator
        except Exception:  # noqa: BLE001 - see above; others are in its company
            self.handleError(logging.makeLogRecord({"name": logger, "msg": text, **facts}))
            return ""


#: What was registered for forked children; by the first call and not by an import (P9).
_hooks: list[Callable[[], None]] = []


def _begin_anew() -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.begin_anew()


def set_up_logging(form: str = "text", level: str = "info", stream: TextIO | None = None, *, process: str = "") -> None:
    """Write log records from `level` on to `stream` (standard error), in the `form` "text" or "json".

    `process` is added to each where several processes write to one place.
    An application that has given the root logger handlers of its own keeps them, and only the level is set.
    Calling it again replaces what it did before.
    """
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(handler)
        handler.write_waiting()
    if not root.handlers:
        formatter = JsonFormatter() if form == "json" else TextFormatter()
        root.addHandler(_Handler(stream or sys.stderr, formatter, process))
    if not _hooks:
        _hooks.append(_begin_anew)
        os.register_at_fork(after_in_child=_begin_anew)
    root.setLevel(level.upper())
    # Its debug lines are about selectors, not about mail.
    logging.getLogger("asyncio").setLevel(max(logging.INFO, root.level))
