"""A list of a bounded number of undecoded items, refused at the first one too many.

A list type would make an object for each of the half a million items of a megabyte before it is counted (rpc.B7).
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

__all__ = ["batch_type", "items_of"]


@functools.cache
def batch_type(most: int) -> type[msgspec.Struct]:
    """A type for lists of at most `most` items."""
    fields: list[Any] = [(f"item{number}", Raw | UnsetType, UNSET) for number in range(most)]
    return msgspec.defstruct("BatchItems", fields, array_like=True, forbid_unknown_fields=True, module=__name__)


def items_of(batch: Any) -> list[Raw]:
    """The items that were there."""
    return [item for item in msgspec.structs.astuple(batch) if item is not UNSET]
