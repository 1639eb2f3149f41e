"""What is on its way to the other side: bounded, sealed, framed, and counted until it has left."""

from __future__ import annotations

from monsal.errors import UsageError
from monsal.wire.codec import Codec
from monsal.wire.codes import TOO_LARGE
from monsal.wire.frames import Frames
from monsal.wire.packets import EncodeError
from monsal.wire.security import Session

__all__ = ["Outbox"]


class Outbox:
    """Takes payloads, gives frames. `buffered` are the octets not yet sent, `limit` what one payload may have.

    `unsent` are the calls of which nothing was handed out yet: whoever fills it puts their payloads in first.
    `frames` wait to be handed out, `unsealed` are payloads that have first to be signed.
    """

    __slots__ = ("_codec", "_session", "_wrap", "buffered", "frames", "limit", "unsealed", "unsent")

    def __init__(self, codec: Codec, frames: Frames, session: Session | None, limit: int) -> None:
        self.buffered = 0
        self.limit = limit
        self.unsent: list[int] = []
        self._codec = codec
        self._wrap = frames.wrap
        self._session = session
        self.frames: list[bytes] = []
        self.unsealed: list[bytes] = []
        if session is not None:
            try:
                greeting = codec.with_secinfo(session.greeting or {}, None)
            except EncodeError as error:
                raise UsageError(f"{codec.name}: {error}") from None
            for payload in greeting if session.greeting else ():
                self._add(self._wrap(payload))

    def put(self, payload: bytes, *, is_short: bool = False) -> None:
        """Send a payload. Raises EncodeError if it is longer than the other side takes, or cannot be framed.

        What `is_short` by its nature goes out whatever limit the other side told us.
        """
        if len(payload) > self.limit and not is_short:
            raise EncodeError(f"{len(payload)} octets, and the other side takes {self.limit}", TOO_LARGE)
        frame = self._wrap(payload)
        if self._session is None:
            self.frames.append(frame)
        else:
            self.unsealed.append(payload)
        self.buffered += len(frame)

    @property
    def wants_to_write(self) -> bool:
        """Whether `data_to_send` has something."""
        return bool(self.frames) or bool(self.unsealed and self._session is not None and self._session.is_ready)

    def data_to_send(self) -> list[bytes]:
        """The frames that wait. They are not given again: report their octets as `sent` when they are gone."""
        if self.unsealed:
            self._seal()
        if not self.unsealed:
            self.unsent.clear()
        frames, self.frames = self.frames, []
        return frames

    def sent(self, octets: int) -> None:
        """So many octets of `data_to_send` have left."""
        self.buffered -= octets

    def _add(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.buffered += len(frame)

    def _seal(self) -> None:
        # Not before the greeting of the other side is here, which signatures cover (rpc.B6).
        session = self._session
        if session is None or not session.is_ready:
            return
        unsealed, self.unsealed = self.unsealed, []
        for payload in unsealed:
            self.buffered -= len(self._wrap(payload))
            secinfo, changed = session.seal(payload)
            sealed = payload if changed is None else changed
            for part in self._codec.with_secinfo(secinfo, sealed) if secinfo else [sealed]:
                self._add(self._wrap(part))
