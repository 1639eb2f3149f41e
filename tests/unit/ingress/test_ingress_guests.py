"""Who comes to the door: TLS, logins, PROXY and XCLIENT on real sockets, and what hostile clients make of them."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificate

from monsal.errors import ConfigError, LoginUnavailable
from monsal.ingress import Gate, Hosts, Identity, IngressSettings, server_context
from monsal.smtp.events import Login

HOUR = 3600.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_certificate(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory, authority: Any) -> Any:
    return make_certificate(tmp_path_factory.mktemp("tls"), "server", signer=authority, hosts=("127.0.0.1",))


@pytest.fixture
def server_tls(certificate: Any) -> ssl.SSLContext:
    return server_context(Path(certificate.cert), Path(certificate.key))


@pytest.fixture
def client_tls(authority: Any) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.cert)


class Book:
    """Checks logins: everybody's password is `secret`. `gate` holds them back."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def check(self, login: Login, peer: str | None) -> Identity | None:
        self.asked.append((login.user, peer))
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Identity(login.user, ("@example.org",)) if login.password == "secret" else None


def plain(user: str, password: str) -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


async def secured(client: Any, context: ssl.SSLContext) -> None:
    """STARTTLS and a new hello."""
    assert (await client.say("STARTTLS")).startswith("220")
    await client.writer.start_tls(context, server_hostname="127.0.0.1")
    await client.say("EHLO client.example")


def proxied(source: str, port: int = 4711) -> bytes:
    block = socket.inet_aton(source) + socket.inet_aton("198.51.100.1") + struct.pack("!HH", port, 25)
    return b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", 0x21, 0x11, len(block)) + block


