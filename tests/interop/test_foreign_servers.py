"""What our relay sends arrives at mail servers of other people, unchanged."""

from __future__ import annotations

import smtplib
import subprocess
import sys
from collections.abc import Callable
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from harness import ROOT, Server, background, make_application, wait_until

pytestmark = pytest.mark.interop

HANDLERS = """
from monsal import reply, route


@route("desk@(host)")
def START(message):
    reply(".a dot\\n..two dots\\nand " + "a long line " * 150, even_if_automatic=True)
"""


def write_mails(port: int, count: int) -> None:
    """`count` mails by as many people."""
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        for number in range(count):
            sender = f"c{number}@example.net"
            mail = f"From: {sender}\r\nMessage-ID: <{number}@example.net>\r\nSubject: x\r\n\r\ny\r\n"
            assert client.sendmail(sender, ["desk@example.com"], mail.encode()) == {}


def test_replies_arrive_at_smtp_sink(home: Path, program: Callable[[str], str], free_port: int) -> None:
    dumps = home / "dumps"
    dumps.mkdir(mode=0o777)
    home.chmod(0o755)
    dumps.chmod(0o777)
    application = make_application(home, HANDLERS, relay=f"smtp://127.0.0.1:{free_port}")
    sink = [program("smtp-sink"), "-u", "nobody", "-d", "%M.", f"127.0.0.1:{free_port}", "100"]
    with background(sink, cwd=dumps), Server(application) as server:
        server.start()
        write_mails(server.port, 50)
        server.wait_idle()
        arrived = wait_until(lambda: len(found := list(dumps.iterdir())) == 50 and found, "50 mails at smtp-sink")
        ids = {BytesHeaderParser().parsebytes(path.read_bytes())["Message-ID"] for path in arrived}
        assert ids == {message_id for (message_id,) in server.rows("select message_id from v_outbox")}
        assert server.stop() == 0


def test_a_sink_that_comes_late_gets_everything(home: Path, program: Callable[[str], str], free_port: int) -> None:
    """A relay that cannot be reached defers the queue; nothing fails for good (DESIGN 4, Relay)."""
    application = make_application(home, HANDLERS, relay=f"smtp://127.0.0.1:{free_port}")
    with Server(application) as server:
        server.start()
        write_mails(server.port, 5)
        wait_until(
            lambda: server.rows("select count(*) from v_outbox where status = 'deferred'")[0][0] > 0, "a deferred mail"
        )
        with background([program("smtp-sink"), "-u", "nobody", f"127.0.0.1:{free_port}", "100"]):
            server.wait_idle(patience=90)
        assert server.rows("select status, count(*) from v_outbox group by status") == [("sent", 5)]
        assert server.stop() == 0


class Keeper:
    """An aiosmtpd handler that keeps what it gets, and does not want mail for c3."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], bytes]] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("c3@"):
            return "550 5.1.1 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return "250 2.0.0 OK"


def test_replies_arrive_at_aiosmtpd_and_a_refusal_is_final(home: Path, free_port: int) -> None:
    keeper = Keeper()
    target = Controller(keeper, hostname="127.0.0.1", port=free_port)
    target.start()
    try:
        with Server(make_application(home, HANDLERS, relay=f"smtp://127.0.0.1:{free_port}")) as server:
            server.start()
            write_mails(server.port, 6)
            wait_until(
                lambda: server.rows("select count(*) from v_outbox where status in ('sent', 'failed')") == [(6,)],
                "six settled mails",
            )
            rows = server.rows("select recipient, status, reason, message_id, sender from v_outbox order by recipient")
            assert [(row[0], row[1]) for row in rows] == [
                (f"c{number}@example.net", "failed" if number == 3 else "sent") for number in range(6)
            ]
            assert "550 5.1.1 nobody of that name" in rows[3][2]
            assert server.stop() == 0
    finally:
        target.stop()
    bodies = {recipients[0]: (sender, raw) for sender, recipients, raw in keeper.mails}
    assert len(bodies) == 5
    for recipient, _, _, message_id, sender in rows:
        if recipient in bodies:
            assert bodies[recipient][0] == sender
            assert BytesHeaderParser().parsebytes(bodies[recipient][1])["Message-ID"] == message_id
            assert b"\r\n.a dot\r\n..two dots\r\n" in bodies[recipient][1]


def test_the_load_generator_counts_what_smtp_sink_takes(program: Callable[[str], str], free_port: int) -> None:
    """The witness of the crash proof, against a server that is not ours."""
    sink = [program("smtp-sink"), "-u", "nobody", f"127.0.0.1:{free_port}", "100"]
    command = [
        *(sys.executable, "-m", "bench.load", "--port", str(free_port), "--recipient", "a@example.com"),
        *("--messages", "500", "--correspondents", "50"),
    ]
    with background(sink):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert '"acknowledged": 500' in done.stderr
