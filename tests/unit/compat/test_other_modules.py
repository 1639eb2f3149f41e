"""`salmon.bounce`, `.confirm`, `.view`, `.testing`, `.utils` and `.handlers`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import jinja2
import pytest

REPORT = """From: MAILER-DAEMON@example.org
To: desk@example.com
Subject: Undelivered
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Description: Notification

I am sorry.
--b
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org

Final-Recipient: rfc822; gone@example.org
Action: failed
Status: {status}
Remote-MTA: dns; far.example.org
Diagnostic-Code: smtp; 550-5.1.1 no such user

--b
Content-Description: Undelivered Message
Content-Type: message/rfc822

Subject: first
To: gone@example.org
Received: from a

Hello
--b--
"""


@pytest.fixture
def relayed() -> Any:
    class Relay:
        def __init__(self) -> None:
            self.mails: list[Any] = []

        def deliver(self, message: Any) -> None:
            self.mails.append(message)

    return Relay()


@pytest.fixture
def view(ancestor: Path) -> Any:
    found = importlib.import_module("salmon.view")
    found.LOADER = jinja2.Environment(
        loader=jinja2.DictLoader(
            {"t.txt": "Hi {{ name }}", "t.html": "<p>{{ name }}</p>", "c.msg": "{{confirm_address}}"}
        )
    )
    return found


def test_a_bounce_in_all_its_parts(write: Any) -> None:
    mail = write("desk@example.com", "", REPORT.format(status="5.1.1"))
    assert mail.bounce is None
    assert mail.is_bounce()
    found = mail.bounce
    assert (found.score, found.probable()) == (1.0, True)
    assert (found.primary_status, found.secondary_status) == ((5, "Permanent Failure"), (1, "Addressing Status"))
    assert found.combined_status == (11, "Bad destination mailbox address")
    assert (found.is_hard(), found.is_soft(), found.action) == (True, False, "failed")
    assert (found.final_recipient, found.remote_mta) == ("gone@example.org", "far.example.org")
    assert (found.reporting_mta, found.diagnostic_codes[0]) == ("mx.example.org", "550-5.1.1")
    assert found.notification.body.strip() == "I am sorry."
    assert (found.original["to"], found.original.body.strip()) == ("gone@example.org", "Hello")
    assert [part["status"] for part in found.report] == [None, "5.1.1"]
    assert "far.example.org" in found.error_for_humans()
    assert "Content-Description-Parts" in found.headers


@pytest.mark.parametrize("status", ["5.7.26", "5.4.316", "4.99.999", "nonsense", ""])
def test_codes_that_nobody_knows_are_no_errors(write: Any, status: str) -> None:
    mail = write("desk@example.com", "", REPORT.format(status=status))
    assert mail.is_bounce()
    assert (mail.bounce.is_hard(), mail.bounce.is_soft()) == (status[:1] == "5", status[:1] == "4")
    assert mail.bounce.error_for_humans()


QMAIL = """From: MAILER-DAEMON@mx.example.org
To: desk@example.com
Subject: failure notice

