"""Runs a program of CherryPy or magicbus, unchanged, on our bus in place of its own.

    python on_monsal.py [--plugins] -m cherrypy -c site.conf
    python on_monsal.py [--plugins] app.py argument ...

Python asks the finder below first, so the modules in `PLACES` are ours from the first import on, in this process and in
what it becomes by re-execution: the command line names this file. Programs that are started through `sys.executable`
come here, too, if MONSAL_LAUNCHER names a program that leads here; see `test_cherrypy.py`.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[2] / "src"

#: The modules that are ours, and where they are.
PLACES = {
    "cherrypy.process.wspbus": "cherrypy_wspbus.py",
    "magicbus.base": "magicbus_base.py",
    "magicbus.process": "magicbus_process.py",
}
#: With --plugins these, too; without, CherryPy's own plugins and server adapter run on our bus.
PLUGINS = {"cherrypy.process.plugins": "cherrypy_plugins.py", "cherrypy.process.servers": "cherrypy_servers.py"}


class Instead(MetaPathFinder):
    """Finds our modules where others are asked for."""

    def __init__(self, places: dict[str, str]) -> None:
        self.places = places

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        place = self.places.get(fullname)
        return spec_from_file_location(fullname, HERE / place) if place else None


def main(arguments: list[str]) -> None:
    """Put our modules in place, then be the program that the arguments name."""
    places = dict(PLACES)
    if arguments[0] == "--plugins":
        places |= PLUGINS
        del arguments[0]
    sys.meta_path.insert(0, Instead(places))
    sys.path.append(str(SOURCE))
    sys.executable = os.environ.pop("MONSAL_LAUNCHER", sys.executable)
    if arguments[0] == "-m":
        sys.path[0] = os.getcwd()
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
