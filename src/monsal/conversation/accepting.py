"""Accept hooks: the application is asked about a recipient at RCPT, before the mail is sent.

They run on threads of their own, so that neither the sockets nor the turns wait for them (P7). No answer in time, and
whatever goes wrong, is 451 for that recipient and a line in the log.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

from monsal.conversation.context import _accepting
from monsal.conversation.page import TurnPage
from monsal.conversation.result import Outcome
from monsal.conversation.runner import Runner
from monsal.errors import LoginUnavailable, Reject
from monsal.mail import Envelope
from monsal.routing import Asked, Router, Screen
from monsal.smtp.replies import ABORTED, Reply

__all__ = ["Asking"]

log = logging.getLogger("monsal.accept")

#: Seconds for all hooks of one recipient, waiting for a free thread included: clients wait 5 minutes for a reply to
#: RCPT (RFC 5321, section 4.5.3.2.3), and one after the other for as many recipients as they have.
_ACCEPT_SECONDS: Final = 5.0
#: Seconds for a login.
_LOGIN_SECONDS: Final = 10.0
_ENHANCED: Final = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +(.*))?\Z", re.DOTALL)


class Asking:
    """Asks the application's own functions what comes before a turn. Made and used on the sockets' loop."""

    def __init__(self, router: Router, *, threads: int = 8, seconds: float = _ACCEPT_SECONDS) -> None:
        self._router = router
        self._seconds = seconds
        self._accepting = Runner(threads=threads, page=TurnPage(None))
        # Apart: whoever tries passwords must not hold up the mail, and a hook that hangs no login.
        self._checking = Runner(threads=2, page=TurnPage(None))

    async def open(self) -> None:
        """Bind to the running loop; threads start when they are first needed."""
        await self._accepting.open()
        await self._checking.open()

    async def close(self) -> None:
        """End the threads that are idle."""
        await self._accepting.close()
        await self._checking.close()

    # -- recipients -------------------------------------------------------------------------------------------

    def about(self, address: str) -> Callable[[Envelope], Coroutine[Any, Any, Reply | None]] | None:
        """Who asks all hooks about an address; None if there are none for it."""
        screens = self._router.table.screens
        if not screens:
            return None
        found = [(screen, captures) for screen in screens if (captures := screen.match(address)) is not None]
        return partial(self._ask, found) if found else None

    async def _ask(self, hooks: list[tuple[Screen, Mapping[str, str | None]]], envelope: Envelope) -> Reply | None:
        """The first refusal of the hooks, in their order; None if all say yes."""
        facts = {
            "envelope": envelope,
            "recipient": envelope.recipients[0],
            "sender": envelope.sender,
            "peer": envelope.peer,
            "hello": envelope.hello,
            "user": envelope.user,
            "tls": envelope.tls,
        }
        asked = hooks[0][0].asked
        try:
            async with asyncio.timeout(self._seconds):
                for screen, captures in hooks:
                    asked = screen.asked
                    call = partial(_call, asked, asked.arguments({**captures, **facts}))
                    outcome = await self._run(self._accepting, asked, call, self._seconds)
                    refusal = self._refusal(asked, outcome, envelope)
                    if refusal is not None:
                        return refusal
        except TimeoutError:
            log.error("%s gave no answer within %g s", asked.id, self._seconds, extra=_ids(asked, envelope))
            return ABORTED
        return None

    def _refusal(self, asked: Asked, outcome: Outcome, envelope: Envelope) -> Reply | None:
        error = outcome.error
        if isinstance(error, Reject):
            return _as_reply(error)
        if error is not None:
            log.error("%s failed\n%s", asked.id, outcome.detail, extra=_ids(asked, envelope))
            return ABORTED
        if outcome.value is not None:
            text = "%s returned %r: an accept hook returns nothing, and says no by reject(code, text)"
            log.error(text, asked.id, outcome.value, extra=_ids(asked, envelope))
            return ABORTED
        return None

    async def _run(self, runner: Runner, asked: Asked, call: Callable[[], Any], seconds: float) -> Outcome:
        if runner.is_full:
            return Outcome(error=TimeoutError(), detail="all threads for such functions hang in one of them")
        return await runner.run(call, is_async=asked.is_async, deadline=seconds, what=asked.id)

    # -- logins -----------------------------------------------------------------------------------------------

    async def check(self, function: Callable[[], Any]) -> Any:
        """Do what checks a password, on a thread of its own. Raises LoginUnavailable if that fails or takes too long.

        What it raised is told by its type alone: its text may show the password.
        """
        return await self._checked(Asked(id="the check of a password", func=function, is_async=False, wants=None), {})

    async def authenticate(self, user: str, password: str, peer: str) -> Any:
        """What the application's `@authenticate` says of a login; None without one. Raises LoginUnavailable."""
        asked = self._router.table.authenticator
        if asked is None:
            return None
        return await self._checked(asked, asked.arguments({"user": user, "password": password, "peer": peer}))

    async def _checked(self, asked: Asked, arguments: dict[str, Any]) -> Any:
        try:
            async with asyncio.timeout(_LOGIN_SECONDS):
                call = partial(asked.func, **arguments)
                outcome = await self._run(self._checking, asked, call, _LOGIN_SECONDS)
        except TimeoutError:
            raise LoginUnavailable(f"{asked.id} gave no answer within {_LOGIN_SECONDS:g} s") from None
        if outcome.error is not None:
            raise LoginUnavailable(f"{asked.id} raised {type(outcome.error).__name__}") from None
        return outcome.value


def _call(asked: Asked, arguments: dict[str, Any]) -> Any:
    return _awaited(asked, arguments) if asked.is_async else _within(asked.func, arguments)


def _within(func: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    token = _accepting.set(True)
    try:
        return func(**arguments)
    finally:
        _accepting.reset(token)


async def _awaited(asked: Asked, arguments: dict[str, Any]) -> Any:
    # A task has a context of its own: nothing is to be reset.
    _accepting.set(True)
    return await asked.func(**arguments)


def _as_reply(error: Reject) -> Reply:
    """The reply to a recipient that was rejected.

    A text may begin with an enhanced status code of the same class; else it is x.7.1, *delivery not authorized* (RFC
    3463). 421 would end the session for all recipients, so it is said as 451.
    """
    code = 451 if error.code == 421 else error.code
    found = _ENHANCED.match(error.text)
    if found is not None and found[1][0] == str(code)[0]:
        enhanced, text = found[1], found[2] or ""
    else:
        enhanced, text = f"{code // 100}.7.1", error.text
    return Reply(code, enhanced, text or "refused")


def _ids(asked: Asked, envelope: Envelope) -> dict[str, object]:
    return {
        "action": "accept_hook",
        "handler": asked.id,
        "recipient": envelope.recipients[0],
        "sender": envelope.sender,
        "peer": envelope.peer,
    }
