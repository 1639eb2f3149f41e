"""Two peers and what goes between them, with a time that the test tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from monsal.wire import Codec, Event, Frames, HelloFacts, JsonRpc, LineFrames, Peer, PeerLimits, Security


class Pair:
    """`left` and `right` talk to each other; `left` is the one that connected."""

    def __init__(
        self,
        codec: Callable[[], Codec] = JsonRpc,
        frames: Callable[[], Frames] = LineFrames,
        *,
        hello: bool = True,
        limits: tuple[PeerLimits, PeerLimits] = (PeerLimits(), PeerLimits()),
        security: tuple[Security | None, Security | None] = (None, None),
    ) -> None:
        facts = HelloFacts(api="hash") if hello else None
        self.left, self.right = (
            Peer(codec(), frames(), limits=limits[side], hello=facts, security=security[side], nonce=bytes([side]) * 16)
            for side in (0, 1)
        )
        self.now = 100.0
        if hello:
            self.left.say_hello(self.now)
            self.flow()

    def flow(self) -> tuple[list[Event], list[Event]]:
        """Carry all there is to say to and fro; what each side heard."""
        heard: tuple[list[Event], list[Event]] = ([], [])
        while self.left.wants_to_write or self.right.wants_to_write:
            for events, speaker, hearer in ((heard[1], self.left, self.right), (heard[0], self.right, self.left)):
                events += hearer.receive_data(taken(speaker), self.now)
        return heard

    def call(self, method: str = "m", params: Any = None, **options: Any) -> int:
        return self.left.call(method, params or {}, now=self.now, **options)


def taken(peer: Peer) -> bytes:
    """What a peer has to say, taken from it as if it had left."""
    data = b"".join(peer.data_to_send())
    peer.sent(len(data))
    return data


def told(peer: Peer) -> list[Any]:
    """What a peer says, as JSON."""
    return [json.loads(frame) for frame in taken(peer).splitlines()]
