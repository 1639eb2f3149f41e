"""Commands that send mail: what they say, what they put on the wire, and the exit code of each answer."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_world import ANN, Invoke, Live, MailServer, announce

from monsal.cli.outcome import outcome_lines
from monsal.cli.speak import door, worst_code

DESK = "desk@example.com"
TEXT = b"Subject: hi\nFrom: ann@example.net\n\n.dot\n\xff bytes\n"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


def parsed(raw: bytes) -> email.message.EmailMessage:
    return email.message_from_bytes(raw, policy=email.policy.default)  # type: ignore[return-value]


def send(invoke: Invoke, *more: str | Path):  # type: ignore[no-untyped-def]
    return invoke("send", "--to", DESK, "--from", ANN, "--body", "Hello", *more)


# -- send


def test_a_mail_is_sent_and_complete(invoke: Invoke, home: Path, server: MailServer) -> None:
    announce(home, smtp=[server.address])
    result = send(invoke, "--subject", "Tea, bitte - für Ann", "--dir", home)
    assert result.exit_code == 0
    assert result.stdout == f"{DESK}: 250 fine\n"
    [(sender, recipients, raw)] = server.mails
    assert (sender, recipients) == (ANN, [DESK])
    mail = parsed(raw)
    assert mail["Subject"] == "Tea, bitte - für Ann"
    assert mail["To"] == DESK
    assert mail["Message-ID"].startswith("<")
    assert mail["Date"]
    assert mail.get_content().strip() == "Hello"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ({"RCPT": "550 5.1.1 no such address"}, 65),
        ({"RCPT": "451 4.3.0 later"}, 75),
        ({"DATA": "452 4.3.1 full"}, 75),
        ({"DATA": "554 5.7.1 no"}, 65),
        ({"MAIL": "421 4.3.2 going"}, 75),
        ({"MAIL": "hang up"}, 75),
        ({"EHLO": "hang up"}, 75),
        ({"QUIT": "hang up"}, 0),
    ],
)
def test_each_answer_has_its_exit_code(
    invoke: Invoke, home: Path, server: MailServer, script: dict[str, str], code: int
) -> None:
    server.script = script
    host, _, port = server.address.rpartition(":")
    assert send(invoke, "--host", host, "--port", port, "--dir", home).exit_code == code


def test_a_greeting_that_is_none(invoke: Invoke, home: Path, server: MailServer) -> None:
    announce(home, smtp=[server.address])
    server.greeting = "421 4.3.2 too many connections"
    assert send(invoke, "--dir", home).exit_code == 75


def test_nobody_there_is_69(invoke: Invoke, home: Path) -> None:
    (home / "app.py").touch()
    result = send(invoke, "--dir", home)
    assert result.exit_code == 69
    assert "no server is running" in result.stderr
    refused = send(invoke, "--port", "1", "--dir", home)
    assert refused.exit_code == 69
    assert "nobody takes mail at 127.0.0.1:1" in refused.stderr


def test_one_of_several_refused(invoke: Invoke, home: Path, server: MailServer) -> None:
    announce(home, smtp=[server.address])
    server.script = {"RCPT no@example.com": "550 no"}
    result = send(invoke, "--to", "no@example.com", "--dir", home)
    assert result.exit_code == 65
    assert f"{DESK}: 250" in result.stdout
    assert "no@example.com: 550" in result.stderr
    assert server.mails[0][1] == [DESK]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--to", "nobody", "--from", ANN], 65),
        (["--to", "a@b>\r\nRCPT TO:<c@d", "--from", ANN], 65),
        (["--to", DESK, "--from", ANN, "--subject", "a\r\nBcc: eve@example.net"], 64),
    ],
)
def test_what_would_forge_is_never_sent(
    invoke: Invoke, home: Path, server: MailServer, arguments: list[str], code: int
) -> None:
    announce(home, smtp=[server.address])
    assert invoke("send", *arguments, "--body", "x", "--dir", home).exit_code == code
    assert server.mails == []


# -- ingest


@pytest.mark.parametrize("unix", [False, True])
def test_a_message_goes_through_by_lmtp_as_it_is(invoke: Invoke, home: Path, unix: bool) -> None:
    (home / "run").mkdir()
    with MailServer(lmtp=True, path=home / "run" / "lmtp.sock" if unix else None) as server:
        announce(home, lmtp=["run/lmtp.sock" if unix else server.address], smtp=["127.0.0.1:1"])
        server.script = {"DATA b@example.com": "452 4.2.2 full"}
        result = invoke(
            "ingest", "--to", DESK, "--to", "b@example.com", "--from", ANN, "--dir", home, input=b"From x\n" + TEXT
        )
    assert result.exit_code == 75
    assert f"{DESK}: 250" in result.stdout
    assert "b@example.com: 452" in result.stderr
    [(sender, recipients, raw)] = server.mails
    assert (sender, recipients) == (ANN, [DESK, "b@example.com"])
    assert raw == TEXT.replace(b"\n", b"\r\n")


@pytest.mark.parametrize(("answer", "code"), [("250 ok", 0), ("550 no", 65), ("451 later", 75)])
def test_without_lmtp_it_goes_by_smtp(invoke: Invoke, home: Path, server: MailServer, answer: str, code: int) -> None:
    announce(home, smtp=[server.address])
    server.script = {"RCPT": answer}
    assert invoke("ingest", "--to", DESK, "--dir", home, input=TEXT).exit_code == code
    assert len(server.mails) == (code == 0)


@pytest.mark.parametrize(
    ("message", "options", "sender"),
    [
        (b"From: Ann <Ann@example.net>\n\nx\n", [], "Ann@example.net"),
        (b"Return-Path: <bob@example.net>\nFrom: ann@example.net\n\nx\n", [], "bob@example.net"),
        (b"Return-Path: <>\nFrom: ann@example.net\n\nx\n", [], ""),
        (b"From eve@example.net Sun Nov 29 18:40:12 2026\nFrom: ann@example.net\n\nx\n", [], "eve@example.net"),
        (b"From MAILER-DAEMON Sun Nov 29 18:40:12 2026\nFrom: ann@example.net\n\nx\n", [], ""),
        (b"Subject: x\n\nx\n", [], ""),
        (b"From: \xff\x00 <\n\nx\n", [], ""),
        (b"", [], ""),
        (b"From: ann@example.net\n\nx\n", ["--from", ""], ""),
        (b"From: ann@example.net\n\nx\n", ["--from", "eve@example.net"], "eve@example.net"),
    ],
)
def test_without_a_sender_it_is_the_one_that_the_message_names(
    invoke: Invoke, home: Path, server: MailServer, message: bytes, options: list[str], sender: str
) -> None:
    """With none at all a mail would be a bounce, and its handler's reply would be suppressed."""
    announce(home, smtp=[server.address])
    assert invoke("ingest", "--to", DESK, *options, "--dir", home, input=message).exit_code == 0
    assert server.mails[0][0] == sender


