"""`api.call`, `api.sync` and `api.notify`: the same calls, awaited, waited for, or sent without an answer."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import msgspec

from monsal.rpc.bound import OutgoingCall, Terms
from monsal.rpc.ports import Owner

__all__ = ["AsyncView", "CastView", "SyncView", "View"]


class _Bound:
    """One call, ready to be made in one way."""

    __slots__ = ("_api", "_call", "_terms")

    def __init__(self, api: Owner, call: OutgoingCall, terms: Terms) -> None:
        self._api = api
        self._call = call
        self._terms = terms

    def __repr__(self) -> str:
        return f"<{type(self).__name__.strip('_').lower()} {self._call.__name__}>"

    def with_(self, **terms: Any) -> Any:
        """The same on other terms: `timeout=` in seconds, `key=`, `trace=`, `to=` a name of a peer or several."""
        return type(self)(self._api, self._call, _changed(self._terms, terms))


class _Awaited(_Bound):
    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        call = self._call
        if args or call.signature.body is not None:
            return self._with_body(args, kwargs)
        if kwargs.keys() != call.signature.all_names:
            call.signature.check_names(kwargs)
        # Each coroutine between the caller and the link costs half a microsecond: there is one.
        api = self._api
        if api._transport is None:
            work: Coroutine[Any, Any, Any] = api._links.ask(call, kwargs, self._terms)
            return work
        return api._ask(call, kwargs, self._terms)

    async def _with_body(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        to = self._terms.to
        kwargs = await self._call.prepare_async(None if to is None else list(to), args, kwargs)
        return await self._api._ask(self._call, kwargs, self._terms)


class _Waited(_Bound):
    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._api._wait(self._call, args, kwargs, self._terms)


class _Told(_Bound):
    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        receivers = None if self._terms.to is None else list(self._terms.to)
        self._api._tell(self._call, self._call.prepare(receivers, args, kwargs), self._terms)


def _changed(terms: Terms, given: dict[str, Any]) -> Terms:
    """The terms with some of them changed. Raises TypeError for a term that is none."""
    if isinstance(to := given.get("to"), str):
        given["to"] = (to,)
    elif to is not None:
        given["to"] = tuple(to)
    return msgspec.structs.replace(terms, **given)


class View:
    """The outgoing calls of an API, by name."""

    _kind: type[_Bound] = _Bound

    def __init__(self, api: Owner, terms: dict[str, Any] | None = None) -> None:
        self._api = api
        self._terms = terms or {}

    def with_(self, **terms: Any) -> Any:
        """The same calls on other terms: `api.call.with_(timeout=2.0).status()`."""
        return type(self)(self._api, {**self._terms, **terms})

    def __getattr__(self, name: str) -> Any:
        call = self._api._outgoing_call(name)
        bound = self._kind(self._api, call, _changed(call.terms, dict(self._terms)))
        # Found without this detour the next time.
        self.__dict__[name] = bound
        return bound


class AsyncView(View):
    """`await api.call.X(...)`: the result. Raises ConnectionLost, CallExpired, or what the other side answered."""

    _kind = _Awaited


class SyncView(View):
    """`api.sync.X(...)` on any thread but that of the links: the result. Raises the same."""

    _kind = _Waited


class CastView(View):
    """`api.notify.X(...)`: sent, and no answer is wanted, even of a call that has one."""

    _kind = _Told
