"""Mail programs of other people get their mail in, and get an answer."""

from __future__ import annotations

import re
import smtplib
import subprocess
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from harness import Server, wait_until

pytestmark = pytest.mark.interop


def captured(server: Server) -> list[EmailMessage]:
    """The mails that the server filed in run/sent."""
    return [
        message_from_bytes(path.read_bytes(), policy=policy.default)  # type: ignore[misc]  # the policy decides the class
        for path in sorted((server.directory / "run" / "sent" / "new").glob("*"))
    ]


def test_swaks_sends_a_mail_and_the_reply_is_filed(server: Server, program: Callable[[str], str]) -> None:
    done = subprocess.run(
        [
            *(program("swaks"), "--server", "127.0.0.1", "--port", str(server.port), "--pipeline"),
            *("--from", "ann@example.net", "--to", "desk@example.com", "--header", "Subject: The printer"),
            *("--body", "It is on fire.\n.\n..and smokes."),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"<-  250 2\.\d\.\d ", done.stdout)
    server.wait_idle()
    (answer,) = captured(server)
    assert answer["To"] == "ann@example.net"
    assert answer["Subject"] == "Re: The printer"
    assert answer["In-Reply-To"] == re.search(r"Message-Id: (<[^>]+>)", done.stdout)[1]
    assert "'The printer' is here" in answer.get_content()
    assert server.stop() == 0


def test_swaks_is_told_that_an_address_is_unknown(server: Server, program: Callable[[str], str]) -> None:
    done = subprocess.run(
        [program("swaks"), "--server", f"127.0.0.1:{server.port}", "--from", "a@example.net", "--to", "no@example.org"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # 24: swaks' own code for a refused RCPT
    assert done.returncode == 24, done.stdout + done.stderr
    assert "<** 550 5.1.1 " in done.stdout
    assert server.rows("select count(*) from v_messages") == [(0,)]


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_smtp_source_500_mails_10_sessions(
    serve: Callable[..., Server], program: Callable[[str], str], protocol: str
) -> None:
    server = serve(ingress=[f"{protocol}://127.0.0.1:0"])
    done = subprocess.run(
        [
            *(program("smtp-source"), *(["-L"] if protocol == "lmtp" else []), "-c", "-s", "10", "-m", "500"),
            *("-l", "2000", "-f", "ann@example.net", "-t", "quiet@example.com", server.ready[protocol][0]),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    server.wait_idle()
    ledger = server.ledger()
    assert (ledger["accepted"], ledger["done"]) == (500, 500)
    assert server.rows("select count(distinct message_id) from v_messages") == [(500,)]
    assert server.rows("select count(*) from v_turns where handler = 'handlers:QUIET'") == [(500,)]
    assert server.stop() == 0


def test_smtplib_sends_to_several_people_over_one_connection(server: Server) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as client:
        for number in range(3):
            mail = EmailMessage()
            mail["From"] = "Bob <bob@example.net>"
            mail["To"] = "desk@example.com, quiet@example.com"
            mail["Subject"] = f"Grüße {number}"
            mail["Message-ID"] = f"<{number}@example.net>"
            mail.set_content("Schöne Grüße\n")
            assert client.send_message(mail) == {}
        refused = client.sendmail("bob@example.net", ["quiet@example.com", "no@example.org"], b"Subject: x\r\n\r\n")
        assert refused["no@example.org"][0] == 550
    server.wait_idle()
    assert server.ledger()["done"] == 7
    answers = captured(server)
    assert sorted(answer["Subject"] for answer in answers) == ["Re: Grüße 0", "Re: Grüße 1", "Re: Grüße 2"]
    assert sorted(answer["In-Reply-To"] for answer in answers) == [f"<{number}@example.net>" for number in range(3)]


def test_a_mail_sent_twice_is_stored_once(server: Server) -> None:
    mail = b"From: bob@example.net\r\nMessage-ID: <1@example.net>\r\nSubject: x\r\n\r\ny\r\n"
    for _ in range(2):
        with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as client:
            assert client.sendmail("bob@example.net", ["desk@example.com"], mail) == {}
    server.wait_idle()
    assert server.ledger()["accepted"] == 1
    assert server.ledger()["duplicates"] == 1


def test_the_sqlite3_program_reads_the_views(server: Server, program: Callable[[str], str]) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as client:
        client.sendmail("bob@example.net", ["desk@example.com"], b"From: bob@example.net\r\n\r\nx\r\n")
    server.wait_idle()

    def ask(sql: str) -> str:
        command = [program("sqlite3"), "-readonly", str(server.database), sql]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()

    # While the server runs, and after it has gone.
    for _ in range(2):
        assert ask("select accepted, done from v_ledger where source = 'mail'") == "1|1"
        assert ask("select handler, state_before, state_after from v_turns") == "handlers:START|START|AGAIN"
        assert ask("select sender, state from v_states") == "bob@example.net|AGAIN"
        assert ask("select status from v_outbox") == "sent"
        assert ask("select recipient, status from v_messages") == "desk@example.com|done"
        if server.process.poll() is None:
            assert server.stop() == 0
            wait_until(lambda: not server.ready_file.exists(), "the end of ready.json")
