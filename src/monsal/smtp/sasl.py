"""The talk after AUTH: PLAIN (RFC 4616) and LOGIN (a draft that never became an RFC, but what many programs speak).

exchange = Exchange("PLAIN")
exchange.answer(b"AGFubgBzZWNyZXQ=")      # a challenge to be sent, the Login it comes to, or the reply that refuses
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from monsal.smtp.events import Login
from monsal.smtp.replies import BAD_BASE64, LOGIN_CANCELLED, WRONG_LOGIN, Reply

__all__: list[str] = []

MECHANISMS: Final = ("PLAIN", "LOGIN")
#: Octets of a name or password (RFC 4616, section 2 has 255 characters in mind).
_LONGEST: Final = 255
_PROMPTS: Final = (b"Username:", b"Password:")


class Exchange:
    """One try to log in; `answer` is given the client's lines until it gives no challenge any more."""

    __slots__ = ("_mechanism", "_said")

    def __init__(self, mechanism: str) -> None:
        self._mechanism = mechanism
        self._said: list[str] = []

    def challenge(self) -> Reply:
        """What the client is asked next."""
        prompt = b"" if self._mechanism == "PLAIN" else _PROMPTS[len(self._said)]
        return Reply(334, None, base64.b64encode(prompt).decode("ascii"))

    def start(self, initial: str) -> Reply | Login:
        """The initial response of the AUTH line (RFC 4954, section 4), empty if it has none; `=` is one of no octets.

        Gives the challenge to be sent (334), the Login, or the reply that refuses.
        """
        if not initial:
            return self.challenge()
        return self.answer(b"" if initial == "=" else initial.encode())

    def answer(self, line: bytes) -> Reply | Login:
        """A line of the client; the result as of `start`."""
        if line == b"*":
            return LOGIN_CANCELLED
        try:
            # Blanks at the end are forgiven, as in commands.
            text = base64.b64decode(line.rstrip(b" \t"), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return BAD_BASE64
        if self._mechanism == "PLAIN":
            return _plain(text)
        if "\0" in text or not 0 < len(text.encode()) <= _LONGEST:
            return BAD_BASE64
        self._said.append(text)
        return self.challenge() if len(self._said) < len(_PROMPTS) else Login("LOGIN", *self._said)


def _plain(text: str) -> Reply | Login:
    """`authzid NUL authcid NUL password`; who wants to act as somebody else is refused like one who lies."""
    parts = text.split("\0")
    if len(parts) != 3:
        return BAD_BASE64
    acts_as, user, password = parts
    if not user or not password or max(len(part.encode()) for part in parts) > _LONGEST:
        return BAD_BASE64
    return WRONG_LOGIN if acts_as not in ("", user) else Login("PLAIN", user, password)
