"""The routing table: what is loaded, in the form in which it is asked. Made by `Router`, never changed afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import msgspec
from msgspec.structs import force_setattr

from monsal.address import is_address
from monsal.routing.index import TokenIndex
from monsal.routing.pattern import Pattern, is_matchable
from monsal.routing.screens import Asked, Screen

__all__ = ["ERROR_STATE", "ROUTE_FIRST_STATE", "Handler", "Match", "Module", "OnFailure", "Route", "Table"]

log = logging.getLogger("monsal.routing")

#: The state of every conversation that was never stored.
ROUTE_FIRST_STATE = "START"
#: The state after a failure, in a module that has a function of that name.
ERROR_STATE = "ERROR"

OnFailure = Literal["dead", "hold"]


class Handler(msgspec.Struct, frozen=True, kw_only=True):
    """A function that takes messages. `id` is `module:name`; the name is the state in which it is called.

    `message` is the name of the parameter that takes the message, empty if it cannot be given by name. `required` are
    the captures it cannot be called without, `optional` those for which it has a default; with `takes_all` it gets
    every capture there is. `deadline` is in seconds, None for the server's.
    """

    id: str
    name: str
    module: str
    func: Callable[..., Any]
    stateless: bool = False
    is_async: bool = False
    message: str = ""
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    takes_all: bool = False
    deadline: float | None = None
    requires_authenticated: bool = False
    nolocking: bool = False

    @property
    def wants(self) -> tuple[str, ...]:
        """The captures that its signature names."""
        return (*self.required, *self.optional)

    def arguments(self, captures: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword arguments for a call: the captures that the signature names (R4).

        One that the address has not and that has no default is None: that happens only to a handler that is called
        without a route of its own (ERROR, `@otherwise`, the target of a timer).
        """
        if self.takes_all:
            found = dict(captures)
            found.pop(self.message, None)
        else:
            found = {name: captures[name] for name in self.optional if name in captures}
        for name in self.required:
            found[name] = captures.get(name)
        return found


class Module(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded module, or a handler object, and its state machine.

    `handlers` are the routed stateful ones by the name of their state, `stateless` the other routed ones; `renamed`
    leads from former names to present ones. `key_generator` is None if the key is the module's name; `shared` is one
    state for all correspondents. `functions` are all that the module defines, for timers. `failed` is called instead of
    `error` for a message that fails, where ERROR is a state like any other and takes the next message.
    """

    name: str
    handlers: Mapping[str, Handler]
    stateless: Mapping[str, Handler]
    functions: Mapping[str, Callable[..., Any]]
    error: Handler | None = None
    failed: Handler | None = None
    otherwise: Handler | None = None
    on_bounce: Handler | None = None
    key_generator: Callable[[str, Any], str] | None = None
    shared: bool = False
    on_failure: OnFailure = "dead"
    renamed: Mapping[str, str] = MappingProxyType({})
    first: str = ROUTE_FIRST_STATE

    def present_name(self, state: str) -> str:
        """The name of a stored state today (rule routing.B8, the mark `was`)."""
        return self.renamed.get(state, state)

    def knows(self, state: str) -> bool:
        """Whether a conversation can stand in this state; if not, its function was renamed or removed."""
        name = self.present_name(state)
        return name in self.handlers or name == self.first or (name == ERROR_STATE and self.error is not None)


class Route(msgspec.Struct, frozen=True):
    """A format and the functions it calls, in the order they were added (R5).

    `stateless` and `stateful` are these by their kind, `modules` where they are from: asked for each message, so they
    are found when the route is made.
    """

    pattern: Pattern
    handlers: tuple[Handler, ...]
    stateless: tuple[Handler, ...] = ()
    stateful: tuple[Handler, ...] = ()
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        force_setattr(self, "stateless", tuple(handler for handler in self.handlers if handler.stateless))
        force_setattr(self, "stateful", tuple(handler for handler in self.handlers if not handler.stateless))
        force_setattr(self, "modules", tuple(dict.fromkeys(handler.module for handler in self.handlers)))


class Match(msgspec.Struct, frozen=True):
    """A route that an address matches, and the text of its captures in the case it was written in.

    The conversation puts the value of a capability in the place of its text once it is verified.
    """

    route: Route
    captures: Mapping[str, Any]

    @property
    def handlers(self) -> tuple[Handler, ...]:
        return self.route.handlers


class Table:
    """All routes and modules of one load. Safe to use from any thread; nothing in it ever changes."""

    __slots__ = ("_index", "authenticator", "capable", "modules", "routes", "screens")

    modules: Mapping[str, Module]
    routes: tuple[Route, ...]

    def __init__(
        self,
        routes: Sequence[Route] = (),
        modules: Mapping[str, Module] | None = None,
        *,
        screens: Sequence[Screen] = (),
        authenticator: Asked | None = None,
    ) -> None:
        self.routes = tuple(routes)
        self.screens = tuple(screens)
        self.authenticator = authenticator
        self.modules = MappingProxyType(dict(modules or {}))
        #: Whether any route takes a capability: its addresses are to be verified.
        self.capable = any(route.pattern.capabilities for route in self.routes)
        self._index = TokenIndex((route.pattern.runs, route) for route in self.routes)
        # Patterns are compiled when they are first tried; thousands at once would hold up the first address.
        for route in self._index.crowd():
            route.pattern.prepare()

    def machines_of(self, key: str) -> list[Module]:
        """The modules whose conversations can have this key: the one it names, else those that make their own keys."""
        named = self.modules.get(key)
        if named is not None and named.key_generator is None:
            return [named]
        return [module for module in self.modules.values() if module.key_generator is not None]

    def knows(self, key: str, state: str) -> bool:
        """Whether a conversation with this key can stand in this state (rule state.B7)."""
        return any(module.knows(state) for module in self.machines_of(key))

    def example(self) -> str | None:
        """An address that somebody could write to: of a route that takes a first message, if there is one."""

        def rank(route: Route) -> bool:
            return not any(handler.name == self.modules[handler.module].first for handler in route.handlers)

        for route in sorted(self.routes, key=rank):
            example = route.pattern.example()
            if example is not None and is_address(example):
                return example
        return None

    def match(self, address: str) -> list[Match]:
        """The routes that an address matches, in order of their first registration. Raises nothing."""
        if not is_matchable(address):
            return []
        found = []
        for route in self._index.candidates(address):
            captures = route.pattern.match(address)
            if captures is not None:
                found.append(Match(route, captures))
        if found and log.isEnabledFor(logging.DEBUG):
            for match in found:
                names = ", ".join(handler.id for handler in match.handlers)
                log.debug("%s matches %s: %s", address, match.route.pattern.format, names, extra={"action": "match"})
        return found

    def takers(self, address: str) -> list[Route]:
        """The same routes without captures: whoever takes mail need not read it all."""
        if not is_matchable(address):
            return []
        return [route for route in self._index.candidates(address) if route.pattern.fits(address)]

    def accepts(self, address: str) -> bool:
        """Whether any route matches."""
        return bool(self.takers(address))
