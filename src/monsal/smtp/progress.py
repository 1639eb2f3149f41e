"""How far the transactions of one connection have come; see `client.ClientProtocol`."""

from __future__ import annotations

import msgspec

from monsal.smtp.transaction import RecipientResult, Transaction

__all__: list[str] = []


class Progress(msgspec.Struct, eq=False):
    """How far a transaction has come: what became of each recipient, and which were taken; whether the peer said
    anything about it, took MAIL or refused it; whether its content waits for `release`."""

    transaction: Transaction
    results: list[RecipientResult | None]
    held: bool
    accepted: list[int] = []
    answered: bool = False
    opened: bool = False
    refused: bool = False
    next_recipient: int = 0  # in lock-step

    def settle(self, result: RecipientResult) -> None:
        """Give `result` to all recipients that have none yet."""
        self.results = [known or result for known in self.results]
