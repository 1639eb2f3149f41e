"""Addresses of any kind, opened: places on a bus, standard input and output, several as one."""

from __future__ import annotations

import asyncio
import os
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from link_world import SERVER, Run, Watcher, serve, until

import monsal.transport
from monsal.errors import ConnectionLost, NotRunning
from monsal.transport import (
    Internal,
    Link,
    LinkSetup,
    Reconnecting,
    Several,
    Tcp,
    UnixServer,
    connect,
    join_bus,
    link_to,
    listen,
    open_endpoint,
    open_stdio,
)
from monsal.transport.pipes import MAX_CHUNKS, MemoryTransport


def test_no_name_of_the_door_is_hidden_by_a_module() -> None:
    for name in monsal.transport.__all__:
        assert not isinstance(getattr(monsal.transport, name), types.ModuleType), name


class TestBuses:
    """`internal:BUS:NAME`."""

    @pytest.mark.rule("rpc.R6")
    def test_each_place_has_a_link_to_each_other(self, run: Run) -> None:
        async def scene() -> None:
            places = [await open_endpoint(f"internal:home:{name}", SERVER) for name in ("alice", "bob", "carol")]
            alice, bob, carol = places
            assert set(bob.links) == {"alice", "carol"}
            assert await link_to(alice, "bob").call("echo", {"a": 1}) == {"a": 1}
            assert await link_to(carol, "alice").call("echo", {"a": 2}) == {"a": 2}
            with pytest.raises(OSError, match="dave"):
                link_to(alice, "dave")
            elsewhere = await open_endpoint("internal:office:alice", SERVER)
            assert elsewhere.links == {}
            await bob.close()
            await bob.wait_closed()
            await until(lambda: set(alice.links) == {"carol"})
            for place in (alice, carol, elsewhere):
                await place.close()

        run(scene())

    def test_names_are_chosen_and_not_given_twice(self, run: Run) -> None:
        async def scene() -> None:
            one = join_bus(Internal(), SERVER)
            two = join_bus(Internal(), SERVER)
            assert (one.name, two.name) == ("internal.1", "internal.2")
            with pytest.raises(OSError, match=r"internal\.1 is on the bus"):
                join_bus(Internal("internal", "internal.1"), SERVER)
            await one.close()
            again = join_bus(Internal("internal", "internal.1"), SERVER)
            await two.close()
            await again.close()
            assert again.links == {}

        run(scene())

    def test_places_may_be_on_loops_of_different_threads(self, run: Run) -> None:
        there, leave = threading.Event(), threading.Event()
        errors: list[Exception] = []

        async def elsewhere() -> None:
            place = await open_endpoint("internal:threads:far", SERVER)
            there.set()
            await asyncio.to_thread(leave.wait, 120)
            await place.close()

        def other() -> None:
            try:
                asyncio.run(elsewhere())
            except Exception as error:  # noqa: BLE001 - it is looked at below
                errors.append(error)
                there.set()

        thread = threading.Thread(target=other)
        thread.start()

        async def scene() -> None:
            assert there.wait(60)
            near = await open_endpoint("internal:threads:near", SERVER)
            far = link_to(near, "far")
            answers = await asyncio.gather(*(far.call("echo", {"n": number}) for number in range(1000)))
            assert answers == [{"n": number} for number in range(1000)]
            assert await far.call("back", {"b": 1}) == {"b": 1}
            # More than an end may hold unread, so that both sides wait for each other again and again.
            text = "x" * 100_000
            assert await asyncio.gather(*(far.call("echo", [text]) for _ in range(50))) == [[text]] * 50
            leave.set()
            await far.wait_closed()
            await near.close()

        try:
            run(scene())
        finally:
            leave.set()
            thread.join(60)
        assert not errors

    def test_a_place_whose_loop_is_gone_is_forgotten(self, run: Run) -> None:
        async def leave_it_there() -> None:
            join_bus(Internal("ghosts", "ghost"), SERVER)

        asyncio.run(leave_it_there())

        async def scene() -> None:
            place = join_bus(Internal("ghosts", "living"), SERVER)
            # Whoever said something to it finds it gone.
            await until(lambda: not place.links)
            other = join_bus(Internal("ghosts", "ghost"), SERVER)
            assert await link_to(other, "living").call("echo", {}) == {}
            await place.close()
            await other.close()

        run(scene())


