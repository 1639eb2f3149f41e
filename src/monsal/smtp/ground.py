"""What every part of a receiving session stands on: its state, what it says and tells, and what it counts."""

from __future__ import annotations

from functools import lru_cache

from monsal.smtp import replies
from monsal.smtp.events import Closing, Event
from monsal.smtp.replies import Reply
from monsal.smtp.settings import ServerSettings
from monsal.smtp.states import TRANSITIONS, Input, SessionState

__all__: list[str] = []


@lru_cache(maxsize=256)
def to_wire(reply: Reply) -> bytes:
    """The reply's octets; cached, because a server says few different things."""
    return reply.to_bytes()


@lru_cache(maxsize=16)
def greeting(settings: ServerSettings) -> bytes:
    """The first words to a client, and those after XCLIENT."""
    return Reply(220, None, f"{settings.hostname} {'LMTP' if settings.lmtp else 'ESMTP'} monsal").to_bytes()


class Ground:
    """State and counters. `out` and `events` gather what is to be sent and told until the caller takes them."""

    __slots__ = ("_errors", "_junk", "_refusals", "_unknown", "events", "out", "settings", "state")

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.state = SessionState.CONNECTED
        self.out = [greeting(settings)]
        self.events: list[Event] = []
        self._errors = self._unknown = self._refusals = self._junk = 0

    def _move(self, given: Input) -> None:
        following = TRANSITIONS[self.state][given]
        if not isinstance(following, SessionState):
            raise AssertionError(f"{given.name} was not asked for in state {self.state.name}")
        self.state = following

    def fail(self, reply: Reply) -> None:
        """Refuse a command that is wrong in itself."""
        self.out.append(to_wire(reply))
        self._errors += 1
        if self._errors >= self.settings.max_errors:
            self.end_because(replies.TOO_MANY_ERRORS)

    def _refuse(self, reply: Reply) -> None:
        """Refuse a command that is right in itself."""
        self.out.append(to_wire(reply))
        self._count_refusal()

    def _count_refusal(self) -> None:
        self._refusals += 1
        if self._refusals >= self.settings.max_refusals:
            self.end_because(replies.TOO_MANY_ERRORS)

    def _count_junk(self) -> None:
        self._junk += 1
        if self._junk >= self.settings.max_junk_commands:
            self.end_because(replies.TOO_MANY_ERRORS)

    def end_because(self, reply: Reply) -> None:
        """End the session for a reason of ours, unless it is ended already."""
        if self.state is not SessionState.CLOSED:
            self.out.append(to_wire(reply))
            self.events.append(Closing(reply))
            self.end()

    def end(self) -> None:
        """Forget all that was held; what is in the output still leaves."""
        if self.state is not SessionState.CLOSED:
            self._move(Input.CLOSE)
