"""What can be plugged into a bus: each plugin subscribes its own methods and knows nothing of the others.

Standard library only. Start reading at `simple.py`, the base; `signals.py` turns signals into calls of the bus.
What a server does not need to start is handed out when it is first asked for, so that importing the bus stays cheap
(PEP 562).
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from monsal.bus.plugins.pidfile import PIDFile, PIDFileHeld, PIDLock
from monsal.bus.plugins.privileges import DropPrivileges, blocked_for, drop_privileges, find_gid, find_uid, find_umask
from monsal.bus.plugins.signals import SignalHandler
from monsal.bus.plugins.simple import SimplePlugin

if TYPE_CHECKING:
    from monsal.bus.plugins.autoreload import Autoreloader, PollingWatcher, Watcher
    from monsal.bus.plugins.daemonizer import Daemonizer
    from monsal.bus.plugins.loggers import FileLogger, StderrLogger, StdoutLogger, StreamLogger
    from monsal.bus.plugins.servers import ServerAdapter
    from monsal.bus.plugins.successor import Successor
    from monsal.bus.plugins.systemd import Notifier
    from monsal.bus.plugins.tasks import BackgroundTask, Monitor, PeriodicTask, PerpetualTimer
    from monsal.bus.plugins.threads import ThreadManager

__all__ = [
    "Autoreloader",
    "BackgroundTask",
    "Daemonizer",
    "DropPrivileges",
    "FileLogger",
    "Monitor",
    "Notifier",
    "PIDFile",
    "PIDFileHeld",
    "PIDLock",
    "PeriodicTask",
    "PerpetualTimer",
    "PollingWatcher",
    "ServerAdapter",
    "SignalHandler",
    "SimplePlugin",
    "StderrLogger",
    "StdoutLogger",
    "StreamLogger",
    "Successor",
    "ThreadManager",
    "Watcher",
    "blocked_for",
    "drop_privileges",
    "find_gid",
    "find_uid",
    "find_umask",
]

_HOME = {
    "Autoreloader": "monsal.bus.plugins.autoreload",
    "BackgroundTask": "monsal.bus.plugins.tasks",
    "Daemonizer": "monsal.bus.plugins.daemonizer",
    "FileLogger": "monsal.bus.plugins.loggers",
    "Monitor": "monsal.bus.plugins.tasks",
    "Notifier": "monsal.bus.plugins.systemd",
    "PeriodicTask": "monsal.bus.plugins.tasks",
    "PerpetualTimer": "monsal.bus.plugins.tasks",
    "PollingWatcher": "monsal.bus.plugins.autoreload",
    "ServerAdapter": "monsal.bus.plugins.servers",
    "StderrLogger": "monsal.bus.plugins.loggers",
    "StdoutLogger": "monsal.bus.plugins.loggers",
    "StreamLogger": "monsal.bus.plugins.loggers",
    "Successor": "monsal.bus.plugins.successor",
    "ThreadManager": "monsal.bus.plugins.threads",
    "Watcher": "monsal.bus.plugins.autoreload",
}

if not TYPE_CHECKING:
    # As `monsal.late` does it; but the bus imports nothing else of monsal.

    def __getattr__(name: str) -> object:
        home = _HOME.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
        globals()[name] = value = getattr(import_module(home), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOME})
