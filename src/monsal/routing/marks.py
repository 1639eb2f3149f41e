"""The decorators of handler modules. They only mark: each returns the function it was given (rule routing.B11).

    @route("order-(id)@(host)", id="[0-9]+")
    def START(message, id): ...

The marks of a function are its attribute `__monsal__`; `Router.load` reads them. Importing a handler module therefore
registers nothing, two applications can load the same module, and a test may call a handler as a plain function. The
order of decorators does not matter; stacked routes count from the lowest up.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from types import FunctionType
from typing import Any, TypeVar, overload

import msgspec

from monsal.errors import RouteError

__all__ = [
    "MARKS",
    "AcceptMark",
    "Marks",
    "RouteMark",
    "StateKeyMark",
    "accept",
    "authenticate",
    "marks_of",
    "nolocking",
    "on_bounce",
    "otherwise",
    "requires_authenticated",
    "route",
    "route_like",
    "state_key",
    "state_key_generator",
    "stateless",
]

#: The attribute of a function that holds its marks.
MARKS = "__monsal__"

F = TypeVar("F", bound=Callable[..., Any])

# The order of decoration, over all modules; it says nothing else.
_serial = count(1)


class RouteMark(msgspec.Struct, frozen=True, kw_only=True):
    """One `@route`: the format, the captures given with it, and its options. `serial` is the order of decoration."""

    format: str
    captures: dict[str, str]
    is_regex: bool = False
    accept_any_domain: bool = False
    deadline: float | None = None
    was: tuple[str, ...] = ()
    serial: int = 0


class StateKeyMark(msgspec.Struct, frozen=True, kw_only=True):
    """The function makes the keys of its module's machine; `shared` is one state for all correspondents."""

    shared: bool = False
    serial: int = 0


class AcceptMark(msgspec.Struct, frozen=True, kw_only=True):
    """One `@accept`: the format of the addresses that the function is asked about, None for all; its captures."""

    format: str | None = None
    captures: dict[str, str] = {}
    serial: int = 0


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """All marks of one function."""

    routes: tuple[RouteMark, ...] = ()
    stateless: bool = False
    nolocking: bool = False
    otherwise: bool = False
    on_bounce: bool = False
    requires_authenticated: bool = False
    state_key: StateKeyMark | None = None
    accepts: tuple[AcceptMark, ...] = ()
    authenticates: bool = False


def marks_of(func: object) -> Marks | None:
    """The marks of a function, or None if it has none."""
    found = getattr(func, MARKS, None)
    return found if isinstance(found, Marks) else None


def _mark(func: F, **changes: Any) -> F:
    if not isinstance(func, FunctionType):
        what = "a class" if isinstance(func, type) else f"a {type(func).__name__}"
        raise RouteError(f"{func!r} is {what}; only functions and methods written with def can be handlers")
    setattr(func, MARKS, msgspec.structs.replace(marks_of(func) or Marks(), **changes))
    return func


def _add_routes(func: F, routes: tuple[RouteMark, ...]) -> F:
    before = marks_of(func) or Marks()
    fresh = tuple(msgspec.structs.replace(mark, serial=next(_serial)) for mark in routes)
    return _mark(func, routes=(*before.routes, *fresh))


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    accept_any_domain: object
    deadline: object
    was: object


def _marker(fmt: str, captures: dict[str, str], is_regex: bool, options: _Options) -> Callable[[F], F]:
    accept, deadline, was = options.accept_any_domain, options.deadline, options.was
    former = (was,) if isinstance(was, str) else was
    if not isinstance(fmt, str) or not fmt:
        raise RouteError(f"a route needs a format such as 'order@(host)', not {fmt!r}; write @route('order@(host)')")
    if not isinstance(accept, bool):
        raise RouteError(f"route {fmt!r}: accept_any_domain is {accept!r}; it is True or False, and no capture")
    if deadline is not None and (isinstance(deadline, bool) or not isinstance(deadline, int | float) or deadline <= 0):
        raise RouteError(f"route {fmt!r}: deadline is {deadline!r}; it is a number of seconds, and no capture")
    if not isinstance(former, tuple) or not all(isinstance(name, str) and name.isidentifier() for name in former):
        raise RouteError(f"route {fmt!r}: was is {was!r}; it is a function's former name, and no capture")
    mark = RouteMark(
        format=fmt,
        captures=captures,
        is_regex=is_regex,
        accept_any_domain=accept,
        deadline=None if deadline is None else float(deadline),
        was=former,
    )
    return lambda func: _add_routes(func, (mark,))


