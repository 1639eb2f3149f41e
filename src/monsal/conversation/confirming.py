"""The round trip that proves a sender: a message waits, its correspondent is asked, and the answer lets it go on.

From can be forged by anybody, so a handler with `@requires_authenticated` never sees a message whose sender is not
proved. Such a message stands aside (held, outside of its queue). A mail goes to its correspondent, from whom only they
can learn the address that releases it: a capability bound to them. What they answer there is proof enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from monsal.address import is_address
from monsal.conversation.capabilities import Capabilities, check_length, host_of
from monsal.conversation.context import TurnTools
from monsal.conversation.policy import suppression
from monsal.errors import CapabilityError
from monsal.mail import Draft, Message, reply_draft
from monsal.routing import SEALED, Capability

__all__ = [
    "CONFIRM_ADDRESS",
    "Confirmation",
    "Confirming",
    "Questions",
    "Unasked",
    "ask_draft",
    "ask_reason",
    "confirmed_row",
    "counted_as",
    "is_confirmation",
    "refuted",
]

#: The addresses that release a message; they come before all routes.
CONFIRM_ADDRESS = re.compile(rf"confirm\+({SEALED})@", re.IGNORECASE)
#: A template of that name in the application's folder takes the place of our text.
TEMPLATE = "monsal/confirm.txt"
#: Characters of a stranger's subject that are repeated: the mail must not serve anybody to spread a text.
_SUBJECT = 60


class Confirming(msgspec.Struct, frozen=True, kw_only=True):
    """`within` is how long a message waits for its confirmation, in seconds; `limit` how many of one correspondent may
    wait at a time (0: nobody is asked); `hourly` how many questions all get together within an hour (None: any number).
    """

    within: float = 3 * 86400.0
    limit: int = 5
    hourly: int | None = 100


class Unasked(msgspec.Struct, frozen=True):
    """A message waits, and nobody is asked about it; `why` in words."""

    why: str


class Questions:
    """What a worker knows of the hour's questions: whether it is of use to make another one, and to say so."""

    __slots__ = ("_closed_until", "_told_until")

    #: Seconds until it is seen whether there is room again, and between two lines of the log.
    AGAIN = 60.0
    TOLD = 3600.0

    def __init__(self) -> None:
        self._closed_until = self._told_until = 0.0

    def is_closed(self, now: float) -> bool:
        """Whether there was no room a moment ago."""
        return now < self._closed_until

    def close(self, now: float) -> bool:
        """Note that there is no room; whether that is to be said."""
        self._closed_until = now + self.AGAIN
        if now < self._told_until:
            return False
        self._told_until = now + self.TOLD
        return True


class Confirmation(msgspec.Struct, frozen=True):
    """What a confirming address stands for: a row of the spool."""

    row: int


def _capability(within: float) -> Capability:
    return Capability(Confirmation, ttl=within, bound=True, purpose="monsal confirmation")


_KIND = _capability(1.0)


def is_confirmation(capabilities: Capabilities, address: str, *, at: float) -> bool:
    """Whether an address is one of ours that confirms, and valid at that time. Raises ConfigError for broken keys."""
    return confirmed_row(capabilities, address, at=at) is not None


def confirmed_row(
    capabilities: Capabilities, address: str, *, at: float, correspondent: str | None = None
) -> int | None:
    """The row that an address confirms, None if it is no such address or not valid at that time.

    With `correspondent` (folded) it has to be theirs too; if it is not, that raises CapabilityError.
    """
    match = CONFIRM_ADDRESS.match(address)
    if match is None:
        return None
    try:
        opened = capabilities.open(_KIND, match[1], host_of(address), at=at)
    except CapabilityError:
        return None
    if correspondent is not None:
        capabilities.open(_KIND, match[1], host_of(address), at=at, correspondent=correspondent)
    row = opened.value.row
    assert isinstance(row, int)
    return row


def counted_as(correspondent: str) -> str:
    """By what the waiting messages of a correspondent are counted: without what stands behind a plus sign (RFC 5233).

    All such addresses have one mailbox, which a stranger who makes them up must not be able to fill.
    """
    local, at, domain = correspondent.rpartition("@")
    return f"{local.partition('+')[0] or local}{at}{domain}"


def ask_reason(message: Message, tools: TurnTools, *, replies: int, limit: int) -> str | None:
    """Why the correspondent of a message is not asked to confirm it, or None.

    No machine is asked, and nobody is asked more often than they may be written to: else a forged mail would have us
    write to strangers, or to one another (RFC 3834, section 2).
    """
    if not limit:
        return "nobody is asked to confirm"
    if not is_address(message.sender):
        return "nobody is named as the sender"
    return suppression(
        automatic=message.automatic,
        from_ourselves=tools.is_own(message.sender),
        replies=replies,
        limit=tools.max_replies,
    )


def refuted(message: Message) -> Unasked | None:
    """Whoever is named as the writer is not asked about a mail that their domain says is none of theirs: else one
    stranger could have us write to as many people as there are names to forge."""
    auth = message.auth
    if not auth.refuted:
        return None
    domain = message.sender.rpartition("@")[2]
    return Unasked(f"{auth.refuted.upper()} fails for {domain} ({auth.source})")


def ask_draft(
    message: Message,
    row: int,
    capabilities: Capabilities,
    *,
    within: float,
    now: float,
    render: Callable[[str, Mapping[str, Any]], str | None],
) -> Draft:
    """The mail that asks. `render(template, variables)` gives the application's own text, None if it has none.

    Raises ValueError if there can be no such mail, and what a template raises.
    """
    host = host_of(message.recipient)
    text = capabilities.seal(
        _capability(within), Confirmation(row), host, now=now, nonce=b"", correspondent=message.sender
    )
    address = f"confirm+{text}@{host}"
    check_length(address, "the address that confirms")
    subject = " ".join(message.subject.split())[:_SUBJECT]
    variables = {"message": message, "subject": subject, "address": address, "days": max(1, round(within / 86400))}
    body = render(TEMPLATE, variables)
    draft = reply_draft(message, text=_TEXT.format_map(_Words(message, variables)) if body is None else body)
    return msgspec.structs.replace(
        draft,
        subject=f"Please confirm: {subject}" if subject else "Please confirm your mail",
        reply_to=address,
        # Nothing answers a mail without an envelope sender by itself (RFC 3834, section 2), and no bounce of it comes
        # back (RFC 5321, section 4.5.5).
        null_sender=True,
    )


class _Words(dict[str, Any]):
    """What stands in our own text."""

    def __init__(self, message: Message, variables: Mapping[str, Any]) -> None:
        super().__init__(variables)
        self["recipient"] = message.recipient
        self["about"] = f' "{variables["subject"]}"' if variables["subject"] else ""
        self["time"] = message.received.strftime("%Y-%m-%d %H:%M UTC")


_TEXT = """\
A mail{about} to {recipient} came in your name
on {time}. Anybody can write a name on a mail, so it waits until
you say that it is yours.

If it is, answer this mail; nothing has to be written in the answer. It goes to
{address}

If it is not, do nothing: it is dropped after {days} days.
"""
