"""From a URL to a store. The engine is loaded only when one is asked for (P9)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

from monsal.errors import ConfigError
from monsal.store.contract import Store

__all__ = ["open_store"]

_FORMS = "memory: or sqlite:///run/monsal.db (relative) or sqlite:////var/lib/monsal.db (absolute)"


def open_store(url: str, *, base: Path | None = None, tables: Sequence[str] = ()) -> Store:
    """The store that a URL names, not opened yet.

    `base` is what a relative path begins at (the current directory by default); `tables` is SQL for tables of the
    application's own. Raises ConfigError for anything that is no store of this version.
    """
    if url == "memory:":
        return cast(Store, import_module("monsal.store.memory").MemoryStore(tables=tables))
    if url.startswith("sqlite:"):
        path = url.removeprefix("sqlite:///")
        if path == url or not path or path.endswith("/"):
            raise ConfigError(f"{url!r} names no file; a store is {_FORMS}")
        sqlite = import_module("monsal.store.sqlite")
        return cast(Store, sqlite.SqliteStore((base or Path()) / path, tables=tables))
    if url.startswith(("postgresql:", "postgres:")):
        raise ConfigError(
            "stores on PostgreSQL come with a later monsal, as its extra `postgres`; this version has " + _FORMS
        )
    raise ConfigError(f"{url!r} is no store; a store is {_FORMS}")
