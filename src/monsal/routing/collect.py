"""Reading the marks of a module or a handler object, and making its handlers out of them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import msgspec

from monsal.errors import RouteError
from monsal.routing.marks import Marks, marks_of
from monsal.routing.table import ERROR_STATE, Handler

__all__ = ["Source", "bare_handler", "collect", "home_of", "name_of", "routed_handler"]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What a module or object, the `owner`, brings: all its functions by name, and the marks of those that have some.

    `problems` are the reasons why it cannot be loaded.
    """

    owner: object
    name: str
    functions: dict[str, Callable[..., Any]]
    marks: dict[str, Marks]
    on_failure: object
    routed_classes: tuple[type, ...] = ()
    problems: tuple[str, ...] = ()


def name_of(owner: object) -> str:
    """The module name of a module, or of a handler object: that of its class."""
    if isinstance(owner, ModuleType):
        return owner.__name__
    return f"{type(owner).__module__}.{type(owner).__qualname__}"


def home_of(func: object) -> tuple[str, str] | None:
    """The module name and the name of a function or bound method; None if it is neither."""
    if type(func) is FunctionType:
        return str(func.__module__), func.__name__
    name = getattr(func, "__name__", None)
    if not callable(func) or isinstance(func, type) or not isinstance(name, str):
        return None
    if isinstance(func, MethodType) and not isinstance(func.__self__, type):
        return name_of(func.__self__), name
    return str(func.__module__), name


def collect(owner: object, stale: Mapping[str, object] | None = None) -> Source:
    """Read what is defined in a module, or the methods of a handler object.

    `stale` is the module's namespace before it was executed again: a function that is still the same object was
    removed from the source, though not from the namespace.
    """
    return _collect_module(owner, stale or {}) if isinstance(owner, ModuleType) else _collect_object(owner)


def _collect_module(module: ModuleType, stale: Mapping[str, object]) -> Source:
    functions: dict[str, Callable[..., Any]] = {}
    marks: dict[str, Marks] = {}
    problems: list[str] = []
    classes: list[type] = []
    names: dict[str, object] = dict(vars(module))
    for attribute, value in names.items():
        if attribute in stale and stale[attribute] is value:
            continue
        if isinstance(value, type) and value.__module__ == module.__name__ and _routed_methods(value):
            classes.append(value)
        if not isinstance(value, FunctionType):
            continue
        found = marks_of(value)
        is_own = value.__module__ == module.__name__
        if is_own and names.get(value.__name__) is value:
            functions[value.__name__] = value
            if found is not None:
                marks[value.__name__] = found
        elif found is not None and (is_own or not _is_at_home(value)):
            problems.append(
                f"{module.__name__}:{attribute} calls itself {value.__module__}:{value.__name__}, but its name is the "
                "name of its state; if a decorator replaced the function, let it use functools.wraps"
            )
    return Source(
        owner=module,
        name=module.__name__,
        functions=functions,
        marks=marks,
        on_failure=names.get("ON_FAILURE", "dead"),
        routed_classes=tuple(classes),
        problems=tuple(problems),
    )


def _is_at_home(func: FunctionType) -> bool:
    """Whether a function can be found where it says it lives: then it was merely imported from there."""
    home = sys.modules.get(func.__module__)
    return isinstance(getattr(home, func.__name__, None), FunctionType)


def _routed_methods(cls: type) -> list[str]:
    found = [(name, marks_of(value)) for name, value in vars(cls).items() if isinstance(value, FunctionType)]
    return [name for name, marks in found if marks is not None and marks.routes]


def _collect_object(owner: object) -> Source:
    functions: dict[str, Any] = {}
    marks: dict[str, Marks] = {}
    for attribute in dir(type(owner)):
        if attribute.startswith("__") or not callable(getattr(type(owner), attribute, None)):
            continue
        method = getattr(owner, attribute)
        if not isinstance(method, MethodType | FunctionType) or method.__name__ != attribute:
            continue
        functions[attribute] = method
        found = marks_of(method)
        if found is not None:
            marks[attribute] = found
    name = name_of(owner)
    problems = () if any(mark.routes for mark in marks.values()) else (f"{name}: this object has no routed method",)
    return Source(
        owner=owner,
        name=name,
        functions=functions,
        marks=marks,
        on_failure=getattr(owner, "ON_FAILURE", "dead"),
        problems=problems,
    )


# -- handlers -------------------------------------------------------------------------------------------------------


def routed_handler(source: Source, name: str, formats: Iterable[tuple[str, frozenset[str]]]) -> Handler:
    """The handler of a function with routes, given as (format, names of its captures).

    Raises RouteError for a parameter that is not a capture of each of them and has no default.
    """
    handler = bare_handler(source.name, name, source.functions[name], source.marks[name])
    for fmt, captures in formats:
        lacking = [parameter for parameter in handler.required if parameter not in captures]
        if lacking:
            raise RouteError(
                f"{handler.id}: parameter {lacking[0]!r} is no capture of route {fmt!r} and has no default"
            )
        if handler.takes_all and handler.message in captures:
            raise RouteError(f"{handler.id}: capture {handler.message!r} of route {fmt!r} is called like the message")
    return handler


def bare_handler(module: str, name: str, func: Callable[..., Any], marks: Marks | None = None) -> Handler:
    """The handler of any function; its captures are not checked.

    Raises RouteError if it cannot be called with a message and named captures.
    """
    marks = marks or Marks()
    identity = f"{module}:{name}"
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        raise RouteError(f"{identity} is a generator: calling it would run nothing; take the yield out of it")
    message, required, optional, takes_all = _parameters(identity, func)
    deadlines = [mark.deadline for mark in marks.routes if mark.deadline is not None]
    return Handler(
        id=identity,
        name=name,
        module=module,
        func=func,
        stateless=marks.stateless and name != ERROR_STATE,
        is_async=inspect.iscoroutinefunction(func),
        message=message,
        required=required,
        optional=optional,
        takes_all=takes_all,
        deadline=max(deadlines, default=None),
        requires_authenticated=marks.requires_authenticated,
        nolocking=marks.nolocking,
    )


def _parameters(identity: str, func: Callable[..., Any]) -> tuple[str, tuple[str, ...], tuple[str, ...], bool]:
    """The name of the parameter for the message, the captures needed, those welcome, and whether all are."""
    message: str | None = None
    required: list[str] = []
    optional: list[str] = []
    takes_all = False
    for parameter in inspect.signature(func).parameters.values():
        kind = parameter.kind
        if kind is parameter.VAR_KEYWORD:
            takes_all = True
        elif message is None and kind is not parameter.KEYWORD_ONLY:
            message = parameter.name if kind is parameter.POSITIONAL_OR_KEYWORD else ""
        elif kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
            raise RouteError(f"{identity}: parameter {parameter.name!r} is positional only; captures come by name")
        elif kind not in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            (required if parameter.default is parameter.empty else optional).append(parameter.name)
    if message is None:
        raise RouteError(f"{identity} has no parameter for the message")
    return message, tuple(required), tuple(optional), takes_all
