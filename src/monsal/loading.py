"""The application object of a directory, imported: what `monsal run` and each worker process begin with."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from monsal.errors import UsageError

if TYPE_CHECKING:
    from monsal.app import App

__all__ = ["TARGET", "has_module", "import_app"]

#: Where the application object is, unless said otherwise.
TARGET = "app:app"


def import_app(home: Path, target: str = TARGET) -> App:
    """Import the application object `module:name` of the directory `home`, which comes first on the path of modules.

    Raises UsageError: there is none, or importing it failed (then the cause is what its code raised).
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise UsageError(f"an application is named MODULE:NAME, as in {TARGET}, not {target!r}")
    module = _import(home, module_name)
    # Not before: most commands only ask whether there is a module, and all of the application's floors come with it.
    from monsal.app import App

    found = getattr(module, name, None)
    if not isinstance(found, App):
        what = "is no App" if hasattr(module, name) else "is not there"
        raise UsageError(f"{name} {what} in {module.__file__}; it should say: {name} = App(...)")
    return found


def has_module(home: Path, name: str) -> bool:
    """Whether the directory `home` has a module of that name."""
    path = home.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _import(home: Path, name: str) -> ModuleType:
    sys.path[:] = [str(home), *(place for place in sys.path if place != str(home))]
    known = sys.modules.get(name)
    if known is not None and not str(getattr(known, "__file__", "")).startswith(str(home) + os.sep):
        del sys.modules[name]  # of another directory, or one of that name on the path
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except Exception as error:
        # Whatever its code raises is the reason that its author has to be told.
        raise UsageError(f"{name} in {home} cannot be imported: {type(error).__name__}: {error}") from error
