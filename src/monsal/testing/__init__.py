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

from monsal.testing import checks
from monsal.testing.inmemory import SentMail, TestClient, client, clock

__all__ = ["SentMail", "TestClient", "checks", "client", "clock"]
