"""One connection against a transport that writes down what is done with it."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from monsal.ingress.connection import Connection
from monsal.ingress.smtp import SmtpIngress
from monsal.smtp.settings import ServerSettings


class FakeTransport(asyncio.Transport):
    """Notes each call."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 4711)})
        self.calls: list[object] = []

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.calls.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.calls.append("eof")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls

    def taken(self) -> list[object]:
        """The calls since the last time."""
        calls, self.calls = self.calls, []
        return calls


async def opened(intake: Any, **session: Any) -> tuple[SmtpIngress, Connection, FakeTransport]:
    ingress = SmtpIngress("127.0.0.1:0", intake, session=ServerSettings(**session))
    await ingress.start()
    connection, transport = Connection(ingress), FakeTransport()
    connection.connection_made(transport)
    return ingress, connection, transport


async def closed(ingress: SmtpIngress, connection: Connection) -> None:
    connection.connection_lost(None)
    await ingress.stop(0.0)


def test_one_write_for_all_that_came_at_once(run: Any, fake_intake: Any) -> None:
    async def test() -> None:
        ingress, connection, transport = await opened(fake_intake())
        assert transport.taken() == [b"220 localhost ESMTP monsal\r\n"]

        connection.data_received(
            b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
        )

        (written,) = transport.taken()
        assert isinstance(written, bytes)
        assert written.count(b"\r\n") == 8 + 3 + 1
        await closed(ingress, connection)

    run(test)


