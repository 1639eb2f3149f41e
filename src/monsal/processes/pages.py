"""The files in which workers note what they are running (`conversation/page.py`), one for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["page_of", "pages"]

_PREFIX: Final = "turns-"
_SUFFIX: Final = ".page"


def page_of(run: Path, name: str) -> Path:
    """The file of the worker `name`."""
    return run / f"{_PREFIX}{name}{_SUFFIX}"


def pages(run: Path) -> Iterator[str]:
    """The names of the workers that have left such a file."""
    for path in run.glob(f"{_PREFIX}*{_SUFFIX}"):
        yield path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
