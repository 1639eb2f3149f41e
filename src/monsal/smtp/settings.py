"""What a receiving session offers and how much it bears."""

from __future__ import annotations

import msgspec

from monsal.errors import ConfigError
from monsal.smtp.commands import parse_hello
from monsal.smtp.replies import Reply

__all__ = ["ServerSettings"]


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a session. Sizes are octets.

    `max_command_line` is the 512 of RFC 5321 plus what SIZE (26), BODY (17) and SMTPUTF8 (10) add, and room for long
    addresses; `max_skipped` is how long a line without an end may get before the connection is closed. Content
    above `max_message_size` is read without being kept, up to `max_discarded` more. `max_refusals` counts refused
    senders, recipients and mails, `max_junk_commands` everything that brings no mail (NOOP, RSET, a second EHLO ...);
    these, `max_errors` and `max_unknown_commands` start anew with each accepted mail. `max_buffered` is what may
    wait while a decision is awaited. `max_auth_line` is the 12,288 of RFC 4954, section 4; after `max_logins` wrong
    tries to log in the connection is closed.

    `starttls` offers STARTTLS; `auth` offers AUTH on an encrypted link, and there only. Raises ConfigError.
    """

    hostname: str = "localhost"
    lmtp: bool = False
    smtputf8: bool = True
    chunking: bool = True
    starttls: bool = False
    auth: bool = False
    max_message_size: int = 25 * 1024 * 1024
    max_discarded: int = 100 * 1024 * 1024
    max_recipients: int = 100
    max_command_line: int = 1024
    max_skipped: int = 1024 * 1024
    max_buffered: int = 64 * 1024
    max_errors: int = 20
    max_unknown_commands: int = 10
    max_refusals: int = 1000
    max_junk_commands: int = 100
    max_transactions: int = 100_000
    max_auth_line: int = 12_288
    max_logins: int = 3

    def __post_init__(self) -> None:
        if isinstance(parse_hello(self.hostname), Reply) or not self.hostname.isprintable():
            raise ConfigError(f"hostname must be one word of ASCII, not {self.hostname!r}")
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name.startswith("max_") and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
        if self.max_command_line < 512:
            raise ConfigError("max_command_line must be at least 512 (RFC 5321, section 4.5.3.1.4)")
