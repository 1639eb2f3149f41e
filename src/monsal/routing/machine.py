"""The state machine of each module as far as its code tells: which handler names which other ones.

A handler moves its conversation by returning another handler, so it must name it. What is found here is an upper
bound: a name may be used for something else. What nobody names cannot be returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import msgspec

from monsal.routing.collect import home_of
from monsal.routing.table import Handler, Module, Table

__all__ = ["Transition", "draw", "transitions", "unnamed_states"]


class Transition(msgspec.Struct, frozen=True, order=True):
    """A step that a handler may take: from `module:state` to `to_module:to_state`."""

    module: str
    state: str
    to_module: str
    to_state: str


def transitions(table: Table) -> list[Transition]:
    """All steps that the handlers' code names, in order of modules and names."""
    found = set()
    for module in table.modules.values():
        for handler in _machine_of(module):
            for home in _named(handler.func, module, table):
                found.add(Transition(module.name, handler.name, *home))
    return sorted(found)


def unnamed_states(table: Table) -> list[Handler]:
    """Stateful handlers that no other function names: no conversation ever comes there (rule routing.B22)."""
    named: set[tuple[str, str]] = set()
    for module in table.modules.values():
        for name, func in module.functions.items():
            named |= {home for home in _named(func, module, table) if home != (module.name, name)}
            named |= {home for value in _globals(func).values() for home in _held(value)}
    return [
        handler
        for module in table.modules.values()
        for handler in module.handlers.values()
        if handler.name != module.first and handler != module.error and (module.name, handler.name) not in named
    ]


def draw(table: Table) -> str:
    """The machines as text: a line for each state, with the states it may lead to."""
    steps: dict[tuple[str, str], list[str]] = {}
    for step in transitions(table):
        target = step.to_state if step.to_module == step.module else f"{step.to_module}:{step.to_state}"
        steps.setdefault((step.module, step.state), []).append(target)
    lines = []
    for module in table.modules.values():
        machine = _machine_of(module)
        if machine:
            lines.append(module.name)
        for handler in machine:
            lines.append(f"  {handler.name} -> {', '.join(steps.get((module.name, handler.name), ['(stays)']))}")
    return "\n".join(lines)


def _machine_of(module: Module) -> list[Handler]:
    handlers = dict(module.handlers)
    for handler in (module.error, module.otherwise):
        if handler is not None:
            handlers.setdefault(handler.name, handler)
    return list(handlers.values())


def _named(func: Callable[..., Any], module: Module, table: Table) -> Iterator[tuple[str, str]]:
    """The states that a function's code names: of its own module, or imported from another one."""
    names = set(_names(func))
    for name in names:
        if name in module.handlers:
            yield module.name, name
    outside = _globals(func)
    for name in names:
        value = outside.get(name)
        homes = [home_of(value)]
        if isinstance(value, ModuleType):
            homes = [(value.__name__, other) for other in names]
        for home in homes:
            if home is not None and home[0] in table.modules and home[1] in table.modules[home[0]].handlers:
                yield home


def _plain(func: object) -> FunctionType | None:
    func = getattr(func, "__func__", func)
    return func if isinstance(func, FunctionType) else None


def _globals(func: object) -> dict[str, Any]:
    plain = _plain(func)
    return {} if plain is None else plain.__globals__


def _names(func: object) -> Iterator[str]:
    """All names and texts in a function's code, in what it is wrapped round and in what it encloses."""
    plain = _plain(func)
    if plain is None:
        return
    yield from _names_in(plain.__code__)
    inner = [
        getattr(plain, "__wrapped__", None),
        *(cell.cell_contents for cell in plain.__closure__ or () if _full(cell)),
    ]
    for value in inner:
        home = home_of(value)
        if home is not None:
            yield home[1]
        if value is not func and isinstance(value, FunctionType) and value.__code__ is not plain.__code__:
            yield from _names_in(value.__code__)


def _full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, CodeType):
            yield from _names_in(constant)


def _held(value: object) -> Iterator[tuple[str, str]]:
    """The functions in a container that stands in a module, for example a table of next states."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            home = home_of(item)
            if home is not None:
                yield home