class TestTls:
    def test_starttls_and_a_login(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any, server_tls: Any, client_tls: Any
    ) -> None:
        async def test() -> None:
            intake, book = fake_intake(), Book()
            async with smtp(intake, gate=Gate(tls=server_tls, logins=book.check)) as ingress:
                it = await client.greeted(ingress.addresses[0])
                assert (await it.say(plain("ann", "secret"))).startswith("538")
                await secured(it, client_tls)
                assert (await it.say(plain("ann", "guess"))).startswith("535")
                assert (await it.say(plain("ann", "secret"))).startswith("235")
                assert (await it.mail("x" * 300_000)).startswith("250")
                assert (await it.say("QUIT")).startswith("221")
                assert await it.rest() == b""
            envelope, body = intake.mails[0]
            assert (envelope.user, envelope.may_write) == ("ann", ("@example.org",))
            assert envelope.tls
            assert envelope.protocol == "ESMTPSA"
            assert len(body) == 300_002
            assert book.asked == [("ann", None), ("ann", None)]

        run(test)

    def test_tls_from_the_start(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any, server_tls: Any, client_tls: Any
    ) -> None:
        async def test() -> None:
            intake = fake_intake()
            async with smtp(intake, gate=Gate(tls=server_tls, implicit=True)) as ingress:
                host, _, port = ingress.addresses[0].rpartition(":")
                it = client(*await asyncio.open_connection(host, int(port), ssl=client_tls))
                assert (await it.reply()).startswith("220")
                assert "STARTTLS" not in await it.say("EHLO x")
                assert (await it.mail("hello")).startswith("250")
                await ingress.stop(5.0)
                # The last word and the end of TLS arrive: a cut connection would raise here.
                assert (await it.reader.read()).startswith(b"421")
            assert intake.mails[0][0].protocol == "ESMTPS"

        run(test)

    def test_what_was_injected_in_the_clear_is_not_done(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any, server_tls: Any, client_tls: Any
    ) -> None:
        async def test() -> None:
            intake = fake_intake()
            async with smtp(intake, gate=Gate(tls=server_tls)) as ingress:
                it = await client.greeted(ingress.addresses[0])
                it.send(b"STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<a@example.org>\r\n")
                assert (await it.reply()).startswith("220")
                await it.writer.start_tls(client_tls, server_hostname="127.0.0.1")
                assert (await it.say("RCPT TO:<a@example.org>")).startswith("503")
                await it.say("EHLO client.example")
                assert (await it.mail("mine")).startswith("250")
                assert (await it.say("STARTTLS")).startswith("503")
            assert [envelope.sender for envelope, _ in intake.mails] == ["ann@example.com"]

        run(test)

    def test_lmtp_can_be_encrypted_too(
        self, run: Any, lmtp: Any, client: Any, fake_intake: Any, tmp_path: Path, server_tls: Any, client_tls: Any
    ) -> None:
        async def test() -> None:
            intake = fake_intake()
            async with lmtp(intake, tmp_path / "lmtp.sock", gate=Gate(tls=server_tls)) as ingress:
                it = await client.greeted(ingress.addresses[0], "LHLO client.example")
                await it.say("STARTTLS")
                await it.writer.start_tls(client_tls, server_hostname="127.0.0.1")
                await it.say("LHLO client.example")
                assert (await it.mail("hello", "a@example.org", "b@example.org")).startswith("250")
                assert (await it.reply()).startswith("250")
            assert intake.mails[0][0].protocol == "LMTPS"

        run(test)

    @pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01\x40\x00" + b"x" * 9])
    @pytest.mark.parametrize("implicit", [True, False])
    def test_a_handshake_that_never_ends_is_ended(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any, server_tls: Any, said: bytes, implicit: bool
    ) -> None:
        async def test() -> None:
            limits = IngressSettings(handshake_timeout=0.2, idle_timeout=HOUR)
            gate = Gate(tls=server_tls, implicit=implicit)
            async with smtp(fake_intake(), gate=gate, settings=limits) as ingress:
                if implicit:
                    it = await client.connect(ingress.addresses[0])
                else:
                    it = await client.greeted(ingress.addresses[0])
                    await it.say("STARTTLS")
                if said:
                    it.send(said)
                await it.rest()
                if not said:
                    assert ingress.statistics().timed_out == 1

        run(test)

    @pytest.mark.parametrize("implicit", [True, False])
    def test_what_is_no_tls_ends_only_its_connection(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any, server_tls: Any, client_tls: Any, implicit: bool
    ) -> None:
        async def test() -> None:
            gate = Gate(tls=server_tls, implicit=implicit)
            async with smtp(fake_intake(), gate=gate) as ingress:
                host, _, port = ingress.addresses[0].rpartition(":")
                it = await client.connect(ingress.addresses[0])
                if not implicit:
                    await it.reply()
                    await it.say("EHLO x")
                    await it.say("STARTTLS")
                it.send(b"MAIL FROM:<ann@example.com>\r\n")
                assert b"250" not in await it.rest()
                while ingress.statistics().connections:
                    await asyncio.sleep(0)
                other = await asyncio.open_connection(host, int(port), ssl=client_tls if implicit else None)
                assert (await client(*other).reply()).startswith("220")

        run(test)

    def test_a_slow_tls_client_is_served_octet_by_octet(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any, server_tls: Any, client_tls: Any
    ) -> None:
        async def test() -> None:
            intake = fake_intake()
            async with smtp(intake, gate=Gate(tls=server_tls, implicit=True)) as ingress:
                it = await client.connect(ingress.addresses[0])
                into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = client_tls.wrap_bio(into, out, server_hostname="127.0.0.1")

                async def flush() -> None:
                    for octet in out.read():
                        it.send(bytes([octet]))
                        await it.writer.drain()

                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        await flush()
                        into.write(await it.reader.read(4096))
                tls.write(
                    b"EHLO x\r\nMAIL FROM:<ann@example.com>\r\nRCPT TO:<a@example.org>\r\nBDAT 5 LAST\r\nhelloQUIT\r\n"
                )
                await flush()
                await it.rest()
            assert intake.mails[0][1] == b"hello"

        run(test)

    def test_files_that_are_none(self, certificate: Any, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="there is no file"):
            server_context(tmp_path / "none.pem", None)
        (tmp_path / "bad.pem").write_text("nothing")
        with pytest.raises(ConfigError, match="no certificate with its key"):
            server_context(tmp_path / "bad.pem", Path(certificate.key))
        with pytest.raises(ConfigError, match="no certificate with its key"):
            server_context(Path(certificate.cert), tmp_path / "bad.pem")


