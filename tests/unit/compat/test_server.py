"""`salmon.server`: the relay outside of turns, receivers on their own, rejections in words."""

from __future__ import annotations

import importlib
import smtplib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

FORMAT = """
    from salmon.routing import route
    from salmon.server import SMTPError
    SEEN = []
    @route("(who)@(host)", who=".+", host="example\\\\.com")
    def START(message, who, host):
        SEEN.append((message.From, message.To, bytes(message)))
        if who == "no":
            raise SMTPError(550, "no such person")
        if who == "broken":
            raise RuntimeError("on purpose")
"""


@pytest.fixture
def server() -> Any:
    return importlib.import_module("salmon.server")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (550, "550 Permanent Failure Mail Delivery Protocol Status"),
        (400, "400 Persistent Transient Failure Other or Undefined Status"),
        (425, "425 Persistent Transient Failure Mailbox Status"),
        (999, "999 "),
    ],
)
def test_a_rejection_has_words_for_its_code(server: Any, code: int, text: str) -> None:
    assert str(server.SMTPError(code)) == text
    assert str(server.SMTPError(code, "Said")) == f"{code} Said"
    assert server.SMTPError(code).code == code


TEXT = "From: a@x.org\r\nTo: ann@example.com\r\n\r\n.dot\r\n"


class Client:
    """Stands for smtplib's client: what was sent is kept."""

    made: list[Client] = []

    def __init__(self, host: str, port: int, **options: Any) -> None:
        self.place = (host, port)
        self.options = options
        self.mails: list[tuple[str, list[str], bytes]] = []
        self.steps: list[str] = []
        self.refused: dict[str, Any] = {}
        Client.made.append(self)

    def set_debuglevel(self, level: int) -> None:
        self.steps.append(f"debug {level}")

    def starttls(self, context: Any) -> None:
        assert context.check_hostname
        self.steps.append("starttls")

    def login(self, user: str, password: str) -> None:
        self.steps.append(f"login {user}")

    def sendmail(self, sender: str, recipients: list[str], content: bytes) -> dict[str, Any]:
        self.mails.append((sender, recipients, content))
        return {name: (550, b"no") for name in recipients if name.startswith("no@")}

    def quit(self) -> None:
        self.steps.append("quit")


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Client]]:
    for name in ("SMTP", "SMTP_SSL", "LMTP"):
        monkeypatch.setattr(smtplib, name, type(name, (Client,), {}))
    yield Client.made
    Client.made.clear()


def test_a_relay_sends_at_once_outside_of_turns(server: Any, clients: list[Client]) -> None:
    relay = server.Relay("mx.example", 2525, username="u", password="p", starttls=True)
    assert repr(relay) == "<Relay to (mx.example:2525)>"
    relay.send("a@x.org", "b@x.org", "s", "Hé")
    (client,) = clients
    assert (client.place, client.steps) == (("mx.example", 2525), ["debug 0", "starttls", "login u", "quit"])
    sender, recipients, content = client.mails[0]
    assert (sender, recipients) == ("b@x.org", ["a@x.org"])
    assert content.count(b"\n") == content.count(b"\r\n")
    assert b"\r\nMessage-ID: <" in content
    assert content.startswith(b"Date: ")


def test_who_a_mail_goes_to(server: Any, clients: list[Client], write: Any) -> None:
    relay = server.Relay("h")
    request = write("to@x.org", "from@x.org", "To: other@x.org\nFrom: someone@x.org\n\n")
    relay.deliver(request)
    relay.deliver(request, To="x@x.org, <y@x.org>", From="Me <me@x.org>")
    relay.deliver(request, To=["no@x.org"][:0] or ["x@x.org", "z@x.org"])
    relay.reply(request, "desk@x.org", "s", "b")
    assert [client.mails[0][:2] for client in clients] == [
        ("from@x.org", ["to@x.org"]),
        ("me@x.org", ["x@x.org", "y@x.org"]),
        ("from@x.org", ["x@x.org", "z@x.org"]),
        ("desk@x.org", ["from@x.org"]),
    ]
    with pytest.raises(ValueError, match="needs a sender"):
        relay.send("", "", "s", "b")


def test_who_is_refused_is_told(server: Any, clients: list[Client]) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        server.Relay("h").send("no@x.org, yes@x.org", "b@x.org", "s", "b")


def test_a_recipient_at_a_time_by_lmtp(server: Any, clients: list[Client]) -> None:
    server.Relay("h", lmtp=True).send("a@x.org, b@x.org", "c@x.org", "s", "b")
    assert [client.mails[0][1] for client in clients] == [["a@x.org"], ["b@x.org"]]
    for options in ({"starttls": True}, {"lmtp": True}):
        with pytest.raises(TypeError):
            server.Relay("h", ssl=True, **options)


class Resolver:
    """Stands for dnspython's."""

    class NoAnswer(Exception): ...

    def query(self, domain: str, kind: str) -> list[Any]:
        assert kind == "MX"
        if domain == "none.example":
            raise self.NoAnswer
        return [Exchange("far.example.", 20), Exchange("near.example.", 10)]


class Exchange:
    def __init__(self, exchange: str, preference: int) -> None:
        self.exchange = exchange
        self.preference = preference


def test_mail_exchangers(server: Any, monkeypatch: pytest.MonkeyPatch, clients: list[Client]) -> None:
    monkeypatch.setattr(server, "resolver", Resolver())
    relay = server.Relay(None, 25)
    assert relay.resolve_relay_host("Ann <a@x.example>") == "near.example"
    assert relay.resolve_relay_host("a@none.example") == "none.example"
    relay.send("a@x.example, b@none.example", "c@x.org", "s", "b")
    assert [client.place[0] for client in clients] == ["near.example", "none.example"]
    monkeypatch.setattr(server, "resolver", None)
    with pytest.raises(RuntimeError, match="dnspython"):
        relay.resolve_relay_host("a@x.example")


