"""For tests of applications, and for those who write a store.

    from monsal.testing import client

    def test_order():
        with client(app) as mail:
            mail.deliver("Hello", to="order@example.com", sender="ann@example.net")
            assert mail.sent[-1].text == "What would you like?\\n"
            assert mail.state_of("ann@example.net", handlers) == "CHOOSING"

`client` runs the real engine on a store in memory, with a clock that stands still until it is moved and a relay that
keeps what it is given; `checks` is the conformance kit for stores. May import everything; nothing imports it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monsal.testing import checks as checks
    from monsal.testing.inmemory import SentMail as SentMail
    from monsal.testing.inmemory import TestClient as TestClient
    from monsal.testing.inmemory import client as client
    from monsal.testing.inmemory import clock as clock

__all__ = ["SentMail", "TestClient", "checks", "client", "clock"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'monsal.testing' has no attribute {name!r}")
    # The kit for stores is of no use to most tests of applications, and the client of none to those of stores.
    if name == "checks":
        return import_module("monsal.testing.checks")
    return getattr(import_module("monsal.testing.inmemory"), name)
