"""A relay that keeps what it is given, and says what the test's script says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from monsal.address import fold
from monsal.conversation.ports import Deferred, Delivered, Failed, Outcome, RelayMail
from monsal.mail import Attachment, Message

__all__ = ["FakeRelay", "SentMail"]


@dataclass(frozen=True, slots=True)
class SentMail:
    """A mail that left: its envelope, its bytes, and `message` to read it with; `mail["X-Header"]` is a header."""

    sender: str
    to: tuple[str, ...]
    message_id: str
    raw: bytes

    @property
    def message(self) -> Message:
        return Message(raw=self.raw, recipient=self.to[0], correspondent="", envelope=None, received=0.0)

    @property
    def subject(self) -> str:
        return self.message.subject

    @property
    def text(self) -> str:
        """Its text, with plain newlines."""
        return self.message.text

    @property
    def html(self) -> str | None:
        return self.message.html

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        return tuple(self.message.attachments)

    def __getitem__(self, header: str) -> str:
        """The first header of that name. Raises KeyError if there is none."""
        return self.message[header]


@dataclass(slots=True)
class _Rule:
    """What happens to the next `times` tries of mails to addresses like `pattern` (None: always)."""

    pattern: str
    outcome: Outcome
    times: int | None

    def takes(self, address: str) -> bool:
        if self.times == 0 or not fnmatchcase(fold(address), fold(self.pattern)):
            return False
        if self.times is not None:
            self.times -= 1
        return True


class FakeRelay:
    """Says that each mail was delivered, unless a script says otherwise:

        relay.defer("bob@*", times=2)      the next two tries for Bob fail for now
        relay.fail("eve@example.net")      mail to Eve is refused for good
        relay.accept("eve@example.net")    and is taken again
        relay.down(times=3)                nobody answers at all, three times
        relay.hang()                       the next batch gets no answer before `release`

    `mails` are those that were delivered, in order; `tried` are all tries with what was said.
    """

    def __init__(self) -> None:
        self.mails: list[SentMail] = []
        self.tried: list[tuple[str, Outcome]] = []
        #: Set while a batch hangs.
        self.is_stuck = asyncio.Event()
        self._rules: list[_Rule] = []
        self._down = 0
        self._gate = asyncio.Event()
        self._gate.set()

    def defer(self, address: str = "*", *, reason: str = "451 4.2.0 try again later", times: int | None = 1) -> None:
        """Put the next `times` tries for addresses like this off (None: all). It is a pattern as of the shell's."""
        self._rules.append(_Rule(address, Deferred(reason), times))

    def fail(self, address: str = "*", *, reason: str = "550 5.1.1 no such user", times: int | None = None) -> None:
        """Refuse them for good."""
        self._rules.append(_Rule(address, Failed(reason), times))

    def accept(self, address: str = "*") -> None:
        """Take mail again for what `defer` and `fail` were told with the same pattern (`*`: for all)."""
        self._rules = [rule for rule in self._rules if address != "*" and fold(rule.pattern) != fold(address)]

    def down(self, times: int = 1) -> None:
        """Answer nobody for the next `times` batches."""
        self._down = times

    def hang(self) -> None:
        """Take the next batch, and say nothing."""
        self._gate.clear()

    def release(self) -> None:
        """Answer what hangs, and all that comes after; `settle` then goes on."""
        self.is_stuck.clear()
        self._gate.set()

    async def send(self, mails: Sequence[RelayMail]) -> list[list[Outcome]]:
        if not self._gate.is_set():
            self.is_stuck.set()
            await self._gate.wait()
        if self._down:
            self._down -= 1
            refused = Deferred("Connection refused", whole_relay=True)
            return [[self._note(address, refused) for address in mail.recipients] for mail in mails]
        return [self._answers(mail) for mail in mails]

    def _answers(self, mail: RelayMail) -> list[Outcome]:
        answers: list[Outcome] = []
        for address in mail.recipients:
            rule = next((rule for rule in self._rules if rule.takes(address)), None)
            answers.append(self._note(address, Delivered("250 2.0.0 kept") if rule is None else rule.outcome))
        taken = [address for address, outcome in zip(mail.recipients, answers, strict=True) if _is_delivered(outcome)]
        if taken:
            body = mail.body if isinstance(mail.body, bytes) else mail.body.read_bytes()
            whole = SentMail(mail.sender, mail.recipients, mail.message_id, body)
            self.mails.append(replace(whole, to=tuple(taken)))
        return answers

    def _note(self, address: str, outcome: Outcome) -> Outcome:
        self.tried.append((address, outcome))
        return outcome

    async def close(self) -> None:
        """Nothing to give back."""


def _is_delivered(outcome: Outcome) -> bool:
    return isinstance(outcome, Delivered)
