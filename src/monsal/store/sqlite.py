"""The store on a file: SQLite with one owner (rule state.B16)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monsal.store.contract import Capabilities
from monsal.store.engine.face import SqlStore
from monsal.store.engine.place import EngineSettings, FilePlace

__all__ = ["SqliteStore"]


class SqliteStore(SqlStore):
    """Keeps everything in the database `path`; beside it `store.lock`, which says who owns it, and `bodies/`.

    `tables` is SQL that is run at each opening, for tables of the application's own (`create table if not exists`).
    Opening makes what is not there yet.
    """

    def __init__(self, path: Path, *, tables: Sequence[str] = (), settings: EngineSettings | None = None) -> None:
        settings = settings or EngineSettings()
        capabilities = Capabilities(
            durable_ack=True,
            atomic_turn=True,
            fence=True,
            order=True,
            timers=True,
            scan=True,
            multi_host=False,
            sql=True,
        )
        super().__init__(FilePlace(path.absolute(), tables, settings), settings, capabilities, threaded=True)
        self.path = path.absolute()
