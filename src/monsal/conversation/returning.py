"""The way of a row that came back to one of our envelope senders: a turn of the conversation that had sent."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from monsal.conversation.bounces import Returned, genuine_token, read_returned
from monsal.conversation.context import Turn
from monsal.conversation.passage import MAX_CONFLICTS, ConflictError, Passage, captures_of
from monsal.conversation.proving import understand
from monsal.conversation.surroundings import Surroundings
from monsal.mail import Message
from monsal.routing import Call, Handler
from monsal.store.bounced import SentMail
from monsal.store.contract import Ack, Claimed, StateKey, TurnCommit, TurnRow

__all__ = ["BOUNCE_HANDLER", "ReturnedPassage"]

log = logging.getLogger("monsal.turns")

#: Stands in the history for the handler of a report that no handler took.
BOUNCE_HANDLER = "(bounce)"


class ReturnedPassage(Passage):
    """The way of one report: whose mail came back, what it says, the `@on_bounce` of its module.

    Forged addresses are dead letters, and nobody is told: neither the handlers nor whoever sent them.
    """

    def __init__(self, row: Claimed, around: Surroundings) -> None:
        super().__init__(row, around)
        self.returned: Returned | None = None

    async def _mail(self) -> None:
        token = genuine_token(self.row.recipient, self.around.store.secret)
        if token is None:
            await self._settle(Ack(kind="dead", reason="forged bounce address"))
            return
        sent = await self.around.store.sent(token)
        if sent is None:
            reason = f"bounce: our mail {token} came back, and nothing is known of it any more"
            await self._settle(Ack(kind="dead", reason=reason))
            return
        outcome = await self._ask(lambda: read_returned(self.message, sent))
        if outcome.error is not None:
            self._note_failure(BOUNCE_HANDLER, outcome)
            await self._settle(self._final_ack())
            return
        returned: Returned = outcome.value
        if returned.dead:
            await self._settle(Ack(kind="dead", reason=returned.note))
            return
        self.returned = returned
        log.info("%s", returned.note, extra=self._ids("bounce") | {"mail": sent.message_id})
        handler = self._handler(sent, returned)
        if handler is None:
            await self._record(sent, returned)
        else:
            await self._hand_over(handler, sent)

    def _handler(self, sent: SentMail, returned: Returned) -> Handler | None:
        """The `@on_bounce` of the module whose turn sent the mail, if the report is one to act on."""
        bounce = returned.bounce
        module = self.table.modules.get(sent.handler.partition(":")[0])
        if module is None or bounce is None or bounce.kind not in ("failure", "complaint"):
            return None
        return module.on_bounce

    async def _record(self, sent: SentMail, returned: Returned) -> None:
        """One row of the history, without a handler."""
        state = StateKey(sent.key, sent.sender)
        stands = (await self.around.store.read_states([state]))[state].state
        turn = TurnRow(
            handler=BOUNCE_HANDLER, stateful=False, state=state, before=stands, after=stands, note=returned.note
        )
        await self._commit(
            TurnCommit(
                fence=self.row.fence,
                lease_key=self.row.lease_key,
                message=self.row.id,
                now=self.around.clock.now(),
                ack=Ack(kind="done"),
                turn=turn,
            )
        )

    async def _hand_over(self, handler: Handler, sent: SentMail) -> None:
        """Run the handler in the conversation that sent; the message is to that, and from its correspondent."""
        self.message = Message(
            raw=lambda: understand(self.row, self.around).raw,
            recipient=sent.address,
            correspondent=sent.correspondent,
            envelope=self.message.envelope,
            id=self.row.id,
            source="bounce",
            received=self.row.received,
            upstream=self.around.upstream,
        )
        # Whoever sent had the capability of its address; the keys may be gone since.
        matches = self.table.match(sent.address)
        self.matches = self.around.capabilities.screen(matches, sent.address, at=None).matches
        self.keys[handler.module] = StateKey(sent.key, sent.sender)
        call = Call(handler, captures_of(self.matches, handler.module))
        for _ in range(MAX_CONFLICTS):
            await self._read_view()
            try:
                if not await self._turn(call, only=True):
                    await self._settle(self._final_ack(stateful_done=True))
                return
            except ConflictError:
                self.around.counts.conflicts += 1
        await self._settle(Ack(kind="again", reason="its states kept changing"))

    def _open_turn(self, handler: Handler, captures: Mapping[str, Any]) -> Turn:
        turn = super()._open_turn(handler, captures)
        if self.returned is not None:
            turn.notes.append(self.returned.note)
        return turn

    def _given(self, handler: Handler) -> dict[str, Any]:
        return {"bounce": self.returned and self.returned.bounce} if "bounce" in handler.wants else {}

    async def _commit(self, commit: TurnCommit) -> None:
        # Also with a dead letter: that a handler failed makes no address reachable.
        if self.returned is not None and commit.ack.kind not in ("continue", "defer", "again"):
            commit = msgspec.structs.replace(commit, bounced=self.returned.bounced)
        await super()._commit(commit)
