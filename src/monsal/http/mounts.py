"""Applications below paths, as one application: who answers, with how much and for how long (P7).

A mounted application is called when its request is complete: so neither a slow sender nor a body that is too large
ever gets to it, and what it answers is all that it has to be right about.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from importlib import import_module
from typing import Any, Final

from monsal.errors import ConfigError, StoreUnavailable

__all__ = ["HttpSettings", "Mount", "Mounts", "MountsStatistics", "mounting"]

log = logging.getLogger("monsal.http")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

#: What a path may be made of, so that it means the same to everybody (RFC 3986, section 2.3).
_PATH: Final = re.compile(r"/|(?:/[A-Za-z0-9._~-]+)+")
#: Octets of a body that is too large which are read on, so that its sender reads our answer and no broken connection.
_READ_ON: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Bounds of HTTP; times in seconds, sizes in octets.

    `head` is for one head of a request to come, `body` for its body, `deadline` for its answer to be made and `write`
    for it to be read. An idle connection is closed after `keep_alive`. `max_head` is the largest head,
    `max_connections` and `max_connections_per_peer` are connections at once.
    """

    head: float = 10.0
    body: float = 30.0
    deadline: float = 60.0
    write: float = 30.0
    keep_alive: float = 5.0
    max_head: int = 16 * 1024
    max_connections: int = 1000
    max_connections_per_peer: int = 100

    @property
    def whole(self) -> float:
        """How long one request may take from the end of its head until its answer was read."""
        return self.body + self.deadline + self.write


@dataclass(frozen=True, slots=True)
class Mount:
    """One application below a path. `app` is it, or where it is (`module:name`); `max_body` is in octets."""

    path: str
    app: Asgi | str
    max_body: int

    def load(self) -> Asgi:
        """The application. Raises ConfigError if there is none where it should be."""
        if not isinstance(self.app, str):
            return self.app
        module, _, name = self.app.partition(":")
        try:
            found: Any = getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            if error.name in ("starlette", "uvicorn"):
                raise ConfigError(f"{self.path}: {module} needs the extra `http`: pip install 'monsal[http]'") from None
            raise ConfigError(f"{self.path} cannot be served: {error}") from error
        except AttributeError as error:
            raise ConfigError(f"{self.path} cannot be served: {error}") from error
        if not callable(found):
            raise ConfigError(f"{self.path} cannot be served: {self.app} is no ASGI application")
        return found  # type: ignore[no-any-return] # whatever is callable: what it is shows when it is called


def mounting(path: str, app: Asgi | str, *, max_body: int) -> Mount:
    """Check what is to be mounted; nothing is imported. Raises ConfigError."""
    if not isinstance(path, str) or _PATH.fullmatch(path) is None or {".", ".."} & set(path.split("/")):
        raise ConfigError(f"an application cannot be mounted at {path!r}; it is a path such as /list or /hooks/shop")
    is_name = isinstance(app, str) and re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", app) is not None
    if not is_name and (isinstance(app, str) or not callable(app)):
        raise ConfigError(f"{path}: {app!r:.100} is no ASGI application, and no name of one (module:name)")
    if isinstance(max_body, bool) or not isinstance(max_body, int) or max_body < 0:
        raise ConfigError(f"{path}: max_body is a number of octets, not {max_body!r}")
    return Mount(path, app, max_body)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountsStatistics:
    """Requests that are being answered; since the start: those answered, refused by a bound, and failed (5xx)."""

    running: int
    requests: int
    refused: int
    failed: int


class _TooLarge(Exception):
    """A body has more octets than it may."""


class _Gone(Exception):
    """Whoever asked has gone."""


