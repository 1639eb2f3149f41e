"""One mail on its way from a connection to the intake, and the answer on its way back."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

import msgspec

from monsal.ingress.answers import Answer, failed, hand_over, stored
from monsal.ingress.house import House
from monsal.mail.envelope import Envelope
from monsal.smtp.events import MessageReceived
from monsal.store.contract import Receipt

__all__: list[str] = []

_log: Final = logging.getLogger("monsal.ingress")


class Caller(Protocol):
    """Who brings a mail."""

    def told(self, answer: Answer, recipients: int) -> None:
        """It was answered; it had so many recipients."""
        ...

    def abort(self) -> None:
        """The answer cannot be given."""
        ...


class Handover(msgspec.Struct, eq=False):
    """A mail whose octets were taken from the budget, which has them back when it is over.

    Order of use: `begin`; if that gives no answer, the caller is `told` later. It is a `Waiter` of the store.
    `cancel` gives it up: what becomes of it then is told nobody.
    """

    _house: House
    _envelope: Envelope
    _message: MessageReceived
    _caller: Caller
    _is_over: bool = False

    def begin(self) -> Answer | None:
        """Give the mail to the intake; the answer if it is known at once."""
        house = self._house
        if house.begin is not None:
            body = self._message.body
            try:
                found = house.begin(self._envelope, body, self)
            except Exception as error:  # noqa: BLE001 - an edge: it becomes a 451 and a log line
                return self._end(failed(self._envelope, body, error))
            if found is self:
                house.pending.add(self)
                return None
            if isinstance(found, Receipt):
                return self._end(stored(self._envelope, body, found))
        # The loop itself keeps no task alive; `_wait` takes it out again, which is cheaper than a callback.
        house.tasks.add(house.loop.create_task(self._wait()))
        return None

    async def _wait(self) -> None:
        house, answer = self._house, None
        try:
            answer = await hand_over(house.intake, self._envelope, self._message.body)
        finally:
            house.tasks.discard(asyncio.current_task())
            if answer is None:
                self.cancel()
        self._say(answer)

    # What the intake calls.

    def done(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._is_over

    def set_result(self, receipt: Receipt) -> None:
        """The mail is stored."""
        self._say(stored(self._envelope, self._message.body, receipt))

    def set_exception(self, error: Exception) -> None:
        """It is not stored, as far as is known."""
        self._say(failed(self._envelope, self._message.body, error))

    # What the ingress calls.

    def cancel(self) -> None:
        """Wait for no answer any more."""
        if not self._is_over:
            self._is_over = True
            self._house.settle(self, self._message.size)

    def _end(self, answer: Answer) -> Answer:
        self.cancel()
        self._house.counters.note(answer)
        return answer

    def _say(self, answer: Answer) -> None:
        self._end(answer)
        try:
            self._caller.told(answer, len(self._message.recipients))
        except Exception:  # noqa: BLE001 - an edge: whoever stores has others to tell
            _log.exception("cannot answer", extra={"action": "answer_failed", "peer": self._envelope.peer})
            self._caller.abort()
