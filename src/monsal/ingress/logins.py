"""Checks logins: by the file of users, then by the application; off the loop, and not without end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from monsal.address import fold
from monsal.errors import LoginUnavailable
from monsal.ingress.users import Identity, Users
from monsal.smtp.events import Login

__all__ = ["Logins"]

#: Wrong logins of one peer within a minute after which it is not heard until that minute is over: who guesses by
#: thousands would cost us a hash each.
_MOST_WRONG: Final = 20
_PERIOD: Final = 60.0
#: Logins that may wait to be checked at once.
_MOST_WAITING: Final = 64
_MOST_PEERS: Final = 65_536


class Logins:
    """The check of a `Gate`.

    `run(function)` calls a function on another thread; `ask(user, password, peer)` asks the application, None if it has
    no function for that; `now()` is a clock in seconds.
    """

    def __init__(
        self,
        users: Users,
        *,
        run: Callable[[Callable[[], Any]], Awaitable[Any]],
        ask: Callable[[str, str, str], Awaitable[Any]] | None,
        now: Callable[[], float],
    ) -> None:
        self._users = users
        self._run = run
        self._ask = ask
        self._now = now
        self._since = 0.0
        self._wrong: dict[str, int] = {}
        self._waiting = 0

    async def check(self, login: Login, peer: str | None) -> Identity | None:
        """Who it is, or None. Raises LoginUnavailable."""
        if self._now() - self._since >= _PERIOD or len(self._wrong) >= _MOST_PEERS:
            self._since = self._now()
            self._wrong.clear()
        if peer is not None and self._wrong.get(peer, 0) >= _MOST_WRONG:
            raise LoginUnavailable("too many wrong logins of this peer within a minute")
        if self._waiting >= _MOST_WAITING:
            raise LoginUnavailable("too many logins wait to be checked")
        self._waiting += 1
        try:
            identity = await self._identity(login, peer)
        finally:
            self._waiting -= 1
        if identity is None and peer is not None:
            self._wrong[peer] = self._wrong.get(peer, 0) + 1
        return identity

    async def _identity(self, login: Login, peer: str | None) -> Identity | None:
        if self._ask is None or self._users.knows(login.user):
            found = await self._run(lambda: self._users.check(login.user, login.password))
            assert found is None or isinstance(found, Identity)
            return found
        said = await self._ask(login.user, login.password, peer or "")
        if isinstance(said, bool) or said is None:
            return Identity(login.user) if said else None
        addresses = (said,) if isinstance(said, str) else said
        if not isinstance(addresses, tuple | list) or not all(isinstance(each, str) for each in addresses):
            raise LoginUnavailable(f"@authenticate gave a {type(said).__name__}; it gives True, False or addresses")
        return Identity(login.user, tuple(fold(each) for each in addresses))
