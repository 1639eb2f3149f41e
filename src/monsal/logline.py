"""Lines that the log has of each mail: few words of the code, and a tenth of what a mail costs.

A record of `logging` finds out who called, in which thread and which process, and goes through a formatter that may
want any of it; a line of ours says none of that, and is a third of the work. So these lines are written straight to a
handler that can write lines, if nobody else would hear of the record: `tell` sees to that, for each line anew.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, TextIO

__all__ = ["LineHandler", "tell"]


class LineHandler(logging.StreamHandler[TextIO]):
    """A handler that can do without a record."""

    @abstractmethod
    def write_line(self, logger: str, text: str, args: tuple[object, ...], facts: Mapping[str, Any]) -> bool:
        """Write a line of level INFO as `handle` would, or soon; False, and nothing is done, if that needs a record."""


def tell(log: logging.Logger, text: str, *args: object, facts: Mapping[str, Any]) -> None:
    """The same as `log.info(text, *args, extra=facts)`; `facts` have no name that a record has by itself.

    Neither they nor `args` may change afterwards: the line may be made a moment later.
    """
    if not log.isEnabledFor(logging.INFO):
        return
    handler = _only_handler(log)
    if handler is None or not handler.write_line(log.name, text, args, facts):
        log.info(text, *args, extra=facts)


def _only_handler(log: logging.Logger) -> LineHandler | None:
    """The one handler that hears of all that is logged there, if it is one for lines and nobody filters."""
    if log.filters or logging.getLogRecordFactory() is not logging.LogRecord:
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
