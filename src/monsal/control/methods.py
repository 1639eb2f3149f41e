"""Which methods of which objects can be called from outside, and how a call becomes an answer.

An API object is mounted under a prefix; those of its methods that are marked `@exposed` become `prefix.name`. No
other attribute is ever looked at on behalf of a peer (rule rpc.B10). Arguments are checked against the annotations
before the method runs, so a TypeError inside it is never taken for a wrong call (rule rpc.B9).
"""

from __future__ import annotations

import inspect
import logging
import secrets
import traceback
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

import msgspec

from monsal.errors import MonsalError, ReloadFailed, UsageError
from monsal.wire.codec import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, REFUSED
from monsal.wire.packets import Call, Cast, Fault, Id, Params, Reply

__all__ = ["MethodTable", "exposed"]

log = logging.getLogger("monsal.control")

_MARK = "__monsal_exposed__"
_Method = TypeVar("_Method", bound=Callable[..., Any])


def exposed(method: _Method) -> _Method:
    """Mark a method, plain or `async`, as one that may be called from outside. Its parameters need annotations."""
    setattr(method, _MARK, True)
    return method


class _Exposed:
    """One method and the record that its arguments have to fit."""

    __slots__ = ("_arguments", "_function", "_names")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        hints = get_type_hints(function, include_extras=True)
        fields: list[Any] = []
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise UsageError(f"{name}: an exposed method has named parameters only, not {parameter}")
            if parameter.name not in hints:
                raise UsageError(f"{name}: the parameter {parameter.name} needs an annotation")
            field: tuple[Any, ...] = (parameter.name, hints[parameter.name])
            fields.append(field if parameter.default is parameter.empty else (*field, parameter.default))
        self._names = [field[0] for field in fields]
        self._arguments = msgspec.defstruct(
            "Arguments", fields, kw_only=True, forbid_unknown_fields=True, module=__name__
        )
        self._function = function

    def bind(self, params: Params) -> dict[str, Any]:
        """The arguments by name. Raises ValueError saying what does not fit."""
        if isinstance(params, list):
            if len(params) > len(self._names):
                raise ValueError(f"takes at most {len(self._names)} parameters, not {len(params)}")
            params = dict(zip(self._names, params, strict=False))
        bound = msgspec.convert(params, self._arguments)
        return {name: getattr(bound, name) for name in self._names}

    async def run(self, arguments: dict[str, Any]) -> Any:
        result = self._function(**arguments)
        return await result if inspect.isawaitable(result) else result


class MethodTable:
    """The methods of all mounted objects."""

    def __init__(self) -> None:
        self._methods: dict[str, _Exposed] = {}

    @property
    def names(self) -> list[str]:
        """The full names of all methods, sorted."""
        return sorted(self._methods)

    def mount(self, prefix: str, api: object) -> None:
        """Make the exposed methods of `api` callable as `prefix.name`.

        Raises UsageError if there are none, one cannot be called by name, or the prefix is taken.
        """
        if any(name.startswith(f"{prefix}.") for name in self._methods):
            raise UsageError(f"something is mounted at {prefix!r} already")
        names = [name for name, member in inspect.getmembers(type(api)) if getattr(member, _MARK, False)]
        if not names:
            raise UsageError(f"{type(api).__name__} has no method marked @exposed")
        for name in names:
            full = f"{prefix}.{name}"
            self._methods[full] = _Exposed(full, getattr(api, name))

    async def answer(self, packet: Call | Cast) -> Reply | Fault:
        """Run what a packet asks for. Every trouble becomes a Fault; nothing is raised but cancellation."""
        known: Id = packet.id if isinstance(packet, Call) else None
        method = self._methods.get(packet.method)
        if method is None:
            return Fault(known, METHOD_NOT_FOUND, f"there is no method {packet.method[:100]!r} here")
        try:
            arguments = method.bind(packet.params)
        except ValueError as error:
            return Fault(known, INVALID_PARAMS, f"{packet.method}: {error}")
        try:
            return Reply(known, await method.run(arguments))
        except MonsalError as error:
            return _refusal(known, error)
        except Exception as error:  # noqa: BLE001 - an error in one call is told to its caller and hurts nobody else
            return _incident(known, packet.method, error)


def _refusal(known: Id, error: MonsalError) -> Fault:
    data = {"kind": type(error).__name__}
    if isinstance(error, ReloadFailed) and error.details:
        data["details"] = error.details
    # The author of the application is helped by the traceback of their own code (a reload that fails).
    if isinstance(error, UsageError) and error.__cause__ is not None:
        data["details"] = "".join(traceback.format_exception(error.__cause__))
    return Fault(known, REFUSED, str(error) or type(error).__name__, data)


def _incident(known: Id, method: str, error: Exception) -> Fault:
    number = secrets.token_hex(4)
    log.error("incident %s in %s", number, method, exc_info=error, extra={"action": "incident", "incident": number})
    text = f"{method} failed with {type(error).__name__}: {error} (the log has more under incident {number})"
    return Fault(known, INTERNAL_ERROR, text, {"kind": type(error).__name__, "incident": number})
