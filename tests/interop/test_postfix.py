"""Behind Debian's Postfix, configured as docs/howto-postfix.md says: in by LMTP, out by SMTP, killed in the middle."""

from __future__ import annotations

import grp
import os
import pwd
import re
import smtplib
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from harness import ROOT, Server, background, make_application, wait_until

pytestmark = pytest.mark.interop

HOWTO = (ROOT / "docs" / "howto-postfix.md").read_text(encoding="utf-8")
HANDLERS = """
from monsal import reply, route


@route("(desk)@(host)", desk="one|two|three")
def START(message, desk):
    reply(f"{desk} has {message.subject}")
    return START
"""
#: Neither an unknown address nor a dead application may make the test's Postfix wait for minutes.
SCAFFOLD = """
compatibility_level = 3.6
queue_directory = {home}/spool
data_directory = {home}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
meta_directory = /etc/postfix
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.desk.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtputf8_enable = no
maillog_file = {home}/maillog
maillog_file_prefixes = {home}
alias_maps =
alias_database =
local_recipient_maps =
address_verify_map =
address_verify_poll_count = 3
address_verify_poll_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
smtpd_authorized_xclient_hosts = 127.0.0.1
virtual_mailbox_domains = example.net
virtual_mailbox_base = {home}/mail
virtual_mailbox_maps = static:inbox/
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
"""
SERVICES = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
showq     unix  n       -       n       -       -       showq
postlog   unix-dgram n  -       n       -       1       postlogd
"""


def block(name: str) -> str:
    """A block of the page, by the name of its file."""
    return "".join(re.findall(rf"```{re.escape(name)}\n(.*?)```", HOWTO, re.DOTALL))


class Postfix:
    """A Postfix of its own: configuration, queue and maildir in one directory."""

    def __init__(self, home: Path, port: int, lmtp: Path) -> None:
        self.home = home
        self.port = port
        self.config = home / "etc"
        self.maildir = home / "mail" / "inbox"
        owner = pwd.getpwnam("postfix")
        for name in ("etc", "spool", "data", "mail"):
            (home / name).mkdir()
        os.chown(home / "data", owner.pw_uid, -1)
        os.chown(home / "mail", owner.pw_uid, owner.pw_gid)
        names = {"home": home, "port": port, "uid": owner.pw_uid, "gid": owner.pw_gid}
        wanted = block("main.cf").replace("/run/desk/lmtp.sock", str(lmtp))
        # A stranger comes from elsewhere by XCLIENT; what connects from here is the application.
        (self.config / "main.cf").write_text(SCAFFOLD.format(**names) + wanted, encoding="utf-8")
        (self.config / "master.cf").write_text(SERVICES.format(**names) + block("master.cf"), encoding="utf-8")

    @contextmanager
    def running(self, program: Callable[[str], str]) -> Iterator[Postfix]:
        check = [program("postfix"), "-c", str(self.config), "check"]
        made = subprocess.run(check, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        with background(["/usr/lib/postfix/sbin/master", "-c", self.config, "-d"], cwd=self.home):
            wait_until(self.answers, f"Postfix; it says:\n{self.log()}")
            yield self

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        path = self.home / "maillog"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def queued(self) -> int:
        """Mails in its queue, whatever they wait for."""
        return sum(
            path.is_file()
            for name in ("incoming", "active", "deferred")
            for path in (self.home / "spool" / name).rglob("*")
        )

    def delivered(self) -> list[Message]:
        return [message_from_bytes(path.read_bytes()) for path in (self.maildir / "new").glob("*")]


@pytest.fixture
def postfix(home: Path, program: Callable[[str], str], free_port: int) -> Iterator[Postfix]:
    home.chmod(0o755)
    sockets = home / "sockets"
    sockets.mkdir()
    os.chown(sockets, -1, grp.getgrnam("postfix").gr_gid)
    sockets.chmod(0o2750)  # as the page says
    (home / "postfix").mkdir(mode=0o755)
    with Postfix(home / "postfix", free_port, sockets / "lmtp.sock").running(program) as running:
        yield running


@pytest.fixture
def desk(home: Path, postfix: Postfix) -> Iterator[Server]:
    """The application of the page."""
    given = block("app.py")
    assert 'ingress=["lmtp:/run/desk/lmtp.sock"]' in given
    assert 'relay="smtp://127.0.0.1:25"' in given
    (home / "desk").mkdir()
    application = make_application(
        home / "desk",
        HANDLERS,
        ingress=[f"lmtp:{home}/sockets/lmtp.sock"],
        relay=f"smtp://127.0.0.1:{postfix.port}",
        max_replies_per_hour=None,
    )
    text = (application / "app.py").read_text(encoding="utf-8")
    (application / "app.py").write_text(text.replace("example.com", "desk.example"), encoding="utf-8")
    with Server(application) as server:
        yield server


class Stranger:
    """A mail server somewhere else: it keeps what is put off, and gives up what is refused."""

    def __init__(self, port: int) -> None:
        self._client = smtplib.SMTP("127.0.0.1", port, timeout=60)
        self._client.ehlo("stranger.example")
        code, text = self._client.docmd("XCLIENT", "ADDR=192.0.2.7 NAME=stranger.example")
        assert code == 220, text
        self._client.ehlo("stranger.example")
        self.refused: Counter[str] = Counter()

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def write(self, number: int, recipients: list[str]) -> list[str]:
        """One mail; the recipients for which it was put off."""
        sender = f"c{number}@example.net"
        self._client.docmd("MAIL", f"FROM:<{sender}>")
        taken, later = [], []
        for recipient in recipients:
            code, text = self._client.docmd("RCPT", f"TO:<{recipient}>")
            if code == 250:
                taken.append(recipient)
            elif code < 500:
                later.append(recipient)
            else:
                assert b"nobody of that name" in text, text
                self.refused[recipient] += 1
        if not taken:
            self._client.docmd("RSET")
            return later
        content = f"From: {sender}\r\nMessage-ID: <{number}@example.net>\r\nSubject: mail {number}\r\n\r\nhelp\r\n"
        code, text = self._client.data(content)
        return later if code == 250 else [*later, *taken]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.timeout(300)
def test_in_by_lmtp_and_out_by_smtp_with_a_kill_in_the_middle(postfix: Postfix, desk: Server, workers: int) -> None:
    # Given an application behind Postfix, and a stranger who writes to three desks at once and to one that is not there
    count = 30
    addresses = [f"{name}@desk.example" for name in ("one", "two", "three", "nobody")]
    desk.start("--workers", str(workers))
    with Stranger(postfix.port) as stranger:
        waiting = dict.fromkeys(range(count), addresses)
        kills = 0

        def all_taken() -> bool:
            nonlocal kills
            for number, recipients in list(waiting.items()):
                # When the application is killed while mail comes in and replies leave
                if number == count // 2 and not kills:
                    desk.kill()
                    kills += 1
                    desk.start("--workers", str(workers))
                waiting[number] = stranger.write(number, recipients)
                if not waiting[number]:
                    del waiting[number]
            return not waiting

        wait_until(all_taken, f"a stranger who got rid of his mail:\n{postfix.log()[-3000:]}", patience=120)
        # Then the one that is not there was refused at RCPT
        assert stranger.refused == {"nobody@desk.example": count}
    wait_until(lambda: desk.ledger()["done"] == 3 * count, f"{3 * count} rows done: {desk.ledger()}", patience=120)
    desk.wait_idle(patience=120)
    wait_until(lambda: not postfix.queued(), f"an empty queue:\n{postfix.log()[-3000:]}", patience=120)
    # And each mail was handled once for each desk, however often Postfix brought it
    rows = desk.rows("select message_id, recipient, count(*) from v_turns group by message_id, recipient")
    assert Counter(times for _, _, times in rows) == {1: 3 * count}
    # And each reply arrived; one that was sent again is the same mail
    replies: dict[str, Message] = {}
    for reply in postfix.delivered():
        known = replies.setdefault(reply["Message-ID"], reply)
        assert (known["Subject"], known["To"], known.get_payload()) == (
            reply["Subject"],
            reply["To"],
            reply.get_payload(),
        )
    assert set(replies) == {message_id for (message_id,) in desk.rows("select message_id from v_outbox")}
    answered = Counter((reply["To"], reply["From"]) for reply in replies.values())
    assert answered == {(f"c{number}@example.net", address): 1 for number in range(count) for address in addresses[:3]}
    # And nobody got a bounce
    assert [reply["Subject"] for reply in postfix.delivered() if "MAILER-DAEMON" in str(reply["From"])] == []
    assert desk.stop() == 0


def test_while_the_application_is_down_strangers_are_put_off(postfix: Postfix, desk: Server) -> None:
    with closing(smtplib.SMTP("127.0.0.1", postfix.port, timeout=60)) as stranger:
        stranger.docmd("XCLIENT", "ADDR=192.0.2.7 NAME=stranger.example")
        stranger.ehlo("stranger.example")
        stranger.docmd("MAIL", "FROM:<c@example.net>")
        code, _ = stranger.docmd("RCPT", "TO:<one@desk.example>")
        assert 400 <= code < 500
    assert postfix.delivered() == []
