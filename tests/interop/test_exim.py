"""Behind Debian's Exim, configured as docs/howto-exim.md says: asked by callout, in by LMTP, out by SMTP, killed."""

from __future__ import annotations

import os
import pwd
import random
import re
import shutil
import smtplib
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, Server, background, make_application, wait_until
from tools.peers import debian

pytestmark = pytest.mark.interop

HOWTO = (ROOT / "docs" / "howto-exim.md").read_text(encoding="utf-8")
HANDLERS = """
from monsal import reply, route


@route("(desk)@(host)", desk="one|two|three")
def START(message, desk):
    reply(f"{desk} has {message.subject}")
    return START
"""
#: What an installation brings: places, and the order of Debian's rules. example.net is everybody who writes to us.
CONFIGURATION = """
exim_path = {home}/program/exim4
spool_directory = {home}/spool
log_file_path = {home}/log/%slog
pid_file_path = {home}/exim.pid
keep_environment = LD_LIBRARY_PATH : LD_PRELOAD : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
deliver_drop_privilege
primary_hostname = mx.desk.example
local_interfaces = 127.0.0.1
disable_ipv6
tls_advertise_hosts =
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 0
queue_run_max = 2
log_selector = +smtp_confirmation
acl_smtp_rcpt = acl_check_rcpt
{main}
begin acl
acl_check_rcpt:
accept
  hosts = 127.0.0.1
require
  message = relay not permitted
  domains = desk.example
{acl}
accept
begin routers
{routers}
world:
  driver = accept
  domains = example.net
  transport = world
begin transports
{transports}
world:
  driver = appendfile
  directory = {home}/mail
  maildir_format
  user = Debian-exim
begin retry
{retry}
* * F,5d,1s
"""


def block(name: str) -> str:
    """A block of the page, by the name of its file."""
    (found,) = re.findall(rf"```{re.escape(name)}\n(.*?)```", HOWTO, re.DOTALL)
    return str(found)


def changed(text: str, old: str, new: str) -> str:
    """What must differ in a test; the page has to say `old`."""
    assert text.count(old) == 1, f"{old!r} in {text}"
    return text.replace(old, new)


