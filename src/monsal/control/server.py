"""The control socket of a running server: newline JSON-RPC on a unix socket that only its owner can use (P8).

    control = ControlServer(directory / "run" / "control.sock")
    control.mount("store", StoreApi(lambda: store, clock))
    await control.start()
    ...
    await control.stop()

Everything about one peer is bounded, and its mistakes are answered to it alone (P7, rules rpc.B1 and rpc.B7).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path

import msgspec

from monsal.errors import StoreLocked
from monsal.rpc import RemoteAPI
from monsal.transport import Acceptor, AcceptorStatistics, AcceptSetup, Unix
from monsal.wire import Codec, Frames, JsonRpc, LineFrames, PeerLimits
from monsal.wire.frames import MAX_FRAME

__all__ = ["Control", "ControlLimits", "ControlServer"]

#: How often, in the time that a peer may say nothing, that is looked at.
_LOOKS = 4


class ControlLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one peer, and all of them, may use. Times are in seconds, sizes in bytes.

    `slow_reader` is how long a peer may leave its answers unread, `idle` how long it may say nothing.
    """

    connections: int = 64
    in_flight: int = 16
    request: int = MAX_FRAME
    reply: int = 16 * 1024 * 1024
    slow_reader: float = 20.0
    idle: float = 600.0


class Control(RemoteAPI):
    """Looks at a running server and steers it: the state of its process at `server`, its mail at `store`."""


class ControlServer:
    """Listens at `path` and answers calls to the APIs mounted on it.

    `allowed` are the user ids that may connect; by default that of this process and root.
    """

    def __init__(
        self, path: Path, *, limits: ControlLimits | None = None, allowed: frozenset[int] | None = None
    ) -> None:
        self.path = path
        self.limits = limits or ControlLimits()
        self.api = Control()
        self._allowed = frozenset({os.geteuid(), 0}) if allowed is None else allowed
        self._acceptor: Acceptor | None = None
        self._look: asyncio.TimerHandle | None = None
        #: By link: the octets that it had said at a look, and when they were last more.
        self._said: dict[str, tuple[int, float]] = {}

    def mount(self, prefix: str, api: RemoteAPI) -> None:
        """Take the incoming calls of `api` as `prefix.name`. Raises UsageError."""
        self.api.mount(prefix, api)

    def statistics(self) -> AcceptorStatistics:
        """Open connections; since the start: those taken, and those refused."""
        if self._acceptor is None:
            return AcceptorStatistics(open=0, taken=0, refused=0)
        return self._acceptor.statistics()

    async def start(self) -> None:
        """Listen. A socket that a dead server left behind is replaced.

        Raises StoreLocked if a living server listens there, OSError if the socket cannot be made.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        limits = self.limits
        accept = AcceptSetup(
            connections=limits.connections,
            # Where the kernel does not tell who is there, the file's mode decides.
            users=self._allowed if hasattr(socket, "SO_PEERCRED") else None,
        )
        self.api.limits = PeerLimits(in_flight=limits.in_flight, frame=limits.reply)
        try:
            opened = await self.api.listen(
                Unix(os.fspath(self.path)), accept=accept, codec=self._wiring, slow_reader=limits.slow_reader
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise StoreLocked(f"another server listens at {self.path}; stop it first") from None
            raise
        assert isinstance(opened, Acceptor)
        self._acceptor = opened
        self._look_later()

    async def stop(self, grace: float = 1.0) -> None:
        """Stop listening, let calls that run end within `grace` seconds, and hang up."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        await self.api.close(grace)

    def _wiring(self, limits: PeerLimits, raw: bool) -> tuple[Codec, Frames]:
        # A question is short; an answer may have thousands of rows.
        return JsonRpc(raw=raw, depth=limits.depth, batch=limits.batch), LineFrames(self.limits.request)

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(self.limits.idle / _LOOKS, self._look_around)

    def _look_around(self) -> None:
        """Hang up on those who have said nothing for too long: they hold places that others need."""
        assert self._acceptor is not None
        now = asyncio.get_running_loop().time()
        said: dict[str, tuple[int, float]] = {}
        for name, link in list(self._acceptor.links.items()):
            known = link.statistics()
            octets, since = self._said.get(name, (-1, now))
            if known.octets_in != octets or known.in_flight or known.waiting:
                since = now
            if now - since >= self.limits.idle:
                link.abort(f"it said nothing for {self.limits.idle:g} seconds")
            else:
                said[name] = (known.octets_in, since)
        self._said = said
        self._look_later()
