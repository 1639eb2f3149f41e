"""`salmon.routing`: decorators that register at import, and the one router they register with.

Formats mean what contracts/routing.md R1 says: all text outside captures is a regular expression. The rest follows the
contract's R rules as far as no mail can be lost by it; where the ancestor lost mail, section 4 holds instead (B4, B5,
B12, B14, B17, B19 to B21).

`Router.deliver` handles a message here and now, with nothing stored: for tests and scripts. Under `monsal run` the same
tables are given to the engine (`monsal.compat.table`), and every call is a turn with its commit.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module, reload
from typing import Any, Protocol

from monsal.address import fold
from monsal.compat.salmon.formats import Format
from monsal.compat.salmon.rejection import SMTPError
from monsal.errors import ResultError
from monsal.store import ROUTE_FIRST_STATE, MemoryStorage, ShelveStorage, StateStorage

__all__ = [
    "DEFAULT_STATE_KEY",
    "LOG",
    "ROUTE_FIRST_STATE",
    "MemoryStorage",
    "MethodRefused",
    "Router",
    "RoutingBase",
    "ShelveStorage",
    "StateStorage",
    "assert_salmon_settings",
    "attach_salmon_settings",
    "handler_of",
    "has_salmon_settings",
    "nolocking",
    "reload",
    "route",
    "route_like",
    "salmon_setting",
    "state_key_generator",
    "stateless",
]

LOG = logging.getLogger("routing")

_SETTINGS = "_salmon_settings"
_HANDLER = "_salmon_handler"
_ERROR = "ERROR"

Func = Callable[..., Any]


class MethodRefused(NotImplementedError, TypeError):
    """A method was routed; only functions of modules can be (rule routing.R13)."""


class _Mail(Protocol):
    """What the router needs of a message: bare addresses."""

    To: Any
    From: Any


def DEFAULT_STATE_KEY(module_name: str, message: Any) -> str:
    """The key of a machine whose module has no generator: the module's name."""
    return module_name


class _Tables:
    """Formats in order with their functions: what is registered, or was when a delivery began."""

    def __init__(self) -> None:
        self.registered: dict[str, tuple[Format, list[Func]]] = {}
        self.order: list[str] = []

    def copy(self) -> _Tables:
        made = _Tables()
        made.registered = {text: (regex, list(functions)) for text, (regex, functions) in self.registered.items()}
        made.order = list(self.order)
        return made


