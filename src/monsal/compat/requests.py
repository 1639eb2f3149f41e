"""The ancestor's request for a message of ours: the same one for all handlers that get the message."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from monsal.compat.salmon.mail import MailRequest
from monsal.mail import Message

__all__ = ["Addressed", "request_of"]

_known: WeakKeyDictionary[Message, MailRequest] = WeakKeyDictionary()
_lock = threading.Lock()


@dataclass(frozen=True)
class Addressed:
    """Stands for a request where only its addresses are known."""

    To: str
    From: str


def request_of(message: Any) -> Any:
    """The request that stands for a message; what one handler changes in it, the next one sees.

    `From` is the envelope's sender in its own spelling, and the header's where the envelope names nobody (R23, B17).
    """
    if not isinstance(message, Message):
        return Addressed(message.recipient, message.sender)
    with _lock:
        found = _known.get(message)
        if found is None:
            envelope = message.envelope
            sender = (message.envelope_sender or None) if envelope is not None else message.sender_address
            peer = None if envelope is None else envelope.peer
            found = _known[message] = MailRequest(peer, sender, message.recipient, message.raw)
            found.correspondent = message.sender
    return found
