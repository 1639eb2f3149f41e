"""How a call of the application's code ended, and an error of it in words that can be kept."""

from __future__ import annotations

import traceback
from typing import Any, Final

import msgspec

from monsal.errors import StatementError

__all__ = ["Outcome", "failed", "refused"]

#: Characters of an error that are kept; a traceback of twenty frames has about two thousand.
_MAX_WORDS: Final = 64 * 1024


class Outcome(msgspec.Struct, frozen=True, eq=False):
    """How a call ended: `error` is None and `value` what `finish` made of the result, or `error` and its traceback.

    `text` is the error in one line, made on the handler's thread, because making it runs the application's code.
    """

    value: Any = None
    error: BaseException | None = None
    detail: str = ""
    text: str = ""


def failed(error: BaseException, *, without: str) -> Outcome:
    """The outcome of a call that raised. Frames of the file `without` say nothing to the author of a handler.

    It raises nothing itself: a thread, and a message with all that follow it, would hang for ever.
    """
    try:
        words, detail = _words_of(error, without)
    except BaseException as cause:  # noqa: BLE001 - to put an error into words is to run code and data of its own
        words = detail = f"{type(error).__name__} (it cannot be shown: {type(cause).__name__})\n"
    return Outcome(error=error, detail=_presentable(detail), text=_presentable(words))


def refused(error: StatementError) -> Outcome:
    """A statement of the turn that the database refused, as the failure of its handler."""
    # Its frames are ours, say nothing to the author of a handler, and would keep the message as long as they are kept.
    error.__traceback__ = None
    text = f"{type(error).__name__}: {error}"
    return Outcome(error=error, detail=f"{text}\n", text=text)


def _words_of(error: BaseException, without: str) -> tuple[str, str]:
    """An error in one line, and with its traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != without]
    head = "Traceback (most recent call last):\n" if own else ""
    chain = ""
    if error.__cause__ is not None or (error.__context__ is not None and not error.__suppress_context__):
        chain = "".join(traceback.format_exception(error.__cause__ or error.__context__)) + "\n"
    words = "".join(traceback.format_exception_only(error))
    return words, chain + head + "".join(traceback.format_list(own)) + words


def _presentable(text: str) -> str:
    """Text that log, database and terminal can take: bounded, its middle left out, and all of it characters."""
    if len(text) > _MAX_WORDS:
        half = _MAX_WORDS // 2
        text = f"{text[:half]}\n... ({len(text) - 2 * half} characters left out) ...\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