class RoutingBase:
    """A router; `Router` is the one that the decorators register with.

    All methods may be called from any thread. `STATE_STORE` may be replaced at any time; a server keeps its states in
    the application's store unless it was (rule routing.R35).
    """

    def __init__(self) -> None:
        self._tables = _Tables()
        #: What deliveries see while the modules are executed again; None otherwise.
        self._former: _Tables | None = None
        self.DEFAULT_CAPTURES: dict[str, str] = {}
        self.STATE_STORE: Any = MemoryStorage()
        self.HANDLERS: dict[str, Callable[[str, Any], str]] = {}
        self.RELOAD = False
        self.LOG_EXCEPTIONS = True
        self.UNDELIVERABLE_QUEUE: Any = None
        self.lock = threading.RLock()
        #: Kept for its name: correspondents wait for themselves only (rule routing.B1).
        self.call_lock = threading.RLock()
        self._correspondents: dict[str, tuple[threading.RLock, list[None]]] = {}

    # -- tables -------------------------------------------------------------------------------------------------

    @property
    def REGISTERED(self) -> dict[str, tuple[Format, list[Func]]]:
        """Format -> (what matches it, its functions)."""
        return self._tables.registered

    @property
    def ORDER(self) -> list[str]:
        """The formats in order of their first registration."""
        return self._tables.order

    def register_route(self, format: str, func: Func) -> None:  # noqa: A002 - the contract's word
        """Add a function under a finished format. Raises RouteError, a TypeError, for one that is no expression."""
        with self.lock:
            known = self._tables.registered.get(format)
            if known is None:
                self._tables.registered[format] = (Format(format), [func])
                self._tables.order.append(format)
            elif func not in known[1]:
                known[1].append(func)

    def match(self, address: str) -> Iterator[tuple[list[Func], dict[str, str | None]]]:
        """For each format that the whole address matches, in order: its functions and the captures."""
        with self.lock:
            tables = self._former or self._tables
            formats = [tables.registered[text] for text in tables.order]
        for regex, functions in formats:
            captures = regex.captures(address)
            if captures is not None:
                yield list(functions), captures

    def defaults(self, **captures: str) -> None:
        """Add captures that every route knows from now on."""
        with self.lock:
            self.DEFAULT_CAPTURES.update(captures)

    def clear_routes(self) -> None:
        with self.lock:
            self._tables = _Tables()

    # -- states -------------------------------------------------------------------------------------------------

    def state_key(self, module_name: str, message: Any) -> str:
        """The key of the module's machine for this message."""
        key = self.HANDLERS.get(module_name, DEFAULT_STATE_KEY)(module_name, message)
        if not isinstance(key, str):
            raise ResultError(f"the state key generator of {module_name} returned {key!r}; it must be text")
        return key

    def get_state(self, module_name: str, message: Any) -> str:
        """The state in which that module's machine stands for the message's sender."""
        return str(self.STATE_STORE.get(self.state_key(module_name, message), _sender(message)))

    def set_state(self, module_name: str, message: Any, state: str) -> None:
        """Force the machine of any module into a state (R26)."""
        self.STATE_STORE.set(self.state_key(module_name, message), _sender(message), state)

    def in_state(self, func: Func, message: Any) -> bool:
        """Whether the machine of the function's module is in the state of the function's name."""
        return self.get_state(func.__module__, message) == func.__name__

    def in_error(self, func: Func, message: Any) -> bool:
        """Whether the machine of the function's module is in ERROR."""
        return self.get_state(func.__module__, message) == _ERROR

    def clear_states(self) -> None:
        """Forget all states; for tests."""
        with self.lock:
            self.STATE_STORE.clear()

    # -- delivering ---------------------------------------------------------------------------------------------

    def deliver(self, message: Any) -> None:
        """Call the handlers of a message: each stateless one that matches, and the first that is in its state.

        Raises SMTPError as a handler does (R28); other exceptions are logged, and the message is pushed to
        UNDELIVERABLE_QUEUE, or they are raised if LOG_EXCEPTIONS is false (R29).
        """
        if self.RELOAD:
            self.reload()
        with self._only_one(_sender(message)):
            called = self._call_all(message)
        if not called:
            self._enqueue_undeliverable(message)

    def _call_all(self, message: Any) -> bool:
        """Walk the matches and call as one goes (R14 to R18); whether anybody was called."""
        states: dict[str, str] = {}
        called: set[tuple[str, str]] = set()
        stateful_done = False
        matches = list(self.match(message.To))
        for functions, captures in matches:
            for func in functions:
                identity = (func.__module__, func.__name__)
                LOG.debug("%s matches %s of %s", message.To, func.__name__, func.__module__)
                if identity in called:
                    continue
                if not salmon_setting(func, "stateless"):
                    if stateful_done or not self._takes(func, message, states, matches):
                        continue
                    stateful_done = True
                called.add(identity)
                self.call_safely(func, message, captures)
                # What it forced counts for who comes next (R18).
                states.clear()
        return bool(called)

    def _takes(self, func: Func, message: Any, states: dict[str, str], matches: list[Any]) -> bool:
        """Whether a stateful function is in its state; the state of a module is read once (rule routing.B18).

        Where ERROR has no function, START takes what comes then: nobody is locked out by one failure (B6).
        """
        module = func.__module__
        if module not in states:
            states[module] = self.get_state(module, message)
        state = states[module]
        if state == _ERROR and func.__name__ == ROUTE_FIRST_STATE:
            return not self._has_state(module, _ERROR)
        return state == func.__name__

    def _has_state(self, module: str, state: str) -> bool:
        with self.lock:
            tables = self._former or self._tables
            return any(
                func.__module__ == module and func.__name__ == state
                for _, functions in tables.registered.values()
                for func in functions
            )

    def call_safely(self, func: Func, message: Any, kwargs: dict[str, Any]) -> None:
        """Call one handler; what its failure means is decided here (R28, R29, B5)."""
        try:
            func(message, **kwargs)
            LOG.debug("message to %s was handled by %s.%s", message.To, func.__module__, func.__name__)
        except SMTPError:
            raise
        except Exception:
            if not salmon_setting(func, "stateless"):
                self.set_state(func.__module__, message, _ERROR)
            self._push(message)
            if not self.LOG_EXCEPTIONS:
                raise
            LOG.exception("%s.%s failed on a message to %s", func.__module__, func.__name__, message.To)

    def _enqueue_undeliverable(self, message: Any) -> None:
        if not self._push(message):
            LOG.debug("no handler takes the message from %s to %s", message.From, message.To)

    def _push(self, message: Any) -> bool:
        if self.UNDELIVERABLE_QUEUE is None:
            return False
        LOG.debug("message from %s to %s is undeliverable: queued", message.From, message.To)
        self.UNDELIVERABLE_QUEUE.push(message)
        return True

    def _only_one(self, sender: str) -> _Turnstile:
        return _Turnstile(self.lock, self._correspondents, sender)

    # -- modules ------------------------------------------------------------------------------------------------

    def load(self, handlers: Iterable[str]) -> None:
        """Import modules; their routes register themselves. An ImportError is logged, or raised (R32)."""
        with self.lock:
            for name in handlers:
                try:
                    known = sys.modules.get(name)
                    module = import_module(name)
                    if known is not None and not any(self._functions_of(name)):
                        # Its routes were cleared since it was imported (rule routing.B13).
                        reload(module)
                except ImportError:
                    if not self.LOG_EXCEPTIONS:
                        raise
                    LOG.exception("cannot import the handlers of %s", name)
                else:
                    self.HANDLERS.setdefault(name, DEFAULT_STATE_KEY)

    def _functions_of(self, module: str) -> Iterator[Func]:
        return (
            func for _, functions in self._tables.registered.values() for func in functions if func.__module__ == module
        )

    def reload(self) -> None:
        """Execute all loaded modules again; states, default captures and key generators stay (R33).

        Deliveries that run meanwhile see the old routes, and all do if anything fails (rule routing.B12).
        """
        with self.lock:
            self._former, generators = self._tables.copy(), dict(self.HANDLERS)
            self._tables = _Tables()
            try:
                for name in generators:
                    reload(sys.modules[name] if name in sys.modules else import_module(name))
            except Exception:
                self._tables, self.HANDLERS = self._former, generators
                if not self.LOG_EXCEPTIONS:
                    raise
                LOG.exception("cannot reload the handlers; the old ones stay")
            finally:
                self._former = None