def test_a_recipient_that_is_no_address_is_refused_for_good(invoke: Invoke, home: Path) -> None:
    assert invoke("ingest", "--to", "nobody", "--dir", home, input=TEXT).exit_code == 65


# -- say


def file_answer(home: Path, to: str, text: str) -> Callable[[bytes], None]:
    """What the server's capture relay does when a mail comes."""
    folder = home / "run" / "sent" / "new"

    def on_message(raw: bytes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))
        (folder / f"{number}.monsal").write_bytes(
            f"X-Envelope-From: b+x@example.com\r\nX-Envelope-To: {to}\r\nFrom: {DESK}\r\nSubject: Re: hi\r\n"
            f"Message-ID: <answer{number}@x>\r\nReferences: {parsed(raw)['Message-ID']}\r\n\r\n"
            f"{text}\r\n".encode()
        )

    return on_message


def test_say_shows_the_replies_and_the_answer(invoke: Invoke, live: Live, server: MailServer) -> None:
    announce(live.home, smtp=[server.address])
    file_answer(live.home, ANN, "an old one")(b"Message-ID: <old@x>\r\n\r\n")
    server.on_message = file_answer(live.home, ANN.upper(), "What would you\x1b[2J like?")
    result = invoke("say", DESK, "Some tea,\nplease.", "--from", ANN, "--dir", live.home)
    assert result.exit_code == 0
    assert "220 here" in result.stdout
    assert f"RCPT TO:<{DESK}>" in result.stdout
    assert r"What would you\x1b[2J like?" in result.stdout
    assert "an old one" not in result.stdout
    mail = parsed(server.mails[0][2])
    assert mail["Subject"] == "Some tea,"
    assert mail.get_content().split() == ["Some", "tea,", "please."]


