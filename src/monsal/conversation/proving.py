"""Who is proved, on the way of one row: its capabilities, and the sender's word for it (see `confirming.py`).

What `Passage` asks here it commits itself.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from monsal.conversation.confirming import Unasked, ask_draft, ask_reason, confirmed_row, counted_as, refuted
from monsal.conversation.result import Outcome
from monsal.conversation.surroundings import Surroundings
from monsal.conversation.turn import failure_commit, outgoing
from monsal.errors import CapabilityError, TurnError
from monsal.mail import Checks, Envelope, Message, Verdict
from monsal.routing import Handler, Match
from monsal.store.contract import Ack, Claimed, OutgoingMail, TurnCommit
from monsal.store.identity import ASKED, KEEP_USED, Aside, Consumed, Identity, Released

__all__ = ["Proving", "understand"]

log = logging.getLogger("monsal.turns")

NOT_AUTHENTICATED = "not_authenticated"
_envelope = msgspec.json.Decoder(Envelope).decode


def understand(row: Claimed, around: Surroundings) -> Message:
    """The message of a row; nothing of it is parsed yet."""
    body = row.body
    return Message(
        raw=body.read_bytes if isinstance(body, Path) else body,
        recipient=row.recipient,
        correspondent=row.correspondent,
        envelope=None if row.envelope == b"{}" else _envelope(row.envelope),
        id=row.id,
        source=row.source,
        received=row.received,
        upstream=around.upstream,
    )


class Proving:
    """What is asked about one row. `ask` calls what may wait or fail where handlers run."""

    def __init__(self, row: Claimed, around: Surroundings, message: Message) -> None:
        self.row = row
        self.around = around
        self.message = message
        #: Capabilities that only this message may use, with the time they expire.
        self.once: tuple[tuple[str, float], ...] = ()

    # -- our own check ------------------------------------------------------------------------------------------

    async def check(self, ask: Callable[[Callable[[], Any]], Any]) -> TurnCommit | None:
        """Find out what nobody we believe has said of the message; the commit that keeps it with the row.

        It is kept before any handler runs, so that the message means the same however often it is handled, and the DNS
        is not asked again. None if there is nothing to find out.
        """
        checker, envelope = self.around.checker, self.message.envelope
        if checker is None or envelope is None or self.row.source not in ("mail", "bounce"):
            return None
        if envelope.user or envelope.checks is not None or envelope.confirmed:
            return None

        def look() -> Checks | None:
            return checker(self.message) if self.message.auth.source == "none" else None

        made: Outcome = await ask(look)
        if made.error is not None:
            log.error("a check failed: %s", made.text.strip(), extra={"action": "auth_error", "row": self.row.id})
        checks = _UNKNOWN if made.error is not None else made.value
        if checks is None:
            return None
        self.message = self.with_envelope(msgspec.structs.replace(envelope, checks=checks))
        commit = failure_commit(self.row, ack=Ack(kind="continue"), now=self.around.clock.now())
        kept = msgspec.json.encode(self.message.envelope)
        return msgspec.structs.replace(commit, identity=Identity(envelope=kept))

    def with_envelope(self, envelope: Envelope) -> Message:
        """The same message, nothing of it read yet."""
        row = msgspec.structs.replace(self.row, envelope=msgspec.json.encode(envelope))
        return understand(row, self.around)

    # -- capabilities -------------------------------------------------------------------------------------------

    def screen(self, matches: Sequence[Match]) -> tuple[tuple[Match, ...], str]:
        """The matches with the values of their capabilities, and why there are none.

        What was valid when the message was accepted stays so: a message may be tried again for days.
        """
        row, capabilities = self.row, self.around.capabilities
        if row.source == "timer":
            # Whoever set the timer had the capability; the keys may be gone since.
            return capabilities.screen(matches, row.recipient, at=None).matches, ""
        found = capabilities.screen(matches, row.recipient, at=row.received, correspondent=row.correspondent)
        self.once = found.once
        return found.matches, found.refusal

    async def used_before(self) -> str:
        """Which message used a capability that only one may use, in words; empty if none did."""
        now = self.around.clock.now()
        for token, expires in self.once:
            used = await self.around.store.read("SELECT message FROM monsal_consumed WHERE token = ?", (token,))
            if used and used[0][0] != self.row.id:
                return f"capability: it was used before, by message {used[0][0]}"
            if not used and now > expires + KEEP_USED:
                return "capability: it expired too long ago to know whether it was used before"
        return ""

    def uses_up(self) -> Identity | None:
        """What a turn of this message uses up."""
        if not self.once:
            return None
        return Identity(consumes=tuple(Consumed(token, expires) for token, expires in self.once))

    # -- the sender's word --------------------------------------------------------------------------------------

    async def set_aside(
        self, handler: Handler, replies: int, ask: Callable[[Callable[[], Any]], Any]
    ) -> TurnCommit | Outcome:
        """The commit that lets the message wait for its sender's word, or the failure if nobody can be asked.

        Nobody is asked about what their own domain denies, nor beyond the questions of an hour: that waits, too, for an
        operator or its end.
        """
        around, row = self.around, self.row
        confirming, now = around.confirming, around.clock.now()

        def mail() -> OutgoingMail | Unasked | str:
            sent = max(around.tools.replies(row.correspondent), replies)
            reason = ask_reason(self.message, around.tools, replies=sent, limit=confirming.limit)
            if reason is not None:
                return reason
            if (denied := refuted(self.message)) is not None:
                return denied
            if confirming.hourly is not None and around.questions.is_closed(now):
                return _ENOUGH
            draft = ask_draft(
                self.message,
                row.id,
                around.capabilities,
                within=confirming.within,
                now=now,
                render=self._render,
            )
            # Who is asked anew gets another mail: one with the same Message-ID would be taken for the first.
            return outgoing(
                draft,
                secret=around.store.secret,
                row=row.id,
                handler="(confirmation)",
                number=int(now),
                now=now,
                sign=around.sign,
            )

        made: Outcome = await ask(mail)
        if made.error is not None:
            return made
        if isinstance(made.value, str):
            return self.unproven(handler, made.value)
        if isinstance(made.value, Unasked):
            return self._aside(made.value)
        commit = failure_commit(
            row,
            ack=Ack(kind="aside", reason=f"{ASKED}{row.correspondent} to confirm it"),
            now=now,
            bounce=made.value,
        )
        aside = Aside(counted_as(row.correspondent), now + confirming.within, confirming.limit, confirming.hourly)
        return msgspec.structs.replace(commit, identity=Identity(aside=aside), replies=1)

    def _aside(self, unasked: Unasked) -> TurnCommit:
        """The commit that lets the message wait, and asks nobody."""
        confirming, now = self.around.confirming, self.around.clock.now()
        commit = failure_commit(
            self.row, ack=Ack(kind="aside", reason=f"waits, and nobody is asked: {unasked.why}"), now=now
        )
        aside = Aside(counted_as(self.row.correspondent), now + confirming.within, confirming.limit)
        return msgspec.structs.replace(commit, identity=Identity(aside=aside))

    async def stand_aside(
        self, made: TurnCommit, commits: Callable[[TurnCommit], Awaitable[bool]]
    ) -> TurnCommit | None:
        """What was committed of it: without its question, if there are too many of those; None if nothing can be.

        `commits` says whether the store has taken a commit.
        """
        aside = None if made.identity is None else made.identity.aside
        assert aside is not None
        if await commits(made):
            return made
        if aside.hourly is None:
            return None
        unasked = self._aside(_ENOUGH)
        if not await commits(unasked):
            return None  # those of this correspondent are too many
        self._close_questions()
        return unasked

    def _close_questions(self) -> None:
        """The questions of this hour are used up; say so, once in an hour."""
        if self.around.questions.close(self.around.clock.now()):
            log.warning(
                "%d questions were asked within an hour (max_questions_per_hour): messages that are not proved wait, "
                "and nobody is asked; `monsal queue` lists them, `monsal release '?ID'` has one asked about later",
                self.around.confirming.hourly,
                extra={"action": "questions_used_up"},
            )

    def _render(self, template: str, variables: Mapping[str, Any]) -> str | None:
        templates = self.around.tools.templates
        if templates.folder is None or not (templates.folder / template).is_file():
            return None
        return templates.render(template, variables).text

    def unproven(self, handler: Handler, why: str) -> Outcome:
        """The failure of a handler that asks for a proved sender."""
        return Outcome(error=TurnError(f"{NOT_AUTHENTICATED}: {handler.id} asks for a proved sender; {why}"))

    def too_many(self, handler: Handler) -> Outcome:
        """The failure of a handler when as many messages of its sender wait as may."""
        limit = self.around.confirming.limit
        return self.unproven(
            handler, f"{limit} messages of {counted_as(self.row.correspondent)} wait for a confirmation"
        )

    async def confirmation(self, ask: Callable[[Callable[[], Any]], Any]) -> TurnCommit:
        """The commit that releases the message which this row confirms, or makes the row a dead letter."""
        row, now = self.row, self.around.clock.now()

        def dead(reason: str) -> TurnCommit:
            return failure_commit(row, ack=Ack(kind="dead", reason=f"confirmation: {reason}"), now=now)

        try:
            target = confirmed_row(
                self.around.capabilities, row.recipient, at=row.received, correspondent=row.correspondent
            )
        except CapabilityError as error:
            return dead(str(error))
        # It may have to read the message from its file.
        asked: Outcome = await ask(lambda: self.message.automatic)
        if asked.error is not None:
            return dead(asked.text.strip() or "it cannot be read")
        if asked.value is not None:
            return dead(f"it was sent by a machine ({asked.value})")
        found = await self.around.store.read(_WAITING, (target,))
        if not found:
            return dead(f"message {target} does not wait for it (any more)")
        kept = found[0][0]
        envelope = Envelope(sender="", recipients=()) if kept == b"{}" else msgspec.json.decode(kept, type=Envelope)
        proved = msgspec.json.encode(msgspec.structs.replace(envelope, confirmed=True))
        commit = failure_commit(row, ack=Ack(kind="done", reason=f"confirmed message {target}"), now=now)
        return msgspec.structs.replace(commit, identity=Identity(releases=(Released(int(target or 0), proved),)))


_ENOUGH = Unasked("too many questions were asked within the hour")
_TROUBLE = Verdict("temperror")
#: What is found out by a check that breaks or takes too long: nothing, and never a pass.
_UNKNOWN = Checks(spf=_TROUBLE, dkim=_TROUBLE, dmarc=_TROUBLE, arc=_TROUBLE)

_WAITING = (
    "SELECT s.envelope FROM monsal_aside a JOIN monsal_spool s ON s.id = a.message WHERE a.message = ? AND s.status = 1"
)
