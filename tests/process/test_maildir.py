"""A maildir as the way in and a signed reply as the way out, over a kill between storing and removing."""

from __future__ import annotations

from pathlib import Path

import dkim
from harness import Server, make_application, wait_until

from monsal.delivery.dkim import dns_record, make_key

HANDLERS = """
from monsal import reply, route


@route("desk@(host)")
def START(message):
    reply("Hello.")
"""


def test_mail_of_a_maildir_is_handled_once_and_the_reply_is_signed(home: Path) -> None:
    # Given an application that reads a maildir and signs what it sends
    key = make_key(home / "keys", "k1", "ed25519")
    application = make_application(home, HANDLERS, ingress=["maildir:box"], dkim_key="keys", dkim_domain="example.com")
    raw = b"Delivered-To: desk@example.com\nFrom: ann@example.net\nSubject: x\n\nhi\n"
    with Server(application) as server:
        server.start()
        new = home / "box" / "new"
        (new / "1.host").write_bytes(raw)
        wait_until(lambda: not list(new.iterdir()), "an empty maildir")
        server.wait_idle()
        server.kill()
        # When it died before the file was removed, as far as the disk shows
        (new / "1.host").write_bytes(raw)
        server.start()
        wait_until(lambda: not list(new.iterdir()), "an empty maildir")
        server.wait_idle()
        # Then the mail was handled once
        assert server.ledger()["accepted"] == 1
        assert server.ledger()["duplicates"] == 1
        assert server.stop() == 0
    # And its reply is signed
    (reply,) = (home / "run" / "sent" / "new").iterdir()
    sent = reply.read_bytes().split(b"\r\n", 2)[2]
    record = dns_record(key).encode()
    assert dkim.verify(sent, dnsfunc=lambda name, timeout=5: record if name == b"k1._domainkey.example.com." else None)
