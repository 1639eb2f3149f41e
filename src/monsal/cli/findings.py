"""What a check of `monsal doctor` is given, and what it says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from monsal.config import Settings

if TYPE_CHECKING:
    from monsal.routing import Table

__all__ = ["Case", "Finding", "Level"]

Level = Literal["ok", "warning", "error"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found: `advice` says what to do if it is not `ok`."""

    check: str
    level: Level
    text: str
    advice: str = ""


@dataclass(slots=True)
class Case:
    """The application that is looked at. `server` is what a running one says of itself, None if none runs.

    `table` are its routes, None if its code cannot be loaded.
    """

    directory: Path
    settings: Settings
    server: dict[str, Any] | None = None
    table: Table | None = None
    now: float = field(default_factory=time.time)
    #: How to type a command of this program for this directory.
    typed: Callable[..., str] = lambda *words: " ".join(("monsal", *map(str, words)))

    @property
    def store(self) -> Path | None:
        """The file of the store, if it is one."""
        url = self.settings.store
        return self.directory / url.removeprefix("sqlite:///") if url.startswith("sqlite:///") else None
