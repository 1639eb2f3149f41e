"""From what a handler did to one commit (P2). Pure: the time and the store's key are arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import msgspec

from monsal.conversation.bounces import BOUNCE_PURPOSE
from monsal.conversation.context import Turn
from monsal.errors import Reject
from monsal.ids import mac, stable_token
from monsal.mail import Draft, Message
from monsal.store.contract import (
    ROUTE_FIRST_STATE,
    Ack,
    Claimed,
    Expected,
    OutgoingMail,
    SetTimer,
    StateChange,
    StateKey,
    StateValue,
    TurnCommit,
    TurnRow,
)

__all__ = [
    "BOUNCE_PURPOSE",
    "NextState",
    "Sign",
    "TurnResult",
    "build_commit",
    "failure_commit",
    "outgoing",
    "rejection_mail",
    "render",
]

View = Mapping[StateKey, StateValue]

#: Signs a rendered mail: its bytes, the address in From, and the time, which make the same signature each time (P2).
Sign = Callable[[bytes, str, float], bytes]


class NextState(msgspec.Struct, frozen=True):
    """The state that a handler's result asks for, in the conversation of the result's module (rule routing.R25)."""

    state: StateKey
    name: str


class TurnResult(msgspec.Struct, frozen=True):
    """What a handler left behind when it returned.

    `stateful` says whether this is the one stateful turn of its message; `reason` is kept with the states it changes.
    """

    next: NextState | None
    stateful: bool
    reason: str = ""


def outgoing(
    draft: Draft,
    *,
    secret: bytes,
    row: int,
    handler: str,
    number: int,
    now: float,
    forced: bool = False,
    sign: Sign | None = None,
) -> OutgoingMail:
    """Render a draft for good: its bytes and its Message-ID are fixed here (P2)."""
    token = stable_token(secret, "mail", row, handler, number)
    host = draft.sender.rpartition("@")[2]
    message_id = f"<{token}@{host}>"
    signed = f"b+{token}.{mac(secret, BOUNCE_PURPOSE, token)}@{host}"
    body = draft.render(message_id=message_id, date=now)
    return OutgoingMail(
        token=token,
        message_id=message_id,
        # Nobody may answer a bounce with a bounce: what has a null sender keeps it (RFC 5321, section 4.5.5).
        sender="" if draft.null_sender else draft.envelope_sender or signed,
        recipients=draft.recipients,
        body=body if sign is None else sign(body, draft.sender, now),
        due=now,
        forced=forced,
    )


def rejection_mail(message: Message, error: Reject, *, secret: bytes, now: float, sign: Sign | None) -> OutgoingMail:
    """The bounce to the envelope's sender that a handler's rejection makes (rule routing.B16).

    Raises ValueError if the message names nobody who can be written to.
    """
    draft = _rejection_draft(message, code=error.code, text=error.text)
    return outgoing(draft, secret=secret, row=message.id, handler="(rejection)", number=0, now=now, sign=sign)


def _rejection_draft(message: Message, *, code: int, text: str) -> Draft:
    return Draft(
        to=(message.envelope_sender or message.sender,),
        sender=message.recipient,
        sender_name="Mail Delivery",
        subject="Undelivered: " + " ".join(message.subject.split())[:200],
        text=(
            f"Your mail to {message.recipient} was not taken:\n\n"
            f"    {code} {' '.join(text.split()) or 'refused'}\n\n"
            f"It will not be tried again. Its Message-ID was {message.message_id or 'not given'}.\n"
        ),
        in_reply_to=message.message_id,
        auto_submitted="auto-replied",
        null_sender=True,
    )


def _changes(turn: Turn, result: TurnResult, view: View, resumed: Collection[StateKey]) -> dict[StateKey, str]:
    """States that the turn changes; what the handler returned comes after what it forced."""
    wanted = {state: view[state].state for state in resumed}
    wanted |= turn.forced
    if result.next is not None:
        wanted[result.next.state] = result.next.name
    return {state: name for state, name in wanted.items() if state in resumed or view[state].state != name}


def _timers(turn: Turn, now: float) -> tuple[SetTimer, ...]:
    return tuple(
        SetTimer(
            state=timer.state,
            target=timer.target,
            due=None if timer.after is None else now + timer.after,
            recipient=timer.recipient,
            correspondent=timer.correspondent,
            lease_key=timer.lease_key,
        )
        for timer in turn.timers
    )


def build_commit(
    row: Claimed,
    turn: Turn,
    result: TurnResult,
    view: View,
    *,
    ack: Ack,
    now: float,
    outgoing: tuple[OutgoingMail, ...] | None = None,
    replies: int = 0,
    resumed: Collection[StateKey] = (),
    renamed: Collection[StateKey] = (),
) -> TurnCommit:
    """The commit of a turn whose handler returned.

    `outgoing` is what leaves with it, if that is more than the turn's own mail, and `replies` how many of that go to
    the correspondent. `view` holds every state that the turn read or changes, with the version it was read at. A
    stateless handler's result is ignored and its own conversation not compared (rule routing.R15). `resumed` are
    conversations that the view shows in the state before their ERROR; this turn takes them back there, or where it
    wants them. `renamed` are those that the view shows under the new name of their state: the turn's own one is stored
    under that from now on.
    """
    changes = _changes(turn, result, view, resumed)
    own = turn.conversation
    value = view.get(own)
    before = ROUTE_FIRST_STATE if value is None else value.state
    after = changes.get(own)
    expected = [Expected(state, view[state].version) for state in changes]
    stored = [StateChange(state, name, result.reason) for state, name in changes.items()]
    if after is None:
        if value is not None and (result.stateful or result.next):
            expected.append(Expected(own, value.version))
        if result.stateful and own in renamed:
            stored.append(StateChange(own, before, "its function was renamed", renames=True))
    return TurnCommit(
        fence=row.fence,
        lease_key=row.lease_key,
        message=row.id,
        now=now,
        ack=ack,
        turn=TurnRow(
            handler=turn.handler,
            stateful=result.stateful,
            state=own,
            before=before,
            after=before if after is None else after,
            note="; ".join(turn.notes) if turn.notes else "",
        ),
        expected=tuple(expected),
        changes=tuple(stored),
        outgoing=turn.outgoing if outgoing is None else outgoing,
        replies=replies,
        timers=_timers(turn, now) if turn.timers else (),
        statements=tuple(turn.statements),
    )


def render(turn: Turn, *, now: float, sign: Sign | None = None) -> None:
    """Make the bytes of all that the turn sends; on the handler's thread, because it may be much."""
    turn.outgoing = tuple(
        [
            outgoing(
                draft,
                secret=turn.secret,
                row=turn.message.id,
                handler=turn.handler,
                number=number,
                now=now,
                forced=number in turn.forced_drafts,
                sign=sign,
            )
            for number, draft in enumerate(turn.drafts)
        ]
    )


def failure_commit(row: Claimed, *, ack: Ack, now: float, bounce: OutgoingMail | None = None) -> TurnCommit:
    """The commit of a message that is settled without a turn: put off, given up, held or dropped."""
    return TurnCommit(
        fence=row.fence,
        lease_key=row.lease_key,
        message=row.id,
        now=now,
        ack=ack,
        outgoing=() if bounce is None else (bounce,),
    )
