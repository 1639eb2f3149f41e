"""The router: a table of routes, made by loading handler modules and replaced as a whole.

Order of use: `Router()`, `defaults(host=literal("example.com"))`, `load(["orders.handlers"])`; then `accepts` and
`match` from any thread, `reload` during development. Answers always come from one complete table: a new one is built
aside and swapped in by one assignment, and one that cannot be built leaves the old one in place (rule routing.B12).
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import Any, Protocol

from monsal.address import fold
from monsal.errors import ResultError, RouteError
from monsal.routing.build import build_table
from monsal.routing.collect import Source, bare_handler, collect, home_of
from monsal.routing.dispatch import Call, next_call
from monsal.routing.pattern import check_capture
from monsal.routing.table import ERROR_STATE, Handler, Match, Table

__all__ = ["Addressed", "Router", "default_state_key"]

log = logging.getLogger("monsal.routing")


class Addressed(Protocol):
    """What the router needs of a message: two bare addresses."""

    @property
    def sender(self) -> str: ...

    @property
    def recipient(self) -> str: ...


def default_state_key(module_name: str, message: Addressed) -> str:
    """The key of a machine whose module has no generator: the module's name."""
    return module_name


class Router:
    """The routes of one application.

    Its methods may be called from any thread; `load`, `reload` and `defaults` wait for one another.
    """

    def __init__(self) -> None:
        # Re-entrant, because a module that is being loaded may set defaults.
        self._lock = threading.RLock()
        self._defaults: Mapping[str, str] = MappingProxyType({})
        self._sources: tuple[Source, ...] = ()
        self._table: Table | None = None

    # -- making the table ---------------------------------------------------------------------------------------

    def defaults(self, **captures: str) -> None:
        """Add captures that every route knows (R2); a later value for the same name wins.

        They count from the next `load` or `reload` on. Raises RouteError for one that is no regular expression.
        """
        for name, text in captures.items():
            check_capture(name, text)
        with self._lock:
            self._defaults = MappingProxyType({**self._defaults, **captures})

    def load(self, modules: Iterable[str | ModuleType | object] | str | ModuleType) -> None:
        """Import modules by name and take their routes, after those already loaded (R32).

        A module may also be given itself, and a handler object has its bound methods routed (rule routing.B14).
        Loading one again is harmless. Raises RouteError naming every module that cannot be imported and everything
        that is wrong with a route; the table is then the same as before.
        """
        given = [modules] if isinstance(modules, str | ModuleType) else list(modules)
        with self._lock:
            sources = list(self._sources)
            for owner in _attempt_all("cannot import", given, _import):
                if any(source.owner is owner for source in sources):
                    continue
                place = next((n for n, source in enumerate(sources) if _is_namesake(source.owner, owner)), len(sources))
                sources[place : place + 1] = [collect(owner)]
            self._swap(sources)

    def reload(self) -> None:
        """Execute all loaded modules again and take their routes anew; states and defaults stay (R33).

        Handler objects, and modules that were made without a file, are taken as they are. If anything fails, for
        whatever reason, RouteError says why, the old table stays, and so do the modules' old contents.
        """
        with self._lock:
            owners = [source.owner for source in self._sources]
            before = {id(owner): dict(vars(owner)) for owner in owners if _can_execute(owner)}
            try:
                _attempt_all("cannot reload", owners, _execute_again)
                self._swap([collect(owner, before.get(id(owner))) for owner in owners])
            except BaseException:
                _restore(owners, before)
                raise

    def _swap(self, sources: Sequence[Source]) -> None:
        table = build_table(sources, self._defaults)
        self._sources = tuple(sources)
        self._table = table
        log.info("%d routes of %d modules", len(table.routes), len(table.modules), extra={"action": "routes_loaded"})

    # -- asking it ----------------------------------------------------------------------------------------------

    @property
    def is_loaded(self) -> bool:
        """Whether there is a table; until then mail is neither accepted nor refused for good (451)."""
        return self._table is not None

    @property
    def table(self) -> Table:
        """The present table; an empty one before the first load."""
        return self._table or _EMPTY

    @property
    def default_captures(self) -> Mapping[str, str]:
        return self._defaults

    def match(self, address: str) -> list[Match]:
        """The routes that an address matches, in order. Raises nothing, whatever the address is."""
        return self.table.match(address)

    def accepts(self, address: str) -> bool:
        """Whether any route matches (rule routing.B16)."""
        return self.table.accepts(address)

    def plan(
        self,
        address: str,
        state_of: Callable[[str], str],
        *,
        done: Collection[str] = (),
        stateful_done: bool = False,
    ) -> Iterator[Call]:
        """The calls for a message to `address`, each chosen when it is asked for, by the states of then (R18)."""
        table = self.table
        matches = table.match(address)
        called = set(done)
        while (call := next_call(matches, state_of, table=table, done=called, stateful_done=stateful_done)) is not None:
            yield call
            called.add(call.handler.id)
            stateful_done = stateful_done or call.stateful

    # -- states and results -------------------------------------------------------------------------------------

    def state_key(self, module_name: str, message: Addressed) -> tuple[str, str]:
        """The conversation that a module has with a message's sender: key of the machine and correspondent (R23, R24).

        The correspondent is folded; it is empty if all correspondents share the state. Runs the module's key generator.
        Raises RouteError if the module is not loaded, ResultError if its generator returns no text.
        """
        module = self.table.modules.get(module_name)
        if module is None:
            raise RouteError(f"module {module_name} is not loaded")
        generator = module.key_generator or default_state_key
        key = generator(module_name, message)
        if not isinstance(key, str):
            raise ResultError(
                f"the state key generator {generator.__module__}:{generator.__name__} returned {key!r}; it must be text"
            )
        return key, "" if module.shared else fold(message.sender)

    def next_state(self, result: object, handler: Handler | str = "the handler") -> tuple[str, str] | None:
        """Module and state that a handler's result asks for; None if it is false and all stays as it is (R25).

        A function of an older generation of its module is as good as its namesake of today. Raises ResultError, a
        TypeError, for anything but a stateful handler of a loaded module (rule routing.B19).
        """
        if not result:
            return None
        return self._state_of(result) or self.named_state(
            result, f"{handler.id if isinstance(handler, Handler) else handler} returned"
        )

    def named_state(self, function: object, said: str) -> tuple[str, str]:
        """Module and state that a function stands for. Raises ResultError as `next_state` does; `said` begins its text,
        as in "orders:START returned"."""
        state = self._state_of(function)
        if state is not None:
            return state
        reason = "is no function; return the function that takes the next message"
        home = home_of(function)
        if home is not None:
            module, name = self.table.modules.get(home[0]), home[1]
            if module is None:
                reason = f"is of module {home[0]}, which is not loaded"
            elif name in module.stateless:
                reason = "is a stateless handler and so no state"
            else:
                reason = "has no route, so no message would ever reach it"
        what = f"{home[0]}:{home[1]}" if home is not None else f"{function!r:.100}"
        raise ResultError(f"{said} {what}, which {reason}")

    def _state_of(self, function: object) -> tuple[str, str] | None:
        """Module and state that a function stands for, None if it is no stateful handler of a loaded module."""
        home = home_of(function)
        module = None if home is None else self.table.modules.get(home[0])
        if home is None or module is None:
            return None
        is_state = home[1] in module.handlers or (home[1] == ERROR_STATE and module.error is not None)
        return home if is_state else None

    def resolve(self, target: str) -> Handler:
        """The handler for `module:name`: any function that a loaded module defines, routed or not; for timers.

        Raises RouteError if the module is not loaded or the function is gone.
        """
        module_name, _, name = target.rpartition(":")
        module = self.table.modules.get(module_name)
        if module is None:
            raise RouteError(f"{target}: module {module_name or target} is not loaded")
        name = module.present_name(name)
        for known in (module.handlers.get(name), module.stateless.get(name), module.error, module.otherwise):
            if known is not None and known.name == name:
                return known
        func = module.functions.get(name)
        if func is None:
            raise RouteError(f"{target}: {module_name} has no function {name} (any more)")
        return bare_handler(module_name, name, func)


