"""TLS and AUTH with the next hop: what is demanded holds, and what is optional never stops mail."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from dnsserver import name_server

from monsal.conversation.ports import Deferred, Delivered, RelayMail
from monsal.delivery import open_relay
from monsal.delivery.connection import RelaySettings
from monsal.delivery.relay import SmtpRelay
from monsal.errors import ConfigError

BODY = b"From: a@me.example\r\nSubject: hi\r\n\r\nhello\r\n"


def mail(number: int = 1) -> RelayMail:
    return RelayMail(sender="b@me.example", recipients=("to@x.example",), message_id=f"<{number}@me>", body=BODY)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return directory / "cert.pem", directory / "key.pem"


class Keeper:
    """An aiosmtpd handler that notes over what it got each mail, and a check of passwords."""

    def __init__(self) -> None:
        self.mails: list[tuple[bool, bool]] = []
        self.asked: list[str] = []

    async def handle_DATA(self, _server: Any, session: Any, _envelope: Any) -> str:
        self.mails.append((session.ssl is not None, bool(session.authenticated)))
        return "250 kept"

    def check(self, _server: Any, _session: Any, _envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.asked.append(mechanism)
        return AuthResult(success=(data.login, data.password) == (b"me", b"p@ss word"), handled=False)


@asynccontextmanager
async def next_hop(
    certificate: tuple[Path, Path], *, implicit: bool = False, starttls: bool = True, **options: Any
) -> AsyncIterator[tuple[Keeper, int]]:
    """aiosmtpd on this loop."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    keeper = Keeper()
    loop = asyncio.get_running_loop()

    def session() -> SMTP:
        return SMTP(
            keeper,
            hostname="peer.example",
            tls_context=context if starttls and not implicit else None,
            authenticator=keeper.check,
            loop=loop,
            **options,
        )

    server = await loop.create_server(session, "127.0.0.1", 0, ssl=context if implicit else None)
    try:
        yield keeper, server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def send(url: str, base: Path, count: int = 2, **settings: Any) -> tuple[list[Any], SmtpRelay]:
    """What became of `count` mails, one after the other."""
    relay = open_relay(url, base)
    assert isinstance(relay, SmtpRelay)
    try:
        async with asyncio.timeout(30):
            return [(await relay.send([mail(number)]))[0][0] for number in range(count)], relay
    finally:
        await relay.close()


class TestTls:
    @pytest.mark.parametrize("parameters", ["&ca={cert}", "&verify=no"])
    async def test_starttls(self, certificate: tuple[Path, Path], tmp_path: Path, parameters: str) -> None:
        async with next_hop(certificate) as (keeper, port):
            parameters = parameters.format(cert=certificate[0])
            outcomes, relay = await send(f"smtp://127.0.0.1:{port}?tls=require{parameters}", tmp_path)
            assert [type(outcome) for outcome in outcomes] == [Delivered] * 2
            assert keeper.mails == [(True, False)] * 2
            assert relay.statistics().opened == 1

    async def test_from_the_first_byte(self, certificate: tuple[Path, Path], tmp_path: Path) -> None:
        async with next_hop(certificate, implicit=True) as (keeper, port):
            outcomes, _ = await send(f"smtps://localhost:{port}?ca={certificate[0]}", tmp_path)
            assert [type(outcome) for outcome in outcomes] == [Delivered] * 2
            assert len(keeper.mails) == 2

    @pytest.mark.parametrize("implicit", [False, True])
    async def test_a_certificate_that_nobody_vouches_for(
        self, certificate: tuple[Path, Path], tmp_path: Path, implicit: bool
    ) -> None:
        async with next_hop(certificate, implicit=implicit) as (keeper, port):
            scheme = "smtps" if implicit else "smtp+starttls"
            outcomes, relay = await send(f"{scheme}://127.0.0.1:{port}", tmp_path, count=1)
            assert isinstance(outcomes[0], Deferred)
            assert outcomes[0].whole_relay
            assert "its certificate is not accepted: self-signed certificate" in outcomes[0].reason
            assert not relay.healthy
            assert keeper.mails == []

    async def test_a_peer_that_has_none(self, certificate: tuple[Path, Path], tmp_path: Path) -> None:
        async with next_hop(certificate, starttls=False) as (keeper, port):
            ((outcome,), _) = await send(f"smtp://127.0.0.1:{port}?tls=require", tmp_path, count=1)
            assert isinstance(outcome, Deferred)
            assert "offers no STARTTLS" in outcome.reason
            assert keeper.mails == []
            outcomes, _ = await send(f"smtp://127.0.0.1:{port}?tls=opportunistic", tmp_path)
            assert [type(outcome) for outcome in outcomes] == [Delivered] * 2

    async def test_a_certificate_file_that_is_none(self, certificate: tuple[Path, Path], tmp_path: Path) -> None:
        async with next_hop(certificate) as (_, port):
            ((outcome,), _) = await send(f"smtp://127.0.0.1:{port}?tls=require&ca=none.pem", tmp_path, count=1)
            assert isinstance(outcome, Deferred)
            assert "no certificates can be read" in outcome.reason

    async def test_without_need_a_broken_handshake_costs_one_connection(self, new_peer: Any) -> None:
        """It offers STARTTLS, says go ahead, and talks on in clear."""
        peer = new_peer(extensions=("STARTTLS", "PIPELINING"))
        peer.script = lambda _number, line: "220 go\r\nnonsense" if line == "STARTTLS" else None
        url = await peer.listen()
        relay = SmtpRelay(url + "?tls=opportunistic", RelaySettings(handshake_timeout=5.0))
        outcomes = await relay.send([mail(1), mail(2)])
        assert [type(outcome) for (outcome,) in outcomes] == [Delivered] * 2 or isinstance(outcomes[0][0], Deferred)
        await relay.close()
        await peer.close()


