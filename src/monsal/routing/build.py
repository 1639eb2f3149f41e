"""From what the loaded modules bring to one table: captures resolved, patterns compiled, machines put together.

Every problem of every module is told at once, in one RouteError; then there is no table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from monsal.errors import RouteError
from monsal.routing.collect import Source, bare_handler, routed_handler
from monsal.routing.marks import RouteMark, StateKeyMark
from monsal.routing.pattern import Pattern, compile_pattern
from monsal.routing.screening import find_authenticator, find_screens
from monsal.routing.screens import Asked, Screen
from monsal.routing.table import ERROR_STATE, ROUTE_FIRST_STATE, Handler, Module, OnFailure, Route, Table

__all__ = ["build_table"]


def build_table(sources: Sequence[Source], defaults: Mapping[str, str]) -> Table:
    """The table of all sources, in their order; within one, in order of decoration (R5, R7).

    Raises RouteError with all reasons why there cannot be one.
    """
    problems = [problem for source in sources for problem in source.problems]
    problems += _objects_missing(sources)
    builder = _Builder(defaults, problems)
    for source in sources:
        builder.add(source)
    builder.ask(sources)
    if problems:
        raise RouteError("\n".join(problems))
    return builder.table()


def _objects_missing(sources: Sequence[Source]) -> Iterator[str]:
    """Routed methods that nobody would call: the class was found in a module, but no object of it was loaded (B14)."""
    loaded = {source.name for source in sources}
    for source in sources:
        for cls in source.routed_classes:
            name = f"{cls.__module__}.{cls.__qualname__}"
            if name not in loaded:
                yield f"{name} has routed methods; load an object of it, or make them functions of the module"


class _Builder:
    """Collects routes and modules; what is wrong goes to `problems`."""

    def __init__(self, defaults: Mapping[str, str], problems: list[str]) -> None:
        self._defaults = defaults
        self._problems = problems
        self._routes: dict[tuple[object, ...], tuple[Pattern, dict[str, Handler]]] = {}
        self._modules: dict[str, Module] = {}
        self._screens: list[Screen] = []
        self._authenticator: Asked | None = None

    def table(self) -> Table:
        routes = [Route(pattern, tuple(handlers.values())) for pattern, handlers in self._routes.values()]
        return Table(routes, self._modules, screens=self._screens, authenticator=self._authenticator)

    def ask(self, sources: Sequence[Source]) -> None:
        """Note the functions that are asked before mail is taken, in order of decoration."""
        found: list[tuple[int, Screen]] = []
        for source in sources:
            try:
                found += find_screens(source, self._defaults)
            except RouteError as error:
                self._problems.append(str(error))
        self._screens = [screen for _, screen in sorted(found, key=lambda entry: entry[0])]
        try:
            self._authenticator = find_authenticator(sources)
        except RouteError as error:
            self._problems.append(str(error))

    def add(self, source: Source) -> None:
        if source.name in self._modules:
            self._problems.append(f"{source.name} is loaded twice, as two different objects")
            return
        patterns = self._patterns(source)
        handlers = self._routed(source, patterns)
        for _, name, pattern in sorted(patterns, key=lambda entry: entry[0]):
            if name in handlers:
                known = self._routes.setdefault(pattern.identity, (pattern, {}))[1]
                known.setdefault(handlers[name].id, handlers[name])
        captures = frozenset(self._defaults).union(*(pattern.names for _, _, pattern in patterns))
        self._modules[source.name] = self._module(source, handlers, captures)

    # -- routes -------------------------------------------------------------------------------------------------

    def _patterns(self, source: Source) -> list[tuple[int, str, Pattern]]:
        """Serial number, function name and pattern of each route of a source."""
        found = []
        for name, marks in source.marks.items():
            for mark in marks.routes:
                try:
                    found.append((mark.serial, name, self._pattern(mark)))
                except RouteError as error:
                    self._problems.append(f"{source.name}:{name}: {error}")
        return found

    def _pattern(self, mark: RouteMark) -> Pattern:
        captures = {**self._defaults, **mark.captures} if mark.captures else self._defaults
        pattern = compile_pattern(mark.format, captures, regex=mark.is_regex)
        if not mark.accept_any_domain and pattern.takes_any_domain():
            raise RouteError(
                f"route {mark.format!r} takes mail for any domain; give its domain a capture such as "
                "literal('example.com'), or say accept_any_domain=True in the route"
            )
        return pattern

    def _routed(self, source: Source, patterns: list[tuple[int, str, Pattern]]) -> dict[str, Handler]:
        formats: dict[str, list[tuple[str, frozenset[str]]]] = {}
        for _, name, pattern in patterns:
            formats.setdefault(name, []).append((pattern.format, pattern.names))
        handlers = {}
        for name, known in formats.items():
            try:
                handlers[name] = routed_handler(source, name, known)
            except RouteError as error:
                self._problems.append(str(error))
        return handlers

    # -- the machine of a module --------------------------------------------------------------------------------

    def _module(self, source: Source, handlers: Mapping[str, Handler], captures: frozenset[str]) -> Module:
        stateful = {name: handler for name, handler in handlers.items() if not handler.stateless}
        stateless = {name: handler for name, handler in handlers.items() if handler.stateless}
        key = self._key_maker(source)
        return Module(
            name=source.name,
            handlers=MappingProxyType(stateful),
            stateless=MappingProxyType(stateless),
            functions=MappingProxyType(source.functions),
            error=self._unrouted(source, ERROR_STATE, handlers, captures),
            otherwise=self._unrouted(source, self._only(source, "otherwise"), handlers, captures),
            on_bounce=self._unrouted(source, self._only(source, "on_bounce"), handlers, captures | {"bounce"}),
            key_generator=None if key is None else source.functions[key[0]],
            shared=key is not None and key[1].shared,
            on_failure=self._on_failure(source),
            renamed=MappingProxyType(self._renamed(source, stateful)),
        )

    def _key_maker(self, source: Source) -> tuple[str, StateKeyMark] | None:
        """The name and mark of the module's key generator: the last one declared (R23)."""
        found = [(name, marks.state_key) for name, marks in source.marks.items() if marks.state_key is not None]
        for name, _ in found:
            if source.marks[name].routes:
                self._problems.append(f"{source.name}:{name} is a handler; state_key_generator marks a helper (R10)")
        return max(found, key=lambda entry: entry[1].serial, default=None)

    def _only(self, source: Source, mark: str) -> str | None:
        """The name of the one function with a mark of which a module has one."""
        names = [name for name, marks in source.marks.items() if getattr(marks, mark)]
        if len(names) > 1:
            self._problems.append(f"{source.name} has {len(names)} @{mark} handlers ({', '.join(names)}); one counts")
        return names[0] if names else None

    def _unrouted(
        self, source: Source, name: str | None, handlers: Mapping[str, Handler], captures: frozenset[str]
    ) -> Handler | None:
        """The handler that is called without a route of its own; its parameters must be captures of the module."""
        if name is None or name not in source.functions:
            return None
        marks = source.marks.get(name)
        if marks is not None and marks.stateless:
            self._problems.append(f"{source.name}:{name} changes the state of its conversation and cannot be stateless")
            return None
        if name in handlers:
            return handlers[name]
        try:
            handler = bare_handler(source.name, name, source.functions[name], marks)
        except RouteError as error:
            self._problems.append(str(error))
            return None
        unknown = [parameter for parameter in handler.required if parameter not in captures]
        if unknown:
            self._problems.append(f"{handler.id}: parameter {unknown[0]!r} is no capture of its module")
        return handler

    def _on_failure(self, source: Source) -> OnFailure:
        if source.on_failure == "hold":
            return "hold"
        if source.on_failure != "dead":
            self._problems.append(f"{source.name}: ON_FAILURE is {source.on_failure!r}; it is 'dead' or 'hold'")
        return "dead"

    def _renamed(self, source: Source, stateful: Mapping[str, Handler]) -> dict[str, str]:
        renamed: dict[str, str] = {}
        for name, marks in source.marks.items():
            former = [old for mark in marks.routes for old in mark.was]
            if former and name not in stateful:
                self._problems.append(f"{source.name}:{name}: was={former[0]!r}, but a stateless handler is no state")
            if ROUTE_FIRST_STATE in former:
                self._problems.append(f"{source.name}:{name}: was={ROUTE_FIRST_STATE!r}, but everybody begins there")
            if ERROR_STATE in former and ERROR_STATE in source.functions:
                self._problems.append(f"{source.name}:{name}: was={ERROR_STATE!r}, but the module has that state")
        for name in stateful:
            for old in (old for mark in source.marks[name].routes for old in mark.was):
                if old in stateful or renamed.get(old, name) != name:
                    self._problems.append(f"{source.name}:{name}: was={old!r}, but {old} is another state's name")
                renamed[old] = name
        return renamed