def test_content_is_not_answered_piece_by_piece(run: Any, fake_intake: Any) -> None:
    async def test() -> None:
        intake = fake_intake()
        ingress, connection, transport = await opened(intake)
        connection.data_received(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n")
        transport.taken()

        for _ in range(10):
            connection.data_received(b"x" * 5000)
        assert transport.taken() == []
        assert ingress.statistics().held == 50_000
        connection.data_received(b"\r\n.\r\n")
        while not intake.mails:
            await asyncio.sleep(0)
        assert transport.taken() == [b"250 2.0.0 100 stored\r\n"]
        await closed(ingress, connection)
        assert ingress.statistics().held == 0

    run(test)


def test_who_sends_much_reads_in_turns(run: Any, fake_intake: Any) -> None:
    """P7: large mails do not keep small ones waiting."""

    async def test() -> None:
        ingress, first, one = await opened(fake_intake())
        second, two = Connection(ingress), FakeTransport()
        second.connection_made(two)
        for connection, transport in ((first, one), (second, two)):
            connection.data_received(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n")
            transport.taken()

        first.data_received(b"x" * 200_000)
        second.data_received(b"x" * 200_000)
        assert (one.taken(), two.taken()) == (["pause"], ["pause"])
        await asyncio.sleep(0)
        assert (one.taken(), two.taken()) == (["resume"], [])
        first.data_received(b"x" * 200_000)
        await asyncio.sleep(0)
        assert (one.taken(), two.taken()) == (["pause"], ["resume"])
        await asyncio.sleep(0)
        assert (one.taken(), two.taken()) == (["resume"], [])
        second.data_received(b"small")
        assert two.taken() == []
        second.connection_lost(None)
        await closed(ingress, first)

    run(test)


def test_reading_stops_while_a_mail_is_accepted_and_enough_waits(run: Any, fake_intake: Any) -> None:
    async def test() -> None:
        intake = fake_intake()
        intake.gate = asyncio.Event()
        ingress, connection, transport = await opened(intake, max_buffered=1000)
        connection.data_received(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\nx\r\n.\r\n")
        transport.taken()

        connection.data_received(b"NOOP\r\n" * 20)
        assert transport.taken() == []
        connection.data_received(b"NOOP " + b"x" * 990 + b"\r\n")
        assert transport.taken() == ["pause"]
        intake.gate.set()
        while not intake.mails:
            await asyncio.sleep(0)
        written, resumed = transport.taken()
        assert written == b"250 2.0.0 100 stored\r\n" + b"250 2.0.0 OK\r\n" * 21
        assert resumed == "resume"
        await closed(ingress, connection)

    run(test)


def test_reading_stops_while_replies_are_not_read(run: Any, fake_intake: Any) -> None:
    async def test() -> None:
        ingress, connection, transport = await opened(fake_intake())
        transport.taken()
        assert transport.high == ingress.settings.max_write_buffer

        connection.pause_writing()
        assert transport.taken() == ["pause"]
        connection.check_time(ingress.loop.time() + 59)
        assert transport.taken() == []
        connection.resume_writing()
        assert transport.taken() == ["resume"]
        connection.pause_writing()
        connection.check_time(ingress.loop.time() + 61)
        assert transport.taken() == ["pause", "abort"]
        await closed(ingress, connection)

    run(test)


def test_the_last_word_is_heard_by_who_is_still_talking(run: Any, fake_intake: Any) -> None:
    """Closing with unread input would reset the connection and lose our 421: only our side is closed at first."""

    async def test() -> None:
        ingress, connection, transport = await opened(fake_intake())
        transport.taken()

        connection.data_received(b"GET / HTTP/1.0\r\n")
        assert transport.taken() == [b"554 5.5.0 this port speaks SMTP\r\n", "eof"]
        connection.data_received(b"x" * 100_000)
        await asyncio.sleep(0)
        assert transport.taken() == ["pause", "resume"]
        connection.check_time(ingress.loop.time() + 1.9)
        assert transport.taken() == []
        connection.check_time(ingress.loop.time() + 2.1)
        assert transport.taken() == ["abort"]
        await closed(ingress, connection)

    run(test)


def test_who_is_done_is_closed_at_once(run: Any, fake_intake: Any) -> None:
    async def test() -> None:
        for farewell in ("QUIT", "EOF"):
            ingress, connection, transport = await opened(fake_intake())
            transport.taken()
            if farewell == "QUIT":
                connection.data_received(b"QUIT\r\n")
                assert transport.taken() == [b"221 2.0.0 goodbye\r\n", "close"]
            else:
                assert connection.eof_received() is False
                assert transport.taken() == ["close"]
            await closed(ingress, connection)

    run(test)


def test_the_time_to_the_first_mail_is_over_with_the_first_mail(run: Any, fake_intake: Any) -> None:
    async def test() -> None:
        ingress, connection, transport = await opened(fake_intake())
        now = ingress.loop.time()
        connection._born = now - 299
        connection.data_received(b"EHLO x\r\nMAIL FROM:<>\r\n")
        transport.taken()

        connection.check_time(now + 2)
        assert transport.taken() == []
        connection.check_time(now + 301)
        assert transport.taken()[0] == b"421 4.4.2 timed out, closing\r\n"
        await closed(ingress, connection)

    run(test)


def test_a_reset_between_two_turns_of_the_loop(run: Any, fake_intake: Any) -> None:
    async def test() -> None:
        ingress, connection, transport = await opened(fake_intake())
        transport.taken()

        def refuse() -> None:
            raise OSError("Transport endpoint is not connected")

        transport.write_eof = refuse  # type: ignore[method-assign]  # what the kernel does to a dead peer
        connection.data_received(b"GET / HTTP/1.0\r\n")
        assert transport.taken()[-1] == "abort"
        await closed(ingress, connection)

    run(test)


_OPENING = b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<%b>\r\nDATA\r\n"


def test_a_recipient_that_is_refused_was_asked_about_once(run: Any, fake_intake: Any) -> None:
    """What comes in one packet is opened at once if all is yes; else the verdict is used, not asked for anew."""

    class Counting(fake_intake):  # type: ignore[misc]  # a class of the fixture
        asked_about: ClassVar[list[str]] = []

        def accepts(self, address: str) -> Any:
            self.asked_about.append(address)
            return super().accepts(address)

    async def body() -> None:
        intake = Counting()
        ingress, connection, transport = await opened(intake)
        connection.data_received(b"EHLO x\r\n")
        transport.taken()
        connection.data_received(_OPENING % b"nobody@example.org")
        [refused] = transport.taken()
        connection.data_received(b"RSET\r\n")
        transport.taken()
        connection.data_received(_OPENING % b"order@example.org")
        [taken] = transport.taken()

        assert [line[:9] for line in bytes(refused).split(b"\r\n")] == [b"250 2.1.0", b"550 5.1.1", b"503 5.5.1", b""]
        assert [line[:3] for line in bytes(taken).split(b"\r\n")] == [b"250", b"250", b"354", b""]
        assert ingress.statistics().recipients_refused == 1
        assert intake.asked_about == ["nobody@example.org", "order@example.org"]
        await ingress.stop(0.0)

    run(body)