class Mounts:
    """All mounted applications, as one. `enter` is called before each, in the context in which it runs.

    Raises ConfigError for two below one path, and for one that cannot be loaded.
    """

    def __init__(
        self, mounts: Iterable[Mount], settings: HttpSettings, *, enter: Callable[[], object] = lambda: None
    ) -> None:
        self._mounts: dict[str, tuple[Asgi, int]] = {}
        for mount in mounts:
            prefix = mount.path.rstrip("/")
            if prefix in self._mounts:
                raise ConfigError(f"two applications are mounted at {mount.path}")
            self._mounts[prefix] = (mount.load(), mount.max_body)
        self._settings = settings
        self._enter = enter
        self._running = self._requests = self._refused = self._failed = 0

    def statistics(self) -> MountsStatistics:
        return MountsStatistics(
            running=self._running, requests=self._requests, refused=self._refused, failed=self._failed
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        answer = _Answer(send)
        self._requests += 1
        self._running += 1
        try:
            await self._answer(scope, receive, answer)
        finally:
            self._running -= 1
            self._failed += answer.status >= 500

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        if _is_ambiguous(scope):
            self._refused += 1
            await answer.say(400, "It is not clear where this request ends.", close=True)
            return
        prefix = self._below(scope["path"])
        if prefix is None:
            await answer.say(404, "There is nothing here.")
            return
        app, max_body = self._mounts[prefix]
        if scope["method"] == "CONNECT":
            await answer.say(405, "There is no way through here.", close=True)
            return
        try:
            async with asyncio.timeout(self._settings.body):
                body = await _body(scope, receive, max_body)
        except _TooLarge:
            self._refused += 1
            await answer.say(413, f"This is too large: at most {max_body} octets are taken here.", close=True)
            return
        except TimeoutError:
            self._refused += 1
            await answer.say(408, "The request took too long to come.", close=True)
            return
        except _Gone:
            return
        inner = {**scope, "root_path": scope.get("root_path", "") + prefix}
        await self._run(app, inner, _given(body, receive), answer)

    async def _run(self, app: Asgi, scope: Scope, receive: Receive, answer: _Answer) -> None:
        limit = asyncio.timeout(self._settings.deadline)
        self._enter()
        try:
            async with limit:
                await app(scope, receive, answer.send)
        except StoreUnavailable as error:
            # Nothing was stored, and so nothing is claimed to be (P1).
            log.warning("%s: %s", scope["path"], error, extra={"action": "http_unavailable"})
            await answer.end(503, "This cannot be done now; please try again later.")
        except TimeoutError:
            if not limit.expired():
                log.exception("%s failed", scope["path"], extra={"action": "http_failed"})
                await answer.end(500, "This went wrong here.")
                return
            log.error("%s took longer than %g s", scope["path"], self._settings.deadline, extra={"action": "http_slow"})
            await answer.end(503, "This took too long here; please try again later.")
        except Exception:
            log.exception("%s failed", scope["path"], extra={"action": "http_failed"})
            await answer.end(500, "This went wrong here.")

    def _below(self, path: str) -> str | None:
        """The longest path below which something is mounted that `path` is in."""
        while path not in self._mounts:
            if not path:
                return None
            path = path.rpartition("/")[0]
        return path


def _is_ambiguous(scope: Scope) -> bool:
    """Whether a proxy before us may see another end of the request: RFC 9112, sections 6.1 and 6.3, has it refused."""
    names = {name for name, _ in scope["headers"]}
    return b"transfer-encoding" in names and (b"content-length" in names or scope["http_version"] == "1.0")


async def _body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises _TooLarge, after it was read on for a while, and _Gone."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    pieces: list[bytes] = []
    size = 0
    if declared.isdigit() and int(declared) > limit + _READ_ON:
        raise _TooLarge
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise _Gone
        piece = event.get("body", b"")
        size += len(piece)
        if size <= limit:
            pieces.append(piece)
        elif size > limit + _READ_ON:
            raise _TooLarge
        if not event.get("more_body", False):
            if size > limit:
                raise _TooLarge
            return b"".join(pieces)


def _given(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body at once, and after it what comes: that whoever asked has gone."""
    told = False

    async def give() -> MutableMapping[str, Any]:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return give


class _Answer:
    """The answer to one request: passes on what an application says, and knows how far it has come."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self._ended = False

    async def send(self, event: MutableMapping[str, Any]) -> None:
        if event["type"] == "http.response.start":
            self.status = int(event["status"])
            headers: Sequence[tuple[bytes, bytes]] = list(event.get("headers", ()))
            if all(bytes(name).lower() != b"date" for name, _ in headers):
                # RFC 9110, section 6.6.1: who has a clock says when.
                event = {**event, "headers": [*headers, (b"date", formatdate(usegmt=True).encode("ascii"))]}
        await self._send(event)
        # Behind it: what was shorter than it said has not ended.
        self._ended = event["type"] == "http.response.body" and not event.get("more_body", False)

    async def say(self, status: int, text: str, *, close: bool = False) -> None:
        """Answer in a line of text; with `close` nothing more is read from the connection."""
        body = f"{text}\n".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        if close:
            headers.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def end(self, status: int, text: str) -> None:
        """Say that it failed; whoever has read half of another answer has to see that it ends too early."""
        if not self.status:
            await self.say(status, text)
        elif not self._ended:
            raise ConnectionAbortedError("an answer that was begun cannot be ended")
