"""The ancestor from the package index on ours: its own tests, the application it generates, and one of its tests' own.

Its package is installed in a throw-away environment, only to generate that application; its tests run with
`salmon` resolved to monsal.compat, unmodified, from its source distribution.
"""

from __future__ import annotations

import mailbox
import os
import shutil
import smtplib
import subprocess
import tomllib
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from harness import ROOT, Server, wait_until
from tools.peers import environment, sources

pytestmark = pytest.mark.interop

SHIM = Path(__file__).resolve().parent / "salmon_shim"
#: Its files of tests that the issue names: at most so many of their tests are not applicable.
ASKED_FOR = ("routing", "queue", "message", "encoding", "confirm", "view", "bounce", "server", "testing", "handler")


def not_applicable() -> dict[str, str]:
    """Test -> why it says nothing about ours."""
    paper = tomllib.loads((SHIM / "not_applicable.toml").read_text(encoding="utf-8"))
    return {
        f"{file}::{test}": entry["reason"]
        for file, entries in paper.items()
        for entry in entries
        for test in entry["tests"]
    }


def outcomes(report: Path) -> dict[str, str]:
    """Test -> "passed" or what went wrong."""
    found = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        wrong = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        module, _, cls = str(case.get("classname")).rpartition(".")
        name = f"{module.rpartition('.')[2]}::{cls}::{case.get('name')}"
        found[name] = "passed" if wrong is None else str(wrong.get("message"))
    return found


@pytest.fixture
def python() -> Path:
    """The interpreter of the environment that has the ancestor."""
    return environment("salmon")


@pytest.mark.timeout(400)
def test_its_own_tests_pass(home: Path, python: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Given its tests on ours, those fail that are listed, each with its reason, and no other."""
    source = sources("salmon", "salmon-mail")
    for name in ("tests", "LICENSE", "setup.py"):
        copy = shutil.copytree if (source / name).is_dir() else shutil.copy
        copy(source / name, home / name)
    # Its command is not to be found: what starts one is about that command.
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{SHIM}"}
    options = ["-q", "-p", "on_monsal", "-p", "no:cacheprovider", "--timeout=120", f"--junitxml={home / 'all.xml'}"]
    done = subprocess.run(
        [str(python), "-m", "pytest", *options, "tests"],
        cwd=home,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (home / "all.xml").exists(), done.stdout + done.stderr
    found, listed = outcomes(home / "all.xml"), not_applicable()
    wrong = {name: what for name, what in found.items() if what != "passed"}
    failed = {name: what for name, what in wrong.items() if name not in listed}
    passed = len(found) - len(wrong)
    with capsys.disabled():
        print(f"\nsalmon 3.3.0, its {len(found)} tests on monsal.compat: {passed} passed, ", end="")
        print(f"{len(listed)} not applicable, {len(failed)} failed")
        for reason, number in Counter(listed.values()).items():
            print(f"  {number:3} not applicable: {reason}")
    assert not failed, done.stdout
    assert set(listed) == set(wrong), "a test that is listed as not applicable passes, or is not there any more"
    assert (len(found), passed) == (160, 115)
    asked = [name for name in listed if name.partition("::")[0].removeprefix("test_") in ASKED_FOR]
    assert len(asked) == 2, asked


# The application it generates


def generate(python: Path, place: Path) -> Path:
    command = [str(python), "-c", "from salmon.commands import main; main()", "gen", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def adopt(place: Path, package: str, boot: str = "") -> None:
    """Write the two lines that make an application of it ours."""
    call = f"application({boot!r})" if boot else "application()"
    (place / package).write_text(f"from monsal.compat import application\n\napp = {call}\n", encoding="utf-8")


def write(server: Server, subject: str, *, to: str = "desk@example.com", sender: str = "ann@example.net") -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as client:
        text = f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{subject}@example.net>\r\n\r\nHi\r\n"
        client.sendmail(sender, [to], text)


ENVIRON = {"MONSAL_INGRESS": "smtp://127.0.0.1:0", "MONSAL_RELAY": "capture:run/sent"}
STATES = "select key, sender, state from v_states order by sender"


def test_the_application_it_generates_runs(home: Path, python: Path) -> None:
    """Given `salmon gen`, the first mail moves its conversation, a kill loses nothing, the next one finds its state."""
    place = generate(python, home / "desk")
    adopt(place, "app/__init__.py")
    with Server(place, environ=ENVIRON) as server:
        server.start()
        write(server, "one")
        server.kill()
        server.start()
        wait_until(lambda: server.rows(STATES), "the first turn")
        assert server.rows(STATES) == [("app.handlers.sample", "ann@example.net", "NEW_USER")]
        write(server, "two")
        write(server, "three", sender="Bob@Example.net")
        wait_until(lambda: server.ledger()["done"] == 3, "all turns")
        turns = server.rows("select message_id, handler, state_before, state_after from v_turns order by message_id")
        sample = "app.handlers.sample"
        assert turns == [
            ("<one@example.net>", f"{sample}:START", "START", "NEW_USER"),
            ("<three@example.net>", f"{sample}:START", "START", "NEW_USER"),
            ("<two@example.net>", f"{sample}:NEW_USER", "NEW_USER", "NEW_USER"),
        ]
        assert server.stop() == 0
    assert "ready: 127.0.0.1" in (place / "logs" / "salmon.log").read_text(encoding="utf-8"), "its logging is in force"


ANSWER = """
from config.settings import relay
from salmon.routing import route, route_like

@route("(address)@(host)", address=".+")
def START(message, address=None, host=None):
    relay.reply(message, message.To, "Welcome", "You wrote to " + address)
    return KNOWN

@route_like(START)
def KNOWN(message, address=None, host=None):
    relay.reply(message, message.To, "Again", "You wrote to " + address + " before")
"""


def test_a_handler_added_to_it_answers(home: Path, python: Path) -> None:
    """Given its way of writing a handler, answers leave by the outbox, each once, also over a kill."""
    place = generate(python, home / "desk")
    adopt(place, "app/__init__.py")
    (place / "app" / "handlers" / "sample.py").write_text(ANSWER, encoding="utf-8")
    sent = "select count(*) from v_outbox where status = 'sent'"
    with Server(place, environ=ENVIRON) as server:
        server.start()
        write(server, "one")
        wait_until(lambda: server.rows(sent) == [(1,)], "the answer")
        write(server, "two")
        server.kill()
        server.start()
        wait_until(lambda: server.rows(sent) == [(2,)], "the second answer")
        assert server.stop() == 0
    mails = {str(mail["Message-ID"]): mail for mail in mailbox.Maildir(place / "run" / "sent")}
    assert sorted((mail["Subject"], mail["To"], mail["From"]) for mail in mails.values()) == [
        ("Again", "ann@example.net", "desk@example.com"),
        ("Welcome", "ann@example.net", "desk@example.com"),
    ]


def test_the_application_of_its_integration_tests(home: Path) -> None:
    """Given the program that its integration tests start, the same mail comes into its queue; another is refused."""
    shutil.copytree(sources("salmon", "salmon-mail") / "tests" / "data" / "test_app", home / "dump")
    place = home / "dump"
    adopt(place, "app.py", "config.dump")
    (place / "logs").mkdir(exist_ok=True)
    with Server(place, environ=ENVIRON) as server:
        server.start()
        write(server, "one", to="you@example.com", sender="me@example.com")
        wait_until(lambda: server.ledger()["done"] == 1, "the turn")
        assert len(mailbox.Maildir(place / "run" / "dump", create=False)) == 1
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            write(server, "two", to="you@example1.com", sender="me@example.com")
        assert server.stop() == 0
