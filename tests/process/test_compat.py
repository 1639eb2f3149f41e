"""An application of the ancestor under `monsal run`, killed: nothing it accepted is lost, nothing is done twice."""

from __future__ import annotations

import mailbox
import smtplib
from collections import Counter
from pathlib import Path

import pytest
from ancestor_program import make_ancestor
from harness import Server, wait_until

PEOPLE = 40
ENVIRON = {"MONSAL_RELAY": "capture:run/sent", "MONSAL_MAX_REPLIES_PER_HOUR": "none"}


def write(server: Server, number: int) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as client:
        sender = f"p{number}@example.net"
        text = f"From: {sender}\r\nSubject: n{number}\r\nMessage-ID: <{number}@example.net>\r\n\r\nHi\r\n"
        client.sendmail(sender, ["desk@example.com"], text)


@pytest.mark.rule("routing.B2", "routing.B3", "state.B10")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_it_is_durable(home: Path, workers: str) -> None:
    """Given kill -9 right after an acknowledgement, again and again, each mail is answered once."""
    make_ancestor(home)
    with Server(home, environ=ENVIRON) as server:
        for first in range(0, PEOPLE, 10):
            server.start("--workers", workers)
            for number in range(first, first + 10):
                write(server, number)
            server.kill()
        server.start("--workers", workers)
        wait_until(lambda: server.ledger()["done"] == PEOPLE, "the rest of the turns")
        wait_until(lambda: server.rows("select count(*) from v_outbox where status = 'sent'")[0][0] == PEOPLE, "mails")
        turns = Counter(server.rows("select message_id, handler from v_turns"))
        assert set(turns.values()) == {1}
        assert len(turns) == 2 * PEOPLE, "the stateless handler and START, for each message"
        assert {row[0] for row in server.rows("select state from v_states")} == {"AGAIN"}
        answers = {(str(mail["To"]), str(mail["Message-ID"])) for mail in mailbox.Maildir(home / "run" / "sent")}
        assert Counter(to for to, _ in answers) == {f"p{number}@example.net": 1 for number in range(PEOPLE)}
        write(server, 0)
        assert server.ledger()["duplicates"] == 1
        assert server.stop() == 0
