"""`salmon.testing`: conversations with handlers, by the router or by a server that files mail in a queue."""

from __future__ import annotations

import re
from typing import Any

from monsal.compat.salmon.mail import MailRequest, MailResponse
from monsal.compat.salmon.queue import Queue
from monsal.compat.salmon.routing import Router
from monsal.compat.salmon.server import Relay

__all__ = [
    "TEST_QUEUE",
    "RouterConversation",
    "TestConversation",
    "assert_in_state",
    "clear_queue",
    "delivered",
    "queue",
    "relay",
]

#: Where mail is expected that a test looks for.
TEST_QUEUE = "run/queue"


def relay(hostname: str = "127.0.0.1", port: int = 8824) -> Relay:
    """A relay to a server that runs for the test."""
    return Relay(host=hostname, port=port, debug=0)


def queue(queue_dir: str = TEST_QUEUE) -> Queue:
    """The queue in which mail is expected."""
    return Queue(queue_dir)


def clear_queue(queue_dir: str = TEST_QUEUE) -> None:
    """Empty it."""
    queue(queue_dir).clear()


def delivered(pattern: str, to_queue: Any = None) -> MailRequest | None:
    """The first mail of the queue whose From, To or Subject match; None if there is none."""
    looked_in = queue() if to_queue is None else to_queue
    looks = re.compile(pattern, re.IGNORECASE)
    for key in looked_in.keys():  # noqa: SIM118 - a queue is no mapping
        message: MailRequest | None = looked_in.get(key)
        if message is not None and any(looks.search(str(message[name] or "")) for name in ("to", "from", "subject")):
            return message
    return None


class TestConversation:
    """Talks to handlers by a relay, and expects answers in the queue."""

    __test__ = False

    def __init__(self, relay_to_use: Any, From: str, Subject: str) -> None:
        self.relay = relay_to_use
        self.From = From
        self.Subject = Subject

    def begin(self) -> None:
        """Forget all states and answers."""
        Router.clear_states()
        clear_queue()

    def deliver(self, To: str, From: str, Subject: str, Body: str) -> None:
        """Write to the handlers."""
        self.relay.send(To, From, Subject, Body)

    def say(self, To: str, Body: str, expect: str | None = None, Subject: str | None = None) -> MailRequest | None:
        """Write, and return the mail that `expect` describes. Raises AssertionError if there is none."""
        self.deliver(To, self.From, Subject or self.Subject, Body)
        if expect is None:
            return None
        found = delivered(expect)
        if found is None:
            raise AssertionError(f"nothing in {TEST_QUEUE} matches {expect!r} after a mail to {To}")
        return found


class RouterConversation(TestConversation):
    """Talks to handlers by the router, with nothing in between."""

    def __init__(self, From: str, Subject: str) -> None:
        super().__init__(None, From, Subject)

    def deliver(self, To: str, From: str, Subject: str, Body: str) -> None:
        response = MailResponse(To=To, From=From, Subject=Subject, Body=Body)
        Router.deliver(MailRequest("test", From, To, str(response)))


def assert_in_state(module: str, To: str, From: str, state: str) -> None:
    """Raise AssertionError unless the module's machine stands in that state for who writes to that address."""
    fake = MailRequest("test", From, To, f"From: {From}\nTo: {To}\n\n")
    found = Router.get_state(module, fake)
    if found != state:
        raise AssertionError(f"{module} is in {found} for {From} at {To}, not in {state}")