@pytest.mark.rule("rpc.B7")
def test_an_end_in_memory_holds_a_bounded_number_of_pieces(run: Run) -> None:
    class Slow(asyncio.Protocol):
        def __init__(self) -> None:
            self.heard = self.waits = self.goes_on = 0

        def data_received(self, data: bytes) -> None:
            self.heard += 1

        def pause_writing(self) -> None:
            self.waits += 1

        def resume_writing(self) -> None:
            self.goes_on += 1

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        ends, sides = MemoryTransport.pair(loop, loop), (Slow(), Slow())
        for end, side in zip(ends, sides, strict=True):
            end.attach(side)
        ends[1].pause_reading()
        for number in range(MAX_CHUNKS):
            assert sides[0].waits == 0, number
            ends[0].write(b"x")
        assert sides[0].waits == 1
        ends[1].resume_reading()
        await until(lambda: sides[0].goes_on == 1)
        assert sides[1].heard == MAX_CHUNKS
        ends[0].set_write_buffer_limits(high=10)
        ends[0].write(b"x" * 11)
        assert sides[0].waits == 2
        assert ends[0].get_write_buffer_limits() == (2, 10)
        ends[0].close()

    run(scene())


class TestStdio:
    """`stdio:`, with pipes and files in the place of a terminal."""

    @pytest.fixture
    def pipes(self) -> Iterator[tuple[int, int, int, int]]:
        descriptors = (*os.pipe(), *os.pipe())
        yield descriptors
        for descriptor in descriptors:
            try:
                os.close(descriptor)
            except OSError:
                continue

    def test_calls_go_both_ways(self, run: Run, pipes: tuple[int, int, int, int]) -> None:
        in_read, in_write, out_read, out_write = pipes

        async def scene() -> None:
            here = open_stdio(SERVER, source=in_read, sink=out_write)
            there = open_stdio(SERVER, source=out_read, sink=in_write, name="child")
            assert here.name == "stdio"
            assert await here.call("echo", {"a": 1}) == {"a": 1}
            text = "x" * 500_000
            assert await asyncio.gather(*(there.call("echo", [text]) for _ in range(5))) == [[text]] * 5
            here.close()
            there.close()
            await here.wait_closed()
            await there.wait_closed()
            # The descriptors belong to somebody else.
            assert all(os.fstat(descriptor) for descriptor in pipes)

        run(scene())

    def test_the_end_of_the_input_ends_the_link_after_the_last_answer(
        self, run: Run, pipes: tuple[int, int, int, int]
    ) -> None:
        in_read, in_write, out_read, out_write = pipes

        async def scene() -> None:
            watcher = Watcher()
            link = open_stdio(watcher.setup(), source=in_read, sink=out_write)
            os.write(in_write, b'{"jsonrpc":"2.0","method":"slow","id":1}\n')
            os.close(in_write)
            await until(lambda: watcher.calls and not link.is_open)
            link.answer(1, "done")
            await link.wait_closed()
            assert os.read(out_read, 1000) == b'{"jsonrpc":"2.0","result":"done","id":1}\n'
            assert watcher.kinds[-1] == "Disconnected"

        run(scene())

    def test_files_and_a_reader_that_is_gone(self, run: Run, tmp_path: Path) -> None:
        async def scene() -> None:
            said = tmp_path / "said"
            said.write_bytes(b'{"jsonrpc":"2.0","method":"echo","params":{"a":1},"id":1}\n')
            with said.open("rb") as source, (tmp_path / "answers").open("wb") as sink:
                link = open_stdio(SERVER, source=source.fileno(), sink=sink.fileno())
                await link.wait_closed()
            assert (tmp_path / "answers").read_bytes() == b'{"jsonrpc":"2.0","result":{"a":1},"id":1}\n'
            out_read, out_write = os.pipe()
            in_read, in_write = os.pipe()
            watcher = Watcher()
            link = open_stdio(watcher.setup(), source=in_read, sink=out_write)
            os.close(out_read)
            with pytest.raises(ConnectionLost):
                await link.call("anybody?")
            await link.wait_closed()
            assert "Broken pipe" in watcher.events[-1].reason
            for descriptor in (out_write, in_read, in_write):
                os.close(descriptor)

        run(scene())

    def test_one_that_does_not_read_is_cut_off(self, run: Run, pipes: tuple[int, int, int, int]) -> None:
        in_read, in_write, _out_read, out_write = pipes

        async def scene() -> None:
            watcher = Watcher()
            link = open_stdio(
                LinkSetup(on_call=serve, on_event=watcher.on_event, slow_reader=0.1), source=in_read, sink=out_write
            )
            text = b'{"jsonrpc":"2.0","method":"echo","params":["' + b"x" * 200_000 + b'"],"id":1}\n'
            await asyncio.to_thread(_write_all, in_write, text)
            await link.wait_closed()
            assert "unread" in watcher.events[-1].reason

        run(scene())


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


