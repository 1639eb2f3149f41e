"""A plugin of pytest: `salmon` is monsal.compat from here on.

Modules that ours has no counterpart of are there but empty, so that the files of tests that import them can be loaded;
what needs something of them fails, and is listed in not_applicable.toml.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from monsal.compat import install

__all__: list[str] = []

EMPTY = ("salmon.commands", "salmon._vendor", "salmon._vendor.lmtpd")

install()
for name in EMPTY:
    sys.modules[name] = ModuleType(name)
    parent, _, inner = name.rpartition(".")
    setattr(import_module(parent), inner, sys.modules[name])
