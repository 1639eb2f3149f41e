"""Having an application of the ancestor boot, and reading off it what a server has to know."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import quote

from monsal.compat.salmon import configuration
from monsal.compat.salmon.routing import MemoryStorage, Router
from monsal.compat.salmon.server import Relay
from monsal.compat.states import TurnStates
from monsal.compat.table import AncestorRouter

__all__ = ["Booted", "boot", "join"]

log = logging.getLogger("monsal.compat")


@dataclass(frozen=True)
class Booted:
    """What the settings hold after the boot; `storage` is None if states are to be in the store."""

    receiver: Any
    receiver_url: str
    relay: Any
    relay_url: str
    storage: Any


def boot(settings: str, module: str) -> Booted:
    """Import settings and boot module, once, and read them."""
    with _logging_of_ours():
        if configuration.settings is None:
            configuration.settings = import_module(settings)
        found = configuration.import_settings(True, boot_module=module)
    receiver, relay = getattr(found, "receiver", None), getattr(found, "relay", None)
    storage = Router.STATE_STORE
    if Router.RELOAD:
        log.info("Router.RELOAD is set: `monsal reload` takes up new code, not each message", extra=_BOOT)
    return Booted(
        receiver=receiver,
        receiver_url=getattr(receiver, "url", ""),
        relay=relay,
        relay_url=_url_of(relay) if isinstance(relay, Relay) else "",
        storage=None if type(storage) is MemoryStorage else storage,
    )


_BOOT = {"action": "compat_boot"}


def join(found: Booted, entrances: list[Any], take_router: Callable[[AncestorRouter], None]) -> None:
    """Have the ancestor's router work for a server: states by the turn, mail by the outbox."""
    Router.STATE_STORE = TurnStates(found.storage, entrances)
    Relay.adopted = found.relay.place if isinstance(found.relay, Relay) else None
    take_router(AncestorRouter(Router))


def _url_of(relay: Relay) -> str:
    """The relay as a setting; empty if it names no host."""
    if relay.hostname is None:
        return ""
    host = f"[{relay.hostname}]" if ":" in relay.hostname else relay.hostname
    scheme = "lmtp" if relay.lmtp else "smtps" if relay.ssl else "smtp+starttls" if relay.starttls else "smtp"
    login = f"{quote(relay.username, '')}:{quote(relay.password or '', '')}@" if relay.username else ""
    return f"{scheme}://{login}{host}:{relay.port}"


@contextmanager
def _logging_of_ours() -> Iterator[None]:
    """Keep our loggers speaking: `logging.config.fileConfig` silences all that were there before it."""
    silent = {name for name, logger in _loggers() if logger.disabled}
    try:
        yield
    finally:
        for name, logger in _loggers():
            if name not in silent:
                logger.disabled = False


def _loggers() -> list[tuple[str, logging.Logger]]:
    known = logging.root.manager.loggerDict
    return [
        (name, logger)
        for name, logger in known.items()
        if isinstance(logger, logging.Logger) and name.partition(".")[0] == "monsal"
    ]
