"""What a relay has to do: the mails of one call, cut into transactions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from monsal.conversation.ports import Deferred, Outcome, RelayMail
from monsal.delivery.connection import Job
from monsal.delivery.route import Target
from monsal.smtp.transaction import RecipientResult

__all__ = ["Batch", "Begun", "MailJob", "RelayStatistics", "Suspects", "cut", "sizes_of"]

UNKNOWN = Deferred("not tried")


class RelayStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Connections open now and being opened; mails waiting and under way; since the start: connections opened, and
    recipients by outcome. `reason` says why the whole relay fails, and is empty when it does not."""

    connections: int
    opening: int
    waiting: int
    in_flight: int
    opened: int
    delivered: int
    deferred: int
    failed: int
    reason: str


class Batch:
    """The mails that are asked for together, and what is known of them. `left` of its jobs are not over; `counts` is
    the relay's, of recipients by the kind of their outcome."""

    __slots__ = ("_counts", "future", "left", "outcomes")

    def __init__(
        self, mails: Sequence[RelayMail], future: asyncio.Future[None], counts: dict[type[Outcome], int]
    ) -> None:
        self.outcomes: list[list[Outcome]] = [[UNKNOWN] * len(mail.recipients) for mail in mails]
        self.left = 0
        self.future = future
        self._counts = counts

    def record(self, mail: int, offset: int, outcomes: Sequence[Outcome]) -> None:
        """Note what became of recipients of a mail."""
        self.outcomes[mail][offset : offset + len(outcomes)] = outcomes
        for outcome in outcomes:
            self._counts[type(outcome)] += 1

    def settle(self, job: MailJob, outcomes: Sequence[Outcome]) -> None:
        """A job is over; tells who waits if it was the last one."""
        self.record(job.mail, job.offset, outcomes)
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(None)


class MailJob(Job, kw_only=True, eq=False):
    """A job and its place in its batch: the recipients from `offset` on of the `mail` with that number.

    `refused_at` are the places that have refused it for now; `early` is what became of one that is held, if that is
    known already.
    """

    batch: Batch
    mail: int
    offset: int
    message_id: str
    refused_at: frozenset[Target] = frozenset()
    early: tuple[RecipientResult, ...] | None = None


def cut(mail: RelayMail, step: int, *, size: int, batch: Batch, number: int, alone: bool) -> list[MailJob]:
    """The jobs of a mail, each with at most `step` of its recipients; `number` is its place in the batch."""
    body, path = (None, mail.body) if isinstance(mail.body, Path) else (mail.body, None)
    return [
        MailJob(
            sender=mail.sender,
            recipients=mail.recipients[offset : offset + step],
            body=body,
            path=path,
            size=size,
            alone=alone,
            batch=batch,
            mail=number,
            offset=offset,
            message_id=mail.message_id,
        )
        for offset in range(0, len(mail.recipients), step)
    ]


class Begun:
    """A mail whose envelope the next hop was told: `release` or `abandon` it, and then ask for its `outcomes`."""

    def __init__(
        self, job: MailJob, release: Callable[[], None], outcomes: Callable[[], Awaitable[list[list[Outcome]]]]
    ) -> None:
        self._job = job
        self.release = release
        self._outcomes = outcomes

    def abandon(self) -> None:
        """The mail is not to be sent after all."""
        connection = self._job.connection
        if self._job.early is None and connection is not None:
            connection.break_off("the turn was not committed")

    async def outcomes(self) -> list[Outcome]:
        """What became of each recipient, after `release`."""
        return (await self._outcomes())[0]


class Suspects:
    """Message-IDs of mails at which the next hop hung up: their recipients are tried one by one from then on.

    A memory, not a record: what is forgotten (the oldest, or with the process) only costs one more such end.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._known: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._known

    def add(self, message_id: str) -> None:
        self._known[message_id] = None
        if len(self._known) > self._limit:
            del self._known[next(iter(self._known))]

    def discard(self, message_id: str) -> None:
        self._known.pop(message_id, None)


async def sizes_of(mails: Sequence[RelayMail]) -> dict[int, int | OSError]:
    """The sizes of bodies that lie in files, or why they cannot be had; by the mail's number."""
    paths = {number: mail.body for number, mail in enumerate(mails) if isinstance(mail.body, Path)}
    if not paths:
        return {}
    return await asyncio.get_running_loop().run_in_executor(None, _stat_all, paths)


def _stat_all(paths: dict[int, Path]) -> dict[int, int | OSError]:
    found: dict[int, int | OSError] = {}
    for number, path in paths.items():
        try:
            found[number] = os.stat(path).st_size
        except OSError as error:
            found[number] = error
    return found
