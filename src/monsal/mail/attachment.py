"""A file in a mail, received or to be sent."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["Attachment", "is_content_id"]

_CONTENT_ID = re.compile(r"[!-;=?-~]{1,200}\Z")


def is_content_id(text: str) -> bool:
    """Whether this can stand between the angle brackets of a Content-ID."""
    return _CONTENT_ID.match(text) is not None


class Attachment:
    """A file of a mail: the same thing in a `Message` and for a `Draft`, so that one can be passed on in the other.

    `filename` may be empty. `data` is decoded when it is first asked for. An `inline` one is meant to be shown in the
    text; HTML refers to it as `cid:` and its `content_id` (without angle brackets). `charset` is what is declared for a
    file of text.
    """

    __slots__ = ("_data", "charset", "content_id", "content_type", "filename", "inline")

    def __init__(
        self,
        filename: str,
        content_type: str,
        data: bytes | Callable[[], bytes],
        *,
        charset: str | None = None,
        content_id: str | None = None,
        inline: bool = False,
    ) -> None:
        """`data` is bytes or a function that gives them. Raises TypeError for anything else."""
        if not isinstance(data, bytes) and not callable(data):
            raise TypeError(f"the data of an attachment must be bytes, not {type(data).__name__}")
        self.filename = filename
        self.content_type = content_type
        self._data = data
        self.charset = charset
        self.content_id = content_id
        self.inline = inline

    def __repr__(self) -> str:
        return f"<Attachment {self.filename!r} {self.content_type}>"

    @property
    def data(self) -> bytes:
        """The content of the file."""
        if not isinstance(self._data, bytes):
            data = self._data()
            if not isinstance(data, bytes):
                raise TypeError(f"the data of an attachment must be bytes, not {type(data).__name__}")
            self._data = data
        return self._data
