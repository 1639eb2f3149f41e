"""Mail over real sockets: what is taken, what is refused, what happens when something breaks."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from monsal.errors import StoreUnavailable
from monsal.ingress import IngressSettings, LmtpIngress, SmtpIngress
from monsal.mail.envelope import Envelope
from monsal.smtp.replies import TOO_MANY_HOPS, Refused
from monsal.smtp.settings import ServerSettings
from monsal.store.contract import Receipt


def test_a_mail_is_taken(run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
    async def test() -> None:
        intake = fake_intake()
        async with smtp(intake, session=ServerSettings(hostname="mx.example.org")) as ingress:
            it = await client.connect(ingress.addresses[0])
            assert await it.reply() == "220 mx.example.org ESMTP monsal"
            await it.say("EHLO client.example")
            answer = await it.mail("Subject: one\r\n\r\n..dot", "Order+42@example.org", "help@example.org")
            assert await it.say("QUIT") == "221 2.0.0 goodbye"
            assert await it.rest() == b""

            assert answer == "250 2.0.0 100,101 stored"
            envelope, body = intake.mails[0]
            assert body == b"Subject: one\r\n\r\n.dot\r\n"
            assert envelope == Envelope(
                sender="ann@example.com",
                recipients=("Order+42@example.org", "help@example.org"),
                peer=envelope.peer,
                hello="client.example",
                protocol="ESMTP",
            )
            assert envelope.peer.startswith("127.0.0.1:")

    run(test)


def test_many_mails_over_many_connections(run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
    async def session(address: str, number: int) -> None:
        it = await client.greeted(address)
        for mail in range(5):
            assert (await it.mail(f"{number}.{mail}")).startswith("250 2.0.0 ")
        await it.close()

    async def test() -> None:
        intake = fake_intake()
        async with smtp(intake) as ingress:
            await asyncio.gather(*(session(ingress.addresses[0], number) for number in range(20)))

            assert sorted(body for _, body in intake.mails) == sorted(
                f"{number}.{mail}\r\n".encode() for number in range(20) for mail in range(5)
            )
            assert ingress.statistics().accepted == 100
            assert ingress.statistics().held == 0

    run(test)


@pytest.mark.rule("routing.B16")
def test_an_unknown_recipient_is_refused_before_data(run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
    async def test() -> None:
        intake = fake_intake()
        async with smtp(intake) as ingress:
            it = await client.greeted(ingress.addresses[0])
            await it.say("MAIL FROM:<>")
            assert await it.say("RCPT TO:<nobody@example.org>") == "550 5.1.1 unknown recipient"
            assert await it.say("RCPT TO:<postmaster>") == "250 2.1.5 recipient OK"
            await it.say("DATA")
            assert (await it.say("x\r\n.")).startswith("250 ") is True
            assert intake.mails[0][0].recipients == ("postmaster",)
            assert ingress.statistics().recipients_refused == 1

    run(test)


def test_a_duplicate_says_so(run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
    async def test() -> None:
        intake = fake_intake()
        intake.receipt = Receipt((17,), (True,))
        async with smtp(intake) as ingress:
            it = await client.greeted(ingress.addresses[0])

            assert await it.mail("again") == "250 2.0.0 17 stored before, this is a duplicate"

    run(test)


@pytest.mark.rule("state.B11")
@pytest.mark.parametrize(
    ("error", "answer", "traceback"),
    [
        (StoreUnavailable("disk full"), "451 4.3.0 cannot store mail now, try again later", False),
        (Refused(TOO_MANY_HOPS), "554 5.4.6 too many hops, this is a mail loop", False),
        (RuntimeError("a bug"), "451 4.3.0 local error, try again later", True),
        (KeyError("x"), "451 4.3.0 local error, try again later", True),
        (TimeoutError(), "451 4.3.0 local error, try again later", True),
    ],
)
def test_what_is_not_stored_is_not_acknowledged(
    run: Any,
    smtp: Any,
    client: Any,
    fake_intake: Any,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    answer: str,
    traceback: bool,
) -> None:
    """P1: whatever the intake raises, the client is not told 250; and the connection lives on."""

    async def test() -> None:
        intake = fake_intake()
        async with smtp(intake) as ingress:
            it = await client.greeted(ingress.addresses[0])
            intake.error = error
            assert await it.mail("Message-ID: <7@example.com>\r\n\r\nfirst") == answer
            intake.error = None
            assert (await it.mail("second")).startswith("250 ")
            figures = ingress.statistics()
            assert (figures.accepted, figures.failed + figures.refused, figures.held) == (1, 1, 0)

    with caplog.at_level(logging.INFO, "monsal.ingress"):
        run(test)
    actions = {"refuse" if isinstance(error, Refused) else "accept_failed"}
    record = next(record for record in caplog.records if getattr(record, "action", "") in actions)
    assert record.sender == "ann@example.com"  # type: ignore[attr-defined]  # given as extra
    assert record.peer.startswith("127.0.0.1:")  # type: ignore[attr-defined]  # given as extra
    assert record.message_id == "<7@example.com>"  # type: ignore[attr-defined]  # given as extra
    assert bool(record.exc_info) is traceback


@pytest.mark.parametrize("receipt", [Receipt((), ()), Receipt((1, 2), (False, False)), Receipt((1,), ())])
def test_a_receipt_that_does_not_fit_is_no_receipt(
    run: Any, smtp: Any, client: Any, fake_intake: Any, receipt: Receipt
) -> None:
    async def test() -> None:
        intake = fake_intake()
        intake.receipt = receipt
        async with smtp(intake) as ingress:
            it = await client.greeted(ingress.addresses[0])

            assert (await it.mail("x")).startswith("451 4.3.0")

    run(test)


def test_refused_recipients_leave_a_line_but_not_one_each(
    run: Any, smtp: Any, client: Any, fake_intake: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """P7: who tries a list of addresses does not fill the disk."""

    async def test() -> None:
        async with smtp(fake_intake()) as ingress:
            it = await client.greeted(ingress.addresses[0])
            await it.say("MAIL FROM:<>")
            for number in range(11):
                assert (await it.say(f"RCPT TO:<no{number}@example.org>")).startswith("550 ")

    with caplog.at_level(logging.INFO, "monsal.ingress"):
        run(test)
    records = [record for record in caplog.records if getattr(record, "action", "") == "refuse_recipient"]
    assert [vars(record)["recipient"] for record in records] == ["no0@example.org", "no10@example.org"]
    assert all(vars(record)["peer"] for record in records)
    assert "550 5.1.1" in records[0].getMessage()


def test_an_intake_that_breaks_at_rcpt(
    run: Any, smtp: Any, client: Any, fake_intake: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        intake = fake_intake()
        intake.accepts_error = RuntimeError("no table")
        async with smtp(intake) as ingress:
            it = await client.greeted(ingress.addresses[0])
            await it.say("MAIL FROM:<>")

            assert (await it.say("RCPT TO:<order@example.org>")).startswith("451 4.3.0")
            assert (await it.say("NOOP")).startswith("250")

    run(test)
    assert "no table" in caplog.text


@pytest.mark.parametrize("how", ["hang_up", "reset"])
def test_who_hangs_up_meanwhile_does_not_stop_the_accept(
    run: Any, smtp: Any, client: Any, fake_intake: Any, how: str
) -> None:
    async def test() -> None:
        intake = fake_intake()
        intake.gate = asyncio.Event()
        async with smtp(intake) as ingress:
            it = await client.greeted(ingress.addresses[0])
            await it.start_mail()
            it.send(b"x\r\n.\r\n")
            await intake.asked.wait()
            getattr(it, how)()
            while how == "reset" and ingress.statistics().connections:
                await asyncio.sleep(0)
            intake.gate.set()
            while ingress.statistics().connections or ingress.statistics().held:
                await asyncio.sleep(0)

            assert ingress.statistics().accepted == 1
            assert len(intake.mails) == 1

    run(test)


def test_who_hangs_up_in_the_middle_leaves_nothing(run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
    async def test() -> None:
        intake = fake_intake()
        async with smtp(intake) as ingress:
            it = await client.greeted(ingress.addresses[0])
            await it.start_mail()
            it.send(b"x" * 100_000)
            while ingress.statistics().held < 100_000:
                await asyncio.sleep(0)
            it.hang_up()
            while ingress.statistics().connections:
                await asyncio.sleep(0)

            assert ingress.statistics().held == 0
            assert intake.mails == []

    run(test)


def test_a_client_that_sends_all_and_shuts_its_side_gets_all_replies(
    run: Any, smtp: Any, client: Any, fake_intake: Any
) -> None:
    """As `printf ... | nc` does."""

    async def test() -> None:
        intake = fake_intake()
        intake.gate = asyncio.Event()
        async with smtp(intake) as ingress:
            it = await client.connect(ingress.addresses[0])
            it.send(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\nhello\r\n.\r\n")
            it.writer.write_eof()
            await intake.asked.wait()
            intake.gate.set()

            assert (await it.rest()).endswith(b"250 2.0.0 100 stored\r\n")

    run(test)


def test_pipelined_mails_are_taken_one_by_one(run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
    async def test() -> None:
        intake = fake_intake()
        one = b"MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<no@example.org>\r\nDATA\r\nmail %d\r\n.\r\n"
        async with smtp(intake) as ingress:
            it = await client.connect(ingress.addresses[0])
            it.send(b"EHLO x\r\n" + b"".join(one % number for number in range(200)) + b"QUIT\r\n")
            output = await it.rest()

        assert [body for _, body in intake.mails] == [b"mail %d\r\n" % number for number in range(200)]
        assert output.count(b" stored\r\n") == 200
        assert output.endswith(b"221 2.0.0 goodbye\r\n")

    run(test)


def test_a_large_mail(run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
    async def test() -> None:
        intake = fake_intake()
        line = b"y" * 998 + b"\r\n"
        async with smtp(intake) as ingress:
            it = await client.greeted(ingress.addresses[0])
            await it.start_mail()
            it.send(line * 8000 + b".\r\n")

            assert (await it.reply()).startswith("250 ")
            assert intake.mails[0][1] == line * 8000
            assert intake.pieces[0] <= 2 * 8_000_000 // 4096

    run(test)


def test_large_mails_side_by_side_and_small_ones_beside_them(
    run: Any, smtp: Any, client: Any, fake_intake: Any
) -> None:
    """P7: they read in turns, with rests, and all of it arrives."""

    async def test() -> None:
        intake = fake_intake()
        large = [(b"%d" % number * 998 + b"\r\n") * 3000 for number in range(4)]
        async with smtp(intake) as ingress:

            async def send(content: bytes) -> str:
                it = await client.greeted(ingress.addresses[0])
                await it.start_mail()
                it.send(content + b".\r\n")
                reply: str = await it.reply()
                return reply

            under_way = [asyncio.create_task(send(content)) for content in large]
            small = [await send(b"small %d\r\n" % number) for number in range(10)]
            replies = [*small, *await asyncio.gather(*under_way)]

        assert all(reply.startswith("250 ") for reply in replies)
        bodies = {body for _, body in intake.mails}
        assert bodies == {*large, *(b"small %d\r\n" % number for number in range(10))}

    run(test)


class TestLmtp:
    def test_one_reply_per_recipient_over_a_unix_socket(
        self, run: Any, lmtp: Any, client: Any, fake_intake: Any, home: Path
    ) -> None:
        async def test() -> None:
            intake = fake_intake()
            path = str(home / "lmtp.sock")
            async with lmtp(intake, path) as ingress:
                assert ingress.addresses == (path,)
                assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
                it = await client.greeted(path, "LHLO client.example")
                await it.start_mail("a@example.org", "no@example.org", "b@example.org")
                it.send(b"hello\r\n.\r\n")
                assert [await it.reply(), await it.reply()] == ["250 2.0.0 100 stored", "250 2.0.0 101 stored"]
                assert intake.mails[0][0].protocol == "LMTP"
                assert intake.mails[0][0].peer == path

                intake.error = StoreUnavailable("disk full")
                await it.start_mail("a@example.org", "b@example.org")
                it.send(b"hello\r\n.\r\n")
                assert [(await it.reply())[:9], (await it.reply())[:9]] == ["451 4.3.0", "451 4.3.0"]
            assert not (home / "lmtp.sock").exists()

        run(test)

    def test_the_socket_file_of_a_dead_process_is_replaced(
        self, run: Any, lmtp: Any, client: Any, fake_intake: Any, home: Path
    ) -> None:
        path = home / "lmtp.sock"
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(path))
        dead.close()

        async def test() -> None:
            async with lmtp(fake_intake(), path):
                it = await client.greeted(str(path), "LHLO x")
                assert (await it.say("NOOP")).startswith("250")

        run(test)

    def test_the_socket_file_of_a_living_process_is_not(
        self, run: Any, lmtp: Any, client: Any, fake_intake: Any, home: Path
    ) -> None:
        path = home / "lmtp.sock"

        async def test() -> None:
            async with lmtp(fake_intake(), path):
                with pytest.raises(OSError, match="another process listens"):
                    await LmtpIngress(f"lmtp:{path}", fake_intake()).start()
                it = await client.greeted(str(path), "LHLO x")
                assert (await it.say("NOOP")).startswith("250")

        run(test)

    def test_another_file_is_not_touched(self, run: Any, fake_intake: Any, home: Path) -> None:
        path = home / "lmtp.sock"
        path.write_text("precious")

        async def test() -> None:
            with pytest.raises(FileExistsError):
                await LmtpIngress(f"lmtp:{path}", fake_intake()).start()

        run(test)
        assert path.read_text() == "precious"

    def test_a_socket_file_that_took_our_place_stays(self, run: Any, fake_intake: Any, home: Path) -> None:
        path = home / "lmtp.sock"

        async def test() -> None:
            ingress = LmtpIngress(f"lmtp:{path}", fake_intake())
            await ingress.start()
            path.unlink()
            path.write_text("another's")
            await ingress.stop(0.0)

        run(test)
        assert path.exists()


def test_a_port_in_use_is_an_error_and_leaves_nothing_open(run: Any, smtp: Any, fake_intake: Any) -> None:
    async def test() -> None:
        async with smtp(fake_intake()) as ingress:
            second = SmtpIngress(f"smtp://{ingress.addresses[0]}", fake_intake())
            with pytest.raises(OSError, match="in use"):
                await second.start()
            await second.stop(0.0)

    run(test)


def test_an_inherited_socket(run: Any, client: Any, fake_intake: Any) -> None:
    async def test() -> None:
        inherited = socket.socket()
        inherited.bind(("127.0.0.1", 0))
        ingress = SmtpIngress([inherited], fake_intake())
        await ingress.start()
        it = await client.greeted(ingress.addresses[0])
        assert (await it.mail("x")).startswith("250 ")
        await ingress.stop(0.0)

    run(test)


class TestStop:
    def test_idle_clients_are_told_and_nobody_new_is_let_in(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any
    ) -> None:
        async def test() -> None:
            async with smtp(fake_intake()) as ingress:
                idle, fresh = await client.greeted(ingress.addresses[0]), await client.connect(ingress.addresses[0])
                await fresh.reply()
                stopping = asyncio.create_task(ingress.stop(5.0))

                assert await idle.rest() == b"421 4.3.2 shutting down, come back later\r\n"
                assert await fresh.rest() == b"421 4.3.2 shutting down, come back later\r\n"
                await idle.close()
                await fresh.close()
                await stopping
                with pytest.raises(ConnectionRefusedError):
                    await client.connect(ingress.addresses[0])

        run(test)

    def test_a_running_mail_comes_to_its_end(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            intake = fake_intake()
            intake.gate = asyncio.Event()
            async with smtp(intake) as ingress:
                accepting, sending = [await client.greeted(ingress.addresses[0]) for _ in range(2)]
                await accepting.start_mail()
                accepting.send(b"x\r\n.\r\n")
                await sending.start_mail()
                await intake.asked.wait()
                stopping = asyncio.create_task(ingress.stop(600.0))  # not waited for: the mails end before
                await asyncio.sleep(0)
                sending.send(b"y\r\n.\r\n")
                intake.gate.set()

                for each in (accepting, sending):
                    output = await each.rest()
                    assert b" stored\r\n421 4.3.2" in output
                    await each.close()
                await stopping
                assert len(intake.mails) == 2

        run(test)

    def test_a_mail_that_never_ends_is_cut_off(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        """And is not acknowledged."""

        async def test() -> None:
            intake = fake_intake()
            intake.gate = asyncio.Event()
            async with smtp(intake, settings=IngressSettings(linger=0.1)) as ingress:
                accepting, sending = [await client.greeted(ingress.addresses[0]) for _ in range(2)]
                await accepting.start_mail()
                accepting.send(b"x\r\n.\r\n")
                await sending.start_mail()
                await intake.asked.wait()

                await ingress.stop(0.05)

                assert await accepting.rest() == b"421 4.3.2 shutting down, come back later\r\n"
                assert await sending.rest() == b"421 4.3.2 shutting down, come back later\r\n"
                assert ingress.statistics().connections == 0
                assert ingress.statistics().held == 0
                assert intake.mails == []

        run(test)

    def test_a_new_transaction_is_not_begun(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            async with smtp(fake_intake()) as ingress:
                it = await client.greeted(ingress.addresses[0])
                await it.say("MAIL FROM:<>")
                stopping = asyncio.create_task(ingress.stop(10.0))
                await asyncio.sleep(0)
                it.send(b"RSET\r\nMAIL FROM:<>\r\n")

                assert b"421 4.3.2" in await it.rest()
                await it.close()
                await stopping

        run(test)
