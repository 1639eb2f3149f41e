"""What can be plugged into a bus: each plugin subscribes its own methods and knows nothing of the others.

Standard library only. Start reading at `simple.py`, the base; `signals.py` turns signals into calls of the bus.
"""

from monsal.bus.plugins.autoreload import Autoreloader, PollingWatcher, Watcher
from monsal.bus.plugins.signals import SignalHandler
from monsal.bus.plugins.simple import SimplePlugin
from monsal.bus.plugins.tasks import BackgroundTask, Monitor, PeriodicTask, PerpetualTimer
from monsal.bus.plugins.threads import ThreadManager

__all__ = [
    "Autoreloader",
    "BackgroundTask",
    "Monitor",
    "PeriodicTask",
    "PerpetualTimer",
    "PollingWatcher",
    "SignalHandler",
    "SimplePlugin",
    "ThreadManager",
    "Watcher",
]
