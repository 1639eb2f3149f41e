"""The mailing list, left by one click (RFC 8058): real mail, a real server of HTTP, killed when it has answered."""

from __future__ import annotations

import re
import shutil
import smtplib
import urllib.error
import urllib.request
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from harness import PATIENCE, ROOT, Server, wait_until

EXAMPLE = ROOT / "examples" / "maillist"
ANN, BOB = "ann@example.net", "bob@example.org"
LIST = "tea@lists.example.com"
ONE_CLICK = b"List-Unsubscribe=One-Click"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Server]:
    home = tmp_path / "maillist"
    shutil.copytree(EXAMPLE, home, ignore=shutil.ignore_patterns("run", "__pycache__", ".pytest_cache"))
    with Server(home, environ={"MONSAL_INGRESS": "smtp://127.0.0.1:0", "MONSAL_HTTP": "http://127.0.0.1:0"}) as server:
        yield server


def write(server: Server, sender: str, to: str, text: str) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, to, text
    mail.set_content(text)
    with smtplib.SMTP("127.0.0.1", server.port, timeout=PATIENCE) as client:
        client.send_message(mail)


def mails(server: Server, to: str) -> list[EmailMessage]:
    found = []
    for path in sorted((server.directory / "run" / "sent" / "new").glob("*"), key=lambda path: path.stat().st_mtime_ns):
        mail = message_from_bytes(path.read_bytes(), policy=policy.default)
        assert isinstance(mail, EmailMessage)
        if to in str(mail["To"]) or to in str(mail["X-Original-To"]) or to in str(mail["Delivered-To"]):
            found.append(mail)
    return found


def wait_mail(server: Server, to: str, subject: str) -> EmailMessage:
    def there() -> EmailMessage | None:
        return next((mail for mail in mails(server, to) if subject in str(mail["Subject"])), None)

    return wait_until(lambda: there(), f"{subject} to {to}; there is {mails(server, to)}\n{server.log()}")  # type: ignore[return-value]


def join(server: Server, who: str) -> EmailMessage:
    write(server, who, "tea-subscribe@lists.example.com", "please")
    asked = wait_mail(server, who, "Do you want to join")
    write(server, who, str(asked["From"]).strip("<>"), "yes")
    return wait_mail(server, who, "Welcome to tea")


def members(server: Server) -> set[str]:
    return {str(address) for (address,) in server.rows("select address from member where list = 'tea'")}


def post(server: Server, link: str, body: bytes) -> tuple[int, str]:
    """Ask for a link as a mail program does, at the port that the server has here."""
    parts = urlsplit(link)
    url = f"http://{server.ready['http'][0]}{parts.path}?{parts.query}"
    request = urllib.request.Request(url, body, {"Content-Type": "application/x-www-form-urlencoded"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["one", "workers"])
def test_who_clicks_has_left_whatever_happens_then(desk: Server, arguments: tuple[str, ...]) -> None:
    # Given two members, one of whom has a mail with a link
    desk.start(*arguments)
    welcome = join(desk, ANN)
    join(desk, BOB)
    assert welcome["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = re.findall(r"<(https:[^>]*)>", str(welcome["List-Unsubscribe"]))[0]
    assert members(desk) == {ANN, BOB}
    # When somebody tries what is no click of hers, then nothing changes
    assert post(desk, link.replace("ann%40", "bob%40"), ONE_CLICK)[0] == 404
    assert post(desk, link[: link.index("%40") - 3] + "aaa" + link[link.index("%40") :], ONE_CLICK)[0] == 404
    assert post(desk, link, b"x" * 1_000_000)[0] == 413
    # When she clicks, and the server is killed as soon as it has said yes
    status, said = post(desk, link, ONE_CLICK)
    desk.kill()
    assert (status, "You leave tea" in said) == (200, True)
    # Then she is no member when it is back, and a second click is answered and does nothing
    desk.start(*arguments)
    wait_until(lambda: members(desk) == {BOB}, f"{ANN} to be gone; {members(desk)}\n{desk.log()}")
    assert post(desk, link, ONE_CLICK)[0] == 200
    write(desk, BOB, LIST, "Anybody?")
    desk.wait_idle()
    assert not [mail for mail in mails(desk, ANN) if "Anybody?" in str(mail["Subject"])]
    assert desk.ledger("call") == {**desk.ledger("call"), "accepted": 1, "done": 1, "duplicates": 1, "dead": 0}
    assert desk.stop() == 0
