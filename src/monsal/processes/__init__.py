"""One application in several processes (DESIGN 6): the same services, with actors around them and a link to the store.

    supervisor    life, signals, listening sockets, control socket; holds no message       `fleet.py`
     ├ store      the one writer of an SQLite file                                          `storekeeper.py`
     ├ worker-N   ingress on the inherited sockets, turns, outbox; one generation of code   `worker.py`
     ├ spare      a worker that has booted and waits
     └ api        serves programs that call, if the application exposes an API              `worker.py`

May import: everything below the server. Start reading at `fleet.py`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monsal.processes.fleet import Fleet as Fleet
    from monsal.processes.plan import Plan as Plan
    from monsal.processes.supervisor import Supervisor as Supervisor

# A worker process imports its own module only: what the supervisor needs is none of its business.
_HOME = {
    "Fleet": "fleet",
    "Plan": "plan",
    "Supervisor": "supervisor",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'monsal.processes' has no attribute {name!r}")
    value = getattr(import_module(f"monsal.processes.{home}"), name)
    globals()[name] = value
    return value
