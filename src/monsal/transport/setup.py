"""What a link is made with: how packets are written and bounded, and who is told of calls and events."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, TypedDict

import msgspec
from msgspec.structs import replace

from monsal.errors import RemoteError
from monsal.transport.faults import error_of
from monsal.wire.codec import Codec
from monsal.wire.events import Called
from monsal.wire.frames import DelimiterFrames, Frames, HeaderFrames, LengthFrames, LineFrames
from monsal.wire.hello import HelloFacts
from monsal.wire.jsonrpc import JsonRpc
from monsal.wire.limits import PeerLimits
from monsal.wire.msgpack import MsgPack
from monsal.wire.packets import Fault
from monsal.wire.peer import Peer
from monsal.wire.security import Security

__all__ = ["NEWLINE_JSON", "LinkOptions", "LinkSetup", "Wiring", "merged", "wiring"]

#: Makes codec and frames for one link.
Wiring = Callable[[PeerLimits, bool], tuple[Codec, Frames]]

#: One JSON object a line: what is spoken unless something else is asked for (rpc.B14).
NEWLINE_JSON: Final = "jrpc:\n"


class LinkSetup(msgspec.Struct, frozen=True, kw_only=True):
    """How a link speaks and who hears it. Times are in seconds.

    `codec` is an expression such as `jrpc:\\n`, or a function that makes codec and frames from the limits and `raw`.
    `raw` leaves params and results undecoded. `on_call(link, called)` is told of each call and cast, `on_event(link,
    event)` of `Connected`, `Disconnected`, and the events of `monsal.wire` that concern no single call of ours; both
    are called on the loop and must not block. `error` makes the exception for a fault. `hello` is what the other side
    is told of us, None to say nothing and to understand no hello; the side that connected says it first. `cancel` is
    the word by which a side that said none is known to understand that a call is given up; None is `$/cancelRequest`
    where frames have a Content-Length, and otherwise no word.
    `slow_reader` is how long the other side may leave unread what we say. `keepalive`, if not empty, is sent after each
    `keepalive_interval` in which nothing else was said.
    """

    codec: str | Wiring = NEWLINE_JSON
    raw: bool = False
    security: Security | None = None
    limits: PeerLimits = msgspec.field(default_factory=PeerLimits)
    hello: HelloFacts | None = msgspec.field(default_factory=HelloFacts)
    on_call: Callable[[Any, Called], object] | None = None
    on_event: Callable[[Any, Any], object] | None = None
    error: Callable[[Fault], RemoteError] = error_of
    cancel: str | None = None
    slow_reader: float = 20.0
    keepalive: bytes = b""
    keepalive_interval: float = 10.0

    def make_codec(self) -> tuple[Codec, Frames]:
        """Codec and frames for a new link. Raises ValueError for an unknown codec."""
        make = wiring(self.codec) if isinstance(self.codec, str) else self.codec
        return make(self.limits, self.raw)

    def make_peer(self) -> Peer:
        """The state of the protocol for a new link. Raises ValueError for an unknown codec."""
        codec, frames = self.make_codec()
        cancel = self.cancel
        if cancel is None:
            # All who frame so follow the Language Server Protocol (3.17, base protocol and `$/` notifications).
            cancel = "$/cancelRequest" if isinstance(frames, HeaderFrames) else ""
        return Peer(
            codec,
            frames,
            security=self.security,
            limits=self.limits,
            hello=self.hello,
            nonce=os.urandom(16),
            cancel=cancel,
        )


class LinkOptions(TypedDict, total=False):
    """The fields of a `LinkSetup`, as keywords of `connect` and `listen`."""

    codec: str | Wiring
    raw: bool
    security: Security | None
    limits: PeerLimits
    hello: HelloFacts | None
    on_call: Callable[[Any, Called], object] | None
    on_event: Callable[[Any, Any], object] | None
    error: Callable[[Fault], RemoteError]
    cancel: str | None
    slow_reader: float
    keepalive: bytes
    keepalive_interval: float


def merged(setup: LinkSetup | None, options: LinkOptions) -> LinkSetup:
    """A setup with some fields replaced."""
    return LinkSetup(**options) if setup is None else replace(setup, **options)


def wiring(text: str) -> Wiring:
    """What an expression for a codec means (rpc.R5, R31, R33): `jrpc[:DELIMITER]`, NUL if none is given; `lsp:`, which
    has a Content-Length before each object; `msgpack:`, with a length in four octets; `terse:`, to be typed by hand.

    Raises ValueError, which names the known ones.
    """
    name, _, parameters = text.partition(":")
    if name == "jrpc":
        return _json_until(parameters.encode() or b"\0")
    made = _WIRINGS.get(name)
    if made is None or parameters:
        known = ", ".join(sorted(f"{one}:" for one in _WIRINGS))
        raise ValueError(f"{text!r} is no codec: known are jrpc[:DELIMITER], {known}")
    return made


def _json_until(delimiter: bytes) -> Wiring:
    def make(limits: PeerLimits, raw: bool) -> tuple[Codec, Frames]:
        frames = LineFrames(limits.frame) if delimiter == b"\n" else DelimiterFrames(delimiter, limits.frame)
        return JsonRpc(raw=raw, depth=limits.depth, batch=limits.batch), frames

    return make


def _json_with_header(limits: PeerLimits, raw: bool) -> tuple[Codec, Frames]:
    return JsonRpc(raw=raw, depth=limits.depth, batch=limits.batch), HeaderFrames(limits.frame)


def _msgpack(limits: PeerLimits, raw: bool) -> tuple[Codec, Frames]:
    return MsgPack(raw=raw, batch=limits.batch), LengthFrames(limits.frame)


def _terse(limits: PeerLimits, raw: bool) -> tuple[Codec, Frames]:
    # Not before: people type it, programs do not.
    from monsal.wire.terse import Terse

    return Terse(), LineFrames(limits.frame)


_WIRINGS: Final[Mapping[str, Wiring]] = {"lsp": _json_with_header, "msgpack": _msgpack, "terse": _terse}