class TestLogins:
    def test_others_are_served_while_one_is_checked(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any, server_tls: Any, client_tls: Any
    ) -> None:
        async def test() -> None:
            intake, book = fake_intake(), Book()
            book.gate = asyncio.Event()
            async with smtp(intake, gate=Gate(tls=server_tls, logins=book.check)) as ingress:
                it = await client.greeted(ingress.addresses[0])
                await secured(it, client_tls)
                # What is pipelined behind a login waits for it.
                it.send(f"{plain('ann', 'secret')}\r\nMAIL FROM:<ann@example.com>\r\n".encode())
                other = await client.greeted(ingress.addresses[0])
                assert (await other.mail("hello")).startswith("250")
                book.gate.set()
                assert (await it.reply()).startswith("235")
                assert (await it.reply()).startswith("250")

        run(test)

    @pytest.mark.parametrize("error", [LoginUnavailable("busy"), RuntimeError("secret")])
    def test_what_breaks_is_no_yes_and_tells_no_secret(
        self,
        run: Any,
        smtp: Any,
        client: Any,
        fake_intake: Any,
        server_tls: Any,
        client_tls: Any,
        error: Exception,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)

        async def test() -> None:
            intake, book = fake_intake(), Book()
            book.error = error
            async with smtp(intake, gate=Gate(tls=server_tls, logins=book.check)) as ingress:
                it = await client.greeted(ingress.addresses[0])
                await secured(it, client_tls)
                assert (await it.say(plain("ann", "secret"))).startswith("454")
                await it.mail("hello")
            assert intake.mails[0][0].user is None

        run(test)
        assert "secret" not in caplog.text
        assert plain("ann", "secret") not in caplog.text

    def test_three_wrong_tries(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any, server_tls: Any, client_tls: Any
    ) -> None:
        async def test() -> None:
            async with smtp(fake_intake(), gate=Gate(tls=server_tls, logins=Book().check)) as ingress:
                it = await client.greeted(ingress.addresses[0])
                await secured(it, client_tls)
                for _ in range(3):
                    assert (await it.say(plain("ann", "guess"))).startswith("535")
                assert (await it.reply()).startswith("421")

        run(test)