Hi. This is the qmail-send program at mx.example.org.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<gone@example.org>:
Sorry, no mailbox here by that name. (#5.1.1)

--- Below this line is a copy of the message.

Return-Path: <desk@example.com>
Subject: first
"""


def test_a_bounce_in_words_only(write: Any) -> None:
    """Given what qmail writes, which has no fields, it is a bounce all the same."""
    mail = write("desk@example.com", "", QMAIL)
    assert mail.is_bounce()
    assert (mail.bounce.is_hard(), mail.bounce.is_soft()) == (True, False)
    assert (mail.bounce.final_recipient, mail.bounce.combined_status[0]) == ("gone@example.org", 11)
    assert mail.bounce.error_for_humans().startswith("Permanent Failure")


def test_mail_of_a_person_is_no_bounce(write: Any) -> None:
    mail = write("a@b", "ann@x", "Received: from a\nStatus: RO\nContent-Description: Notification\n\nHi")
    assert not mail.is_bounce()
    found = mail.bounce
    assert (found.score, found.primary_status, found.diagnostic_codes) == (0.0, (None, None), [None, None])
    assert (found.original, found.report, found.notification and found.notification.body) == (None, [], "Hi")
    assert found.error_for_humans() == "No status codes found in bounce message."


def test_bounce_to_needs_two_functions_and_start() -> None:
    bounce = importlib.import_module("salmon.bounce")
    for pair in ((None, print), (print, None)):
        with pytest.raises(TypeError):
            bounce.bounce_to(*pair)

    def OTHER(message: Any) -> None: ...

    with pytest.raises(TypeError, match="START"):
        bounce.bounce_to(soft=print, hard=print)(OTHER)


def test_a_confirmation_is_good_once_and_for_its_sender(view: Any, write: Any, relayed: Any) -> None:
    confirm = importlib.import_module("salmon.confirm")
    storage = confirm.ConfirmationStorage()
    engine = confirm.ConfirmationEngine("run/confirm", storage)
    variables = {"host": "example.com", "name": "Ann"}
    engine.send(relayed, "dev", write("dev-subscribe@example.com", "Ann <Ann@X.org>", "please"), "c.msg", variables)
    assert variables == {"host": "example.com", "name": "Ann"}
    (mail,) = relayed.mails
    local, _, host = mail["from"].partition("@")
    target, word, secret = local.split("-")
    assert (target, word, host, mail["reply-to"], mail.Body) == ("dev", "confirm", "example.com", mail["from"], local)
    assert secret not in repr(storage.confirmations), "only its digest is kept"
    assert list(storage.confirmations) == [b"dev:ann@x.org"]
    for attempt in (("dev", "ann@x.org", "wrong"), ("dev", "bob@x.org", secret), ("ops", "ann@x.org", secret)):
        assert engine.verify(*attempt) is None
        engine.cancel(*attempt)
    found = engine.verify("dev", "Ann A <ANN@x.org>", secret)
    assert (found["to"], found.body()) == ("dev-subscribe@example.com", "please")
    assert engine.verify("dev", "ann@x.org", secret) is None
    assert engine.pending.count() == 1
    engine.clear()
    assert engine.pending.count() == 0


def test_a_confirmation_that_is_cancelled_is_gone(write: Any) -> None:
    confirm = importlib.import_module("salmon.confirm")
    engine = confirm.ConfirmationEngine("run/confirm", confirm.ConfirmationStorage({}))
    secret = engine.register("dev", write("a@b", "ann@x.org", "Hi")).rpartition("-")[2]
    engine.cancel("dev", "ann@x.org", secret)
    assert (engine.storage.confirmations, engine.pending.count()) == ({}, 0)
    other = confirm.ConfirmationStorage()
    other.store("t", "\u00e9@x", "s", "id")
    assert (other.get("t", "\u00e9@x"), confirm.ConfirmationStorage().confirmations) == (("s", "id"), {})
    other.delete("t", "\u00e9@x")
    other.clear()
    assert other.get("t", "\u00e9@x") == (None, None)


def test_mails_from_templates(view: Any) -> None:
    assert view.render({"name": "Ann"}, "t.txt") == "Hi Ann"
    made = view.respond(
        {"name": "Ann"},
        Body="t.txt",
        Html="t.html",
        To="a@x.org",
        From="b@x.org",
        Subject="%(name)s: 100% sure",
        X_Tag="1",
    )
    assert (made["Subject"], made["x-tag"], made.Body, made.Html) == ("Ann: 100% sure", "1", "Hi Ann", "<p>Ann</p>")
    view.attach(made, {"name": "Bob"}, "t.html", filename="b.html")
    assert [part.get_content_type() for part in made.to_message().walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "text/html",
    ]
    with pytest.raises(TypeError, match="template"):
        view.respond({}, To="a@x.org")
    view.LOADER = None
    with pytest.raises(TypeError, match="LOADER"):
        view.load("t.txt")


def test_conversations_with_the_router(module: Any) -> None:
    testing = importlib.import_module("salmon.testing")
    module(
        "answers",
        """
        from salmon import queue
        from salmon.mail import MailResponse
        from salmon.routing import route
        @route("desk@(host)", host="x.org")
        def START(message, host):
            queue.Queue("run/queue").push(MailResponse(To=message.From, From=message.To, Subject="Re", Body="b"))
            return END
        @route("desk@(host)", host="x.org")
        def END(message, host): pass
        """,
    )
    one = testing.RouterConversation("ann@example.net", "Hello")
    one.begin()
    assert one.say("desk@x.org", "Hi", "ann@example.net")["from"] == "desk@x.org"
    testing.assert_in_state("answers", "desk@x.org", "ann@example.net", "END")
    with pytest.raises(AssertionError, match="is in END"):
        testing.assert_in_state("answers", "desk@x.org", "ann@example.net", "START")
    testing.clear_queue()
    with pytest.raises(AssertionError, match="nothing in"):
        one.say("desk@x.org", "Hi", "ann@example.net")
    assert testing.delivered("ann") is None
    assert (testing.relay(port=1).port, testing.queue().count()) == (1, 0)


def test_settings_are_imported_once(ancestor: Path, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    utils = importlib.import_module("salmon.utils")
    module("config.settings", "receiver_config = True\n", load=False)
    module("config.boot", "from . import settings\nsettings.relay = 'relay'\n", load=False)
    assert utils.settings is None
    assert utils.import_settings(False) is utils.settings is utils.import_settings(False)
    assert not hasattr(utils.settings, "relay")
    assert utils.import_settings(True).relay == "relay"
    utils.settings = None
    module("other", "receiver_config = 'other'\n", load=False)
    monkeypatch.setenv("SALMON_SETTINGS_MODULE", "other")
    assert utils.import_settings(False).receiver_config == "other"
    fake = utils.make_fake_settings("127.0.0.1", 0)
    assert (fake.relay, fake.receiver.port, utils.settings) == (None, 0, fake)
    utils.start_server()
    fake.receiver.close()


def test_the_handlers_that_come_with_it(module: Any, write: Any, relayed: Any) -> None:
    router = importlib.import_module("salmon.routing").Router
    module("config.settings", "relay = None\n", load=False)
    router.load(["salmon.handlers.log", "salmon.handlers.queue", "salmon.handlers.forward"])
    importlib.import_module("salmon.handlers.forward").settings.relay = relayed
    mail = write("a@b.org")
    router.LOG_EXCEPTIONS = False
    router.deliver(mail)
    assert relayed.mails == [mail]
    assert importlib.import_module("salmon.queue").Queue("run/queue").pop()[1].To == "a@b.org"
    assert router.STATE_STORE.states == {}
