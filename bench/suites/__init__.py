"""What can be measured: one module a subject, with a `SUITE`. A new one is put into `NAMES`, in the order of the page.

Start reading at `accept.py`; `../harness.py` says what a suite is made of.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.harness import Suite

__all__ = ["NAMES", "suite"]

NAMES = ("accept", "turns", "stages", "store", "growth", "routes", "mail", "start", "bus", "rpc", "actors", "workers")


def suite(name: str) -> Suite:
    """The suite of that name; its module is loaded only now, with all that it needs."""
    found: Suite = import_module(f"bench.suites.{name}").SUITE
    return found
