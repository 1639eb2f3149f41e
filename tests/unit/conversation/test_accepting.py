"""Accept hooks: who is asked, what each answer becomes, and that nobody waits for one that hangs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from monsal import literal, reject
from monsal.conversation import Asking
from monsal.errors import LoginUnavailable, RouteError, TurnError
from monsal.mail import Envelope
from monsal.routing import Router
from monsal.smtp.replies import ABORTED, Reply

Make = Callable[[str], ModuleType]

HEAD = '@route("(name)@(host)", name="[a-z]+")\ndef START(message): pass\n'


def ask(module: ModuleType, *recipients: str, seconds: float = 30.0, **facts: Any) -> list[Reply | None]:
    """What the hooks of a module say of each recipient, all asked at once."""
    router = Router()
    router.defaults(host=literal("example.com"))
    router.load([module])

    async def one(asking: Asking, recipient: str) -> Reply | None:
        found = asking.about(recipient)
        given = {"sender": "ann@example.net", "peer": "192.0.2.1:25", **facts}
        return None if found is None else await found(Envelope(recipients=(recipient,), **given))

    async def all_of_them() -> list[Reply | None]:
        asking = Asking(router, threads=2, seconds=seconds)
        await asking.open()
        try:
            return list(await asyncio.gather(*(one(asking, recipient) for recipient in recipients)))
        finally:
            await asking.close()

    return asyncio.run(all_of_them())


def test_a_hook_gets_what_its_signature_names(module: Make) -> None:
    desk = module(
        HEAD
        + """
@accept("orders-(id)@(host)", id="[0-9]+")
def known(id, host, sender, peer, recipient, user, tls, envelope, hello="-", other=5):
    calls.append((id, host, sender, peer, recipient, user, tls, len(envelope.recipients), hello, other))

@accept
async def all(recipient):
    calls.append(recipient)

@accept("vip@(host)")
def everything(**facts):
    calls.append(sorted(facts))
"""
    )

    assert ask(desk, "orders-7@example.com", user="ann", tls=True, hello="h") == [None]
    assert desk.calls == [
        ("7", "example.com", "ann@example.net", "192.0.2.1:25", "orders-7@example.com", "ann", True, 1, "h", 5),
        "orders-7@example.com",
    ]
    desk.calls.clear()
    assert ask(desk, "vip@example.com") == [None]
    assert desk.calls[1] == ["envelope", "hello", "host", "peer", "recipient", "sender", "tls", "user"]


@pytest.mark.rule("routing.B16")
def test_a_rejection_is_the_reply_to_that_recipient_alone(module: Make) -> None:
    desk = module(
        HEAD
        + """
REPLIES = {
    "a": (550, "not here"),
    "b": (450, "4.2.1 full, come back"),
    "c": (553, "4.2.1 of another class"),
    "d": (421, "go away"),
    "e": (550, ""),
    "f": (550, "5.7.1"),
    "g": (550, "two\\r\\n250 lines"),
}

@accept("(name)@(host)", name="[a-g]")
def hook(name):
    reject(*REPLIES[name])

@accept
def second():
    calls.append("asked")
