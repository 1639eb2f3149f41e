"""A file in a mail, received or to be sent."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import count
from pathlib import Path

from monsal.mail.filenames import numbered, safe_filename

__all__ = ["Attachment", "is_content_id"]

#: Files of one name in one folder; a folder that has more is being filled by somebody.
MAX_NAMESAKES = 1000

# What a file without a name is called, by its type.
_NAMES = {"message/rfc822": "message.eml", "message/global": "message.eml", "text/calendar": "invite.ics"}

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

    def save(self, directory: str | os.PathLike[str], *, limit: int | None = None) -> Path:
        """Write the file into `directory`, which is made if it is not there; the path it got.

        Its name stays in that folder, is never hidden and never that of a file that is there: then it gets a number.
        Only the user of this process may read it. Raises ValueError if it has more than `limit` octets, FileExistsError
        if MAX_NAMESAKES files have its name, OSError if it cannot be written; nothing is left of it then.
        """
        data = self.data
        if limit is not None and len(data) > limit:
            raise ValueError(f"{self.filename!r} has {len(data)} octets, more than {limit}")
        name = safe_filename(self.filename).lstrip(". ") or _NAMES.get(self.content_type, "attachment")
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = folder / (name if number == 1 else numbered(name, number))
            try:
                # O_EXCL follows no link, whoever put it there.
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                if number >= MAX_NAMESAKES:
                    raise
                continue
            break
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path
