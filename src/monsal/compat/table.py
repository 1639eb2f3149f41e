"""What the ancestor's router has registered, as the table that the engine works with.

Each function becomes a handler that gets a request in place of a message. What is different from a table of native
modules: captures are given whole, formats are expressions, and a failure only notes ERROR, whose function takes the
next message (rules routing.R29 and R30).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any

from monsal.compat.requests import request_of
from monsal.compat.salmon.routing import DEFAULT_STATE_KEY, RoutingBase, handler_of, salmon_setting
from monsal.routing import ERROR_STATE, Handler, Module, Route, Router, Table

__all__ = ["AncestorRouter", "table_of"]

Func = Callable[..., Any]


class AncestorRouter(Router):
    """The engine's router over that of the ancestor, whose modules are loaded by its boot module."""

    def __init__(self, registry: RoutingBase) -> None:
        super().__init__()
        self._registry = registry

    def load(self, modules: Iterable[str | ModuleType | object] | str | ModuleType) -> None:
        """Take what is registered, and behind it the routes of `modules`, which are native ones."""
        with self._lock:
            super().load(modules)
            self._join()

    def reload(self) -> None:
        """Execute the modules again; raises what their code does, and the old table stays (rule routing.B12)."""
        with self._lock:
            logs, self._registry.LOG_EXCEPTIONS = self._registry.LOG_EXCEPTIONS, False
            try:
                self._registry.reload()
            finally:
                self._registry.LOG_EXCEPTIONS = logs
            super().reload()
            self._join()

    def _join(self) -> None:
        native, ancestor = self.table, table_of(self._registry)
        self._table = Table((*ancestor.routes, *native.routes), {**native.modules, **ancestor.modules})


def table_of(registry: RoutingBase) -> Table:
    """The table of all that is registered, in its order."""
    functions: dict[tuple[str, str], Handler] = {}
    routes = []
    for text in registry.ORDER:
        format_, registered = registry.REGISTERED[text]
        handlers: dict[str, Handler] = {}
        for func in registered:
            home = (func.__module__, func.__name__)
            handler = functions.setdefault(home, _handler(func))
            handlers.setdefault(handler.id, handler)
        routes.append(Route(format_.pattern, tuple(handlers.values())))
    names = dict.fromkeys([*registry.HANDLERS, *(module for module, _ in functions)])
    return Table(routes, {name: _module(name, registry, functions) for name in names})


def _handler(func: Func) -> Handler:
    module, name = func.__module__, func.__name__
    return Handler(
        id=f"{module}:{name}",
        name=name,
        module=module,
        func=_for_messages(handler_of(func)),
        stateless=bool(salmon_setting(func, "stateless")),
        nolocking=bool(salmon_setting(func, "nolocking")),
        takes_all=True,
    )


def _for_messages(func: Func) -> Func:
    @functools.wraps(func)
    def handle(message: Any, **captures: str | None) -> Any:
        return func(request_of(message), **captures)

    return handle


def _module(name: str, registry: RoutingBase, functions: Mapping[tuple[str, str], Handler]) -> Module:
    own = {handler.name: handler for (module, _), handler in functions.items() if module == name}
    generator = registry.HANDLERS.get(name, DEFAULT_STATE_KEY)
    return Module(
        name=name,
        handlers=MappingProxyType({key: handler for key, handler in own.items() if not handler.stateless}),
        stateless=MappingProxyType({key: handler for key, handler in own.items() if handler.stateless}),
        functions=MappingProxyType({key: _plain(handler.func) for key, handler in own.items()}),
        failed=Handler(id=f"{name}:{ERROR_STATE}", name=ERROR_STATE, module=name, func=_note_failure, takes_all=True),
        key_generator=None if generator is DEFAULT_STATE_KEY else _for_addresses(generator),
    )


def _plain(func: Func) -> Func:
    """The application's own function, for those who look at its code."""
    inner = getattr(func, "__wrapped__", func)
    return inner if isinstance(inner, FunctionType) else func


def _for_addresses(generator: Callable[[str, Any], str]) -> Callable[[str, Any], str]:
    @functools.wraps(generator)
    def key(module_name: str, message: Any) -> str:
        return generator(module_name, request_of(message))

    return key


def _note_failure(message: Any, **captures: str | None) -> None:
    """The machine goes to ERROR, and the function of that name takes the next message (R30)."""