class _Route:
    """`route` and `route.regex`."""

    def __call__(
        self,
        format: str,  # noqa: A002 - the contract's word, and positional only
        /,
        *,
        accept_any_domain: bool = False,
        deadline: float | None = None,
        was: str | tuple[str, ...] = (),
        **captures: str,
    ) -> Callable[[F], F]:
        """Call the function for messages to addresses that match `format`.

        Each `(name)` in the format is a capture: a regular expression, or `literal(text)`, given here as `name=...` or
        in the defaults of the router. All other text is literal. The handler gets the captures that its signature
        names. Options: `accept_any_domain` lets the route take mail for any domain; `deadline` is how many seconds a
        turn may last; `was` names the function's former names, so that conversations in those states go on here.
        A capture cannot be called like an option. Raises RouteError at once for a wrong option; formats and captures
        are checked at load.
        """
        return _marker(
            format, captures, False, _Options(accept_any_domain=accept_any_domain, deadline=deadline, was=was)
        )

    def regex(
        self,
        format: str,  # noqa: A002 - as above
        /,
        *,
        accept_any_domain: bool = False,
        deadline: float | None = None,
        was: str | tuple[str, ...] = (),
        **captures: str,
    ) -> Callable[[F], F]:
        """The same with a format that is a regular expression where it is no capture; it must match all (R1)."""
        return _marker(
            format, captures, True, _Options(accept_any_domain=accept_any_domain, deadline=deadline, was=was)
        )

    def __repr__(self) -> str:
        return "<monsal.routing.route>"


route = _Route()


def route_like(func: Callable[..., Any], /) -> Callable[[F], F]:
    """Give the function the same routes as `func`, all of them if it has several: formats and captures, not marks (R8).

    Raises RouteError, a TypeError, if `func` has no route (rules routing.R12 and B20).
    """
    found = marks_of(func)
    if found is None or not found.routes:
        name = getattr(func, "__qualname__", repr(func))
        raise RouteError(f"route_like({name}): {name} has no @route whose format could be taken")
    routes = tuple(msgspec.structs.replace(mark, deadline=None, was=()) for mark in found.routes)
    return lambda other: _add_routes(other, routes)


def stateless(func: F) -> F:
    """Call the handler for each matching message, whatever the state; its result is ignored (rule routing.R15)."""
    return _mark(func, stateless=True)


def nolocking(func: F) -> F:
    """Kept for its name: there is no lock to do without any more (rule routing.B1)."""
    return _mark(func, nolocking=True)


def otherwise(func: F) -> F:
    """The module's handler for messages to its addresses that no handler takes in the conversation's state."""
    return _mark(func, otherwise=True)


def on_bounce(func: F) -> F:
    """The module's handler for bounces of the mail that its turns sent: `(message, bounce)`, in their conversation.

    It is called for mail that was given up, by our relay or by any system after it, and for complaints; what it
    returns is the next state. `bounce` is a `monsal.Bounce`; captures are those of the address that had sent.
    """
    return _mark(func, on_bounce=True)


def requires_authenticated(func: F) -> F:
    """Call the handler only for a sender that is proven (DESIGN 4, *Who writes*)."""
    return _mark(func, requires_authenticated=True)


@overload
def accept(func: F, /) -> F: ...
@overload
def accept(format: str, /, **captures: str) -> Callable[[F], F]: ...
def accept(given: Any, /, **captures: str) -> Any:
    """Ask the function about each recipient at RCPT, before a mail is taken: it says no by `reject(code, text)`.

    `@accept` is asked about every address that a route takes, `@accept("orders@(host)")` about those that match the
    format. It gets what its signature names: captures of the format, and `envelope`, `recipient`, `sender`, `peer`,
    `hello`, `user` (who has logged in, else None), `tls`. It has 5 seconds; whatever it raises besides a rejection, and
    no answer in time, is 451 for that recipient. Nothing else waits for it. Raises RouteError for a wrong format.
    """

    def mark(func: F, fmt: str | None) -> F:
        before = (marks_of(func) or Marks()).accepts
        return _mark(func, accepts=(*before, AcceptMark(format=fmt, captures=captures, serial=next(_serial))))

    if isinstance(given, str) and given:
        return lambda func: mark(func, given)
    if isinstance(given, str):
        raise RouteError("accept needs a format such as 'orders@(host)', or none: @accept")
    return mark(given, None)


def authenticate(func: F) -> F:
    """Ask the function whether a login is right: `(user, password)`, true for yes (RFC 4954).

    It is asked about names that are not in the file of the setting `auth_users`, and may give the addresses as which
    the user may write, besides the one that is their name. It has 10 seconds. One counts for an application.
    """
    return _mark(func, authenticates=True)


@overload
def state_key_generator(func: F, /) -> F: ...
@overload
def state_key_generator(*, shared: bool = False) -> Callable[[F], F]: ...
def state_key_generator(func: Any = None, /, *, shared: bool = False) -> Any:
    """The function makes the key of the module's machine: `(module_name, message) -> str` (rule routing.R23).

    Without one the key is the module's name. With `@state_key_generator(shared=True)` all correspondents share one
    state of that machine. One counts for a module, the last one declared.
    """

    def mark(maker: F) -> F:
        return _mark(maker, state_key=StateKeyMark(shared=shared, serial=next(_serial)))

    return mark if func is None else mark(func)


state_key = state_key_generator
