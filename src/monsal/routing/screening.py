"""Reading `@accept` and `@authenticate` off the modules, at load."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Final

from monsal.errors import RouteError
from monsal.routing.collect import Source
from monsal.routing.marks import AcceptMark
from monsal.routing.pattern import Pattern, compile_pattern
from monsal.routing.screens import FACTS, Asked, Screen

__all__ = ["find_authenticator", "find_screens"]

_CREDENTIALS: Final = frozenset({"user", "password", "peer"})


def find_screens(source: Source, defaults: Mapping[str, str]) -> list[tuple[int, Screen]]:
    """The accept hooks of a module with their places in the order of decoration. Raises RouteError."""
    found = []
    for name, marks in source.marks.items():
        if marks.accepts and (marks.routes or marks.stateless or marks.otherwise):
            raise RouteError(f"{source.name}:{name} is a handler; @accept marks a function of its own")
        for mark in marks.accepts:
            pattern = _pattern(mark, defaults, f"{source.name}:{name}")
            known = FACTS | (pattern.names if pattern is not None else frozenset())
            found.append((mark.serial, Screen(pattern, _asked(source, name, known))))
    return found


def _pattern(mark: AcceptMark, defaults: Mapping[str, str], where: str) -> Pattern | None:
    if mark.format is None:
        return None
    try:
        pattern = compile_pattern(mark.format, {**defaults, **mark.captures}, regex=False)
    except RouteError as error:
        raise RouteError(f"{where}: {error}") from None
    taken = sorted(pattern.names & FACTS)
    if taken:
        raise RouteError(f"{where}: capture {taken[0]!r} is called like what every accept hook can be told")
    return pattern


def find_authenticator(sources: Sequence[Source]) -> Asked | None:
    """The function that checks logins. Raises RouteError if there are several."""
    found = [(source, name) for source in sources for name, marks in source.marks.items() if marks.authenticates]
    if len(found) > 1:
        names = ", ".join(f"{source.name}:{name}" for source, name in found)
        raise RouteError(f"there are {len(found)} @authenticate functions ({names}); one counts")
    return _asked(*found[0], _CREDENTIALS) if found else None


def _asked(source: Source, name: str, known: frozenset[str]) -> Asked:
    func = source.functions[name]
    identity = f"{source.name}:{name}"
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        raise RouteError(f"{identity} is a generator: calling it would run nothing; take the yield out of it")
    parameters = inspect.signature(func).parameters.values()
    for each in parameters:
        needed = each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        if each.kind is each.POSITIONAL_ONLY or (needed and each.name not in known):
            raise RouteError(f"{identity}: parameter {each.name!r} is none of {', '.join(sorted(known))}")
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
    wants = None if takes_all else frozenset(each.name for each in parameters)
    return Asked(id=identity, func=func, is_async=inspect.iscoroutinefunction(func), wants=wants)
