"""The process bus: one object that holds the state of the process and named channels that others listen to.

    from monsal.bus import bus                   # the default one, made on first touch

Standard library only, and nothing else of monsal: it can be used without the rest. Importing it starts nothing (P9).
Start reading at `core.py`. `states.py` is the table of all ways, `steps.py` goes them, `hub.py` has the channels,
`inner/rounds.py` watches over the time, `plugins/` is what comes with it. `units.py` starts and stops the parts of a
program in the order of their needs.
`manager.py` speaks to the service manager, `inherited.py` has the sockets that one process leaves to the next,
`launching.py` starts a fresh process and waits for it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING

from monsal.bus.channels import DEFAULT_PRIORITY, Channel, ChannelFailures, Listener
from monsal.bus.core import Bus
from monsal.bus.events import BusStatistics, Event, History
from monsal.bus.hub import Hub
from monsal.bus.limits import Hurry, Limits
from monsal.bus.plugins import (
    DropPrivileges,
    PIDFile,
    PIDFileHeld,
    PIDLock,
    SignalHandler,
    SimplePlugin,
    blocked_for,
    drop_privileges,
    find_gid,
    find_uid,
    find_umask,
)
from monsal.bus.states import ASKED, WAYS, Action, Phase, State, TransitionError, states
from monsal.bus.steps import Steps
from monsal.bus.unit import UNIT_WAYS, Unit, UnitError, UnitPhase, UnitStatistics
from monsal.bus.units import Units

if TYPE_CHECKING:
    from monsal.bus.inherited import hand_over, hand_over_by_exec, listen_fds
    from monsal.bus.launching import Launched, LaunchFailed, launch
    from monsal.bus.manager import ManagerSocket, notify
    from monsal.bus.plugins import (
        Autoreloader,
        BackgroundTask,
        Daemonizer,
        FileLogger,
        Monitor,
        Notifier,
        PeriodicTask,
        PerpetualTimer,
        PollingWatcher,
        ServerAdapter,
        StderrLogger,
        StdoutLogger,
        StreamLogger,
        Successor,
        ThreadManager,
        Watcher,
    )

    bus: Bus

__all__ = [
    "ASKED",
    "DEFAULT_PRIORITY",
    "UNIT_WAYS",
    "WAYS",
    "Action",
    "Autoreloader",
    "BackgroundTask",
    "Bus",
    "BusStatistics",
    "Channel",
    "ChannelFailures",
    "Daemonizer",
    "DropPrivileges",
    "Event",
    "FileLogger",
    "History",
    "Hub",
    "Hurry",
    "LaunchFailed",
    "Launched",
    "Limits",
    "Listener",
    "ManagerSocket",
    "Monitor",
    "Notifier",
    "PIDFile",
    "PIDFileHeld",
    "PIDLock",
    "PeriodicTask",
    "PerpetualTimer",
    "Phase",
    "PollingWatcher",
    "ServerAdapter",
    "SignalHandler",
    "SimplePlugin",
    "State",
    "StderrLogger",
    "StdoutLogger",
    "Steps",
    "StreamLogger",
    "Successor",
    "ThreadManager",
    "TransitionError",
    "Unit",
    "UnitError",
    "UnitPhase",
    "UnitStatistics",
    "Units",
    "Watcher",
    "blocked_for",
    "bus",
    "drop_privileges",
    "find_gid",
    "find_uid",
    "find_umask",
    "hand_over",
    "hand_over_by_exec",
    "launch",
    "listen_fds",
    "notify",
    "states",
]

#: What needs sockets or processes, or no server needs to start, is loaded when it is first asked for: importing the bus
#: stays cheap (PEP 562).
_HOME = {
    "Autoreloader": "monsal.bus.plugins.autoreload",
    "BackgroundTask": "monsal.bus.plugins.tasks",
    "Daemonizer": "monsal.bus.plugins.daemonizer",
    "FileLogger": "monsal.bus.plugins.loggers",
    "LaunchFailed": "monsal.bus.launching",
    "Launched": "monsal.bus.launching",
    "ManagerSocket": "monsal.bus.manager",
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
    "hand_over": "monsal.bus.inherited",
    "hand_over_by_exec": "monsal.bus.inherited",
    "launch": "monsal.bus.launching",
    "listen_fds": "monsal.bus.inherited",
    "notify": "monsal.bus.manager",
}
_making = Lock()

if not TYPE_CHECKING:
    # As `monsal.late` does it; but the bus imports nothing else of monsal.

    def __getattr__(name: str) -> object:
        if name == "bus":
            with _making:
                if name not in globals():
                    globals()[name] = Bus()
                return globals()[name]
        home = _HOME.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
        globals()[name] = value = getattr(import_module(home), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOME, "bus"})