def test_what_a_receiver_makes_of_a_mail(server: Any, module: Any, kept: Any) -> None:
    """Given a failure that nothing keeps, the answer is 451: accepted mail is never lost (the ancestor said 250)."""
    module("people", FORMAT)
    router = importlib.import_module("salmon.routing").Router
    for receiver in (server.SMTPReceiver(port=0), server.LMTPReceiver(port=0)):
        assert receiver.process_message("p", "a@x.org", "ann@example.com", "Hi", mail_options=[]) is None
        assert receiver.process_message("p", "b@x.org", "no@example.com", "Hi") == "550 no such person"
    router.LOG_EXCEPTIONS = False
    said = server.SMTPReceiver(port=0).process_message("p", "c@x.org", "broken@example.com", "Hi")
    assert said.startswith("451 ")
    router.UNDELIVERABLE_QUEUE = kept
    assert server.SMTPReceiver(port=0).process_message("p", "d@x.org", "broken@example.com", "Hi") is None
    assert len(kept.mails) == 2


def test_where_a_server_listens(server: Any) -> None:
    assert server.SMTPReceiver("0.0.0.0", 25).url == "smtp://0.0.0.0:25"
    assert (server.LMTPReceiver().url, server.LMTPReceiver(socket="run/l.sock").url) == (
        "lmtp://127.0.0.1:8824",
        "lmtp:run/l.sock",
    )


def test_a_receiver_on_its_own(server: Any, module: Any) -> None:
    """Given a script that starts a receiver, rejections are answers, and a leading dot is one dot."""
    people = module("people", FORMAT)
    receiver = server.SMTPReceiver(port=0)
    receiver.start()
    try:
        with smtplib.SMTP("127.0.0.1", receiver.port, timeout=30) as client:
            client.sendmail("a@x.org", ["ann@example.com", "bob@example.com"], TEXT)
            with pytest.raises(smtplib.SMTPDataError) as refused:
                client.sendmail("b@x.org", ["no@example.com"], "Subject: s\r\n\r\n")
            assert refused.value.smtp_code == 550
        assert [seen[:2] for seen in people.SEEN[:2]] == [
            ("a@x.org", "ann@example.com"),
            ("a@x.org", "bob@example.com"),
        ]
        assert people.SEEN[0][2] == TEXT.encode()
    finally:
        receiver.close()
    receiver.close()
    # The address is free again: nobody listens there any more.
    socket.create_server(("127.0.0.1", receiver.port)).close()


def test_a_receiver_by_lmtp_answers_for_each_recipient(server: Any, module: Any) -> None:
    module("people", FORMAT)
    receiver = server.LMTPReceiver(socket="l.sock")
    receiver.start()
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect("l.sock")
            client.sendall(
                b"LHLO x\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<ann@example.com>\r\nRCPT TO:<no@example.com>\r\nDATA\r\n"
            )
            lines = client.makefile("rb")
            while not lines.readline().startswith(b"354"):
                pass
            client.sendall(b".\r\nQUIT\r\n")
            assert [lines.readline()[:3] for _ in range(3)] == [b"250", b"550", b"221"]
    finally:
        receiver.close()


def test_a_queue_receiver_loses_nothing(server: Any, module: Any, kept: Any) -> None:
    """Given a process that was killed, what it had taken is handled at the next start; what fails is kept."""
    people = module("people", FORMAT)
    router = importlib.import_module("salmon.routing").Router
    queue = importlib.import_module("salmon.queue").Queue("run/queue")
    for name in ("one", "two", "no"):
        queue.push(f"From: {name}@x.org\nTo: {name}@example.com\n\n")
    queue.pop(hold=True)  # by somebody who died
    router.UNDELIVERABLE_QUEUE = kept
    server.QueueReceiver("run/queue", workers=2).start(one_shot=True)
    assert {seen[1] for seen in people.SEEN} == {"one@example.com", "two@example.com", "no@example.com"}
    assert ([mail.To for mail in kept.mails], queue.restore()) == (["no@example.com"], 0)
    router.UNDELIVERABLE_QUEUE, router.LOG_EXCEPTIONS = None, False
    queue.push("From: b@x.org\nTo: broken@example.com\n\n")
    server.QueueReceiver("run/queue", workers=1).start(one_shot=True)
    assert (len(queue), queue.restore()) == (0, 1), "nobody else keeps it, so it stays held"


def test_one_correspondent_at_a_time(server: Any, module: Any, write: Any) -> None:
    """Given a handler that waits for another message's handler, others run beside it; its own sender's wait."""
    waiting = module(
        "waiting",
        """
        import threading
        from salmon.routing import route
        BEGUN, GO, SEEN = threading.Event(), threading.Event(), []
        @route("a@b")
        def START(message):
            if message.From == "slow@x" and not SEEN:
                BEGUN.set()
                assert GO.wait(30)
            SEEN.append(message["subject"])
        """,
    )
    router = importlib.import_module("salmon.routing").Router
    slow = [
        threading.Thread(target=router.deliver, args=(write("a@b", "slow@x", f"Subject: slow {number}\n\n"),))
        for number in range(2)
    ]
    slow[0].start()
    assert waiting.BEGUN.wait(30)
    slow[1].start()
    waiting.SEEN.append("begun")
    router.deliver(write("a@b", "quick@x", "Subject: quick\n\n"))
    waiting.GO.set()
    for thread in slow:
        thread.join(30)
    assert waiting.SEEN == ["begun", "quick", "slow 0", "slow 1"]
