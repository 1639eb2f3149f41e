"""Replacing the process by a fresh one of the same command line (rule R18, B11)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import NoReturn

__all__ = ["command_line", "execute_again", "starting_directory"]


def _here() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


#: The directory of the first start: relative paths of the command line are meant from there.
_STARTED_IN = _here()


def starting_directory() -> str | None:
    """Where this program was started, if that is still a directory."""
    return _STARTED_IN if _STARTED_IN is not None and os.path.isdir(_STARTED_IN) else None


def command_line() -> list[str]:
    """Interpreter, its options, and the arguments of the program, `-m` and `-c` included.

    Raises RuntimeError if the interpreter was embedded in a program that is not Python.
    """
    if not sys.executable or not sys.orig_argv:
        raise RuntimeError("this process has no command line that could be run again")
    return [sys.executable, *sys.orig_argv[1:]]


def execute_again(command: list[str], environ: Mapping[str, str]) -> NoReturn:
    """Become `command`, in the starting directory, with `environ` beside what is in the environment.

    Descriptors are left alone: they are not inherited by default.
    """
    os.environ.update(environ)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    directory = starting_directory()
    if directory is not None:
        os.chdir(directory)
    os.execv(command[0], command)
