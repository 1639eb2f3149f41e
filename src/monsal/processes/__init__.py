"""One application in several processes (DESIGN 6): the same services, with actors around them and a link to the store.

    supervisor    life, signals, listening sockets, control socket; holds no message       `fleet.py`
     ├ store      the one writer of an SQLite file                                          `storekeeper.py`
     ├ worker-N   ingress on the inherited sockets, turns, outbox; one generation of code   `worker.py`
     ├ spare      a worker that has booted and waits
     └ api        serves programs that call, if the application exposes an API              `worker.py`

May import: everything below the server. Start reading at `fleet.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monsal.late import late

if TYPE_CHECKING:
    from monsal.processes.fleet import Fleet as Fleet
    from monsal.processes.plan import Plan as Plan
    from monsal.processes.supervisor import Supervisor as Supervisor

# A worker process imports its own module only: what the supervisor needs is none of its business.
_HOME = {
    "Fleet": "monsal.processes.fleet",
    "Plan": "monsal.processes.plan",
    "Supervisor": "monsal.processes.supervisor",
}

__all__ = [*_HOME]

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _HOME)
