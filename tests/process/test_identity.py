"""A message that waits for its sender's word, and an address that may be used once, when the server is killed."""

from __future__ import annotations

import re
import smtplib
from pathlib import Path

from harness import PATIENCE, Server, make_application, wait_until

ANN, DESK = "ann@example.net", "desk@example.com"

HANDLERS = """
import msgspec
from monsal import Capability, current, days, reply, requires_authenticated, route, stateless


class Order(msgspec.Struct):
    id: int


@route("desk@(host)")
@requires_authenticated
def START(message):
    reply("taken", sender=current().address_for(Order(id=7)), even_if_automatic=True)


@route("r+(cap)@(host)", cap=Capability(Order, ttl=days(2), once=True))
@stateless
def ANSWERED(message, cap):
    current().note(f"answered {cap.id}")
"""


def say(server: Server, to: str, name: str) -> None:
    """One mail, acknowledged."""
    with smtplib.SMTP("127.0.0.1", server.port, timeout=PATIENCE) as session:
        text = f"From: {ANN}\r\nTo: {to}\r\nSubject: {name}\r\nMessage-ID: <{name}@example.net>\r\n\r\nhi\r\n"
        session.sendmail(ANN, [to], text)


def sent(directory: Path, pattern: str) -> str:
    """The address in the mail that has left, once it is there."""

    def look() -> str | None:
        for path in sorted((directory / "run" / "sent" / "new").glob("*")):
            found = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
            if found:
                return found[1]
        return None

    return str(wait_until(look, f"a mail with {pattern}"))


def settled(server: Server, done: int) -> bool:
    ledger = server.ledger()
    return ledger["done"] == done and ledger["waiting"] == 0


def test_a_kill_between_the_steps_changes_nothing(home: Path) -> None:
    make_application(home, HANDLERS)
    with Server(home) as server:
        # Given a message that waits, and a server that was killed since
        server.start()
        say(server, DESK, "one")
        confirm = sent(home, r"^Reply-To: (confirm\+\S+)")
        server.kill()
        # When its sender confirms it to another process, twice, and that is killed the moment it has said 250
        server.start()
        say(server, confirm, "yes")
        say(server, confirm, "yes-again")
        server.kill()
        server.start()
        # Then it was released once, and its turn was run once
        answer = sent(home, r"^From: (r\+\S+)")
        wait_until(lambda: settled(server, 2), "the end of the confirmations")
        say(server, answer, "first")
        server.kill()
        server.start()
        say(server, answer, "second")
        wait_until(lambda: settled(server, 3) and server.ledger()["dead"] == 2, "the end of the answers")
        turns = server.rows("select handler from v_turns order by id")
        assert [name.partition(":")[2] for (name,) in turns] == ["START", "ANSWERED"]
        ledger = server.ledger()
        assert (ledger["accepted"], ledger["held"], ledger["dropped"]) == (5, 0, 0)
        reasons = [row[0] for row in server.rows("select reason from monsal_spool where status = 3 order by id")]
        assert reasons[0] == "confirmation: message 1 does not wait for it (any more)"
        assert reasons[1].startswith("capability: it was used before, by message ")
