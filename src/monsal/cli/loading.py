"""The application of a directory: its object, and its settings even if the object cannot be had."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from monsal.cli.called import typed
from monsal.cli.exits import CannotCreate
from monsal.config import CONFIG_FILE, Resolved, load_settings
from monsal.errors import UsageError
from monsal.loading import TARGET, has_module, import_app

if TYPE_CHECKING:
    from monsal.app import App

__all__ = ["TARGET", "is_application", "load_app", "make_room", "no_application", "resolve", "store_url"]


def load_app(directory: Path, target: str = TARGET) -> App:
    """Import the application object `module:name` of a directory; see `monsal.loading`. Raises UsageError."""
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise UsageError(f"--app takes MODULE:NAME, as in {TARGET}, not {target!r}")
    home = directory.resolve()
    if not has_module(home, module_name):
        raise UsageError(
            f"there is no {module_name.replace('.', '/')}.py in {home}: change to the directory of an application, "
            f"give it with --dir, or make one with `{typed('new', 'DIR')}`"
        )
    return import_app(home, target)


def resolve(directory: Path) -> Resolved:
    """The settings of the application in `directory`.

    If its object cannot be had - there is no app.py, or it is broken - those of the file, the environment and the
    defaults have to do, with a warning: an operator must be able to look at the mail of a broken application.
    """
    home = directory.resolve()
    if not has_module(home, TARGET.partition(":")[0]):
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
