"""How a call is declared: the marks `@incoming` and `@outgoing`, and what is read from the signature of a method.

    class Helpdesk(RemoteAPI):
        @incoming
        async def ticket(self, sender: str, number: int) -> Ticket: ...
        @outgoing
        def ticket_opened(self, receivers: list[str] | None, number: int) -> None: ...

Marking does nothing but mark. When the class is made, each signature is checked and becomes a record that arguments
have to fit: a hint is the type, no hint means anything. A call has a reply if its function says `-> T`, or by
`has_reply=True`; `-> None`, no hint, or `notify=True` mean that it has none (rpc.R3).
"""

from __future__ import annotations

import dis
import inspect
import typing
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any, Literal, Self, overload

import msgspec
from msgspec import UNSET

from monsal.rpc.errors import InvalidParams
from monsal.rpc.promise import Promise
from monsal.rpc.values import DeclarationError, Shape

__all__ = ["Declaration", "Direction", "Options", "Signature", "incoming", "outgoing"]

#: The first octet of named parameters in JSON.
_OPENING = ord("{")

Direction = Literal["incoming", "outgoing"]
_OPPOSITE: dict[Direction, Direction] = {"incoming": "outgoing", "outgoing": "incoming"}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is said in the brackets of a mark.

    `key` names the parameter (or `sender`) whose equal values are handled one after another, others beside them;
    without it that is the sender. With `ordered=False` a call waits for no other one. `timeout` is the deadline of a
    call in seconds, if it is not the usual one.
    """

    has_reply: bool = False
    allow_positional_args: bool = False
    notify: bool = False
    key: str | None = None
    ordered: bool = True
    timeout: float | None = None


class Declaration:
    """One call of an interface, marked. Taken from an instance it is the call bound to that instance."""

    def __init__(self, function: Callable[..., Any], direction: Direction, options: Options) -> None:
        if not inspect.isfunction(function):
            raise DeclarationError(f"@{direction} marks a method, not {function!r}")
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__wrapped__ = function
        self.name = function.__name__
        self.direction: Direction = direction
        self.options = options
        self._unbound_method = function
        self._signature: Signature | None = None

    def __repr__(self) -> str:
        return f"<{self.direction} call {self.name}>"

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Any, owner: type) -> Any: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        # An instance has its own calls in its __dict__; what comes here is super().call(...) in a body.
        return self if instance is None else instance._bind(self)

    def __getattr__(self, name: str) -> Any:
        if name == f"_remote_api_{self.direction}":
            return {"has_reply": self.signature.has_reply}
        raise AttributeError(f"{self!r} has no attribute {name!r}; connect listeners on an instance")

    @property
    def signature(self) -> Signature:
        """What its parameters and result are. Raises DeclarationError."""
        if self._signature is None:
            self._signature = Signature(self.name, self._unbound_method, self.options)
        return self._signature

    def inverted(self) -> Declaration:
        """The same call in the opposite direction."""
        other = Declaration(self._unbound_method, _OPPOSITE[self.direction], self.options)
        other.name = self.name
        other._signature = self._signature
        return other


class Signature:
    """What a call takes and gives: read once from its function, used for each call."""

    def __init__(self, name: str, function: Callable[..., Any], options: Options) -> None:
        self.name = name
        self.options = options
        #: Whether its calls are handled in the order of their sender.
        self.in_lane = options.key is None and options.ordered
        self.body = None if _is_empty(function.__code__) else function
        self.is_async = inspect.iscoroutinefunction(function)
        parameters = _parameters(name, function)
        hints = _hints(name, function, [*parameters, "return"])
        self.rest = next((key for key, one in parameters.items() if one.kind is one.VAR_KEYWORD), None)
        named = {key: one for key, one in parameters.items() if key != self.rest}
        self.names = tuple(named)
        self.required = frozenset(key for key, one in named.items() if one.default is one.empty)
        self.defaults = {key: one.default for key, one in named.items() if one.default is not one.empty}
        self.all_names = frozenset(self.names)
        self.shapes = {key: Shape(hints.get(key, Any), f"{name}, parameter {key}") for key in named}
        self._record = self._make_record()
        self._rest = Shape(hints.get(self.rest, Any), f"{name}, parameter {self.rest}") if self.rest else None
        self.result, self.has_reply = self._result(hints)
        if options.key is not None and options.key not in {"sender", *self.names}:
            raise DeclarationError(f"{name}: key={options.key!r} is none of its parameters")

    def _make_record(self) -> Shape:
        fields: list[Any] = []
        for key, shape in self.shapes.items():
            if key.startswith("__"):
                raise DeclarationError(f"{self.name}: the name {key} of a parameter begins with two underscores")
            fields.append((key, shape.hint) if key in self.required else (key, shape.hint, UNSET))
        record = msgspec.defstruct(
            "Arguments", fields, kw_only=True, forbid_unknown_fields=True, module=__name__, gc=False
        )
        return Shape(record, self.name)

    def _result(self, hints: Mapping[str, Any]) -> tuple[Shape, bool]:
        said = hints.get("return")
        promised = said is Promise
        # A `-> None` is how a function without result is written; whoever wants an empty reply asks for it.
        has_reply = (self.options.has_reply or said not in (None, type(None))) and not self.options.notify
        if promised or said is None or not has_reply:
            said = Any
        return Shape(said, f"{self.name}, result"), has_reply

    def check_names(self, given: Mapping[str, Any]) -> None:
        """Raises TypeError if a name is unknown or one is missing (rpc.R8)."""
        names = given.keys()
        if self.rest is None and not names <= self.all_names:
            raise TypeError(f"{self.name}() has no parameter {_list(names - self.all_names)}")
        if not self.required <= names:
            raise TypeError(f"{self.name}() lacks {_list(self.required - names)}")

    def name_all(self, args: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
        """All arguments by name. Raises ValueError as rpc.R7 has it, also for a surplus one (rpc.B17)."""
        if not args:
            return given
        if not self.options.allow_positional_args:
            raise ValueError(f"{self.name}() takes named parameters only")
        if len(args) > len(self.names):
            raise ValueError(f"{self.name}() takes at most {len(self.names)} parameters by position, not {len(args)}")
        named = dict(zip(self.names, args, strict=False))
        if twice := named.keys() & given.keys():
            raise ValueError(f"{self.name}() was given {_list(twice)} by position and by name")
        return {**named, **given}

    def load(self, params: Any) -> dict[str, Any]:
        """The arguments that came from another program, as declared, only those given (rpc.R7, rpc.R13).

        Raises InvalidParams, which is a TypeError, if they do not fit (rpc.R14).
        """
        try:
            if isinstance(params, msgspec.Raw):
                first = memoryview(params)[0] if len(params) else 0
                if first == _OPENING and self.rest is None:
                    record = self._record.load_json(params)
                    return _given(record) if self.defaults else msgspec.structs.asdict(record)
                # Neither is the first octet of a map or an array in msgpack.
                decode = msgspec.json.decode if first in b"[{" else msgspec.msgpack.decode
                params = decode(params) if first else {}
            return self._load(params)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _wrong(self.name, str(error)) from None

    def _load(self, params: Any) -> dict[str, Any]:
        if not isinstance(params, dict):
            params = self._by_position(params)
        if self._rest is None:
            return _given(self._record.load(params))
        surplus = {key: self._rest.load(value) for key, value in params.items() if key not in self.all_names}
        known = {key: value for key, value in params.items() if key in self.all_names}
        return _given(self._record.load(known)) | surplus

    def _by_position(self, params: Any) -> dict[str, Any]:
        args = params if isinstance(params, list | tuple) else () if params is None else (params,)
        if args and not self.options.allow_positional_args:
            raise _wrong(self.name, "it takes named parameters only")
        if len(args) > len(self.names):
            raise _wrong(self.name, f"it takes at most {len(self.names)} parameters, not {len(args)}")
        return dict(zip(self.names, args, strict=False))


def _given(record: Any) -> dict[str, Any]:
    return {key: value for key, value in msgspec.structs.asdict(record).items() if value is not UNSET}


def _wrong(name: str, why: str) -> InvalidParams:
    what, _, where = why.partition(" - at `")
    path = where.removesuffix("`") or "$"
    return InvalidParams(f"incoming call {name} with wrong signature: {why}", data={"path": path, "reason": what})


def _list(names: Any) -> str:
    return ", ".join(sorted(names))


def _parameters(name: str, function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Its parameters after (self, sender) or (self, receivers) (rpc.R1). Raises DeclarationError."""
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise DeclarationError(f"{name}: a call is a function, not a generator")
    given = list(inspect.signature(function).parameters.values())
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(given) < 2 or any(one.kind not in by_place for one in given[:2]):
        raise DeclarationError(f"{name}: the first two parameters are (self, sender) or (self, receivers)")
    for one in given[2:]:
        if one.kind in (one.POSITIONAL_ONLY, one.VAR_POSITIONAL):
            raise DeclarationError(f"{name}: {one} has no name to travel under")
    return {one.name: one for one in given[2:]}


