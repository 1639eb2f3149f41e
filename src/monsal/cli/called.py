"""How this program was called, so that every command it prints can be pasted into the shell it was typed in."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

__all__ = ["interpreter", "program", "typed"]

NAME = "monsal"


def program(seen_from: Path | None = None) -> str:
    """What to type for this program: its bare name if the shell finds this very program by it, else as it was called.

    `seen_from` is a directory from which a relative path should lead here. What was not called as a command line
    (a test, another program) has the bare name.
    """
    called = Path(sys.argv[0] if sys.argv else "")
    if called.name == "__main__.py" and called.parent.samefile(Path(__file__).parent):
        interpreter = sys.orig_argv[0] if sys.orig_argv else sys.executable
        return f"{shlex.quote(_seen(interpreter, seen_from))} -m monsal.cli"
    if called.name != NAME or not called.is_file():
        return NAME
    found = _on_path()
    if found is not None and os.path.isabs(found) and os.path.samefile(found, called):
        return NAME
    # Without a slash the shell would look for it on its path, where it is not.
    path = str(called) if called.parent != Path() else os.path.join(os.curdir, called)
    return shlex.quote(_seen(path, seen_from))


def interpreter(seen_from: Path | None = None) -> str:
    """What to type for the Python that has this program: `python` where the program has its bare name."""
    called = Path(sys.argv[0] if sys.argv else "")
    if program() == NAME:
        return "python"
    beside = called.with_name("python")
    if called.name == NAME and beside.exists() and os.path.samefile(beside, sys.executable):
        return shlex.quote(_seen(str(beside), seen_from))
    return shlex.quote(_seen(sys.orig_argv[0] if called.name != NAME else sys.executable, seen_from))


def _on_path() -> str | None:
    """What the shell finds by the bare name. `shutil.which` does the same, and loads three archive formats for it."""
    places = (os.path.join(place, NAME) for place in os.get_exec_path())
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), None)


def _seen(path: str, seen_from: Path | None) -> str:
    if seen_from is None or os.path.isabs(path) or os.sep not in path:
        return path
    return os.path.relpath(path, seen_from)


def typed(*words: object, directory: Path | None = None, seen_from: Path | None = None) -> str:
    """A command of this program as the shell takes it; `--dir` follows unless `directory` is the current one."""
    quoted = [shlex.quote(str(word)) for word in words]
    if directory is not None and directory != Path():
        quoted += ["--dir", shlex.quote(str(directory))]
    return " ".join([program(seen_from), *quoted])
