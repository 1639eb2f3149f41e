"""What an application exposes: what may be exposed where, what calls bring in, what programs are told."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from monsal import App, current, deliver, deliver_async, literal, notify, read, read_async, reply, route
from monsal.errors import ConfigError, RemoteFault, TurnError, UsageError
from monsal.rpc import HandlerExpired, RemoteAPI, incoming, outgoing
from monsal.rpc import current as current_call
from monsal.testing import TestClient, client
from monsal.wire.security import Token, Tokens

ANN = "ann@example.net"


class Desk(RemoteAPI):
    """An interface with calls of both kinds."""

    @incoming
    def ask(self, sender: str, text: str, key: str | None = None) -> list[int]: ...

    @incoming
    async def ask_softly(self, sender: str, to: str) -> bool: ...

    @incoming
    def notes(self, sender: str) -> list[str]: ...

    @incoming
    async def count(self, sender: str) -> int: ...

    @incoming
    def shout(self, sender: str, text: str) -> None: ...

    @incoming
    def wrong(self, sender: str, what: str) -> str: ...

    @incoming
    async def where(self, sender: str) -> list[str]: ...

    @incoming
    def where_plain(self, sender: str) -> list[str]: ...

    @incoming
    def ask_the_app(self, sender: str) -> list[str]: ...

    @incoming
    def twice(self, sender: str) -> list[str]: ...

    @incoming
    def block(self, sender: str) -> str: ...

    @incoming
    async def blocked_by_itself(self, sender: str) -> str: ...

    @outgoing
    def noted(self, receivers: list[str] | None, text: str) -> None: ...


class Service(Desk):
    """What the application does when it is called."""

    @incoming
    def ask(self, sender: str, text: str, key: str | None = None) -> list[int]:
        return list(deliver(to="desk@example.com", sender=ANN, subject="Asked", text=text, key=key).rows)

    @incoming
    async def ask_softly(self, sender: str, to: str) -> bool:
        return (await deliver_async(to=to, sender=ANN, text="Hello", key="one")).repeated

    @incoming
    def notes(self, sender: str) -> list[str]:
        return [text for (text,) in read("select text from note order by rowid")]

    @incoming
    async def count(self, sender: str) -> int:
        return int((await read_async("select count(*) from note"))[0][0])

    @incoming
    def shout(self, sender: str, text: str) -> None:
        notify(Desk).noted(text=text)

    @incoming
    def wrong(self, sender: str, what: str) -> str:
        getattr(notify(Desk), what)(nothing=1)
        return "sent"

    @incoming
    async def where(self, sender: str) -> list[str]:
        return [threading.current_thread().name, current_call().sender]

    @incoming
    def where_plain(self, sender: str) -> list[str]:
        return [threading.current_thread().name, current_call().sender]

    @incoming
    def ask_the_app(self, sender: str) -> list[str]:
        _apps[-1].deliver(to="desk@example.com", sender=ANN, text="By the app.")
        return [text for (text,) in _apps[-1].read("select count(*) || '' from note")]

    @incoming
    def twice(self, sender: str) -> list[str]:
        here: list[str] = self.where_plain(sender)
        return [*here, threading.current_thread().name]

    @incoming
    def block(self, sender: str) -> str:
        _held.wait(30)
        return "free"

    @incoming
    async def blocked_by_itself(self, sender: str) -> str:
        return deliver(to="desk@example.com", sender=ANN, text="x").message_id


_held = threading.Event()
_apps: list[App] = []


class Other(RemoteAPI):
    """Exposed nowhere."""

    @outgoing
    def said(self, receivers: list[str] | None) -> None: ...


def _handlers() -> ModuleType:
    module = ModuleType("handlers_of_desk")

    @route("desk@(host)")
    def START(message: Any) -> None:
        turn = current()
        turn.write("insert into note values (?)", (f"{message.source}: {message.text.strip()}",))
        notify(Desk).noted(text=message.text.strip())
        if message.text.startswith("fail"):
            raise ValueError("as asked")
        if message.text.startswith("deliver"):
            deliver(to="desk@example.com", sender=ANN, text="again")
        reply("Noted.")

    START.__module__ = module.__name__
    module.START = START  # type: ignore[attr-defined] # what a module is made of
    return module


def _app(**settings: Any) -> App:
    module = _handlers()
    sys.modules[module.__name__] = module
    return App(
        module,
        captures={"host": literal("example.com")},
        tables="create table if not exists note (text text) strict",
        **settings,
    )


@pytest.fixture
def deadline() -> float:
    """Seconds that a call may take."""
    return 60.0


@pytest.fixture
def mail(tmp_path: Path, deadline: float) -> Iterator[TestClient]:
    app = _app(deadline=deadline)
    app.expose(Service, at="unix:run/api.sock")
    _apps.append(app)
    with client(app, directory=tmp_path) as opened:
        yield opened
    _apps.clear()
    _held.clear()
    sys.modules.pop("handlers_of_desk", None)


# -- what may be exposed where -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "why"),
    [
        ("tcp://0.0.0.0:9000", "others than this host"),
        ("tcp://[::]:9000", "others than this host"),
        ("tcpserv::9000", "others than this host"),
        ("tcp://desk.example.com:9000", "others than this host"),
        ("tcps://0.0.0.0:9000?cert=a.pem&key=b.pem", "asks nobody who they are"),
        ("stdio:", "it takes unix:PATH"),
        ("http://127.0.0.1", "cannot be exposed at"),
        ("nonsense", "cannot be exposed at"),
    ],
)
def test_where_nothing_may_be_exposed(at: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        _app().expose(Desk, at=at)


@pytest.mark.parametrize(
    "at",
    ["unix:run/api.sock", "tcp://127.0.0.1:0", "tcp://[::1]:0", "tcp://localhost:0", "tcps://0.0.0.0:1?ca=a.pem"],
)
def test_where_something_may_be_exposed(at: str) -> None:
    assert isinstance(_app().expose(Desk, at=at), Desk)


def test_with_a_security_others_may_come() -> None:
    api = Desk()
    tokens = Tokens({"a long enough secret word": ("desk",)})
    assert _app().expose(api, at="tcp://0.0.0.0:9000", security=tokens) is api


def test_a_token_of_ones_own_checks_nobody_and_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"checks with Tokens"):
        _app().expose(Desk(), at="tcp://0.0.0.0:9000", security=Token("a long enough secret word"))


def test_what_is_no_api_and_what_is_no_option() -> None:
    app = _app()
    with pytest.raises(ConfigError, match="takes a RemoteAPI"):
        app.expose(object(), at="unix:run/api.sock")  # type: ignore[arg-type] # wrong on purpose
    with pytest.raises(ConfigError, match="no codec"):
        app.expose(Desk, at="unix:run/api.sock", codec="telepathy:")
    with pytest.raises(ConfigError, match="no security"):
        app.expose(Desk, at="unix:run/api.sock", security="trust")
    with pytest.raises(ConfigError, match="slow_reader"):
        app.expose(Desk, at="unix:run/api.sock", slow_reader=0)


# -- what calls bring in -------------------------------------------------------------------------------------------


def test_a_call_becomes_a_mail_of_its_own_source(mail: TestClient) -> None:
    desk = mail.api(Desk)
    rows = desk.ask(text="It does not work.")
    assert len(rows) == 1
    assert desk.notes() == ["call: It does not work."]
    assert mail.sent_to(ANN)[-1].text.strip() == "Noted."
    assert desk.count() == 1


def test_the_same_key_is_the_same_call(mail: TestClient) -> None:
    desk = mail.api(Desk)
    first = desk.ask(text="once", key="k1")
    assert desk.ask(text="once more, in other words", key="k1") == first
    assert desk.ask(text="another", key="k2") != first
    assert desk.ask(text="another") != desk.ask(text="another")
    assert desk.notes() == ["call: once", "call: another", "call: another", "call: another"]


def test_a_key_counts_for_one_address(mail: TestClient) -> None:
    desk = mail.api(Desk)
    assert desk.ask_softly(to="desk@example.com") is False
    assert desk.ask_softly(to="desk@example.com") is True


@pytest.mark.parametrize(
    ("to", "kind"),
    [("nobody@example.com", "Refused"), ("postmaster@example.com", "Refused"), ("no address", "AddressError")],
)
def test_where_nobody_would_handle_it_the_caller_is_told(mail: TestClient, to: str, kind: str) -> None:
    with pytest.raises(RemoteFault) as caught:
        mail.api(Desk).ask_softly(to=to)
    assert caught.value.kind == kind
    assert mail.rows("dead") == []


def test_a_handler_sends_by_its_turn_and_not_by_deliver(mail: TestClient) -> None:
    mail.deliver("deliver, please", to="desk@example.com", sender=ANN)
    assert "a turn writes by reply and send" in mail.rows("dead")[0]["reason"]


def test_outside_of_everything_there_is_no_application() -> None:
    with pytest.raises(TurnError, match=r"app\.deliver"):
        deliver(to="desk@example.com", sender=ANN, text="x")
    with pytest.raises(UsageError, match="runs 0 times"):
        _app().deliver(to="desk@example.com", sender=ANN, text="x")


def test_code_without_a_call_asks_the_application(mail: TestClient) -> None:
    desk = mail.api(Desk)
    assert desk.ask_the_app() in (["0"], ["1"])
    assert desk.notes() == ["call: By the app."]
    with pytest.raises(UsageError, match="only while"):
        _apps[-1].deliver(to="desk@example.com", sender=ANN, text="x")


def test_a_loop_is_not_blocked(mail: TestClient) -> None:
    with pytest.raises(RemoteFault) as caught:
        mail.api(Desk).blocked_by_itself()
    assert caught.value.kind == "TurnError"
    assert "deliver_async" in str(caught.value)


# -- where methods run ---------------------------------------------------------------------------------------------


@pytest.mark.rule("rpc.B5")
def test_methods_run_where_handlers_run(mail: TestClient) -> None:
    desk = mail.api(Desk)
    here = threading.current_thread().name
    assert desk.where() == ["monsal-handlers", "program-1"]
    name, sender = desk.where_plain()
    assert name.startswith("monsal-turn")
    assert name != here
    assert sender == "program-1"


def test_a_method_may_call_another_one(mail: TestClient) -> None:
    inner, _, outer = mail.api(Desk).twice()
    assert inner == outer


@pytest.mark.rule("rpc.B4")
@pytest.mark.parametrize("deadline", [1.5])
def test_a_method_that_hangs_is_given_up_and_others_go_on(mail: TestClient) -> None:
    desk = mail.api(Desk)
    with pytest.raises(HandlerExpired):
        desk.block()
    assert desk.count() == 0
    mail.deliver("Still there?", to="desk@example.com", sender=ANN)
    assert desk.notes() == ["mail: Still there?"]
    _held.set()


# -- what programs are told ----------------------------------------------------------------------------------------


def test_a_notification_comes_after_the_commit(mail: TestClient) -> None:
    first, second = mail.api(Desk), mail.api(Desk)
    mail.deliver("Hello", to="desk@example.com", sender=ANN)
    for program in (first, second):
        program.wait()
        assert program.heard == [("noted", {"text": "Hello"})]


def test_a_turn_that_fails_tells_nobody(mail: TestClient) -> None:
    desk = mail.api(Desk)
    mail.deliver("fail, please", to="desk@example.com", sender=ANN)
    desk.wait()
    assert desk.heard == []
    assert len(mail.rows("dead")) == 1


def test_a_method_tells_at_once(mail: TestClient) -> None:
    desk = mail.api(Desk)
    desk.shout(text="now")
    assert desk.heard == [("noted", {"text": "now"})]


def test_nobody_has_to_listen(mail: TestClient) -> None:
    mail.deliver("Hello", to="desk@example.com", sender=ANN)
    assert mail.rows("dead") == []


@pytest.mark.parametrize("what", ["nothing_of_the_kind", "noted", "ask"])
def test_a_wrong_notification_fails_where_it_is_made(mail: TestClient, what: str) -> None:
    with pytest.raises(RemoteFault) as caught:
        mail.api(Desk).wrong(what=what)
    assert caught.value.code == -32603


def test_an_api_that_is_exposed_nowhere(mail: TestClient) -> None:
    with pytest.raises(UsageError, match="not exposed"):
        mail.api(Other)
