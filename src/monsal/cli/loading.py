"""The application of a directory: its object, and its settings even if the object cannot be had."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

from monsal.cli.called import typed
from monsal.cli.exits import CannotCreate
from monsal.config import CONFIG_FILE, Resolved, load_settings
from monsal.errors import UsageError

if TYPE_CHECKING:
    from monsal.app import App

__all__ = ["TARGET", "is_application", "load_app", "make_room", "no_application", "resolve", "store_url"]

#: Where the application object is, unless said otherwise.
TARGET = "app:app"


def load_app(directory: Path, target: str = TARGET) -> App:
    """Import the application object `module:name` of a directory, which comes first on the path of modules.

    Raises UsageError: there is none, or importing it failed (then the cause is what its code raised).
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise UsageError(f"--app takes MODULE:NAME, as in {TARGET}, not {target!r}")
    home = directory.resolve()
    if not _has_module(home, module_name):
        raise UsageError(
            f"there is no {module_name.replace('.', '/')}.py in {home}: change to the directory of an application, "
            f"give it with --dir, or make one with `{typed('new', 'DIR')}`"
        )
    module = _import(home, module_name)
    found = getattr(module, name, None)
    from monsal.app import App

    if not isinstance(found, App):
        what = "is no App" if hasattr(module, name) else "is not there"
        raise UsageError(f"{name} {what} in {module.__file__}; it should say: {name} = App(...)")
    return found


def resolve(directory: Path) -> Resolved:
    """The settings of the application in `directory`.

    If its object cannot be had - there is no app.py, or it is broken - those of the file, the environment and the
    defaults have to do, with a warning: an operator must be able to look at the mail of a broken application.
    """
    home = directory.resolve()
    if not _has_module(home, TARGET.partition(":")[0]):
        return load_settings({}, home, os.environ)
    try:
        app = load_app(home)
    except UsageError as error:
        click.echo(f"monsal: {error}; going on with {CONFIG_FILE}, the environment and the defaults", err=True)
        return load_settings({}, home, os.environ)
    return app.settings(home)


def store_url(directory: Path) -> str:
    """The URL of the application's store; the application is imported only if nothing above it says so."""
    home = directory.resolve()
    outside = load_settings({}, home, os.environ)
    return (outside if "store" in outside.origins else resolve(directory)).settings.store


def make_room(store: str, home: Path, *, create: bool = True) -> None:
    """Make the directory of the store `store`, unless not to `create`. Raises CannotCreate if there cannot be one."""
    if not store.startswith("sqlite:///"):
        return
    path = home / store.removeprefix("sqlite:///")
    if not create and not path.parent.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCreate(f"the store cannot be made at {path}: {error.filename}: {error.strerror}") from None
    if path.is_dir():
        raise CannotCreate(f"the store cannot be made at {path}: there is a directory of that name")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise CannotCreate(f"the store cannot be made at {path}: this user may not write there")


def is_application(directory: Path) -> bool:
    """Whether a directory is an application's: it has its code or its settings, or a server ran there."""
    marks = ("app.py", "app/__init__.py", CONFIG_FILE, "run/ready.json", "run/control.sock", "run/monsal.db")
    return any((directory / name).exists() for name in marks)


def no_application(directory: Path, *, also: str = "") -> UsageError:
    """The error that says that a directory has none, and how to name another."""
    new = typed("new", "DIR")
    return UsageError(
        f"there is no application in {directory.resolve()} (no app.py); change to the directory of one, "
        f"give it with --dir DIR (or MONSAL_DIR), or make one with `{new}`{also}"
    )


def _has_module(home: Path, name: str) -> bool:
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
