"""Mail programs of other people log in over TLS, and speak for others through PROXY and XCLIENT."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Server, make_application, monsal_command, wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "transport"))

from certificates import make_certificate

pytestmark = pytest.mark.interop

HANDLERS = """
from pathlib import Path
from monsal import route, stateless

@route("desk@(host)")
@stateless
def START(message):
    envelope = message.envelope
    with open(Path(__file__).with_name("seen"), "a") as seen:
        print(envelope.peer.rpartition(":")[0], envelope.user, envelope.tls, message.authenticated, file=seen)
"""


def serve(home: Path, **settings: object) -> Server:
    authority = make_certificate(home, "authority")
    made = make_certificate(home, "server", signer=authority, hosts=("127.0.0.1",))
    shutil.copy(made.cert, home / "cert.pem")
    shutil.copy(made.key, home / "key.pem")
    line = subprocess.run(
        [*monsal_command(), "passwd", "ann@example.net"],
        input="s3cret\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (home / "users").write_text(line.stdout)
    given = {"tls_cert": "cert.pem", "tls_key": "key.pem", "auth_users": "users", **settings}
    server = Server(make_application(home, HANDLERS, **given))
    server.start()
    return server


def swaks(program: Callable[[str], str], server: Server, *options: str, port: int | None = None) -> str:
    done = subprocess.run(
        [
            *(program("swaks"), "--server", "127.0.0.1", "--port", str(port or server.port)),
            *("--from", "ann@example.net", "--to", "desk@example.com", *options),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def seen(server: Server) -> list[str]:
    path = server.directory / "seen"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks_logs_in_over_tls(program: Callable[[str], str], tmp_path: Path, mechanism: str) -> None:
    with serve(tmp_path) as server:
        login = ("--auth", mechanism, "--auth-user", "ann@example.net", "--auth-password", "s3cret")
        said = swaks(program, server, "--tls", *login)
        assert "235 2.7.0" in said
        wait_until(lambda: seen(server), "the mail")
        assert seen(server) == ["127.0.0.1 ann@example.net True True"]
        assert server.stop() == 0


def test_swaks_over_tls_from_the_start(program: Callable[[str], str], tmp_path: Path) -> None:
    with serve(tmp_path, ingress=["smtp://127.0.0.1:0", "smtps://127.0.0.1:0"]) as server:
        port = int(server.wait_ready()["smtps"][0].rpartition(":")[2])
        swaks(program, server, "--tls-on-connect", port=port)
        wait_until(lambda: seen(server), "the mail")
        assert seen(server) == ["127.0.0.1 None True False"]
        assert server.stop() == 0


@pytest.mark.parametrize("version", ["1", "2"])
def test_swaks_comes_through_a_proxy(program: Callable[[str], str], tmp_path: Path, version: str) -> None:
    with serve(tmp_path, proxy_from=["127.0.0.1"]) as server:
        proxy = ("--proxy-version", version, "--proxy-family", "TCP4" if version == "1" else "AF_INET")
        proxy += () if version == "1" else ("--proxy-protocol", "STREAM", "--proxy-command", "PROXY")
        ends = ("--proxy-source", "192.0.2.1", "--proxy-source-port", "4711")
        ends += ("--proxy-dest", "198.51.100.1", "--proxy-dest-port", "25")
        swaks(program, server, *proxy, *ends)
        wait_until(lambda: seen(server), "the mail")
        assert seen(server) == ["192.0.2.1 None False False"]
        assert server.stop() == 0


def test_swaks_speaks_for_somebody_else(program: Callable[[str], str], tmp_path: Path) -> None:
    with serve(tmp_path, xclient_from=["127.0.0.1"]) as server:
        swaks(program, server, "--xclient-addr", "192.0.2.1", "--xclient-login", "ann@example.net")
        wait_until(lambda: seen(server), "the mail")
        assert seen(server) == ["192.0.2.1 ann@example.net False True"]
        assert server.stop() == 0


def test_openssl_finds_nothing_wrong(program: Callable[[str], str], tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        done = subprocess.run(
            [
                *(program("openssl"), "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{server.port}"),
                *("-CAfile", "authority.pem", "-verify_return_error", "-verify_ip", "127.0.0.1", "-crlf", "-ign_eof"),
            ],
            input="EHLO x\nQUIT\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
        )
        assert "Verification: OK" in done.stdout, done.stdout + done.stderr
        assert "221 2.0.0 goodbye" in done.stdout
        assert server.stop() == 0