_EMPTY = Table()


def _attempt_all(failure: str, items: Iterable[object], action: Callable[[object], object]) -> list[object]:
    """What `action` gives for each item. Raises one RouteError for all failures, caused by what they raised."""
    found: list[object] = []
    problems: list[str] = []
    errors: list[Exception] = []
    for item in items:
        try:
            found.append(action(item))
        except Exception as error:  # noqa: BLE001 - whatever foreign code raises is the reason that is told (B12)
            name = item if isinstance(item, str) else getattr(item, "__name__", repr(item))
            problems.append(f"{failure} {name}: {type(error).__name__}: {error}")
            errors.append(error)
    if len(errors) == 1:
        raise RouteError(problems[0]) from errors[0]
    if errors:
        raise RouteError("\n".join(problems)) from ExceptionGroup(failure, errors)
    return found


def _import(owner: object) -> object:
    if isinstance(owner, str):
        return importlib.import_module(owner)
    if isinstance(owner, type):
        raise RouteError("it is a class; load an object of it")
    return owner


def _is_namesake(known: object, owner: object) -> bool:
    """Whether a module was made anew under the same name; then it takes the old one's place."""
    return isinstance(known, ModuleType) and isinstance(owner, ModuleType) and known.__name__ == owner.__name__


def _can_execute(owner: object) -> bool:
    """Whether a module came from a file (or another loader) and so can be executed again."""
    return (
        isinstance(owner, ModuleType)
        and getattr(owner, "__spec__", None) is not None
        and sys.modules.get(owner.__name__) is owner
    )


def _execute_again(owner: object) -> object:
    return importlib.reload(owner) if isinstance(owner, ModuleType) and _can_execute(owner) else owner


def _restore(owners: Iterable[object], before: Mapping[int, Mapping[str, Any]]) -> None:
    """Give modules their contents back; handlers of the old table look their globals up there while they run."""
    for owner in owners:
        old = before.get(id(owner))
        if old is not None:
            namespace = vars(owner)
            namespace.update(old)
            for name in namespace.keys() - old.keys():
                del namespace[name]
