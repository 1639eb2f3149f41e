"""`salmon.utils`: the settings of an application, and the little that its scripts ask of a process."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any

from monsal.compat.salmon import server

__all__ = ["SETTINGS_MODULE", "import_settings", "make_fake_settings", "settings", "start_server"]

#: The variable of the environment that names the module of settings, and the name without it.
SETTINGS_MODULE = ("SALMON_SETTINGS_MODULE", "config.settings")

#: The module of settings, None until `import_settings`.
settings: Any = None


def import_settings(boot_also: bool, boot_module: str = "config.boot") -> Any:
    """Import the settings, and with `boot_also` the module that fills them; returns the settings."""
    global settings
    if settings is None:
        settings = importlib.import_module(os.environ.get(*SETTINGS_MODULE))
    if boot_also:
        importlib.import_module(boot_module)
    return settings


def make_fake_settings(host: str, port: int) -> ModuleType:
    """Settings with a receiver and no relay, for a server that only logs."""
    global settings
    made = ModuleType("settings")
    vars(made).update(receiver=server.SMTPReceiver(host, port), relay=None)
    settings = made
    return made


def start_server(*_: Any, **__: Any) -> None:
    """Start the receiver of the settings. A server is started by `monsal run`."""
    settings.receiver.start()
