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

from typing import TYPE_CHECKING

from monsal.late import late

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

# The kit for stores is of no use to most tests of applications, and the client of none to those of stores.
_HOME = {
    "Answer": "monsal.testing.asked",
    "Conversation": "monsal.testing.play",
    "FakeRelay": "monsal.testing.relay",
    "Program": "monsal.testing.program",
    "SentMail": "monsal.testing.relay",
    "TestClient": "monsal.testing.inmemory",
    "checks": "monsal.testing.checks",
    "client": "monsal.testing.inmemory",
    "clock": "monsal.testing.inmemory",
}

__all__ = [*_HOME]

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _HOME)
