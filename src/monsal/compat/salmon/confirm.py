"""`salmon.confirm`: a person has to answer a secret address before something is done for them.

Only digests of secrets are stored, and they are compared in constant time. A storage of the application's own that
keeps the secret as given works as well.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Mapping, MutableMapping
from email.utils import parseaddr
from typing import Any

from monsal.address import fold
from monsal.compat.salmon import view
from monsal.compat.salmon.mail import MailRequest
from monsal.compat.salmon.queue import Queue

__all__ = ["ConfirmationEngine", "ConfirmationStorage"]


class ConfirmationStorage:
    """Target and address -> (secret, key of the pending mail), in a dict or whatever `db` is."""

    def __init__(self, db: MutableMapping[bytes, tuple[str, str]] | None = None) -> None:
        self.confirmations: MutableMapping[bytes, tuple[str, str]] = {} if db is None else db

    def key(self, target: str, from_address: str) -> bytes:
        """The key of a record."""
        return f"{target}:{from_address}".encode()

    def get(self, target: str, from_address: str) -> tuple[str | None, str | None]:
        """The secret and the key of the pending mail; (None, None) if there is no record."""
        return self.confirmations.get(self.key(target, from_address), (None, None))

    def store(self, target: str, from_address: str, expected_secret: str, pending_message_id: str) -> None:
        self.confirmations[self.key(target, from_address)] = (expected_secret, pending_message_id)

    def delete(self, target: str, from_address: str) -> None:
        """Forget a record; none is no error."""
        self.confirmations.pop(self.key(target, from_address), None)

    def clear(self) -> None:
        self.confirmations.clear()


class ConfirmationEngine:
    """Keeps the mails that wait for a confirmation in a queue, and who has to confirm them in a storage."""

    def __init__(self, pending_queue: str, storage: Any) -> None:
        self.pending = Queue(pending_queue)
        self.storage = storage

    def get_pending(self, pending_id: str) -> MailRequest | None:
        """The mail that waits under that key."""
        return self.pending.get(pending_id)

    def push_pending(self, message: Any) -> str:
        """Have a mail wait; returns its key."""
        return self.pending.push(message)

    def delete_pending(self, pending_id: str) -> None:
        """Forget a mail that waits."""
        self.pending.remove(pending_id)

    def cancel(self, target: str, from_address: str, expect_secret: str) -> None:
        """Forget the request and its mail, if the secret is right."""
        address = _bare(from_address)
        secret, pending_id = self.storage.get(target, address)
        if _is_right(secret, expect_secret):
            self.storage.delete(target, address)
            if pending_id in self.pending.keys():  # noqa: SIM118 - a queue is no mapping
                self.delete_pending(pending_id)

    def make_random_secret(self) -> str:
        return uuid.uuid4().hex

    def register(self, target: str, message: Any) -> str:
        """Have a mail wait for its sender's confirmation; the local part of the address to be answered to."""
        address = _bare(message["from"] or message.From)
        secret = self.make_random_secret()
        pending_id = self.push_pending(message)
        self.storage.store(target, address, _digest(secret), pending_id)
        return f"{target}-confirm-{secret}"

    def verify(self, target: str, from_address: str, expect_secret: str) -> MailRequest | None:
        """The mail that was waiting, if the secret is right; it can be verified once."""
        address = _bare(from_address)
        secret, pending_id = self.storage.get(target, address)
        if not _is_right(secret, expect_secret):
            return None
        self.storage.delete(target, address)
        return self.get_pending(pending_id)

    def send(self, relay: Any, target: str, message: Any, template: str, vars: Mapping[str, Any]) -> None:  # noqa: A002 - the ancestor's name
        """Ask the sender of a mail for confirmation, by a template.

        `vars` needs `host`, the domain of the address to be answered to; the template has `confirm_address`, its local
        part, as well.
        """
        address = f"{self.register(target, message)}@{vars['host']}"
        variables = {**vars, "confirm_address": address.rpartition("@")[0]}
        mail = view.respond(variables, template, To=message["from"], From=address, Subject=_SUBJECT)
        mail["Reply-To"] = address
        relay.deliver(mail)

    def clear(self) -> None:
        """Forget all requests and all mails that wait."""
        self.pending.clear()
        self.storage.clear()


_SUBJECT = "Confirmation required"


def _bare(address: str) -> str:
    return fold(parseaddr(address or "")[1])


def _digest(secret: str) -> str:
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def _is_right(stored: str | None, given: str) -> bool:
    if not stored or not given:
        return False
    wanted = _digest(given) if stored.startswith("sha256:") else given
    return hmac.compare_digest(stored.encode(), wanted.encode())