class TestAuthentication:
    URL = "smtp://me:p%40ss%20word@127.0.0.1:{port}?tls=require&ca={cert}"

    @pytest.mark.parametrize("excluded", [[], ["PLAIN"]])
    async def test_with_the_right_password(
        self, certificate: tuple[Path, Path], tmp_path: Path, excluded: list[str]
    ) -> None:
        async with next_hop(certificate, auth_exclude_mechanism=excluded) as (keeper, port):
            outcomes, relay = await send(self.URL.format(port=port, cert=certificate[0]), tmp_path)
            assert [type(outcome) for outcome in outcomes] == [Delivered] * 2
            assert keeper.mails == [(True, True)] * 2
            assert keeper.asked == ["LOGIN" if excluded else "PLAIN"]
            assert "p@ss" not in f"{relay.statistics()} {relay.endpoint!r}"

    async def test_with_a_wrong_one(
        self, certificate: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        async with next_hop(certificate) as (keeper, port):
            url = self.URL.format(port=port, cert=certificate[0]).replace("p%40ss", "tr%40la")
            ((outcome,), relay) = await send(url, tmp_path, count=1)
            assert isinstance(outcome, Deferred)
            assert "the name or password is refused: 535" in outcome.reason
            assert not relay.healthy
            assert keeper.mails == []
            assert "tr@la" not in outcome.reason + relay.reason
        ours = [record.getMessage() for record in caplog.records if record.name.startswith("monsal")]
        assert ours
        assert not any("tr@la" in text or "tr%40la" in text for text in ours)

    async def test_a_password_in_a_file(self, certificate: tuple[Path, Path], tmp_path: Path) -> None:
        (tmp_path / "pw").write_text("p@ss word\n", encoding="utf-8")
        async with next_hop(certificate) as (keeper, port):
            url = f"smtp://me@127.0.0.1:{port}?tls=require&ca={certificate[0]}&password_file=pw"
            outcomes, _ = await send(url, tmp_path, count=1)
            assert isinstance(outcomes[0], Delivered)
            assert keeper.mails == [(True, True)]

    @pytest.mark.parametrize("content", [None, b"", b"\n", b"two\nlines\n", b"\xff"])
    def test_a_file_without_a_password(self, tmp_path: Path, content: bytes | None) -> None:
        if content is not None:
            (tmp_path / "pw").write_bytes(content)
        with pytest.raises(ConfigError, match="password_file"):
            open_relay("smtps://me@h?password_file=pw", tmp_path)

    async def test_in_clear_to_this_machine_only(self, certificate: tuple[Path, Path], tmp_path: Path) -> None:
        async with next_hop(certificate, starttls=False, auth_require_tls=False) as (keeper, port):
            outcomes, _ = await send(f"smtp://me:p%40ss%20word@127.0.0.1:{port}", tmp_path, count=1)
            assert isinstance(outcomes[0], Delivered)
            assert keeper.mails == [(False, True)]


class TestMailServersOfOthers:
    """By MX: TLS where it is to be had, whoever vouches for it; `tls=require` wants a certificate for the host."""

    @pytest.mark.parametrize(
        ("host", "parameters", "secured"),
        [
            ("other.example", "", True),  # the certificate is for localhost
            ("other.example", "&tls=off", False),
            ("localhost", "&tls=require&ca={ca}", True),
            ("other.example", "&tls=require&ca={ca}", None),
            ("localhost", "&tls=require", None),
        ],
    )
    async def test_tls(
        self, certificate: tuple[Path, Path], tmp_path: Path, host: str, parameters: str, secured: bool | None
    ) -> None:
        table = {"x.example": {"MX": [f"10 {host}."]}, host: {"A": ["127.0.0.1"]}}
        async with next_hop(certificate) as (keeper, port), name_server(table) as server:
            url = (
                f"mx:?port={port}&private=yes&nameserver=127.0.0.1:{server.port}{parameters.format(ca=certificate[0])}"
            )
            relay = open_relay(url, tmp_path, name="me.example")
            ((outcome,),) = await relay.send([mail()])
            await relay.close()
        assert isinstance(outcome, Deferred if secured is None else Delivered)
        assert [tls for tls, _ in keeper.mails] == ([] if secured is None else [secured])
