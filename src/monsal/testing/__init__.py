"""For tests of applications, and for those who write a store.

    from monsal.testing import client

    def test_order():
        with client(app).conversation("ann@example.net") as ann:
            ann.say("order@example.com", "Hello").expect("What would you like?").expect_state("CHOOSING")

`client` runs the real engine on a store in memory, with a clock that stands still until it is moved and a `FakeRelay`
that keeps what it is given; `conversation` is one correspondent of it. `plugin` has fixtures for pytest. `checks` is
the conformance kit for stores. May import everything; nothing imports it. docs/testing.md tells all of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monsal.testing import checks as checks
    from monsal.testing.asked import Answer as Answer
    from monsal.testing.inmemory import TestClient as TestClient
    from monsal.testing.inmemory import client as client
    from monsal.testing.inmemory import clock as clock
    from monsal.testing.play import Conversation as Conversation
    from monsal.testing.program import Program as Program
    from monsal.testing.relay import FakeRelay as FakeRelay
    from monsal.testing.relay import SentMail as SentMail

_HOME = {
    "Answer": "asked",
    "Conversation": "play",
    "FakeRelay": "relay",
    "Program": "program",
    "SentMail": "relay",
    "TestClient": "inmemory",
    "client": "inmemory",
    "clock": "inmemory",
}

__all__ = ["Answer", "Conversation", "FakeRelay", "Program", "SentMail", "TestClient", "checks", "client", "clock"]


def __getattr__(name: str) -> Any:
    # The kit for stores is of no use to most tests of applications, and the client of none to those of stores.
    if name == "checks":
        return import_module("monsal.testing.checks")
    if name not in _HOME:
        raise AttributeError(f"module 'monsal.testing' has no attribute {name!r}")
    return getattr(import_module(f"monsal.testing.{_HOME[name]}"), name)