class TestSeveral:
    """`mux:(A)(B)`."""

    def test_several_are_one(self, run: Run, home: Path) -> None:
        async def scene() -> None:
            endpoint = await open_endpoint(
                f"mux:(tcpserv:127.0.0.1:0)(unixserv:{home}/a.sock)(internal:mux:me)", SERVER
            )
            assert isinstance(endpoint, Several)
            tcp, path = endpoint.addresses
            one, two = await connect(f"tcp:{tcp}"), await connect(f"unix:{path}")
            three = join_bus(Internal("mux", "you"), SERVER)
            for link in (one, two, link_to(three, "me")):
                assert await link.call("echo", {}) == {}
            assert len(endpoint.links) == 3
            assert set(endpoint.links) >= {"you", f"{home}/a.sock#1"}
            assert await link_to(endpoint, "you").call("echo", {}) == {}
            await endpoint.close()
            await endpoint.wait_closed()
            await one.wait_closed()
            assert not (home / "a.sock").exists()
            await three.close()

        run(scene())

    def test_one_failure_stops_all_and_every_failure_is_told(self, run: Run, home: Path) -> None:
        async def scene() -> None:
            with pytest.raises(ExceptionGroup) as caught:
                await open_endpoint(
                    f"mux:(unixserv:{home}/a.sock)(unix:{home}/none)(unixserv:{home}/no/b.sock)(internal:mux:x)", SERVER
                )
            missing, unbound = caught.value.exceptions
            assert isinstance(missing, NotRunning)
            assert isinstance(unbound, FileNotFoundError)
            assert not (home / "a.sock").exists()
            # The name on the bus is free again.
            await (await open_endpoint("internal:mux:x", SERVER)).close()

        run(scene())

    def test_members_come_and_go(self, run: Run, home: Path) -> None:
        async def scene() -> None:
            endpoint = await open_endpoint("mux:(tcpserv:127.0.0.1:0)", SERVER)
            assert isinstance(endpoint, Several)
            await endpoint.add(f"unixserv:{home}/a.sock")
            link = await connect(f"unix:{home}/a.sock")
            assert await link.call("echo", {}) == {}
            with pytest.raises(FileNotFoundError):
                await endpoint.add(UnixServer(f"{home}/no/b.sock"))
            await endpoint.remove(f"unixserv:{home}/a.sock")
            await link.wait_closed()
            with pytest.raises(ValueError, match="is not among these"):
                await endpoint.remove("tcpserv:127.0.0.1:1")
            assert len(endpoint.addresses) == 1
            await endpoint.close()

        run(scene())

    def test_a_failure_later_stops_all_too(self, run: Run) -> None:
        class Failing:
            links: dict[str, Link] = {}
            addresses: tuple[str, ...] = ()
            closed = 0

            def __init__(self) -> None:
                self.end = asyncio.get_running_loop().create_future()

            async def close(self, grace: float = 1.0) -> None:
                Failing.closed += 1

            async def wait_closed(self) -> None:
                await self.end

        async def scene() -> None:
            made: list[Failing] = []

            async def opener(address: Any) -> Failing:
                made.append(Failing())
                return made[-1]

            several = Several(opener)
            await several.add_all([Tcp("h", 1), Tcp("h", 2), Tcp("h", 3)])
            made[0].end.set_result(None)  # one whose other side hung up is no failure
            made[1].end.set_exception(OSError("the network is gone"))
            with pytest.raises(ExceptionGroup) as caught:
                await several.wait_closed()
            assert [str(error) for error in caught.value.exceptions] == ["the network is gone"]
            assert Failing.closed == 1
            await several.close()

        run(scene())

    def test_when_all_have_ended_it_has_ended(self, run: Run, home: Path) -> None:
        async def scene() -> None:
            server = await listen(f"unix:{home}/a.sock", SERVER)
            endpoint = await open_endpoint(f"mux:(unix:{home}/a.sock)(unix:{home}/a.sock)", SERVER)
            assert len(endpoint.links) == 1  # they have the same name
            await server.close()
            await endpoint.wait_closed()

        run(scene())


def test_every_kind_of_address_can_be_opened_but_nowhere(run: Run, home: Path) -> None:
    async def scene() -> None:
        with pytest.raises(ValueError, match="null"):
            await open_endpoint("null", SERVER)
        server = await open_endpoint(f"restart:1:unixserv:{home}/a.sock", SERVER)
        assert isinstance(server, Reconnecting)
        assert await server.wait_connected() is None
        assert server.addresses == [f"{home}/a.sock"]
        client = await open_endpoint(f"unix:{home}/a.sock", SERVER)
        assert await link_to(client, f"{home}/a.sock").call("echo", {}) == {}
        assert list(server.links) == [f"{home}/a.sock#1"]
        await server.close()
        await client.wait_closed()
        assert client.links == {}
        await client.close()

    run(scene())
