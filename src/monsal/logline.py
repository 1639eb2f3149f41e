"""Lines that the log has of each mail: few words of the code, and a tenth of what a mail costs.

A record of `logging` finds out who called, in which thread and which process, and goes through a formatter that may
want any of it; a line of ours says none of that, and is a third of the work. So these lines are written straight to a
handler that can write lines, if nobody else would hear of the record: `tell` sees to that, for each line anew.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

__all__ = ["LineHandler", "tell", "tell_each"]


def _plain_way() -> object:
    """How Python sends records on; None if whoever watches this program has put in a way of its own already."""
    way = logging.Logger.callHandlers
    return way if getattr(way, "__globals__", None) is vars(logging) else None


_SENDS = _plain_way()


class LineHandler(logging.StreamHandler[TextIO]):
    """A handler that can do without a record."""

    @abstractmethod
    def write_line(self, logger: str, text: str, facts: Mapping[str, Any]) -> bool:
        """Write a line of level INFO as `handle` would; False, and nothing is done, if that needs a record.

        On a loop it may be made and written a moment later, but before all that is logged after it.
        """


def tell(log: logging.Logger, text: str, *args: object, facts: Mapping[str, Any]) -> None:
    """The same as `log.info(text, *args, extra=facts)`; `facts` have no name that a record has by itself.

    Neither they nor `args` may change afterwards: the line may be made a moment later.
    """
    tell_each(log, text, ((args, facts),))


def tell_each(log: logging.Logger, text: str, lines: Iterable[tuple[tuple[object, ...], Mapping[str, Any]]]) -> None:
    """The same for lines of one text, of each its arguments and facts."""
    if not log.isEnabledFor(logging.INFO):
        return
    handler = _only_handler(log)
    for args, facts in lines:
        said = text if handler is None or not args else _filled(text, args)
        if handler is None or said is None or not handler.write_line(log.name, said, facts):
            log.info(text, *args, extra=facts)


def _filled(text: str, args: tuple[object, ...]) -> str | None:
    """The text with its arguments; None if they do not fit: a record says so, and stops nobody."""
    try:
        return text % args
    except Exception:  # noqa: BLE001 - to put an argument into words can be code of anybody
        return None


def _only_handler(log: logging.Logger) -> LineHandler | None:
    """The one handler that hears of all that is logged there, if it is one for lines and nobody filters."""
    if log.filters or type(log) is not logging.Logger or logging.Logger.callHandlers is not _SENDS:
        return None
    if logging.getLogRecordFactory() is not logging.LogRecord:
        return None
    while (parent := log.parent) is not None:
        if log.handlers or not log.propagate:
            return None
        log = parent
    handlers = log.handlers
    if len(handlers) != 1:
        return None
    handler = handlers[0]
    return handler if isinstance(handler, LineHandler) and not handler.filters else None
