"""A served application receives: TLS, logins and accept hooks, in one process and over several."""

from __future__ import annotations

import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Server, make_application, monsal_command, wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "transport"))

from certificates import make_certificate

HANDLERS = """
from pathlib import Path
from monsal import accept, authenticate, reject, route, stateless

@route("(name)@(host)", name="[a-z]+")
@stateless
def START(message, name):
    with open(Path(__file__).with_name("seen"), "a") as seen:
        print(name, message.authenticated, message.auth.user, file=seen, flush=True)

@accept("(name)@(host)", name="closed|broken")
def hook(name):
    if name == "closed":
        reject(550, "5.2.1 closed for good")
    raise RuntimeError("broken on purpose")

@authenticate
def check(user, password):
    return password == "from the application"
"""
MAIL = "From: ann@example.net\r\nSubject: hello\r\n\r\nhello\r\n"


def connect(address: str, context: ssl.SSLContext) -> smtplib.SMTP:
    host, _, port = address.rpartition(":")
    client = smtplib.SMTP(host, int(port), timeout=30)
    client.ehlo()
    client.starttls(context=context)
    client.ehlo()
    return client


def serial_of(address: str) -> bytes:
    """The certificate that a server shows on the port of smtps."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, int(port)), 30) as plain, context.wrap_socket(plain) as link:
        shown = link.getpeercert(binary_form=True)
        assert shown is not None
        return shown


@pytest.fixture
def home(tmp_path: Path) -> Path:
    authority = make_certificate(tmp_path, "authority")
    for name in ("first", "second"):
        made = make_certificate(tmp_path, name, signer=authority, hosts=("127.0.0.1",))
        shutil.copy(made.cert, tmp_path / f"{name}.cert")
        shutil.copy(made.key, tmp_path / f"{name}.private")
    shutil.copy(authority.cert, tmp_path / "ca.pem")
    use(tmp_path, "first")
    line = subprocess.run(
        [*monsal_command(), "passwd", "robot", "--may-write", "ann@example.net"],
        input="from the file\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    (tmp_path / "users").write_text(line)
    return make_application(
        tmp_path,
        HANDLERS,
        ingress=["smtp://127.0.0.1:0", "smtps://127.0.0.1:0", "lmtp:run/lmtp.sock"],
        tls_cert="cert.pem",
        tls_key="key.pem",
        auth_users="users",
    )


def use(home: Path, name: str) -> None:
    """Put a certificate into the place where the server looks for it."""
    shutil.copy(home / f"{name}.cert", home / "cert.pem")
    shutil.copy(home / f"{name}.private", home / "key.pem")


def lines(home: Path) -> list[str]:
    return (home / "seen").read_text().splitlines() if (home / "seen").exists() else []


@pytest.mark.parametrize("workers", [0, 2])
def test_logins_and_hooks(home: Path, workers: int) -> None:
    context = ssl.create_default_context(cafile=str(home / "ca.pem"))
    with Server(home) as server:
        ready = server.start("--workers", str(workers))
        with connect(ready["smtp"][0], context) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("robot", "guess")
            client.login("robot", "from the file")
            refused = client.sendmail(
                "robot@example.net", ["desk@example.com", "closed@example.com", "broken@example.com"], MAIL
            )
        assert refused == {
            "closed@example.com": (550, b"5.2.1 closed for good"),
            "broken@example.com": (451, b"4.3.0 local error, try again later"),
        }
        with connect(ready["smtp"][0], context) as client:
            client.login("eve@example.net", "from the application")
            client.sendmail("ann@example.net", ["other@example.com"], MAIL)
        with smtplib.LMTP(str(home / ready["lmtp"][0])) as local:
            local.ehlo()
            local.mail("ann@example.net")
            assert [local.rcpt(f"{name}@example.com")[0] for name in ("third", "closed")] == [250, 550]
            assert local.data(MAIL)[0] == 250
        wait_until(lambda: len(lines(home)) == 3, "three turns")
        assert set(lines(home)) == {"desk True robot", "other False eve@example.net", "third False None"}
        log = server.log()
        assert "broken on purpose" in log
        assert "from the file" not in log
        assert "from the application" not in log
        assert server.stop() == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_reload_takes_up_certificates_and_leaves_those_that_cannot_be_read(home: Path, workers: int) -> None:
    def reload() -> int:
        done = subprocess.run(
            [*monsal_command(), "reload", "--dir", home], capture_output=True, check=False, timeout=90
        )
        return done.returncode

    with Server(home) as server:
        address = server.start("--workers", str(workers))["smtps"][0]
        first = serial_of(address)
        (home / "cert.pem").write_text("no certificate")
        assert reload() == 1
        assert serial_of(address) == first
        use(home, "second")
        assert reload() == 0
        wait_until(lambda: serial_of(address) != first, "the other certificate")
        assert server.stop() == 0
