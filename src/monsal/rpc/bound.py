"""Calls of one instance: what `api.X` is. Listeners belong to the instance, never to the class (rpc.B2)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from monsal.rpc.declare import Declaration, Signature
from monsal.rpc.ports import Owner

__all__ = ["IncomingCall", "OutgoingCall", "Step", "Terms"]

Listener = TypeVar("Listener", bound=Callable[..., Any])


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """On what terms a call is made: `timeout` in seconds, what its repetition is known by, its trace, and to whom."""

    timeout: float | None = None
    key: str = ""
    trace: str = ""
    to: tuple[str, ...] | None = None


class Step(msgspec.Struct, frozen=True):
    """One function that a call runs. `fill` are declared defaults that it has to be given (rpc.R7)."""

    function: Callable[..., Any]
    is_async: bool
    wants_secinfo: bool
    fill: dict[str, Any]

    def call(self, sender: str, kwargs: dict[str, Any], secinfo: dict[str, Any]) -> Any:
        if self.fill:
            kwargs = {**self.fill, **kwargs}
        if self.wants_secinfo:
            return self.function(sender, **kwargs, secinfo=secinfo)
        return self.function(sender, **kwargs)


class IncomingCall:
    """A call that may arrive: connect the functions that are to hear of it."""

    def __init__(self, api: Owner, declaration: Declaration) -> None:
        self.__doc__ = declaration.__doc__
        self.__name__ = declaration.name
        self.declaration = declaration
        self.signature: Signature = declaration.signature
        self._api = api
        self._unbound_method = declaration._unbound_method
        self._remote_api_incoming = {"has_reply": self.signature.has_reply}
        self._listeners: list[Callable[..., Any]] = []
        self._secinfo = False
        self.steps: tuple[Step, ...] = ()
        self._plan()

    def __repr__(self) -> str:
        return f"<incoming call {self.__name__}, {len(self._listeners)} listeners>"

    def connect(self, listener: Callable[..., Any]) -> None:
        """Have `listener` called with the sender and the arguments; once more if it is connected already."""
        if not callable(listener):
            raise TypeError(f"{listener!r} cannot be called")
        self._listeners.append(listener)
        self._plan()

    def disconnect(self, listener: Callable[..., Any]) -> None:
        """Take one connection of `listener` back. Raises ValueError if there is none."""
        try:
            self._listeners.remove(listener)
        except ValueError:
            raise ValueError(f"{listener!r} is not connected to {self.__name__}") from None
        self._plan()

    def handler(self, listener: Listener) -> Listener:
        """`connect` as a decorator: `@api.status.handler`."""
        self.connect(listener)
        return listener

    def pass_secinfo(self, wanted: bool = True) -> None:
        """Whether listeners, not the body, also get `secinfo=`: what security knows of the sender (rpc.R16)."""
        self._secinfo = wanted
        self._plan()

    def inverted(self) -> OutgoingCall:
        """The opposite of this call, with the same options."""
        return OutgoingCall(self._api, self.declaration.inverted())

    def __call__(self, sender: str, /, *args: Any, **kwargs: Any) -> Any:
        """Run body and listeners here and now, as if `sender` had called; its result, or a coroutine of it."""
        return self._api._run_here(self, sender, self.signature.name_all(args, kwargs))

    def _plan(self) -> None:
        """What is called, and how, is settled when listeners change and not at each call."""
        steps = []
        if (body := self.signature.body) is not None:
            bound = functools.partial(body, self._api)
            steps.append(Step(bound, self.signature.is_async, False, {}))
        for listener in self._listeners:
            steps.append(Step(listener, _is_async(listener), self._secinfo, self._fill(listener)))
        self.steps = tuple(steps)

    def _fill(self, listener: Callable[..., Any]) -> dict[str, Any]:
        """Declared defaults of parameters that the listener cannot do without."""
        defaults = self.signature.defaults
        if not defaults:
            return {}
        try:
            parameters = inspect.signature(listener).parameters.values()
        except (TypeError, ValueError):
            return {}
        needed = {one.name for one in parameters if one.default is one.empty}
        return {name: value for name, value in defaults.items() if name in needed}


def _is_async(listener: Any) -> bool:
    while isinstance(listener, functools.partial):
        listener = listener.func
    if inspect.iscoroutinefunction(listener):
        return True
    return not inspect.isroutine(listener) and inspect.iscoroutinefunction(type(listener).__call__)


class OutgoingCall:
    """A call that may be sent: to the named receivers, or with None to every connected peer (rpc.R6)."""

    def __init__(self, api: Owner, declaration: Declaration, terms: Terms | None = None) -> None:
        self.__doc__ = declaration.__doc__
        self.__name__ = declaration.name
        self.declaration = declaration
        self.signature: Signature = declaration.signature
        self.terms = terms or Terms(timeout=declaration.options.timeout)
        self._api = api
        self._unbound_method = declaration._unbound_method
        self._remote_api_outgoing = {"has_reply": self.signature.has_reply}

    def __repr__(self) -> str:
        return f"<outgoing call {self.__name__}>"

    def __call__(self, receivers: list[str] | None = None, /, *args: Any, **kwargs: Any) -> Any:
        """Send the call; its Promise if it has a reply, else None (rpc.R9)."""
        if "receivers" in kwargs and "receivers" not in self.signature.names:
            receivers = kwargs.pop("receivers")
        if receivers is not None and (isinstance(receivers, str) or not all(isinstance(one, str) for one in receivers)):
            raise TypeError(f"{self.__name__}(): receivers are a list of sender names, or None for all")
        chosen = None if receivers is None else tuple(receivers)
        kwargs = self.prepare(receivers, args, kwargs)
        return self._api._post(self, kwargs, msgspec.structs.replace(self.terms, to=chosen))

    def inverted(self) -> IncomingCall:
        """The opposite of this call, with the same options."""
        return IncomingCall(self._api, self.declaration.inverted())

    def with_(self, **terms: Any) -> OutgoingCall:
        """The same call on other terms: `timeout=`, `key=`, `trace=`."""
        return OutgoingCall(self._api, self.declaration, msgspec.structs.replace(self.terms, **terms))

    def prepare(self, receivers: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name, after the body has seen them. Raises ValueError, TypeError, or what the body does."""
        signature = self.signature
        kwargs = signature.name_all(args, kwargs)
        signature.check_names(kwargs)
        if signature.body is not None:
            said = signature.body(self._api, receivers, **kwargs)
            if signature.is_async:
                _run_through(said, self.__name__)
        return kwargs

    async def prepare_async(self, receivers: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """`prepare`, and a body that is a coroutine may wait."""
        signature = self.signature
        if signature.body is None or not signature.is_async:
            return self.prepare(receivers, args, kwargs)
        kwargs = signature.name_all(args, kwargs)
        signature.check_names(kwargs)
        await signature.body(self._api, receivers, **kwargs)
        return kwargs


def _run_through(coroutine: Any, name: str) -> None:
    """Run a body to its end at once: without asyncio it cannot wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError(f"{name}: its body waits for something; call it as `await api.call.{name}(...)`")
