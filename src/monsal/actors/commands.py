"""Commands: what an actor can be told to do. They belong to its type (mailbox.B6).

    class Greeter(Actor):
        commands = ("greetings.more",)              # modules with plain functions f(request, *args, **kwargs)

        @command()
        async def greet(self, request, name):       # await actor.ask("greeter", "greet", "Anna")
            return f"Hello {name}"

The decorator only marks. Names do not care about case.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final, Protocol, TypeVar

import msgspec

from monsal.actors.errors import CommandNotFound
from monsal.errors import UsageError

__all__ = ["Command", "Runnable", "command", "declared", "runnable", "table_of"]

F = TypeVar("F", bound=Callable[..., Any])

_MARK: Final = "__monsal_command__"
_RUNNABLE: Final = "__monsal_runnable__"


class Runnable(Protocol):
    """A function that the command `run` may call: `f(actor, *args, **kwargs)`."""

    def __call__(self, actor: Any, /, *args: Any, **kwargs: Any) -> Any: ...


class Command(msgspec.Struct, frozen=True):
    """One command: its function, whether that is a method of the actor, and whether it answers.

    Those with `control` overtake the messages of users.
    """

    name: str
    function: Callable[..., Any]
    is_method: bool
    ack: bool
    control: bool


class _Mark(msgspec.Struct, frozen=True):
    ack: bool
    control: bool
    name: str


def command(ack: bool = True, *, name: str = "", control: bool = False) -> Callable[[F], F]:
    """Mark a method of an Actor, or a function of a module in its `commands`, as a command: `name`, or its own name.

    With `ack=False` its asker gets None as soon as it was taken in. With `control` it overtakes what has none, and is
    handled beside the turn that runs.
    """

    def mark(function: F) -> F:
        setattr(function, _MARK, _Mark(ack, control, name.lower()))
        return function

    return mark


def runnable(function: F) -> F:
    """Declare a function for the command `run` (mailbox.B6): `f(actor, *args, **kwargs)`."""
    setattr(function, _RUNNABLE, True)
    return function


def declared(path: str) -> Runnable:
    """The function at `module:name`, if it was declared `runnable`. Raises CommandNotFound otherwise."""
    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name) if module and name else None
    except (ImportError, AttributeError):
        found = None
    if not getattr(found, _RUNNABLE, False):
        raise CommandNotFound(f"{path!r} is no function that was declared @runnable")
    assert found is not None
    runs: Runnable = found
    return runs


def table_of(kind: type) -> Mapping[str, Command]:
    """The commands of a type of actor by their lower-case names; those of a subclass win, methods over functions.

    Raises UsageError for two functions of one name in its modules, ImportError for a module that is not there.
    """
    known = kind.__dict__.get("_monsal_commands")
    if known is not None:
        return known  # type: ignore[no-any-return] # made below
    table: dict[str, Command] = {}
    for base in reversed(kind.__mro__):
        for found in _of_modules(base.__dict__.get("commands", ())):
            table[found.name] = found
        for name, value in vars(base).items():
            mark = getattr(value, _MARK, None)
            if isinstance(mark, _Mark):
                known_as = mark.name or name.lower()
                table[known_as] = Command(known_as, value, True, mark.ack, mark.control)
    kind._monsal_commands = table  # type: ignore[attr-defined] # a cache of its own in each class
    return table


def _of_modules(names: tuple[str, ...]) -> Iterator[Command]:
    seen: dict[str, str] = {}
    for module in names:
        for name, value in vars(import_module(module)).items():
            mark = getattr(value, _MARK, None)
            if isinstance(mark, _Mark) and inspect.isfunction(value):
                key = mark.name or name.lower()
                if key in seen:
                    raise UsageError(f"the command {key!r} is in {seen[key]} and in {module}")
                seen[key] = module
                yield Command(key, value, False, mark.ack, mark.control)
