"""Names that a package hands out when they are first asked for (PEP 562): who needs one module loads one.

    if TYPE_CHECKING:
        from monsal.wire.peer import Peer as Peer

    _HOME = {"Peer": "monsal.wire.peer"}

    __all__ = [*_HOME]

    if not TYPE_CHECKING:
        __getattr__, __dir__ = late(__name__, _HOME)

A type checker reads the imports and never the table, so that a misspelled name is an error to it and no `Any`;
`tests/test_faces.py` holds the two together. The door and `monsal.bus` have their own: they load nothing of the house.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ["late"]


def late(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make the `__getattr__` and the `__dir__` of the package of that name.

    `homes` has for each name the module that defines it; a name at home in `package.name` is that module itself. A
    name is looked up once and then stands in the package. Threads that ask at once get the same: the import system
    has a lock for each module.
    """
    face = sys.modules[package]
    names = vars(face)

    def find(name: str) -> object:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=face)
        module = import_module(home)
        names[name] = value = module if home == f"{package}.{name}" else getattr(module, name)
        return value

    def listed() -> list[str]:
        return sorted({*names, *homes})

    return find, listed
