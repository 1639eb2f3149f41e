"""The store in memory: the same engine, and nothing outlives the process. For tests and rehearsals."""

from __future__ import annotations

from collections.abc import Sequence

from monsal.store.contract import Capabilities
from monsal.store.engine.face import SqlStore
from monsal.store.engine.place import EngineSettings, MemoryPlace

__all__ = ["MemoryStore"]


class MemoryStore(SqlStore):
    """Without thread, file or lock: every call is done when it is made, so tests always run in the same order.

    It acknowledges without a disk, and says so: `durable_ack` is False (rule state.B18). Closing forgets all.
    """

    def __init__(self, *, tables: Sequence[str] = (), settings: EngineSettings | None = None) -> None:
        capabilities = Capabilities(
            durable_ack=False,
            atomic_turn=True,
            fence=True,
            order=True,
            timers=True,
            scan=True,
            multi_host=False,
            sql=True,
        )
        super().__init__(MemoryPlace(tables), settings or EngineSettings(), capabilities, threaded=False)