"""
    )
    said = ask(desk, *(f"{name}@example.com" for name in "abcdefgh"))

    assert said[:7] == [
        Reply(550, "5.7.1", "not here"),
        Reply(450, "4.2.1", "full, come back"),
        Reply(553, "5.7.1", "4.2.1 of another class"),
        Reply(451, "4.7.1", "go away"),
        Reply(550, "5.7.1", "refused"),
        Reply(550, "5.7.1", "refused"),
        Reply(550, "5.7.1", "two\r\n250 lines"),
    ]
    assert said[7] is None
    assert said[6] is not None
    assert said[6].to_bytes().count(b"\r\n") == 1
    assert desk.calls == ["asked"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise RuntimeError('broken')", "broken"),
        ("raise SystemExit(1)", "SystemExit"),
        ("return False", "returned False"),
        ("return 550", "returned 550"),
        ("reply('hello')", "TurnError"),
        ("current()", "TurnError"),
        ("reject(200, 'fine')", "from 400 to 599"),
    ],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_whatever_else_is_a_temporary_refusal_and_a_line_in_the_log(
    module: Make, caplog: pytest.LogCaptureFixture, kind: str, body: str, says: str
) -> None:
    desk = module(f"{HEAD}\n@accept\n{kind} hook():\n    {body}\n")

    assert ask(desk, "a@example.com") == [ABORTED]
    assert says in caplog.text
    record = next(record for record in caplog.records if getattr(record, "action", "") == "accept_hook")
    assert record.handler == f"{desk.__name__}:hook"  # type: ignore[attr-defined]
    assert (record.recipient, record.sender) == ("a@example.com", "ann@example.net")  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_no_answer_in_time(module: Make, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    wait = "await asyncio.Event().wait()" if kind == "async def" else "RELEASE.wait()"
    desk = module(
        f"import asyncio, threading\nRELEASE = threading.Event()\n{HEAD}\n@accept('(slow)@(host)', slow='slow')\n"
        f"{kind} hook(slow):\n    {wait}\n@accept('quick@(host)')\ndef quick():\n    calls.append(1)\n"
    )
    try:
        assert ask(desk, "slow@example.com", seconds=0.1) == [ABORTED]
    finally:
        desk.RELEASE.set()
    assert "gave no answer within 0.1 s" in caplog.text


def test_hooks_that_hang_hold_up_no_other(module: Make, caplog: pytest.LogCaptureFixture) -> None:
    """One of two threads is lost to it, and another takes its place when its time is over."""
    caplog.set_level(logging.CRITICAL)
    desk = module(
        f"import threading\nRELEASE = threading.Event()\n{HEAD}\n@accept('slow@(host)')\ndef hook():\n"
        "    RELEASE.wait()\n@accept('quick@(host)')\ndef quick():\n    calls.append(1)\n    RELEASE.set()\n"
    )
    try:
        assert ask(desk, "slow@example.com", "quick@example.com") == [None, None]
    finally:
        desk.RELEASE.set()
    assert desk.calls == [1]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("@accept\ndef hook(id): pass\n", "parameter 'id' is none of envelope, hello"),
        ('@accept("a-(id)@(host)")\ndef hook(id): pass\n', "id"),
        ('@accept("a-(peer)@(host)", peer="x")\ndef hook(peer): pass\n', "capture 'peer' is called like"),
        ('@accept\n@route("x@(host)")\ndef hook(message): pass\n', "is a handler"),
        ("@accept\ndef hook():\n    yield\n", "is a generator"),
        ("@accept\ndef hook(peer, /): pass\n", "parameter 'peer'"),
        ("@authenticate\ndef one(user): pass\n@authenticate\ndef two(user): pass\n", "there are 2 @authenticate"),
        ("@authenticate\ndef one(user, colour): pass\n", "parameter 'colour'"),
    ],
)
def test_what_is_wrong_is_told_at_load(module: Make, source: str, says: str) -> None:
    with pytest.raises(RouteError, match=says):
        ask(module(HEAD + source), "a@example.com")


@pytest.mark.parametrize("source", ["@accept('')\ndef hook(): pass\n", "@accept(5)\ndef hook(): pass\n"])
def test_what_is_no_mark(module: Make, source: str) -> None:
    with pytest.raises(RouteError):
        module(source)


def test_reject_needs_something_to_refuse() -> None:
    with pytest.raises(TurnError, match="a handler or an @accept hook"):
        reject(550, "no")


def test_the_spool_asks_about_what_it_takes_and_never_about_postmaster(module: Make, play: Any) -> None:
    desk = module(HEAD + "@accept\ndef hook(recipient):\n    calls.append(recipient)\n    reject(550, 'no')\n")
    spool = play(desk)._engine.spool

    assert spool.screen("desk@example.com") is not None
    assert spool.screen("postmaster@example.com") is None
    assert spool.screen("Postmaster") is None
    assert spool.screen(f"b+{'0' * 32}.{'0' * 32}@example.com") is None or spool.accepts("b+x@example.com") is not None
    assert play(module(HEAD))._engine.spool.screen("desk@example.com") is None


def test_logins(module: Make) -> None:
    desk = module(
        HEAD
        + """
@authenticate
def check(user, password):
    if user == "broken":
        raise RuntimeError("the password was " + password)
    return password == "secret"
"""
    )
    router = Router()
    router.defaults(host=literal("example.com"))
    router.load([desk])

    async def scene() -> None:
        asking = Asking(router)
        await asking.open()
        assert await asking.authenticate("ann", "secret", "192.0.2.1") is True
        assert await asking.authenticate("ann", "guess", "192.0.2.1") is False
        with pytest.raises(LoginUnavailable) as caught:
            await asking.authenticate("broken", "secret", "192.0.2.1")
        assert "secret" not in str(caught.value)
        assert await asking.check(lambda: 5) == 5
        await asking.close()

    asyncio.run(scene())
