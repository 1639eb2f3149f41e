"""An application of the ancestor in the engine: turns, states, mail and failures, as a server has them."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ancestor_program import BOOT, make_ancestor

from monsal.errors import ConfigError
from monsal.smtp.replies import Refused
from monsal.testing import client

DESK = "app.handlers.desk"


@pytest.fixture
def application(ancestor: Path) -> Iterator[Callable[..., Any]]:
    """`application(**parts)` writes an application and imports its object."""

    def make(**parts: str) -> Any:
        make_ancestor(ancestor, **parts)
        importlib.invalidate_caches()
        return importlib.import_module("app").app

    # Other tests import applications under that name, too.
    _forget()
    yield make
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("app", "config")]:
        del sys.modules[name]


def test_its_settings_are_those_of_a_server(application: Callable[..., Any], ancestor: Path) -> None:
    app = application()
    settings = app.settings(ancestor, environ={}).settings
    assert (settings.relay, settings.ingress) == ("smtp://localhost:8825", ("smtp://127.0.0.1:0",))
    assert (settings.correspondent, app.home) == ("envelope", ancestor)


@pytest.mark.rule("routing.R9", "routing.R15", "routing.R25", "routing.B17", "routing.B18")
def test_a_conversation(application: Callable[..., Any]) -> None:
    """Given handlers that answer by the relay and change a request, what they do is committed with their turns."""
    with client(application()) as mail:
        mail.deliver("Hi", to="DESK@example.com", sender="Ann@Example.net", subject="pears")
        assert mail.state_of("ann@example.net", DESK) == "AGAIN"
        (answer,) = mail.sent
        assert (answer.sender, answer.to) == ("DESK@example.com", ("Ann@Example.net",))
        assert (answer.subject, answer.text) == ("Re: pears", "Hello pears.")
        assert answer.message.get("X-Was") == "seen", "the request is the same for all handlers of a message"
        assert answer.message.message_id
        assert answer.message.date
        mail.deliver("Hi", to="desk@example.com", sender="ann@example.net", subject="more")
        assert mail.sent[1].text == "You were in AGAIN"
        assert mail.state_of("ann@example.net", DESK) == "AGAIN"
        mail.deliver("Hi", to="desk@example.com", sender="ann@example.net", subject="over")
        assert [sent.subject for sent in mail.sent[2:]] == ["again", "Re: over"]
        with pytest.raises(Refused):
            mail.deliver("Hi", to="desk@elsewhere.example", sender="ann@example.net")


@pytest.mark.rule("routing.R29", "routing.R30", "routing.B3", "routing.B6")
def test_a_failure_is_a_dead_letter_and_error_takes_the_next_message(application: Callable[..., Any]) -> None:
    with client(application()) as mail:
        mail.deliver("Hi", to="desk@example.com", sender="ann@example.net", subject="fail")
        assert mail.state_of("ann@example.net", DESK) == "ERROR"
        (dead,) = mail.rows("dead")
        assert "on purpose" in dead["reason"]
        # ERROR has the next message, at whatever of its addresses; START has none until ERROR lets it.
        mail.deliver("Hi", to="desk@example.com", sender="ann@example.net", subject="pears")
        mail.deliver("Hi", to="quiet@example.com", sender="ann@example.net")
        assert (len(mail.rows("dead")), mail.sent, mail.state_of("ann@example.net", DESK)) == (1, [], "ERROR")
        # A replay goes on from where the machine stood before.
        mail.replay(dead["id"])
        assert [row["id"] for row in mail.rows("dead")] == [dead["id"]]


NO_ERROR = """
    from salmon.routing import route
    from salmon.server import SMTPError
    SEEN = []
    @route("(who)@(host)", who=".+")
    def START(message, who, host):
        SEEN.append(who)
        if who == "fail":
            raise RuntimeError("on purpose")
        if who == "no":
            raise SMTPError(554, "not here")