Router = RoutingBase()


class _Turnstile:
    """Lets one thread at a time in for a correspondent, however often it enters (rule routing.B1)."""

    def __init__(self, guard: threading.RLock, known: dict[str, tuple[threading.RLock, list[None]]], who: str) -> None:
        self._guard = guard
        self._known = known
        self._who = who

    def __enter__(self) -> None:
        with self._guard:
            lock, users = self._known.setdefault(self._who, (threading.RLock(), []))
            users.append(None)
        lock.acquire()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            lock, users = self._known[self._who]
            users.pop()
            if not users:
                del self._known[self._who]
        lock.release()


def _sender(message: Any) -> str:
    """Who has the conversation: what a server found out, else the message's From."""
    return getattr(message, "correspondent", None) or fold(str(message.From or ""))


# -- settings of a function -----------------------------------------------------------------------------------------


def attach_salmon_settings(func: Func) -> None:
    """Give the function an empty mapping of routing settings unless it has one."""
    if not has_salmon_settings(func):
        setattr(func, _SETTINGS, {})


def has_salmon_settings(func: Func) -> bool:
    """Whether the function itself carries routing settings."""
    return _SETTINGS in vars(func)


def assert_salmon_settings(func: Func) -> None:
    """Raise AssertionError, naming the function, if it carries no routing settings."""
    if not has_salmon_settings(func):
        raise AssertionError(f"{func.__module__}.{func.__name__} has no @route, @route_like or other mark")


def salmon_setting(func: Func, key: str) -> Any:
    """One routing setting, None if it is not set. Raises AttributeError if the function carries none at all."""
    return getattr(func, _SETTINGS).get(key)


def handler_of(func: Func) -> Func:
    """The function below the routes: calling it changes no state."""
    found: Func = vars(func).get(_HANDLER, func)
    return found


# -- decorators -----------------------------------------------------------------------------------------------------