def test_say_ends_when_the_server_has_nothing_left_to_do(invoke: Invoke, live: Live, server: MailServer) -> None:
    announce(live.home, smtp=[server.address])
    result = invoke("say", DESK, "Hello", "--from", ANN, "--wait", "3600", "--dir", live.home)
    assert result.exit_code == 0
    assert "no answer" in result.stderr


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (1, f"orders:START: START -> ASKED; mail to {ANN} deferred: 451 later"),
        (2, r"dead letter 2: orders:START: ValueError: no\x1b[31m price \ud800"),
        (3, r"held: orders:START: ValueError: no\x1b[31m price \ud800"),
    ],
)
def test_say_tells_what_became_of_a_message_without_an_answer(
    invoke: Invoke, live: Live, server: MailServer, row: int, says: str
) -> None:
    announce(live.home, smtp=[server.address])
    server.script = {"DATA": f"250 2.0.0 {row} stored"}
    result = invoke("say", DESK, "Hello", "--from", ANN, "--dir", live.home)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [f"(no answer to {ANN})", f"  {says}"]


def test_say_shows_a_duplicate_as_the_server_tells_it(invoke: Invoke, live: Live, server: MailServer) -> None:
    announce(live.home, smtp=[server.address])
    server.script = {"DATA": "250 2.0.0 1 stored before, this is a duplicate"}
    result = invoke("say", DESK, "Hello", "--from", ANN, "--dir", live.home)
    assert "250 2.0.0 1 stored before, this is a duplicate" in result.stdout
    assert "ASKED" not in result.stderr


def test_outcomes_in_words() -> None:
    base = {"id": 7, "status": "waiting", "attempts": 0, "due": 0.0, "reason": "", "turns": [], "outgoing": []}
    [late] = outcome_lines({**base, "attempts": 2, "reason": "ConnectionError: db down"})
    assert re.fullmatch(r"waits: tried again at \d\d:\d\d:\d\d \(ConnectionError: db down\)", late)
    assert list(outcome_lines(base)) == ["waits: it is not handled yet"]
    turn = {"id": 3, "handler": "log:LOG", "stateful": 0, "before": "", "after": "", "note": "reply suppressed: loop\n"}
    assert list(outcome_lines({**base, "status": "done", "turns": [turn]})) == [
        r"log:LOG: done; reply suppressed: loop\n"
    ]
    mail = {"turn": 0, "recipient": "a@x", "status": "sent", "reason": ""}
    assert list(outcome_lines({**base, "status": "dropped", "outgoing": [mail]})) == [
        "mail to a@x",
        "dropped: no reason was noted",
    ]


def test_each_line_is_a_mail_of_one_thread(invoke: Invoke, live: Live, server: MailServer) -> None:
    announce(live.home, smtp=[server.address])
    server.on_message = file_answer(live.home, ANN, "Go on.")
    result = invoke("say", DESK, "--from", ANN, "--dir", live.home, input="Hello\n\nSome tea\nYes\n")
    assert result.exit_code == 0
    assert result.stdout.count("Go on.") == 3
    first, second, third = (parsed(raw) for _, _, raw in server.mails)
    assert first["In-Reply-To"] is None
    assert second["In-Reply-To"] == "<answer0@x>"
    assert second["References"].split() == [first["Message-ID"], "<answer0@x>"]
    assert second["Subject"].startswith("Re: ")
    assert third["In-Reply-To"] == "<answer1@x>"


def test_say_does_not_wait_for_what_is_really_sent(invoke: Invoke, live: Live, server: MailServer) -> None:
    announce(live.home, smtp=[server.address])
    live.settings = [{"name": "relay", "value": "smtp://127.0.0.1:25", "origin": "default"}]
    result = invoke("say", DESK, "Hello", "--from", ANN, "--dir", live.home)
    assert result.exit_code == 0
    assert result.stderr == ""


def test_say_tells_a_refusal(invoke: Invoke, home: Path, server: MailServer) -> None:
    announce(home, smtp=[server.address])
    server.script = {"RCPT": "550 5.1.1 no such address here"}
    result = invoke("say", DESK, "Hello", "--dir", home)
    assert result.exit_code == 65
    assert "550 5.1.1 no such address here" in result.stdout


@pytest.mark.parametrize("left_behind", [False, True])
def test_say_without_a_server(invoke: Invoke, home: Path, left_behind: bool) -> None:
    if left_behind:
        announce(home, smtp=["127.0.0.1:1"])
    (home / "app.py").touch()
    result = invoke("say", DESK, "Hello", "--dir", home)
    assert result.exit_code == 75
    assert "monsal run --dir" in result.stderr


# -- pieces


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("127.0.0.1:25", "127.0.0.1:25"),
        ("[::1]:25", "::1:25"),
        ("run/lmtp.sock", "/d/run/lmtp.sock"),
        ("/abs/lmtp.sock", "/abs/lmtp.sock"),
        ("unix:/abs/x:25", "/abs/x:25"),
    ],
)
def test_doors(text: str, shown: str) -> None:
    assert str(door(text, Path("/d"))) == shown


def test_no_recipient_no_trouble() -> None:
    assert worst_code([]) == 0
