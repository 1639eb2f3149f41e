"""`salmon.handlers.log`, `.forward` and `.queue`: modules with one handler each, made when an application imports one.

They are made, not imported from here: a handler belongs to the module that it is loaded as, and registers then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from monsal.compat.salmon import configuration, queue
from monsal.compat.salmon.routing import nolocking, route, stateless

__all__ = ["HANDLERS", "QUEUE_DIR"]

#: Where the handler `queue` puts mail.
QUEUE_DIR = "run/queue"

LOG = logging.getLogger("salmon.handlers")


class _Settings:
    """The application's settings, whenever they are asked for."""

    def __getattr__(self, name: str) -> Any:
        if configuration.settings is None:
            configuration.import_settings(False)
        return getattr(configuration.settings, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if configuration.settings is None:
            configuration.import_settings(False)
        setattr(configuration.settings, name, value)


def _log(module: ModuleType) -> None:
    def START(message: Any, to: str | None = None, host: str | None = None) -> None:
        LOG.info("mail from %s to %s@%s:\n%s", message.From, to, host, message)

    _add(module, START)


def _forward(module: ModuleType) -> None:
    settings = _Settings()

    def START(message: Any, to: str | None = None, host: str | None = None) -> None:
        LOG.debug("mail from %s to %s@%s goes on to the relay", message.From, to, host)
        settings.relay.deliver(message)

    LOG.warning("%s sends on whatever comes in: see that only mail for your hosts does", module.__name__)
    vars(module)["settings"] = settings
    _add(module, START)


def _queue(module: ModuleType) -> None:
    def START(message: Any, to: str | None = None, host: str | None = None) -> None:
        queue.Queue(QUEUE_DIR).push(message)

    _add(module, nolocking(START))


def _add(module: ModuleType, handler: Callable[..., Any]) -> None:
    handler.__module__ = module.__name__
    handler.__qualname__ = handler.__name__
    vars(module)["START"] = route("(to)@(host)", to=".+", host=".+")(stateless(handler))


#: Name of a module below `salmon.handlers` -> what fills it.
HANDLERS: Mapping[str, Callable[[ModuleType], None]] = {"forward": _forward, "log": _log, "queue": _queue}
