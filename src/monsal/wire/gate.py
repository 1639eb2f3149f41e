"""Frames of a link with security on their way in: the header with the payload, the payload to the session."""

from __future__ import annotations

from typing import Any

from monsal.wire.codec import Codec
from monsal.wire.security import Session

__all__ = ["Gate"]


class Gate:
    """`payload` is what was last looked at, for whoever has to answer its refusal."""

    __slots__ = ("_codec", "_header", "_session", "payload")

    def __init__(self, codec: Codec, session: Session) -> None:
        self._codec = codec
        self._session = session
        self._header: dict[str, Any] | None = None
        self.payload = b""

    def open(self, frame: bytes) -> tuple[bytes, dict[str, Any]] | None:
        """The payload of a frame and what is known of its sender; None if the frame has none, but only secinfo.

        Raises SecurityError if it is not to be heard.
        """
        self.payload = frame
        secinfo, self._header = self._header, None
        if secinfo is None and (found := self._codec.split_secinfo(frame)) is not None:
            secinfo, payload = found
            self.payload = payload or b""
            if self._session.greeted(secinfo):
                return None
            if payload is None:
                self._header = secinfo
                return None
        return self._session.open(self.payload, secinfo)