def _hints(name: str, function: Callable[..., Any], wanted: list[str]) -> dict[str, Any]:
    """The hints of the parameters that travel; those of the others may name what exists for type checkers only."""
    found = {key: hint for key, hint in function.__annotations__.items() if key in wanted}
    holder = type(name, (), {"__annotations__": found, "__module__": function.__module__})
    try:
        hints = typing.get_type_hints(holder, getattr(function, "__globals__", {}), include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        raise DeclarationError(f"{name}: a hint cannot be resolved where the method stands: {error}") from error
    return hints


_IDLE = {"CACHE", "NOP", "POP_TOP", "RESUME", "RETURN_GENERATOR", "RETURN_VALUE"}


def _is_empty(code: CodeType) -> bool:
    """Whether a body says nothing, as is the custom: a docstring, `...` or `pass` (rpc.R2)."""
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_CONST" or step.opname == "RETURN_CONST":
            if step.argval is not None:
                return False
        elif step.opname not in _IDLE:
            # From 3.12 on a coroutine ends with a handler for StopIteration, which no way leads to.
            return step.opname == "CALL_INTRINSIC_1" and bool(code.co_flags & inspect.CO_COROUTINE)
    return True


def _mark(direction: Direction, function: Callable[..., Any] | None, options: Options) -> Any:
    if function is None:
        return lambda marked: Declaration(marked, direction, options)
    return Declaration(function, direction, options)


@overload
def incoming(unbound_method: Callable[..., Any]) -> Declaration: ...
@overload
def incoming(
    unbound_method: None = None,
    has_reply: bool = False,
    allow_positional_args: bool = False,
    *,
    notify: bool = False,
    key: str | None = None,
    ordered: bool = True,
    timeout: float | None = None,
) -> Callable[[Callable[..., Any]], Declaration]: ...
def incoming(
    unbound_method: Callable[..., Any] | None = None,
    has_reply: bool = False,
    allow_positional_args: bool = False,
    **options: Any,
) -> Any:
    """Mark a method as a call that may arrive: bare, or with the options of `Options` (rpc.R1 to R3)."""
    given = Options(has_reply=has_reply, allow_positional_args=allow_positional_args, **options)
    return _mark("incoming", unbound_method, given)


@overload
def outgoing(unbound_method: Callable[..., Any]) -> Declaration: ...
@overload
def outgoing(
    unbound_method: None = None,
    has_reply: bool = False,
    allow_positional_args: bool = False,
    *,
    notify: bool = False,
    key: str | None = None,
    ordered: bool = True,
    timeout: float | None = None,
) -> Callable[[Callable[..., Any]], Declaration]: ...
def outgoing(
    unbound_method: Callable[..., Any] | None = None,
    has_reply: bool = False,
    allow_positional_args: bool = False,
    **options: Any,
) -> Any:
    """Mark a method as a call that may be sent: bare, or with the options of `Options` (rpc.R1 to R3)."""
    given = Options(has_reply=has_reply, allow_positional_args=allow_positional_args, **options)
    return _mark("outgoing", unbound_method, given)