def fixed_port() -> int:
    """A port for a listener that goes away and comes back: none that the system gives to somebody in between."""
    for port in random.SystemRandom().sample(range(10000, 32000), 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def session(leader: int) -> list[int]:
    """The ids of all processes of a session, whether its leader is there or not."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = path.read_text(encoding="utf-8").rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found


class Exim:
    """An Exim of its own: program, configuration, spool, log and maildir in one directory."""

    def __init__(self, home: Path, sockets: Path) -> None:
        self.home = home
        self.port = fixed_port()
        self.asked_port = fixed_port()
        self.maildir = home / "mail"
        self.owner = pwd.getpwnam("mail")
        # Copied, for the place where it was unpacked may be closed to its user; and without its set-uid bit.
        tree = debian("exim")
        (home / "program").mkdir()
        for part in [tree / "usr" / "sbin" / "exim4", *tree.rglob("*.so*")]:
            shutil.copyfile(part, home / "program" / part.name)
        (home / "program" / "exim4").chmod(0o755)
        for name in ("spool", "log", "mail"):
            (home / name).mkdir()
            os.chown(home / name, self.owner.pw_uid, self.owner.pw_gid)
        # Its program knows its user by a name that only an installation would make.
        ids = f"{self.owner.pw_uid}:{self.owner.pw_gid}"
        (home / "passwd").write_text(f"Debian-exim:x:{ids}:Exim:{home}:/bin/false\n", encoding="utf-8")
        (home / "group").write_text(f"Debian-exim:x:{self.owner.pw_gid}:\n", encoding="utf-8")
        self.environ = {
            **os.environ,
            "LD_LIBRARY_PATH": str(home / "program"),
            "LD_PRELOAD": str(home / "program" / "libnss_wrapper.so"),
            "NSS_WRAPPER_PASSWD": str(home / "passwd"),
            "NSS_WRAPPER_GROUP": str(home / "group"),
        }
        transports = changed(block("transports"), "/run/desk/lmtp.sock", f"{sockets}/lmtp.sock")
        configuration = CONFIGURATION.format(
            home=home,
            main=block("main"),
            acl=block("acl"),
            routers=block("routers"),
            transports=changed(transports, "port = 8824", f"port = {self.asked_port}"),
            # A dead application may not make the test wait for minutes.
            retry=changed(block("retry"), "F,5d,1m", "F,5d,1s"),
        )
        (home / "exim.conf").write_text(configuration, encoding="utf-8")

    def command(self, *arguments: str) -> list[str | Path]:
        return [self.home / "program" / "exim4", "-C", self.home / "exim.conf", *arguments]

    @contextmanager
    def running(self) -> Iterator[Exim]:
        # Started as its own user: for everybody else, a configuration given by -C costs it its rights midway.
        options: dict[str, Any] = {"env": self.environ, "cwd": self.home}
        options |= {"user": self.owner.pw_uid, "group": self.owner.pw_gid, "extra_groups": []}
        check = subprocess.run(self.command("-bV"), capture_output=True, text=True, check=False, **options)
        assert check.returncode == 0, check.stdout + check.stderr
        daemon = self.command("-bdf", "-q2s", "-oX", str(self.port))
        with background(daemon, start_new_session=True, **options) as process:

            def answers() -> bool:
                assert process.poll() is None, f"Exim ended:\n{self.log()}"
                with socket.socket() as probe:
                    return probe.connect_ex(("127.0.0.1", self.port)) == 0

            wait_until(answers, "Exim")
            yield self
        # Its deliveries outlive it, and would write to a directory that is removed.
        wait_until(lambda: not session(process.pid), f"the end of {session(process.pid)}")

    def log(self) -> str:
        return "".join(
            path.read_text(encoding="utf-8", errors="replace")[-3000:] for path in (self.home / "log").glob("*log")
        )

    def queued(self) -> list[str]:
        """Mails in its queue, whatever they wait for."""
        return [path.name for path in (self.home / "spool" / "input").rglob("*-[DHJ]")]

    def delivered(self) -> list[Message]:
        return [message_from_bytes(path.read_bytes()) for path in (self.maildir / "new").glob("*")]


@pytest.fixture
def exim(home: Path) -> Iterator[Exim]:
    home.chmod(0o755)
    (home / "exim").mkdir(mode=0o755)
    sockets = home / "sockets"
    sockets.mkdir()
    os.chown(sockets, -1, pwd.getpwnam("mail").pw_gid)
    sockets.chmod(0o2750)  # as the page says
    with Exim(home / "exim", sockets).running() as running:
        yield running


@pytest.fixture
def desk(home: Path, exim: Exim) -> Iterator[Server]:
    """The application of the page."""
    given = block("app.py")
    assert 'ingress=["lmtp:/run/desk/lmtp.sock", "lmtp://127.0.0.1:8824"]' in given
    assert 'relay="smtp://127.0.0.1:25"' in given
    (home / "desk").mkdir()
    application = make_application(
        home / "desk",
        HANDLERS,
        ingress=[f"lmtp:{home}/sockets/lmtp.sock", f"lmtp://127.0.0.1:{exim.asked_port}"],
        relay=f"smtp://127.0.0.1:{exim.port}",
        max_replies_per_hour=None,
    )
    text = (application / "app.py").read_text(encoding="utf-8")
    (application / "app.py").write_text(changed(text, "example.com", "desk.example"), encoding="utf-8")
    with Server(application) as server:
        yield server


class Stranger:
    """A mail server somewhere else: it keeps what is put off, and gives up what is refused."""

    def __init__(self, port: int) -> None:
        # From another address than that of the application, whose mail is not asked for.
        self._client = smtplib.SMTP("127.0.0.1", port, timeout=60, source_address=("127.0.0.2", 0))
        self._client.ehlo("stranger.example")
        self.refused: Counter[str] = Counter()

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def write(self, number: int, recipients: list[str]) -> list[str]:
        """One mail; the recipients for which it was put off."""
        sender = f"c{number}@example.net"
        code, text = self._client.docmd("MAIL", f"FROM:<{sender}>")
        assert code == 250, text
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


@pytest.mark.timeout(400)
def test_in_by_lmtp_and_out_by_smtp_with_a_kill_in_the_middle(exim: Exim, desk: Server) -> None:
    # Given an application behind Exim, and a stranger who writes to three desks at once and to one that is not there
    count = 24
    addresses = [f"{name}@desk.example" for name in ("one", "two", "three", "nobody")]
    desk.start()
    # When the application is killed while mail comes in and replies leave, and one more comes while it is down
    waiting = dict.fromkeys(range(count), addresses)
    with Stranger(exim.port) as stranger:
        for number in range(count):
            if number == count // 2:
                desk.kill()
            waiting[number] = stranger.write(number, waiting[number])
            if number == count // 2:
                desk.start()

    def all_taken() -> bool:
        with Stranger(exim.port) as again:
            for number, recipients in waiting.items():
                if recipients:
                    waiting[number] = again.write(number, recipients)
            stranger.refused.update(again.refused)
        return not any(waiting.values())

    wait_until(all_taken, f"a stranger who got rid of his mail:\n{exim.log()}")
    # Then the one that is not there was refused at RCPT
    assert stranger.refused == {"nobody@desk.example": count}
    wait_until(lambda: desk.ledger()["done"] >= 3 * count, f"{3 * count} rows done: {desk.ledger()}\n{exim.log()}")
    desk.wait_idle()
    wait_until(lambda: not exim.queued(), f"an empty queue: {exim.queued()}\n{exim.log()}")
    # And each mail was handled once for each desk, however often Exim brought it
    rows = desk.rows("select message_id, recipient, count(*) from v_turns group by message_id, recipient")
    assert {(message_id, recipient): times for message_id, recipient, times in rows} == {
        (f"<{number}@example.net>", address): 1 for number in range(count) for address in addresses[:3]
    }
    # And each reply arrived; one that was sent again is the same mail
    replies: dict[str, Message] = {}
    for reply in exim.delivered():
        known = replies.setdefault(reply["Message-ID"], reply)
        assert (known["Subject"], known["To"], known.get_payload()) == (
            reply["Subject"],
            reply["To"],
            reply.get_payload(),
        )
    # And nobody got a bounce: each mail there is one that the application wrote
    assert set(replies) == {message_id for (message_id,) in desk.rows("select message_id from v_outbox")}
    answered = Counter((reply["To"], reply["From"]) for reply in replies.values())
    assert answered == {(f"c{number}@example.net", address): 1 for number in range(count) for address in addresses[:3]}
    assert desk.stop() == 0


def test_while_the_application_is_down_only_known_names_are_taken(exim: Exim, desk: Server) -> None:
    # Given an Exim that asked for one name before the application was killed
    desk.start()
    with Stranger(exim.port) as stranger:
        assert stranger.write(1, ["one@desk.example"]) == []
        wait_until(lambda: desk.ledger()["done"] == 1, f"one row done: {desk.ledger()}\n{exim.log()}")
        desk.kill()
        # When somebody writes to it and to one that Exim knows nothing of
        later = stranger.write(2, ["one@desk.example", "two@desk.example"])
        # Then the second is put off, and the first waits in Exim's queue
        assert later == ["two@desk.example"]
    desk.start()
    wait_until(lambda: desk.ledger()["done"] == 2, f"two rows done: {desk.ledger()}\n{exim.log()}")
    desk.wait_idle()
    wait_until(lambda: not exim.queued(), f"an empty queue: {exim.queued()}\n{exim.log()}")
    assert {reply["To"] for reply in exim.delivered()} == {"c1@example.net", "c2@example.net"}
    assert desk.stop() == 0
