"""What a bounce is, as a record. How one is read from a mail: `dsn.py`."""

from __future__ import annotations

from typing import Literal

import msgspec

from monsal.mail.dsnstatus import Reason, reason_text, status_class_text, status_detail_text, status_subject_text

__all__ = ["Bounce", "BounceKind", "BouncedRecipient"]

BounceKind = Literal["failure", "delay", "success", "complaint"]

#: Failures that another mail to the same address would meet again: of these a permanent code means the address itself.
_OF_THE_ADDRESS = frozenset({"unknown_user", "mailbox_disabled", "moved", "host_unknown", "complaint"})
#: Failures that pass, whatever the code says: 552 and 5.2.2 are sent for a mailbox that is full today.
_PASSING = frozenset({"mailbox_full", "rate_limited", "network", "expired", "system"})


class BouncedRecipient(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one recipient.

    `address` is the one that the mail was sent to, as far as the report says (Original-Recipient), `final` the one at
    which it ended. `action` is a word of RFC 3464, section 2.3.3: failed, delayed, delivered, relayed, expanded.
    `status` is an enhanced code such as `5.1.1`, empty if none is known; `diagnostic` what the server said;
    `remote_mta` which server. `reason` is why.
    """

    address: str
    final: str = ""
    action: str = "failed"
    status: str = ""
    diagnostic: str = ""
    remote_mta: str = ""
    reason: Reason = "other"

    @property
    def is_permanent(self) -> bool:
        """Whether the delivery was given up."""
        return self.action == "failed"

    @property
    def is_hard(self) -> bool:
        """Whether there is no use in writing to this address again: it is given up, and it is the address' fault.

        What passes (a full mailbox, a server that is down), what the mail itself was refused for (too large, spam,
        the sender's domain) and what nobody explains is soft. A complaint is hard.
        """
        if self.reason == "complaint":
            return True
        return self.action == "failed" and self.reason in _OF_THE_ADDRESS and not self.status.startswith("4")

    @property
    def is_soft(self) -> bool:
        """Whether it did not arrive, and may arrive another time."""
        return self.action in ("failed", "delayed") and not self.is_hard

    @property
    def is_passing(self) -> bool:
        """Whether the trouble is of the kind that goes away by itself."""
        return self.reason in _PASSING or self.status.startswith("4")

    @property
    def error_for_humans(self) -> str:
        """One line for people: who, why, and what the server said."""
        said = f' ("{self.diagnostic[:200]}")' if self.diagnostic else ""
        code = f" [{self.status}]" if self.status else ""
        return f"{self.address or 'the recipient'}: {reason_text(self.reason)}{code}{said}"


class Bounce(msgspec.Struct, frozen=True, kw_only=True):
    """A report about a mail: given up (`failure`), still being tried (`delay`), arrived (`success`), or unwelcome
    (`complaint`).

    `form` says how it was recognised: `rfc3464`, `arf` (RFC 5965), `mdn` (a filter's receipt, RFC 8098), `header`
    (X-Failed-Recipients) or `text`.
    `original_message_id` and `original_subject` are those of the mail that is reported about, as far as the report
    holds them; `envelope_id` is its ENVID (RFC 3461). `notification` is the text for people, at most 20,000 characters.

    In the event of a conversation (`@on_bounce`), `token`, `sent_message_id` and `sent_to` are facts of the store and
    not of the report: which of our mails came back, and to whom it went. Elsewhere they are empty.
    """

    kind: BounceKind
    recipients: tuple[BouncedRecipient, ...] = ()
    form: str = "rfc3464"
    reporting_mta: str = ""
    original_message_id: str | None = None
    original_subject: str | None = None
    envelope_id: str = ""
    notification: str = ""
    token: str = ""
    sent_message_id: str | None = None
    sent_to: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that are reported about."""
        return tuple(recipient.address for recipient in self.recipients)

    @property
    def first(self) -> BouncedRecipient:
        """The first recipient; one that says nothing if none is named."""
        if self.recipients:
            return self.recipients[0]
        reason: Reason = "complaint" if self.kind == "complaint" else "other"
        return BouncedRecipient(address="", action=_ACTIONS[self.kind], reason=reason)

    @property
    def is_hard(self) -> bool:
        """Whether some recipient failed for good."""
        return any(recipient.is_hard for recipient in self.recipients)

    @property
    def is_soft(self) -> bool:
        """Whether something did not arrive, and nothing of it is hard."""
        return self.kind in ("failure", "delay") and not self.is_hard

    @property
    def reason(self) -> Reason:
        return self.first.reason

    @property
    def status(self) -> str:
        return self.first.status

    @property
    def action(self) -> str:
        return self.first.action

    @property
    def remote_mta(self) -> str:
        return self.first.remote_mta

    @property
    def final_recipient(self) -> str:
        return self.first.final or self.first.address

    @property
    def diagnostic_codes(self) -> tuple[str, ...]:
        """What servers said, for each recipient that has such words."""
        return tuple(recipient.diagnostic for recipient in self.recipients if recipient.diagnostic)

    @property
    def primary_status(self) -> tuple[int, str]:
        """The class of the status and its text, (0, "") without one."""
        text = status_class_text(self.status)
        return (int(self.status[0]), text) if text else (0, "")

    @property
    def secondary_status(self) -> tuple[int, str]:
        """The subject of the status and its text, (0, "") without one."""
        text = status_subject_text(self.status)
        return (int(self.status.split(".")[1]), text) if text else (0, "")

    @property
    def combined_status(self) -> tuple[int, str]:
        """Subject and detail as one number (5.1.1 gives 11) and their text, (0, "") without one."""
        text = status_detail_text(self.status)
        return (int("".join(self.status.split(".")[1:])), text) if text else (0, "")

    @property
    def error_for_humans(self) -> str:
        """A few lines for people, one for each recipient."""
        if not self.recipients:
            return "the recipient is not named: " + (" ".join(self.notification.split())[:200] or "no explanation")
        return "\n".join(recipient.error_for_humans for recipient in self.recipients)


_ACTIONS = {"failure": "failed", "delay": "delayed", "success": "delivered", "complaint": "failed"}
