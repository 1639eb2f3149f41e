"""What the processes of a server are told about the application that they serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

if TYPE_CHECKING:
    from monsal.actors.interpreter import Interpreter
    from monsal.actors.spec import ActorSpec, GroupSpec

__all__ = ["API", "STORE_GROUP", "WORKERS", "Overrides", "Plan", "Role"]

#: Settings that go before those of the application, such as those of the command line, with their origins.
Overrides = Sequence[tuple[Mapping[str, Any], str]]
#: Takes mail, runs turns and sends; or serves programs that call.
Role = Literal["worker", "api"]
#: The names of the groups, and of the process that serves programs.
STORE_GROUP: Final = "store"
WORKERS: Final = "worker"
API: Final = "api"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What processes are told about the application: its object, what the command line says instead of it, tables of
    its own, whether it exposes an API, and actors of its own; and interpreters that were `made` for them already."""

    target: str
    overrides: Overrides = ()
    tables: Sequence[str] = ()
    exposes: bool = False
    actors: Sequence[ActorSpec | GroupSpec] = ()
    made: dict[str, Interpreter] = msgspec.field(default_factory=dict)
