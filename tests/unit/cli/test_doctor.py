"""Each thing that commonly goes wrong is found, with what to do about it; what is right is said to be right."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import pytest
from cli_world import Invoke, live_server, make_store

from monsal.cli.checks import CHECKS, examine, file_system_of
from monsal.cli.findings import Case, Finding
from monsal.config import Settings
from monsal.errors import StoreUnavailable

NOW = 1_800_000_000.0

#: Made by OpenSSL for this test; nobody has their keys. One ends in a UTCTime, the other, after 2049, in a
#: GeneralizedTime (RFC 5280, section 4.1.2.5).
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBbTCCAROgAwIBAgIUU6sWcctFpf/krtxllWZRaH4mir8wCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBeDAeFw0yNjExMjkyMjE2MTRaFw0yNjEyMjkyMjE2MTRaMAwx
CjAIBgNVBAMMAXgwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARuvSyVbk+rnP66
z3g9RdAs3/+ccgW342YFMKDL5kFx7rB5aIdutoh0nNTr2/87DeZm/exxhzL9HAh7
dAsD2lRwo1MwUTAdBgNVHQ4EFgQUHUjVK3SG+71cZLNypWYeaVUGt4YwHwYDVR0j
BBgwFoAUHUjVK3SG+71cZLNypWYeaVUGt4YwDwYDVR0TAQH/BAUwAwEB/zAKBggq
hkjOPQQDAgNIADBFAiB8FI/ajIcmYQwFceAcEC3H9mxFd6rBBXRV3mbSOkkoygIh
AOVsAAY3Z7eM6f7XpuccLJNrVEkNZMRNDtJOWBs/0YcR
-----END CERTIFICATE-----
"""
END = 1798582574.0
LATE_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBbzCCARWgAwIBAgIUU9SuZXQCe4s43qkplC1cxD4ZqQAwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBeDAgFw0yNjExMjkyMjE2MTVaGA8yMDU5MTAwNzIyMTYxNVow
DDEKMAgGA1UEAwwBeDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABDSd0dWj+tZd
b6UZ5o6Q+I775FrROOgohrGtma9nMSb+lbcaOeUVKdR4uQGL0jg9xz52L190jPI2
3ooRXpqPhg6jUzBRMB0GA1UdDgQWBBRE4L+A4la8n3E/sQgjOsLE1PR7/zAfBgNV
HSMEGDAWgBRE4L+A4la8n3E/sQgjOsLE1PR7/zAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0gAMEUCIBP56KbuO+P4eSt3fWziNsB8erHzXwD0YKpLCDkcd2EI
AiEAlaHnbRHPFMf79lsZfoaUWEjole2IRxZUmnaIvsYZ8xA=
-----END CERTIFICATE-----
"""
LATE_END = 2832790575.0


def found(name: str, home: Path, **more: Any) -> list[Finding]:
    """What one check says that is not well; each says what to do."""
    settings = Settings(**{"ingress": ("smtp://127.0.0.1:0",), **more.pop("settings", {})})
    case = Case(home, settings, now=more.pop("now", NOW), **more)
    bad = [finding for finding in CHECKS[name](case) if finding.level != "ok"]
    assert all(finding.advice for finding in bad)
    return bad


@pytest.fixture
def application(home: Path) -> Iterator[Path]:
    (home / "monsal.toml").write_text('ingress = ["smtp://127.0.0.1:0"]\n')
    (home / "app.py").write_text(
        'from monsal import App, literal\napp = App("doctor_handlers", captures={"h": literal("x.example")})\n'
    )
    (home / "doctor_handlers.py").write_text(
        'from monsal import route\n@route("a@(h)")\ndef START(message): return NEXT\n'
        '@route("a@(h)")\ndef NEXT(message): ...\n'
    )
    yield home
    for name in ("app", "doctor_handlers"):
        sys.modules.pop(name, None)


def test_a_sound_application_is_well(application: Path, invoke: Invoke) -> None:
    result = invoke("doctor", "--dir", application)
    assert result.exit_code == 0, result.stdout
    assert result.stdout.endswith("all is well\n")
    rows = [json.loads(line) for line in invoke("doctor", "--json", "--dir", application).stdout.splitlines()]
    assert {row["level"] for row in rows} == {"ok"}
    assert {"code", "python", "sqlite", "store", "disk", "server", "ports", "relay", "clock"} <= {
        row["check"] for row in rows
    }


def test_a_sick_one_is_told_what_to_do(application: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(make_store(application))
    with live_server(application):
        result = invoke("doctor", "--json", "--dir", application)
    assert result.exit_code == 1
    bad = [json.loads(line) for line in result.stdout.splitlines() if json.loads(line)["level"] != "ok"]
    said = " ".join(row["text"] for row in bad)
    assert "1 dead letters" in said
    assert "1 held messages" in said
    assert "such as orders in ASKED" in said
    assert all(row["advice"] for row in bad)
    (application / "app.py").write_text("x = 1 / 0")
    sys.modules.pop("app")
    assert "ERROR    code: " in invoke("doctor", "--dir", application).stdout
    monkeypatch.setenv("MONSAL_DRAIN", "soon")
    broken = invoke("doctor", "--dir", application)
    assert broken.exit_code == 1
    assert "ERROR    settings: MONSAL_DRAIN" in broken.stdout
    # `monsal config` would only say the same.
    assert "monsal config" not in broken.stdout


@pytest.mark.parametrize(
    ("greeting", "wrong"),
    [(b"220 relay.example ESMTP\r\n", None), (b"421 go away\r\n", "421 go away"), (b"", "it said nothing")],
)
def test_the_relay_is_asked_and_nothing_is_sent(home: Path, greeting: bytes, wrong: str | None) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(greeting)
                connection.shutdown(socket.SHUT_WR)
                heard.append(connection.recv(100))

        url = f"smtp://127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=serve)
        thread.start()
        bad = found("relay", home, settings={"relay": url})
        thread.join(30)
    assert heard == [b""]
    assert [wrong in finding.text for finding in bad if wrong] == ([True] if wrong else [])
    assert bool(bad) is bool(wrong)
    assert "cannot be reached" in found("relay", home, settings={"relay": url})[0].text
    assert "cannot be reached" in found("relay", home, settings={"relay": "lmtp:run/none.sock"})[0].text


def test_a_port_that_is_taken(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"smtp://127.0.0.1:{server.getsockname()[1]}"
        (bad,) = found("ports", home, settings={"ingress": (taken,)})
        assert "Address already in use" in bad.text
        assert "ss -ltnp" in bad.advice
        # A running server has them itself.
        assert found("ports", home, settings={"ingress": (taken,)}, server={"ready": True}) == []
    (bad,) = found("ports", home, settings={"ingress": ("lmtp:" + "x/" * 60 + "s",)})
    assert "too long" in bad.text


def test_the_file_system_of_a_path() -> None:
    mounts = (
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:50 / /srv rw shared:1 - nfs4 server:/x rw\n"
        "3 1 0:51 / /srv/local\\040disk rw - xfs /dev/sdb rw\nnonsense\n"
    )
    assert file_system_of(Path("/home/desk"), mounts) == "ext4"
    assert file_system_of(Path("/srv/desk/run"), mounts) == "nfs4"
    assert file_system_of(Path("/srv/local disk/desk"), mounts) == "xfs"
    assert file_system_of(Path("/srvx"), mounts) == "ext4"
    assert file_system_of(Path("/x"), "") == ""


def test_a_store_on_a_network_or_in_memory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, level in (("nfs4", "error"), ("tmpfs", "warning")):
        monkeypatch.setattr("monsal.cli.checks.file_system_of", lambda path, mounts, kind=kind: kind)
        assert (kind, level) in [(kind, finding.level) for finding in found("store", home) if kind in finding.text]
    (bad,) = found("store", home, settings={"store": "memory:"})
    assert "nothing outlives" in bad.text


def test_a_full_disk_and_mail_that_others_can_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "run").mkdir()
    (home / "run" / "monsal.db").touch(mode=0o644)
    (home / "app.py").touch()
    os.chmod(home / "app.py", 0o666)
    said = {finding.text for finding in found("store", home)}
    assert any("may read the mail" in text for text in said)
    assert any("anybody may write" in text for text in said)
    for free, level in ((50, "error"), (500, "warning")):
        usage = (10_000_000_000, 0, free * 1024 * 1024)
        named = type("usage", (), {"total": usage[0], "free": usage[2]})
        monkeypatch.setattr("monsal.cli.checks.shutil.disk_usage", lambda path, named=named: named)
        assert [finding.level for finding in found("store", home) if finding.check == "disk"] == [level]


def test_a_clock_that_was_set_back(home: Path) -> None:
    asyncio.run(make_store(home))
    assert found("clock", home) == []
    (bad,) = found("clock", home, now=1_699_000_000.0)
    assert "there is mail from" in bad.text


def test_a_certificate_is_good_for_some_time(home: Path) -> None:
    class WithCertificate(Settings):
        tls_certificate: str = ""

    (home / "cert.pem").write_text(CERTIFICATE)
    (home / "late.pem").write_text("a comment before it\n" + LATE_CERTIFICATE)
    (home / "other.pem").write_text(CERTIFICATE.replace("MIIB", "AAAA"))
    levels = []
    for days, name, end in (
        (30, "cert.pem", END), (15, "cert.pem", END), (1, "cert.pem", END), (-1, "cert.pem", END),
        (30, "late.pem", LATE_END), (15, "late.pem", LATE_END), (30, "other.pem", END), (30, "none.pem", END),
    ):  # fmt: skip
        case = Case(home, WithCertificate(tls_certificate=name), now=end - days * 86400.0)
        levels.append([finding.level for finding in CHECKS["certificates"](case)])
    assert levels == [["ok"], ["warning"], ["error"], ["error"], ["ok"], ["warning"], ["error"], ["error"]]


def test_who_has_the_store_and_what_a_server_says(home: Path) -> None:
    from monsal.store import open as open_store

    async def hold() -> list[Finding]:
        store = open_store("sqlite:///run/monsal.db", base=home)
        await store.open()
        try:
            return found("server", home)
        finally:
            await store.close()

    (bad,) = asyncio.run(hold())
    assert "in use by process" in bad.text
    assert found("server", home) == []
    bad_server = {"ready": False, "phase": "draining", "health": ["the relay is down"]}
    assert [finding.text for finding in found("server", home, server=bad_server)] == [
        "the server is not ready (draining)",
        "the relay is down",
    ]
    (home / "run" / "ready.json").touch()
    (left,) = found("server", home)
    assert "killed" in left.text


def test_a_name_that_is_not_found(home: Path) -> None:
    out = {"relay": "smtp://127.0.0.1:25"}
    assert found("names", home, settings={"hostname": "vm"}) == []
    (bad,) = found("names", home, settings={"hostname": "vm", **out})
    assert "calls itself vm" in bad.text
    (bad,) = found("names", home, settings={"hostname": "nowhere.invalid", **out})
    assert "is not found" in bad.text


def test_a_check_that_cannot_look_is_a_finding(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(case: Case) -> Iterator[Finding]:
        yield Finding(check="store", level="ok", text="so far")
        raise StoreUnavailable("the disk is away")

    monkeypatch.setitem(CHECKS, "store", broken)
    bad = [finding for finding in examine(Case(home, Settings(), now=NOW)) if "the disk is away" in finding.text]
    assert [finding.level for finding in bad] == ["warning"]


@pytest.mark.parametrize("code", ["NOERROR", "NXDOMAIN", "SERVFAIL"])
def test_mail_by_mx_needs_the_dns(home: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monsal.cli.outside._PATIENCE", 60.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)

        def serve() -> None:
            query, address = server.recvfrom(1000)
            reply = dns.message.make_response(dns.message.from_wire(query))
            reply.set_rcode(dns.rcode.from_text(code))
            server.sendto(reply.to_wire(), address)

        thread = threading.Thread(target=serve)
        thread.start()
        bad = found("relay", home, settings={"relay": f"mx:?nameserver=127.0.0.1:{server.getsockname()[1]}"})
        thread.join(30)
    assert ["the DNS does not answer" in finding.text for finding in bad] == ([True] if code == "SERVFAIL" else [])


def test_mail_by_mx_needs_its_extra(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dns.asyncresolver", None)
    (bad,) = found("relay", home, settings={"relay": "mx:"})
    assert "monsal[mx]" in bad.text