class TestProxies:
    def test_the_peer_is_whom_the_proxy_names(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            intake = fake_intake()
            limits = IngressSettings(max_connections_per_peer=2)
            async with smtp(intake, settings=limits, gate=Gate(proxy=Hosts(["127.0.0.1"]))) as ingress:
                kept = []
                for source in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
                    it = await client.connect(ingress.addresses[0])
                    header = proxied(source)
                    it.send(header[:7])
                    it.send(header[7:] + b"EHLO x\r\n")
                    assert (await it.reply()).startswith("220")
                    await it.reply()
                    kept.append(it)
                assert (await kept[-1].mail("hello")).startswith("250")
                third = await client.connect(ingress.addresses[0])
                third.send(proxied("192.0.2.1"))
                assert (await third.reply()).startswith("421")
            assert intake.mails[0][0].peer == "192.0.2.2:4711"

        run(test)

    def test_from_others_a_header_changes_nothing(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            intake = fake_intake()
            async with smtp(intake, gate=Gate(proxy=Hosts(["192.0.2.7"]))) as ingress:
                for header in (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 25\r\n", proxied("192.0.2.1") + b"\r\n"):
                    it = await client.connect(ingress.addresses[0])
                    it.send(header)
                    assert (await it.reply()).startswith("220")
                    assert (await it.reply())[0] == "5"
                it = await client.greeted(ingress.addresses[0])
                await it.mail("hello")
            assert [envelope.peer.partition(":")[0] for envelope, _ in intake.mails] == ["127.0.0.1"]

        run(test)

    @pytest.mark.parametrize("said", [b"", b"PROXY TCP4 192.0.2.1", proxied("192.0.2.1")[:20]])
    def test_a_header_that_never_ends_is_ended(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any, said: bytes
    ) -> None:
        async def test() -> None:
            limits = IngressSettings(handshake_timeout=0.2, idle_timeout=HOUR)
            async with smtp(fake_intake(), settings=limits, gate=Gate(proxy=Hosts(["127.0.0.0/8"]))) as ingress:
                it = await client.connect(ingress.addresses[0])
                it.send(said)
                assert await it.rest() == b""
                assert ingress.statistics().timed_out == 1

        run(test)

    def test_a_listed_host_without_a_header_is_not_served(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any
    ) -> None:
        async def test() -> None:
            async with smtp(fake_intake(), gate=Gate(proxy=Hosts(["127.0.0.1"]))) as ingress:
                it = await client.connect(ingress.addresses[0])
                it.send(b"EHLO x\r\n")
                assert await it.rest() == b""

        run(test)

    def test_tls_behind_a_proxy(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any, server_tls: Any, client_tls: Any
    ) -> None:
        async def test() -> None:
            intake = fake_intake()
            gate = Gate(tls=server_tls, implicit=True, proxy=Hosts(["127.0.0.1"]))
            async with smtp(intake, gate=gate) as ingress:
                it = await client.connect(ingress.addresses[0])
                it.send(proxied("192.0.2.1"))
                await it.writer.start_tls(client_tls, server_hostname="127.0.0.1")
                assert (await it.reply()).startswith("220")
                await it.say("EHLO x")
                await it.mail("hello")
            assert intake.mails[0][0].peer == "192.0.2.1:4711"

        run(test)

    def test_xclient_speaks_for_somebody_else(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            intake = fake_intake()
            limits = IngressSettings(max_connections_per_peer=1)
            async with smtp(intake, settings=limits, gate=Gate(xclient=Hosts(["127.0.0.1"]))) as ingress:
                it = await client.greeted(ingress.addresses[0])
                said = await it.say("XCLIENT ADDR=192.0.2.1 PORT=99 HELO=real.example PROTO=SMTP LOGIN=ann")
                assert said.startswith("220")
                await it.say("EHLO proxy.example")
                await it.mail("hello")
                second = await client.greeted(ingress.addresses[0])
                assert (await second.say("XCLIENT ADDR=192.0.2.1")).startswith("421")
                await it.say("XCLIENT LOGIN=[UNAVAILABLE]", "EHLO proxy.example")
                await it.mail("hello")
            first, then = [envelope for envelope, _ in intake.mails]
            assert (first.peer, first.hello, first.protocol, first.user) == (
                "192.0.2.1:99",
                "real.example",
                "SMTP",
                "ann",
            )
            assert (then.peer, then.user) == ("192.0.2.1:99", None)

        run(test)

    def test_xclient_from_others_is_refused(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            # Behind a proxy it counts who is behind it.
            gate = Gate(proxy=Hosts(["127.0.0.1"]), xclient=Hosts(["127.0.0.1"]))
            async with smtp(fake_intake(), gate=gate) as ingress:
                it = await client.connect(ingress.addresses[0])
                it.send(proxied("192.0.2.1"))
                await it.reply()
                assert "XCLIENT" not in await it.say("EHLO x")
                assert (await it.say("XCLIENT LOGIN=ann")).startswith("550")

        run(test)


class TestHosts:
    def test_who_is_listed(self) -> None:
        hosts = Hosts(["192.0.2.0/24", "2001:db8::/32", "unix"])

        assert ("192.0.2.200", 1) in hosts
        assert ("::ffff:192.0.2.1", 1, 0, 0) in hosts
        assert ("2001:db8::9%eth0", 1, 0, 2) in hosts
        assert "" in hosts
        assert ("192.0.3.1", 1) not in hosts
        assert ("192.0.2.1", 1) not in Hosts(["unix"])
        assert "" not in Hosts(["192.0.2.1"])
        assert "" not in Hosts()

    @pytest.mark.parametrize("name", ["mail.example.com", "192.0.2.1/24", "", "*"])
    def test_what_is_none(self, name: str) -> None:
        with pytest.raises(ConfigError, match="proxy_from"):
            Hosts([name], "proxy_from")


class TestScreening:
    def test_one_recipient_waits_alone_and_in_order(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            from monsal.smtp.replies import Reply

            intake, release = fake_intake(), asyncio.Event()
            asked = []

            async def screening(envelope: Any) -> Reply | None:
                asked.append((envelope.sender, envelope.recipients))
                await release.wait()
                return Reply(550, "5.7.1", "not you") if envelope.recipients[0].startswith("b") else None

            intake.screening = screening
            async with smtp(intake) as ingress:
                it = await client.greeted(ingress.addresses[0])
                it.send(
                    b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n"
                    b"RCPT TO:<no@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n"
                )
                assert (await it.reply()).startswith("250")
                other = await client.greeted(ingress.addresses[0])
                assert (await other.say("NOOP")).startswith("250")
                release.set()
                assert [(await it.reply())[:3] for _ in range(5)] == ["250", "550", "550", "250", "354"]
                it.send(b"hello\r\n.\r\n")
                await it.reply()
            assert intake.mails[0][0].recipients == ("a@example.org", "c@example.org")
            assert [recipients for _, recipients in asked] == [
                ("a@example.org",),
                ("b@example.org",),
                ("c@example.org",),
            ]

        run(test)

    def test_a_client_that_goes_meanwhile(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            intake, release, entered = fake_intake(), asyncio.Event(), asyncio.Event()

            async def screening(envelope: Any) -> None:
                entered.set()
                await release.wait()

            intake.screening = screening
            async with smtp(intake) as ingress:
                it = await client.greeted(ingress.addresses[0])
                it.send(b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<a@example.org>\r\n")
                await entered.wait()
                it.reset()
                while ingress.statistics().connections:
                    await asyncio.sleep(0)
                release.set()
                while ingress.tasks:
                    await asyncio.sleep(0)

        run(test)

    def test_by_lmtp_each_recipient_has_an_answer_of_its_own(
        self, run: Any, lmtp: Any, client: Any, fake_intake: Any, tmp_path: Path
    ) -> None:
        async def test() -> None:
            intake = fake_intake()

            async def screening(envelope: Any) -> None:
                if envelope.recipients[0].startswith("broken"):
                    raise RuntimeError("no")

            intake.screening = screening
            async with lmtp(intake, tmp_path / "lmtp.sock") as ingress:
                it = await client.greeted(ingress.addresses[0], "LHLO x")
                it.send(
                    b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<no@example.org>\r\n"
                    b"RCPT TO:<broken@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nhello\r\n.\r\n"
                )
                codes = [(await it.reply())[:3] for _ in range(8)]
                assert codes == ["250", "250", "550", "451", "250", "354", "250", "250"]

        run(test)


def test_a_slow_mail_in_chunks_has_no_more_time_than_another(
    run: Any, smtp: Any, client: Any, fake_intake: Any
) -> None:
    async def test() -> None:
        limits = IngressSettings(data_timeout=0.3, idle_timeout=HOUR, data_grace=HOUR)
        async with smtp(fake_intake(), settings=limits) as ingress:
            it = await client.greeted(ingress.addresses[0])
            await it.say("MAIL FROM:<ann@example.com>", "RCPT TO:<a@example.org>")
            chunk = b"BDAT 2000\r\n" + b"x" * 2000
            while True:
                it.send(chunk)
                reply = await it.reply()
                if not reply.startswith("250"):
                    break
                await asyncio.sleep(0.01)
            assert reply.startswith("421")
            assert ingress.statistics().held == 0

    run(test)


def test_smuggling_on_a_socket(run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
    """LF.LF, LF.CRLF, CR.CR, CR.CRLF, CRLF.LF, CRLF.CR, LF.CR, CR.LF: each in DATA and in BDAT, in two packets."""

    async def test() -> None:
        intake = fake_intake()
        sequences = [a + b"." + b for a in (b"\n", b"\r", b"\r\n") for b in (b"\n", b"\r", b"\r\n")]
        sequences.remove(b"\r\n.\r\n")
        second = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nforged"
        async with smtp(intake) as ingress:
            it = await client.greeted(ingress.addresses[0])
            for sequence in sequences:
                await it.start_mail()
                it.send(b"hello" + sequence[:2])
                await it.writer.drain()
                it.send(sequence[2:] + second + b"\r\n.\r\n")
                assert (await it.reply()).startswith("250")
                content = b"hello" + sequence + second + b"\r\n.\r\n"
                await it.say("MAIL FROM:<ann@example.com>", "RCPT TO:<order@example.org>")
                it.send(b"BDAT %d LAST\r\n" % len(content) + content)
                assert (await it.reply()).startswith("250")
            assert (await it.say("NOOP")).startswith("250 2.0.0 OK")
        assert len(intake.mails) == 2 * len(sequences)
        assert {envelope.recipients for envelope, _ in intake.mails} == {("order@example.org",)}

    run(test)
