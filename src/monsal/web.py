"""What an application serves by HTTP, joined: its mounts, the doors they are served at, and its own way in.

    web = Web(parts.mounts, settings, directory, doors=..., entrance=...)
    web.check()                     # before anything is replaced
    await web.start()               # on the sockets' loop; HTTP has a thread of its own
    await web.stop(grace)

uvicorn and whatever is mounted are imported when it starts, and not without an address to listen on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from monsal.config import Settings
from monsal.conversation import Entrance
from monsal.errors import ConfigError
from monsal.gates import certificate_of
from monsal.ingress import Doors
from monsal.ingress.limits import peer_of, usable_connections

if TYPE_CHECKING:
    # Not before there is an address for it: most applications have none, and are there sooner.
    from monsal.http import HttpSettings, Mount, Mounts
    from monsal.http.serving import HttpServer

__all__ = ["Web", "WebStatistics", "check_web", "mounts_of"]


class WebStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Connections and requests now; since the start: requests, those refused by a bound, those that failed (5xx),
    connections turned away because there was no place, and those ended because they took too long."""

    connections: int = 0
    running: int = 0
    requests: int = 0
    refused: int = 0
    failed: int = 0
    turned_away: int = 0
    expired: int = 0


def check_web(mounts: Sequence[Mount], settings: Settings) -> None:
    """Whether all can be served that is to be, if there is an address for it. Raises ConfigError."""
    if not settings.http:
        return
    if any(find_spec(name) is None for name in ("uvicorn", "h11")):
        raise ConfigError("the setting http needs the extra `http`: pip install 'monsal[http]'")
    from monsal.http import HttpSettings, Mounts

    Mounts(mounts, HttpSettings())


def mounts_of(mounts: Sequence[Mount], settings: Settings, entrance: Entrance) -> Mounts:
    """All mounted applications as one, which bring mail in by `entrance`. Raises ConfigError."""
    from monsal.http import Mounts

    return Mounts(mounts, _bounds(settings), enter=entrance.enter)


def _bounds(settings: Settings, sharing: int = 1) -> HttpSettings:
    from monsal.http import HttpSettings

    return HttpSettings(
        deadline=settings.deadline,
        max_connections=usable_connections(settings.max_connections, sharing),
        max_connections_per_peer=settings.max_connections_per_peer,
    )


class Web:
    """The HTTP of one application. Made and used on the sockets' loop; nothing is done before `start`."""

    def __init__(
        self,
        mounts: Sequence[Mount],
        settings: Settings,
        directory: Path,
        *,
        doors: Callable[[], Doors],
        entrance: Callable[[], Entrance],
    ) -> None:
        self._mounts = mounts
        self._doors = doors
        self._entrance = entrance
        self._settings = settings
        self._directory = directory
        self._app: Mounts | None = None
        self._server: HttpServer | None = None
        #: Where it can be reached, while it can.
        self.addresses: list[str] = []

    def check(self) -> None:
        """Raises ConfigError as `check_web`."""
        check_web(self._mounts, self._settings)

    async def start(self) -> None:
        """Serve those doors that are for it, if there are any. Raises ConfigError for what cannot be mounted."""
        doors = self._doors()
        ours = [door for door in doors if door.is_http]
        if not ours:
            return
        # Not before: it imports uvicorn, which most applications do without.
        from monsal.http.serving import HttpServer

        context = certificate_of(self._settings, self._directory)
        self._app = mounts_of(self._mounts, self._settings, self._entrance())
        server = HttpServer(self._app, _bounds(self._settings, doors.sharing), peer_of=peer_of)
        await server.start([(door.take(), context if door.encrypted else None) for door in ours])
        self._server = server
        self.addresses = [address for door in ours for address in door.addresses]

    async def stop(self, grace: float) -> None:
        """Serve nobody new; what is being answered may end within `grace` seconds."""
        self.addresses = []
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace)

    def statistics(self) -> WebStatistics:
        if self._server is None or self._app is None:
            return WebStatistics()
        places, counts = self._server.places, self._app.statistics()
        return WebStatistics(
            connections=places.open,
            running=counts.running,
            requests=counts.requests,
            refused=counts.refused,
            failed=counts.failed,
            turned_away=places.refused,
            expired=places.expired,
        )

    def doing(self) -> str:
        """How it is, for people; empty if nobody is connected."""
        found = self.statistics()
        return f"{found.connections} connections, {found.running} requests under way" * bool(found.connections)
