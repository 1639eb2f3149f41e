"""The ancestor's names for our modules: a finder that answers for `salmon` and `lamson` while it is installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from monsal.errors import UsageError

__all__ = ["PACKAGES", "install", "uninstall"]

PACKAGES = ("lamson", "salmon")

#: Names of modules that are ours under another one.
_OURS = {"utils": "configuration"}
_MODULES = frozenset(
    {"bounce", "confirm", "encoding", "mail", "queue", "routing", "server", "testing", "utils", "view"}
)
_HOME = "monsal.compat.salmon"


class _Alias(Loader):
    """Gives one of our modules, as it is, under another name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It was executed under its own name; the machinery wrote the alias into it, which is taken back."""
        module.__spec__ = self._spec


class _Handlers(Loader):
    """Makes one of the ancestor's handler modules, or the package that holds them."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if self._name:
            import_module(f"{_HOME}.handlers").HANDLERS[self._name](module)


class _Finder(MetaPathFinder):
    """Finds `salmon`, `salmon.routing` and so on; nothing else."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        package, _, inner = fullname.partition(".")
        if package not in PACKAGES:
            return None
        if not inner:
            return ModuleSpec(fullname, _Package(), is_package=True)
        if inner in _MODULES:
            return ModuleSpec(fullname, _Alias(f"{_HOME}.{_OURS.get(inner, inner)}"))
        if inner == "handlers":
            return ModuleSpec(fullname, _Handlers(""), is_package=True)
        parent, _, name = inner.partition(".")
        if parent == "handlers" and name in import_module(f"{_HOME}.handlers").HANDLERS:
            return ModuleSpec(fullname, _Handlers(name))
        return None


class _Package(Loader):
    """Makes the package itself."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        # The release whose behaviour this is.
        vars(module)["__version__"] = "3.3.0"


_finder = _Finder()


def _known() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in PACKAGES]


def install() -> None:
    """Put the names in place; doing it again is harmless.

    Raises UsageError if the ancestor itself was imported before: its modules and ours do not mix.
    """
    if _finder in sys.meta_path:
        return
    if _known():
        raise UsageError(f"{', '.join(sorted(_known()))} was imported before monsal.compat.install(); call it first")
    sys.meta_path.insert(0, _finder)


def uninstall() -> None:
    """Take the names away again, and forget what the application registered."""
    if _finder not in sys.meta_path:
        return
    sys.meta_path.remove(_finder)
    for name in _known():
        del sys.modules[name]
    for name in ("routing", "server", "configuration", "view"):
        module = sys.modules.get(f"{_HOME}.{name}")
        if module is not None:
            _forget(module)


def _forget(module: ModuleType) -> None:
    """Put back what an application set in a module of ours."""
    for name, value in (("settings", None), ("LOADER", None)):
        if hasattr(module, name):
            setattr(module, name, value)
    if hasattr(module, "Relay"):
        module.Relay.adopted = None
    if hasattr(module, "RoutingBase"):
        # The same object: modules that stay imported elsewhere hold it.
        vars(module.Router).update(vars(module.RoutingBase()))