"""


@pytest.mark.rule("routing.R28", "routing.B6", "routing.B16")
def test_a_module_without_error_locks_nobody_out(application: Callable[..., Any]) -> None:
    with client(application(handlers=NO_ERROR)) as mail:
        mail.deliver("Hi", to="fail@example.com", sender="ann@example.net")
        assert mail.state_of("ann@example.net", DESK) == "ERROR"
        mail.deliver("Hi", to="next@example.com", sender="ann@example.net")
        assert importlib.import_module(DESK).SEEN == ["fail", "next"]
        mail.deliver("Hi", to="no@example.com", sender="bob@example.net")
        (bounce,) = mail.sent
        assert (bounce.sender, bounce.to) == ("", ("bob@example.net",))
        assert "554 not here" in bounce.text


BOUNCE = b"""From: MAILER-DAEMON@example.org\r
To: desk@example.com\r
Subject: Undelivered\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary=b\r
\r
--b\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.example.org\r
\r
Final-Recipient: rfc822; gone@example.org\r
Action: failed\r
Status: 5.1.1\r
Diagnostic-Code: smtp; 550-5.1.1 no such user\r
\r
--b--\r
"""


def test_a_bounce_comes_to_the_address_that_sent(application: Callable[..., Any]) -> None:
    """Given mail with the null sender, it goes to the handler for bounces and leaves no state behind."""
    with client(application()) as mail:
        mail.deliver(to="desk@example.com", sender="", raw=BOUNCE)
        assert importlib.import_module(DESK).BOUNCES == ["gone@example.org"]
        assert (mail.rows("dead"), mail.rows("states"), mail.sent) == ([], [], [])


@pytest.mark.rule("state.R16", "state.R17", "routing.R35")
def test_a_store_of_its_own_keeps_the_states(application: Callable[..., Any], ancestor: Path) -> None:
    boot = BOOT + "from salmon.routing import ShelveStorage\nRouter.STATE_STORE = ShelveStorage('run/states')\n"
    (ancestor / "run").mkdir()
    with client(application(boot=boot)) as mail:
        for subject in ("pears", "more"):
            mail.deliver("Hi", to="desk@example.com", sender="ann@example.net", subject=subject)
        assert mail.sent[1].text == "You were in AGAIN"
    shelf = importlib.import_module("salmon.routing").ShelveStorage("run/states")
    assert shelf.get(DESK, "ann@example.net") == "AGAIN"


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({"port": 25}, "smtp://mx.example:25"),
        ({"port": 24, "lmtp": True}, "lmtp://mx.example:24"),
        ({"port": 465, "ssl": True, "username": "u@x", "password": "p:/@"}, "smtps://u%40x:p%3A%2F%40@mx.example:465"),
        ({"port": 587, "starttls": True}, "smtp+starttls://mx.example:587"),
    ],
)
def test_its_relay_as_a_setting(application: Callable[..., Any], options: dict[str, Any], url: str) -> None:
    booting = importlib.import_module("monsal.compat.booting")
    relay = importlib.import_module("salmon.server").Relay("mx.example", **options)
    assert booting._url_of(relay) == url


def test_a_relay_that_no_setting_can_say_is_told(application: Callable[..., Any], ancestor: Path) -> None:
    app = application(boot=BOOT.replace('Relay(host=settings.relay_config["host"]', "Relay(host=None"))
    with pytest.raises(ConfigError, match="by a setting"):
        app.settings(ancestor, environ={})
    assert app.settings(ancestor, environ={"MONSAL_RELAY": "capture:run/sent"}).settings.relay == "capture:run/sent"


def test_a_receiver_that_no_server_can_be_is_told(application: Callable[..., Any]) -> None:
    boot = BOOT.replace("SMTPReceiver(**settings.receiver_config)", "object()")
    with pytest.raises(ConfigError, match="cannot take over"):
        application(boot=boot)


def test_our_loggers_go_on_speaking(application: Callable[..., Any]) -> None:
    """Given a boot module that silences all loggers there are, as `logging.config.fileConfig` does."""
    logger = logging.getLogger("monsal.turns")
    boot = BOOT + (
        "import logging\n"
        "for found in logging.root.manager.loggerDict.values():\n"
        "    if isinstance(found, logging.Logger):\n"
        "        found.disabled = True\n"
    )
    other = logging.getLogger("somebody.else")
    try:
        application(boot=boot)
        assert (logger.disabled, other.disabled) == (False, True)
    finally:
        for found in logging.root.manager.loggerDict.values():
            if isinstance(found, logging.Logger):
                found.disabled = False


def test_a_relay_that_is_not_the_servers_sends_at_once(application: Callable[..., Any]) -> None:
    """Given another relay in a handler, its failure is that of the handler: nothing listens there."""
    handlers = """
        from salmon.routing import route
        from salmon.server import Relay
        @route("(who)@(host)", who=".+")
        def START(message, who, host):
            Relay(host="127.0.0.1", port=1).reply(message, message.To, "s", "b")
    """
    with client(application(handlers=handlers)) as mail:
        mail.deliver("Hi", to="x@example.com", sender="ann@example.net")
        assert mail.sent == []
        (row,) = mail.rows("queue")
        assert "refused" in row["reason"]


def test_states_are_changed_in_handlers_only_while_it_runs(application: Callable[..., Any], write: Any) -> None:
    with client(application()):
        router = importlib.import_module("salmon.routing").Router
        with pytest.raises(Exception, match="monsal states"):
            router.set_state(DESK, write("desk@example.com"), "AGAIN")
    router.deliver(write("quiet@example.com"))


def test_native_modules_beside_it(application: Callable[..., Any], ancestor: Path, module: Any) -> None:
    """Given a module in our own manner, it handles what the ancestor's modules do not, in the same application."""
    make_ancestor(ancestor)
    native = "from monsal import reply, route\n@route('new@(host)')\ndef START(message):\n    reply('native')\n"
    module("native", native, load=False)
    (ancestor / "app" / "__init__.py").write_text(
        "from monsal import literal\nfrom monsal.compat import application\n"
        "app = application(modules=['native'], captures={'host': literal('example.com')})\n",
        encoding="utf-8",
    )
    with client(importlib.import_module("app").app) as mail:
        mail.deliver("Hi", to="new@example.com", sender="ann@example.net")
        mail.deliver("Hi", to="desk@example.com", sender="ann@example.net", subject="pears")
        assert [sent.text for sent in mail.sent] == ["native\n", "Hello pears."]
