"""The mails of a load: made from a seed, so that each run with that seed sends the same bytes.

A mail is known by its correspondent and number: the 3rd mail of correspondent 7 is the same in every run and in every
second try, down to its Message-ID. That is what lets a server recognise what it has already.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from email.utils import formatdate

__all__ = ["SENDER", "Mail", "MailMaker"]

#: Who writes, `{n}` being the number of the correspondent.
SENDER = "customer{n}@load.example"

#: All mails are of this moment and the seconds after it: a date from the clock would not be the same twice.
_EPOCH = 1_760_000_000
_TEXT = """
We opened the parcel this morning and the keyboard is missing. The printer on our floor was repaired last week and is
out of order again. Could you please send somebody before the meeting? My password does not work since yesterday, I
tried it on two machines. The invoice names an address that is no longer ours. Thank you for the quick answer, the
new battery arrived. It still does not charge. The screen in the large room stays dark when a laptop is plugged in.
Our contract ends in March and we would like to keep it. The second payment was taken twice from the account.
"""
_SUBJECTS = (
    "Printer on floor 3 is out of toner",
    "Cannot log in since this morning",
    "Invoice 2041 was charged twice",
    "Where is my parcel?",
    "Request for a new keyboard",
    "Meeting room 2: the screen stays dark",
)
_BODIES = 32


@dataclass(slots=True)
class Mail:
    """One mail of the load. `pending` are the recipients that nobody has taken or refused for good yet."""

    message_id: str
    correspondent: int
    seq: int
    sender: str
    recipients: tuple[str, ...]
    data: bytes
    pending: list[str] = field(default_factory=list)
    tries: int = 0


class MailMaker:
    """Makes the mails of one run.

    `recipients` are patterns in which `{n}` stands for the correspondent and `{seq}` for the number of the mail, and so
    is `sender` with `{n}`; `size` is about the length of a mail in bytes.
    """

    def __init__(self, seed: int, recipients: tuple[str, ...], size: int, sender: str = SENDER) -> None:
        self._recipients = recipients
        self._sender = sender
        dice = random.Random(seed)
        self._mark = f"{seed:x}.{dice.getrandbits(40):010x}"
        self._bodies = [self._body(dice, max(size - 400, 40)) for _ in range(_BODIES)]

    @staticmethod
    def _body(dice: random.Random, size: int) -> bytes:
        words = _TEXT.split()
        lines = ["Hello,", ""]
        length = 20
        while length < size:
            start, many = dice.randrange(len(words) - 14), dice.randint(7, 14)
            # A line that starts with a dot has it doubled on the wire (RFC 5321, section 4.5.2); some shall.
            line = ("." if dice.random() < 0.05 else "") + " ".join(words[start : start + many])
            lines.append(line[: max(size - length, 1)])
            length += len(line) + 2
        return "\r\n".join([*lines, "", "Kind regards"]).encode()

    def make(self, correspondent: int, seq: int) -> Mail:
        """The mail number `seq` (from 1) of a correspondent (from 0)."""
        recipients = tuple(
            pattern.replace("{n}", str(correspondent)).replace("{seq}", str(seq)) for pattern in self._recipients
        )
        sender = self._sender.replace("{n}", str(correspondent))
        message_id = f"<{self._mark}.{correspondent}.{seq}@load.example>"
        head = (
            f"From: Customer {correspondent} <{sender}>\r\n"
            f"To: {', '.join(recipients)}\r\n"
            f"Subject: {_SUBJECTS[(correspondent + seq) % len(_SUBJECTS)]}\r\n"
            f"Message-ID: {message_id}\r\n"
            f"Date: {formatdate(_EPOCH + seq)}\r\n"
            f"X-Seq: {seq}\r\n"
            "MIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n"
            "\r\n"
        ).encode()
        data = head + self._bodies[(correspondent * 7 + seq) % _BODIES] + b"\r\n"
        return Mail(message_id, correspondent, seq, sender, recipients, data, list(recipients))
