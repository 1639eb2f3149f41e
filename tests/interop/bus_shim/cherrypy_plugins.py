"""Stands in for `cherrypy.process.plugins`: the same names, from monsal.bus."""

from __future__ import annotations

from monsal.bus import (
    Autoreloader,
    BackgroundTask,
    Daemonizer,
    DropPrivileges,
    Monitor,
    PerpetualTimer,
    PIDFile,
    SignalHandler,
    SimplePlugin,
    ThreadManager,
)

__all__ = [
    "Autoreloader",
    "BackgroundTask",
    "Daemonizer",
    "DropPrivileges",
    "Monitor",
    "PIDFile",
    "PerpetualTimer",
    "SignalHandler",
    "SimplePlugin",
    "ThreadManager",
]
