"""A bad peer hurts only itself (P7): places, rates, time, memory, with too much really sent."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from typing import Any

import pytest

from monsal.errors import ConfigError
from monsal.ingress import IngressSettings, MemoryBudget
from monsal.ingress import limits as limits_module
from monsal.ingress import smtp as smtp_module
from monsal.ingress.limits import PeerLimits, peer_of, usable_connections
from monsal.smtp.settings import ServerSettings

TOO_MANY = b"421 4.7.0 too many connections\r\n"
LATE = b"421 4.4.2 timed out, closing\r\n"


class TestPlaces:
    def test_a_new_client_gets_the_place_of_the_one_idle_longest(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any
    ) -> None:
        async def test() -> None:
            settings = IngressSettings(max_connections=2, eviction_age=0.000001)
            async with smtp(fake_intake(), settings=settings) as ingress:
                first = await client.greeted(ingress.addresses[0])
                await asyncio.sleep(0.005)  # more than the resolution of a loop's clock
                second = await client.greeted(ingress.addresses[0])
                await asyncio.sleep(0.005)
                third = await client.greeted(ingress.addresses[0])

                assert await first.rest() == TOO_MANY
                assert (await second.mail("x")).startswith("250 ")
                assert (await third.mail("x")).startswith("250 ")
                assert ingress.statistics().connections == 2
                assert ingress.statistics().evicted == 1

        run(test)

    def test_who_is_in_a_transaction_keeps_its_place(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            settings = IngressSettings(max_connections=2, eviction_age=0.000001)
            async with smtp(fake_intake(), settings=settings) as ingress:
                busy = [await client.greeted(ingress.addresses[0]) for _ in range(2)]
                for each in busy:
                    await each.start_mail()
                third = await client.connect(ingress.addresses[0])

                assert await third.rest() == TOO_MANY
                assert ingress.statistics().turned_away == 1
                for each in busy:
                    assert (await each.say("x\r\n.")).startswith("250 ")

        run(test)

    def test_many_idle_clients_do_not_stop_others(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            settings = IngressSettings(max_connections=50, eviction_age=0.000001)
            async with smtp(fake_intake(), settings=settings) as ingress:
                idle = []
                for _ in range(6):
                    idle += [await client.connect(ingress.addresses[0]) for _ in range(50)]
                    await idle[-1].reply()
                    await asyncio.sleep(0.005)  # more than the resolution of a loop's clock
                it = await client.greeted(ingress.addresses[0])

                assert (await it.mail("x")).startswith("250 ")
                assert ingress.statistics().connections <= 50
                assert ingress.statistics().connected == 301
                for each in idle:
                    each.hang_up()

        run(test)

    def test_the_limit_of_one_peer(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Loopback has no such limit, so the test's client is given an address from outside."""
        monkeypatch.setattr(smtp_module, "peer_of", lambda address: "192.0.2.1")

        async def test() -> None:
            async with smtp(fake_intake(), settings=IngressSettings(max_connections_per_peer=2)) as ingress:
                first, second = [await client.greeted(ingress.addresses[0]) for _ in range(2)]
                third = await client.connect(ingress.addresses[0])
                assert await third.rest() == TOO_MANY
                await second.say("QUIT")
                await second.rest()
                while ingress.statistics().connections > 1:
                    await asyncio.sleep(0)

                fourth = await client.greeted(ingress.addresses[0])
                assert (await fourth.mail("x")).startswith("250 ")
                assert (await first.mail("x")).startswith("250 ")

        run(test)

    def test_open_and_per_minute(self) -> None:
        peers = PeerLimits(IngressSettings(max_connections_per_peer=2, max_connections_per_minute=3))

        assert [peers.enter("a", 0.0) for _ in range(3)] == [True, True, False]
        assert peers.enter("b", 0.0)
        peers.leave("a")
        assert not peers.enter("a", 59.0)  # the fourth within a minute
        assert peers.enter("a", 61.0)

    def test_what_is_remembered_of_peers_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits_module, "_MAX_RATES", 10)
        peers = PeerLimits(IngressSettings(max_connections_per_minute=1))

        for number in range(10):
            assert peers.enter(f"peer{number}", 0.0)
            peers.leave(f"peer{number}")
        assert peers.enter("one more", 0.0)

    @pytest.mark.parametrize(
        ("address", "peer"),
        [
            (("192.0.2.7", 1), "192.0.2.7"),
            (("127.0.0.1", 1), None),
            (("127.9.9.9", 1), None),
            (("::1", 1, 0, 0), None),
            (("2001:db8:1:2:3:4:5:6", 1, 0, 0), "2001:db8:1:2::/64"),
            (("2001:db8:1:2:ffff::1", 1, 0, 0), "2001:db8:1:2::/64"),
            (("fe80::1%eth0", 1, 0, 2), "fe80::/64"),
            (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7"),
            ("", None),
            (None, None),
        ],
    )
    def test_peers(self, address: object, peer: str | None) -> None:
        assert peer_of(address) == peer

    def test_files_are_left_for_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits_module.resource, "getrlimit", lambda _: (256, 256))

        assert usable_connections(1000) == 192
        assert usable_connections(10) == 10
        # Each of three gets its part, so that two that are full leave the third one its own.
        assert usable_connections(1000, 3) == 64
        assert usable_connections(10, 3) == 10


