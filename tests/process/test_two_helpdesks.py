"""Two applications that answer each other stop by themselves; a forged bounce between them changes nothing.

Each is a server of its own; the relay of each is the other's LMTP socket.
"""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import Server, rows_of, wait_until

POLITE = """
from monsal import reply, route

@route("desk@(host)")
def START(message):
    reply("Thank you for your mail.")
"""

STUBBORN = POLITE.replace('mail.")', 'mail.", even_if_automatic=True)')

SENT = "SELECT count(*) FROM v_outbox WHERE status = 'sent'"
OPEN = "SELECT count(*) FROM v_outbox WHERE status NOT IN ('sent', 'failed')"
WAITING = "SELECT sum(waiting) FROM v_ledger"
NOTES = "SELECT note FROM monsal_history WHERE note LIKE '%suppressed%' ORDER BY id"


def _make(home: Path, name: str, other: str, handlers: str) -> Server:
    place = home / name
    place.mkdir()
    (place / "handlers.py").write_text(handlers, encoding="utf-8")
    (place / "app.py").write_text(
        "from monsal import App, literal\n\n"
        f'app = App("handlers", captures={{"host": literal("{name}.example")}}, store="sqlite:///run/monsal.db",\n'
        f'          ingress=["smtp://127.0.0.1:0", "lmtp:run/lmtp.sock"], relay="lmtp:{home}/{other}/run/lmtp.sock")\n',
        encoding="utf-8",
    )
    return Server(place)


@pytest.fixture
def desks(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Server, Server]]:
    with ExitStack() as stack:
        made = [
            stack.enter_context(_make(tmp_path, name, other, request.param)) for name, other in (("a", "b"), ("b", "a"))
        ]
        for server in made:
            server.start()
        yield made[0], made[1]


def _write(server: Server, sender: str, recipient: str, text: str) -> None:
    host, _, port = server.ready["smtp"][0].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        client.sendmail(sender, [recipient], f"From: {sender}\r\nMessage-ID: <1@b.example>\r\n\r\n{text}\r\n")


def _number(server: Server, sql: str) -> int:
    return int(rows_of(server.database, sql)[0][0] or 0)


def _has_stopped(*servers: Server) -> bool:
    """Nothing waits anywhere, and a mail was kept back: only that ends it."""
    if any(_number(server, OPEN) or _number(server, WAITING) for server in servers):
        return False
    return any(rows_of(server.database, NOTES) for server in servers)


@pytest.mark.parametrize(("desks", "mails"), [(POLITE, 1), (STUBBORN, 8)], indirect=["desks"])
def test_two_helpdesks_stop_by_themselves(desks: tuple[Server, Server], mails: int) -> None:
    one, two = desks
    _write(one, "desk@b.example", "desk@a.example", "Good morning.")
    wait_until(lambda: _has_stopped(one, two), "the end of their conversation")
    sent = _number(one, SENT) + _number(two, SENT)
    print(f"{sent} mails were sent before they stopped")
    assert sent == mails
    [(note,)] = rows_of(one.database, NOTES) + rows_of(two.database, NOTES)
    assert ("programs have answered each other" in note) == (mails > 1)


@pytest.mark.parametrize("desks", [POLITE], indirect=True)
def test_a_forged_bounce_changes_nothing(desks: tuple[Server, Server]) -> None:
    one, two = desks
    _write(one, "desk@b.example", "desk@a.example", "Good morning.")
    wait_until(lambda: _has_stopped(one, two), "the end of their conversation")
    before = rows_of(one.database, "SELECT * FROM v_turns"), _number(one, SENT)
    [(sender,)] = rows_of(one.database, "SELECT sender FROM v_outbox")
    local, _, host = sender.partition("@")
    forged = f"{local[:-4]}{'0000' if local[-4:] != '0000' else '1111'}@{host}"
    _write(one, "", forged, "550 5.1.1 <desk@b.example> user unknown: could not be delivered")
    wait_until(lambda: _number(one, "SELECT count(*) FROM v_messages WHERE status = 'dead'"), "the dead letter")
    assert (rows_of(one.database, "SELECT * FROM v_turns"), _number(one, SENT)) == before
    assert rows_of(one.database, "SELECT * FROM monsal_suppressed") == []
    assert _number(one, OPEN) == 0
    # The genuine address, the same words: now it is believed.
    _write(one, "", sender, "550 5.1.1 <desk@b.example> user unknown: could not be delivered")
    wait_until(lambda: rows_of(one.database, "SELECT * FROM monsal_suppressed"), "the bounce")
    assert _number(one, SENT) == before[1]
