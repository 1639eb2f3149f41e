"""Applications below paths: which is asked, with what at most, and what is said when it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any

import pytest

from monsal.errors import ConfigError, StoreUnavailable
from monsal.http import HttpSettings, Mounts, mounting
from monsal.testing.asked import Answer, ask


def app(text: str = "", *, status: int = 200, error: BaseException | None = None, wait: bool = False) -> Any:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        event = await receive()
        if wait:
            await asyncio.Event().wait()
        if error is not None:
            raise error
        said = f"{text} {scope['root_path']} {scope['path']} {event['body'].decode()}".strip().encode()
        await send({"type": "http.response.start", "status": status, "headers": [(b"X-Of", b"app")]})
        await send({"type": "http.response.body", "body": said})

    return answer


def said(mounts: Mounts, path: str, body: bytes = b"", method: str = "POST") -> Answer:
    return asyncio.run(ask(mounts, method, path, body, {}))


def of(*mounted: tuple[str, Any], max_body: int = 100, **settings: Any) -> Mounts:
    return Mounts([mounting(path, each, max_body=max_body) for path, each in mounted], HttpSettings(**settings))


def test_the_longest_path_is_asked_and_told_where_it_is() -> None:
    mounts = of(("/a", app("one")), ("/a/b", app("two")), ("/c", app("three")))
    assert said(mounts, "/a/x", b"hello").text == "one /a /a/x hello"
    assert said(mounts, "/a").text == "one /a /a"
    assert said(mounts, "/a/b/c?q=1").text == "two /a/b /a/b/c"
    assert said(mounts, "/ab").status == 404
    assert said(mounts, "/").status == 404
    assert said(of(("/", app("root"))), "/any/where").text == "root  /any/where"
    assert "GMT" in said(mounts, "/c").headers["date"]


@pytest.mark.parametrize("path", ["", "list", "/list/", "/a//b", "/a/../b", "/a b", "/a?b", "/ä", None])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be mounted"):
        mounting(path, app(), max_body=1)


@pytest.mark.parametrize(
    ("path", "given", "says"),
    [
        ("/a", "no name", "no ASGI application"),
        ("/a", 5, "no ASGI application"),
        ("/a", "json:nothing", "cannot be served"),
        ("/a", "json:__name__", "json:__name__ is no ASGI application"),
        ("/a", "monsal_no_module:app", "No module named 'monsal_no_module'"),
    ],
)
def test_what_is_no_application(path: str, given: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        of((path, given))
    with pytest.raises(ConfigError, match="max_body"):
        mounting("/a", app(), max_body=-1)
    with pytest.raises(ConfigError, match="two applications"):
        of(("/a", app()), ("/a", app()))


def test_a_name_is_imported_when_it_is_served() -> None:
    mount = mounting("/a", "monsal_no_module:app", max_body=1)
    assert mount.app == "monsal_no_module:app"
    assert mounting("/a", "json:dumps", max_body=1).load() is __import__("json").dumps


def test_a_body_that_is_too_large_never_gets_to_the_application() -> None:
    called: list[str] = []

    async def never(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope["path"])

    mounts = of(("/a", never), max_body=100)
    assert said(mounts, "/a", b"x" * 101).status == 413
    assert said(mounts, "/a", b"x" * 100_000).headers["connection"] == "close"
    assert called == []
    assert mounts.statistics().refused == 2
    assert said(of(("/a", app()), max_body=100), "/a", b"x" * 100).status == 200


def test_a_body_without_a_length_is_counted_as_it_comes() -> None:
    pieces = [b"x" * 65536] * 100

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": pieces.pop(), "more_body": bool(pieces)}

    events: list[MutableMapping[str, Any]] = []

    async def send(event: MutableMapping[str, Any]) -> None:
        events.append(event)

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/a", "headers": []}
    asyncio.run(of(("/a", app()), max_body=100)(scope, receive, send))
    assert events[0]["status"] == 413
    # It was read on for a while, and not for ever.
    assert 0 < len(pieces) < 40


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def receive() -> MutableMapping[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    events: list[MutableMapping[str, Any]] = []

    async def send(event: MutableMapping[str, Any]) -> None:
        events.append(event)

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/a", "headers": []}
    asyncio.run(of(("/a", app()), body=0.01)(scope, receive, send))
    assert events[0]["status"] == 408


def test_what_an_application_raises_is_said_in_few_words(caplog: pytest.LogCaptureFixture) -> None:
    mounts = of(("/a", app(error=RuntimeError("secret"))), ("/b", app(error=StoreUnavailable("no disk"))))
    mounts_slow = of(("/c", app(wait=True)), ("/d", app(error=TimeoutError())), deadline=0.01)
    assert (said(mounts, "/a").status, "secret" in said(mounts, "/a").text) == (500, False)
    assert said(mounts, "/b").status == 503
    assert said(mounts_slow, "/c").status == 503
    assert said(mounts_slow, "/d").status == 500
    assert "secret" in caplog.text
    assert mounts.statistics().failed == 3
    assert mounts.statistics().running == 0
    assert {record.levelno for record in caplog.records} <= {logging.WARNING, logging.ERROR}


def test_an_answer_that_was_begun_is_broken_off_and_not_made_to_look_whole() -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("broken")

    with pytest.raises(ConnectionAbortedError):
        said(of(("/a", half)), "/a")


def test_each_application_is_entered_in_its_own_context() -> None:
    entered: list[str] = []
    mounts = Mounts([mounting("/a", app("x"), max_body=1)], HttpSettings(), enter=lambda: entered.append("in"))
    assert said(mounts, "/a").status == 200
    assert said(mounts, "/b").status == 404
    assert entered == ["in"]