class TestTime:
    @pytest.mark.parametrize(
        "settings",
        [IngressSettings(first_mail_timeout=1.0), IngressSettings(idle_timeout=1.0)],
    )
    def test_who_says_nothing(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any, settings: IngressSettings
    ) -> None:
        async def test() -> None:
            async with smtp(fake_intake(), settings=settings) as ingress:
                it = await client.greeted(ingress.addresses[0])

                assert await it.rest() == LATE
                assert ingress.statistics().timed_out == 1

        run(test)

    def test_who_keeps_saying_nothing_of_use(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        """NOOP does not prolong the time to the first MAIL."""

        async def test() -> None:
            settings = IngressSettings(first_mail_timeout=1.0)
            async with smtp(fake_intake(), settings=settings) as ingress:
                it = await client.greeted(ingress.addresses[0])
                reply = "250"
                while reply.startswith("250"):
                    reply = await it.say("NOOP")
                    await asyncio.sleep(0.03)  # the pace of the client, nothing is waited for

                assert reply.startswith("421 4.4.2")

        run(test)

    def test_a_command_that_trickles_in(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def trickle(it: Any) -> None:
            while not it.writer.is_closing():
                it.send(b"x")
                await asyncio.sleep(0.02)  # the pace of the client, nothing is waited for

        async def test() -> None:
            async with smtp(fake_intake(), settings=IngressSettings(idle_timeout=1.0)) as ingress:
                it = await client.greeted(ingress.addresses[0])
                task = asyncio.create_task(trickle(it))
                assert await it.rest() == LATE
                task.cancel()

        run(test)

    @pytest.mark.parametrize("settings", [IngressSettings(data_timeout=1.0), IngressSettings(idle_timeout=1.0)])
    def test_content_that_does_not_end(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any, settings: IngressSettings
    ) -> None:
        """`data_timeout` is for the whole of it; `idle_timeout` runs anew with each packet."""

        async def test() -> None:
            async with smtp(fake_intake(), settings=settings) as ingress:
                it = await client.greeted(ingress.addresses[0])
                await it.start_mail()
                it.send(b"x" * 1000)

                assert await it.rest() == LATE
                assert ingress.statistics().held == 0

        run(test)

    def test_an_accept_may_take_its_time(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            intake = fake_intake()
            intake.gate = asyncio.Event()
            settings = IngressSettings(idle_timeout=1.0, data_timeout=1.0, first_mail_timeout=1.0)
            async with smtp(intake, settings=settings) as ingress:
                it, idle = [await client.greeted(ingress.addresses[0]) for _ in range(2)]
                await it.start_mail()
                it.send(b"x\r\n.\r\n")
                assert await idle.rest() == LATE  # time has passed for it as well
                intake.gate.set()

                assert (await it.reply()).startswith("250 ")

        run(test)

    def test_no_timer_without_connections(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            async with smtp(fake_intake(), settings=IngressSettings(linger=0.2)) as ingress:
                it = await client.greeted(ingress.addresses[0])
                await it.say("QUIT")
                await it.rest()
                while ingress._timer is not None:
                    await asyncio.sleep(0.01)  # a bounded poll; the test's time-out ends it

        run(test)

    @pytest.mark.parametrize("name", IngressSettings.__struct_fields__)
    def test_no_limit_is_zero(self, name: str) -> None:
        with pytest.raises(ConfigError, match=name):
            IngressSettings(**{name: 0})


class TestMemory:
    def test_content_over_all_connections(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            intake = fake_intake()
            budget = MemoryBudget(100_000)
            async with smtp(intake, budget=budget) as ingress:
                first, second = [await client.greeted(ingress.addresses[0]) for _ in range(2)]
                await first.start_mail()
                await second.start_mail()
                first.send(b"x" * 80_000)
                while budget.held < 80_000:
                    await asyncio.sleep(0)
                second.send(b"y" * 40_000 + b"\r\n.\r\n")
                assert (await second.reply()).startswith("452 4.3.1")
                assert budget.held == 80_000

                first.send(b"\r\n.\r\n")
                assert (await first.reply()).startswith("250 ")
                assert budget.held == 0
                assert (await second.mail("small")).startswith("250 ")

        run(test)

    def test_large_contents_do_not_keep_small_ones_out(
        self, run: Any, smtp: Any, client: Any, fake_intake: Any
    ) -> None:
        async def test() -> None:
            budget = MemoryBudget(4_000_000)
            async with smtp(fake_intake(), budget=budget) as ingress:
                holders = [await client.greeted(ingress.addresses[0]) for _ in range(12)]
                for holder in holders:
                    await holder.start_mail()
                    holder.send(b"x" * 400_000)
                while budget.held < 2_400_000:
                    await asyncio.sleep(0)
                other = await client.greeted(ingress.addresses[0])
                assert (await other.mail("y" * 100_000)).startswith("250 ")
                assert (await other.mail("z" * 900_000)).startswith("452 4.3.1")

        run(test)

    def test_a_content_that_trickles_is_ended(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            settings = IngressSettings(data_grace=0.2, min_data_rate=1_000_000, linger=0.2)
            async with smtp(fake_intake(), settings=settings) as ingress:
                it = await client.greeted(ingress.addresses[0])
                await it.start_mail()
                it.send(b"x" * 1000)
                assert (await it.reply()).startswith("421 4.4.2")
                assert ingress.budget.held == 0

        run(test)

    def test_who_stops_after_mail_gives_way(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            settings = IngressSettings(max_connections=20, eviction_age=0.05, linger=0.2)
            async with smtp(fake_intake(), settings=settings) as ingress:
                for _ in range(20):
                    it = await client.greeted(ingress.addresses[0])
                    assert (await it.say("MAIL FROM:<a@b.example>")).startswith("250 ")
                await asyncio.sleep(0.1)
                other = await client.greeted(ingress.addresses[0])
                assert (await other.mail("small")).startswith("250 ")

        run(test)

    def test_a_mail_in_the_hands_of_the_intake_counts(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            intake = fake_intake()
            intake.gate = asyncio.Event()
            async with smtp(intake, settings=IngressSettings(max_memory=10_000)) as ingress:
                first, second = [await client.greeted(ingress.addresses[0]) for _ in range(2)]
                await first.start_mail()
                first.send(b"x" * 8_000 + b"\r\n.\r\n")
                await intake.asked.wait()
                assert ingress.statistics().busy == 1
                assert (await second.say("MAIL FROM:<> SIZE=4000")).startswith("452 4.3.1")
                assert (await second.mail("y" * 4_000)).startswith("452 4.3.1")
                assert ingress.statistics().held == 8_002
                intake.gate.set()
                assert (await first.reply()).startswith("250 ")
                assert (await second.say("MAIL FROM:<> SIZE=4000")).startswith("250 ")

        run(test)

    def test_too_big_a_mail(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            intake = fake_intake()
            async with smtp(intake, session=ServerSettings(max_message_size=100_000)) as ingress:
                it = await client.greeted(ingress.addresses[0])
                await it.start_mail()
                it.send(b"x" * 3_000_000 + b"\r\n.\r\n")
                assert (await it.reply()).startswith("552 5.3.4")
                assert (await it.mail("small")).startswith("250 ")
                assert ingress.statistics().refused == 1
                assert len(intake.mails) == 1

        run(test)

    def test_a_line_of_100_mb(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            async with smtp(fake_intake(), settings=IngressSettings(linger=0.2)) as ingress:
                it = await client.greeted(ingress.addresses[0])
                piece = b"x" * 1_000_000
                tracemalloc.start()
                reading = asyncio.create_task(it.rest())
                try:
                    for _ in range(100):
                        it.send(piece)
                        await it.writer.drain()
                except ConnectionError:
                    it.hang_up()
                output = await reading
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()

                assert output.startswith(b"500 5.5.6 line too long\r\n421 4.7.0 ")
                assert peak < 8_000_000  # a megabyte of the client and some read buffers
                other = await client.greeted(ingress.addresses[0])
                assert (await other.mail("x")).startswith("250 ")

        run(test)

    def test_who_does_not_read_is_dropped(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        """Reading stops while replies pile up, so they cannot pile up far."""

        async def test() -> None:
            settings = IngressSettings(write_timeout=0.3, max_write_buffer=10_000)
            session = ServerSettings(max_junk_commands=10**9)
            async with smtp(fake_intake(), settings=settings, session=session) as ingress:
                it = socket.socket()
                it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                it.setblocking(False)
                host, _, port = ingress.addresses[0].rpartition(":")
                loop = asyncio.get_running_loop()
                await loop.sock_connect(it, (host, int(port)))
                with pytest.raises(ConnectionError):
                    await loop.sock_sendall(it, b"HELP\r\n" * 10_000_000)
                it.close()
                while ingress.statistics().connections:
                    await asyncio.sleep(0.01)  # a bounded poll; the test's time-out ends it

                other = await client.greeted(ingress.addresses[0])
                assert (await other.mail("x")).startswith("250 ")

        run(test)


class TestForeign:
    @pytest.mark.parametrize(
        "data",
        [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\nMAIL FROM:<>\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        ],
    )
    def test_other_protocols(self, run: Any, smtp: Any, client: Any, fake_intake: Any, data: bytes) -> None:
        async def test() -> None:
            async with smtp(fake_intake()) as ingress:
                it = await client.connect(ingress.addresses[0])
                it.send(data)

                assert (await it.rest()).endswith(b"554 5.5.0 this port speaks SMTP\r\n")

        run(test)

    def test_garbage(self, run: Any, smtp: Any, client: Any, fake_intake: Any) -> None:
        async def test() -> None:
            async with smtp(fake_intake()) as ingress:
                for seed in range(20):
                    it = await client.connect(ingress.addresses[0])
                    it.send(bytes((seed * 31 + number * 7919) % 256 for number in range(5000)) + b"\r\n" * 30)
                    assert b"421 " in await it.rest()
                other = await client.greeted(ingress.addresses[0])
                assert (await other.mail("x")).startswith("250 ")

        run(test)