class route:
    """`@route(format, **captures)`: register the function for addresses that match (R1, R2).

    A direct call of what comes out runs the handler and moves its machine to the function it returned; it gives
    nothing back, so that `return OTHER(message)` works (R9).
    """

    def __init__(self, format: str, /, **captures: str) -> None:  # noqa: A002 - the contract's word
        self.captures: dict[str, str] = {**Router.DEFAULT_CAPTURES, **captures}
        self.format = self.parse_format(format, self.captures)

    def __call__(self, func: Func) -> Func:
        if _is_method(func):
            return _refusing(func)
        return self._add(func, ((self.format, self.captures),))

    def __get__(self, obj: object, of_type: object = None) -> None:
        raise NotImplementedError("a route is no method: only functions of modules can be routed")

    def _add(self, func: Func, routes: tuple[tuple[str, dict[str, str]], ...]) -> Func:
        wrapper = func if _HANDLER in vars(func) else _wrapped(func)
        for format_, captures in routes:
            self.format, self.captures = format_, captures
            self.setup_accounting(wrapper)
            Router.register_route(format_, wrapper)
        return wrapper

    def parse_format(self, format: str, captures: dict[str, str]) -> str:  # noqa: A002 - as above
        """The finished format: each `(name)` of a capture is its named group, anchored at both ends."""
        return Format.finish(format, captures)

    def setup_accounting(self, func: Func) -> None:
        """Write format and captures into the function's routing settings."""
        attach_salmon_settings(func)
        settings = getattr(func, _SETTINGS)
        settings["format"], settings["captures"] = self.format, self.captures
        settings["routes"] = (*settings.get("routes", ()), (self.format, self.captures))


class route_like(route):
    """`@route_like(func)`: the same formats and captures as `func` has, all of them (R8, B20); not its marks."""

    def __init__(self, func: Func, /) -> None:
        routes = getattr(func, _SETTINGS, {}).get("routes", ())
        if not routes:
            raise TypeError(f"{getattr(func, '__name__', func)!s} is missing a @route, so there is no route like it")
        self._routes: tuple[tuple[str, dict[str, str]], ...] = tuple(routes)
        self.format, self.captures = self._routes[-1]

    def __call__(self, func: Func) -> Func:
        return _refusing(func) if _is_method(func) else self._add(func, self._routes)


def _is_method(func: Func) -> bool:
    return func.__qualname__.rpartition(".")[0].rpartition(".")[2] not in ("", "<locals>")


def _refusing(func: Func) -> Func:
    LOG.error("%s.%s is a method and is not routed", func.__module__, func.__qualname__)

    @functools.wraps(func)
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise MethodRefused(f"{func.__qualname__} is a method; only functions of modules can be routed")

    return refuse


def _wrapped(func: Func) -> Func:
    attach_salmon_settings(func)

    @functools.wraps(func)
    def handle(message: Any, *args: Any, **kwargs: Any) -> None:
        result = func(message, *args, **kwargs)
        if not salmon_setting(func, "stateless") and result:
            Router.set_state(*_state_of(result, func, message))

    setattr(handle, _HANDLER, func)
    return handle


def _state_of(result: Any, func: Func, message: Any) -> tuple[str, Any, str]:
    """Module, message and state that a handler's result asks for; TypeError if it is no handler (rule routing.B19)."""
    settings = getattr(result, _SETTINGS, None)
    if not callable(result) or settings is None or settings.get("stateless"):
        raise ResultError(
            f"{func.__module__}.{func.__name__} returned {result!r:.100}; "
            "it may return the stateful handler that takes the next message, or nothing"
        )
    return result.__module__, message, result.__name__


def stateless(func: Func) -> Func:
    """Mark: call the handler for each matching message; no state is read or written (R15).

    Raises TypeError if it stands above the route (R11).
    """
    if has_salmon_settings(func) and salmon_setting(func, "format"):
        raise TypeError(f"{func.__name__}: @stateless must stand below @route or @route_like")
    attach_salmon_settings(func)
    getattr(func, _SETTINGS)["stateless"] = True
    return func


def nolocking(func: Func) -> Func:
    """Mark, kept for its name: there is no lock to do without (rule routing.B1)."""
    attach_salmon_settings(func)
    getattr(func, _SETTINGS)["nolocking"] = True
    return func


def state_key_generator(func: Func) -> Func:
    """Register the function as the maker of keys of its module: `(module_name, message) -> str` (R23)."""
    Router.HANDLERS[func.__module__] = func
    return func
