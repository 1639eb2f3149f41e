"""Waiting for others and connecting to them: TCP, unix sockets, TLS; bounds, permissions, ends."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from link_world import SERVER, Run, Watcher, serve, until

from monsal.errors import Busy, CallExpired, ConnectionLost, Forbidden, NotRunning, RemoteFault
from monsal.transport import AcceptSetup, Link, LinkSetup, connect, listen
from monsal.transport.unix import Credentials
from monsal.wire import Lost, PeerLimits


@pytest.mark.rule("rpc.R6")
@pytest.mark.parametrize("address", ["tcp:127.0.0.1:0", "tcp://localhost:0", "tcpserv:127.0.0.1:0"])
def test_over_tcp(run: Run, address: str) -> None:
    async def scene() -> None:
        watcher = Watcher()
        acceptor = await listen(address, SERVER, on_event=watcher.on_event)
        where = f"tcp:{acceptor.addresses[0]}"
        one, two = await connect(where), await connect(where)
        assert await one.call("echo", {"a": 1}) == {"a": 1}
        assert await two.call("echo", {"a": 2}) == {"a": 2}
        assert one.name == acceptor.addresses[0]
        assert len(acceptor.links) == 2
        for name, link in acceptor.links.items():
            assert link.name == name
            host, port = name.rsplit(":", 1)
            assert host in {"127.0.0.1", "[::1]"}
            assert port.isdigit()
        one.close()
        await until(lambda: len(acceptor.links) == 1)
        assert watcher.kinds.count("Connected") == 2
        await until(lambda: watcher.kinds.count("Disconnected") == 1)
        assert (acceptor.statistics().open, acceptor.statistics().taken) == (1, 2)
        await acceptor.close()
        await two.wait_closed()
        await acceptor.wait_closed()

    run(scene())


@pytest.mark.rule("rpc.B14")
def test_over_ipv6(run: Run) -> None:
    async def scene() -> None:
        acceptor = await listen("tcpserv:[::1]:0", SERVER)
        assert acceptor.addresses[0].startswith("[::1]:")
        link = await connect(f"tcp://{acceptor.addresses[0]}")
        assert await link.call("echo", {}) == {}
        await acceptor.close()

    run(scene())


def test_an_empty_interface_is_all(run: Run) -> None:
    async def scene() -> None:
        acceptor = await listen("tcpserv::0", SERVER)
        port = next(address for address in acceptor.addresses if address.startswith("0.0.0.0:")).rpartition(":")[2]
        link = await connect(f"tcp:127.0.0.1:{port}")
        assert await link.call("echo", {}) == {}
        await acceptor.close()

    run(scene())


@pytest.mark.rule("rpc.B16")
def test_a_port_can_be_bound_again_at_once(run: Run) -> None:
    async def scene() -> None:
        acceptor = await listen("tcp:127.0.0.1:0", SERVER)
        where = acceptor.addresses[0]
        for _ in range(3):
            link = await connect(f"tcp:{where}")
            await link.call("echo")
            await acceptor.close()
            acceptor = await listen(f"tcp:{where}", SERVER)
        with pytest.raises(OSError, match="in use"):
            await listen(f"tcp:{where}", SERVER)
        await acceptor.close()

    run(scene())


@pytest.mark.rule("rpc.B6")
def test_over_a_unix_socket_the_kernel_says_who_it_is(run: Run, home: Path) -> None:
    async def scene() -> None:
        path = home / "api.sock"
        found = []
        acceptor = await listen(f"unix:{path}", SERVER, on_link=found.append)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert acceptor.addresses == [str(path)]
        one, two = await connect(f"unix://{path}"), await connect(f"unix:{path}")
        assert await one.call("echo", {"a": 1}) == {"a": 1}
        assert await two.call("echo", {"a": 1}) == {"a": 1}
        mine = Credentials(os.getpid(), os.geteuid(), os.getegid())
        assert [link.credentials for link in found] == [mine, mine]
        assert one.credentials == mine
        assert [link.name for link in found] == [f"{path}#1", f"{path}#2"]
        assert one.name == str(path)
        await acceptor.close()
        assert not path.exists()

    run(scene())


def test_the_mode_of_the_socket_file_can_be_another(run: Run, home: Path) -> None:
    async def scene() -> None:
        acceptor = await listen(f"unixserv:{home}/api.sock", SERVER, accept=AcceptSetup(mode=0o660))
        assert stat.S_IMODE((home / "api.sock").stat().st_mode) == 0o660
        await acceptor.close()

    run(scene())


def test_a_path_that_is_longer_than_the_kernel_takes(run: Run, home: Path) -> None:
    async def scene() -> None:
        deep = home / ("d" * 100)
        deep.mkdir()
        acceptor = await listen(f"unix:{deep}/api.sock", SERVER)
        link = await connect(f"unix:{deep}/api.sock")
        assert await link.call("echo", {}) == {}
        await acceptor.close()
        assert not (deep / "api.sock").exists()

    run(scene())


def test_the_socket_file_of_the_dead_is_replaced_and_that_of_the_living_is_not(run: Run, home: Path) -> None:
    async def scene() -> None:
        path = home / "api.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        acceptor = await listen(f"unix:{path}", SERVER)
        with pytest.raises(OSError, match="another process listens"):
            await listen(f"unix:{path}", SERVER)
        link = await connect(f"unix:{path}")
        assert await link.call("echo", {}) == {}
        await acceptor.close()
        path.write_text("not a socket")
        with pytest.raises(FileExistsError, match="no socket"):
            await listen(f"unix:{path}", SERVER)
        assert path.read_text() == "not a socket"

    run(scene())


def test_a_later_server_keeps_its_socket_file(run: Run, home: Path) -> None:
    async def scene() -> None:
        path = home / "api.sock"
        acceptor = await listen(f"unix:{path}", SERVER)
        path.unlink()
        later = await listen(f"unix:{path}", SERVER)
        await acceptor.close()
        assert path.exists()
        await later.close()

    run(scene())


@pytest.mark.rule("rpc.B6")
def test_only_the_given_users_are_let_in(run: Run, home: Path) -> None:
    async def scene() -> None:
        path = home / "api.sock"
        accept = AcceptSetup(users=frozenset({os.geteuid() + 1}))
        acceptor = await listen(f"unix:{path}", SERVER, accept=accept)
        watcher = Watcher()
        link = await connect(f"unix:{path}", watcher.setup(hello=None))
        with pytest.raises(ConnectionLost):
            await link.call("echo")
        await link.wait_closed()
        assert any(event.fault.code == Forbidden.code for event in watcher.events if hasattr(event, "fault"))
        assert acceptor.statistics().refused == 1
        await acceptor.close()

    run(scene())


@pytest.mark.rule("rpc.B7")
def test_one_connection_too_many_is_told_so_and_the_others_go_on(run: Run) -> None:
    async def scene() -> None:
        acceptor = await listen("tcp:127.0.0.1:0", SERVER, accept=AcceptSetup(connections=2))
        where = f"tcp:{acceptor.addresses[0]}"
        first, second = await connect(where), await connect(where)
        await first.call("echo")
        await second.call("echo")
        watcher = Watcher()
        third = await connect(where, watcher.setup())
        await third.wait_closed()
        assert any(event.fault.code == Busy.code for event in watcher.events if hasattr(event, "fault"))
        assert await first.call("echo", {"a": 1}) == {"a": 1}
        second.close()
        await until(lambda: len(acceptor.links) == 1)
        fourth = await connect(where)
        assert await fourth.call("echo", {}) == {}
        await acceptor.close()

    run(scene())


def test_sockets_that_somebody_else_bound(run: Run, home: Path) -> None:
    async def scene() -> None:
        path = home / "api.sock"
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(str(path))
        bound.listen(5)
        acceptor = await listen(f"unix:{path}", SERVER, sockets=[bound])
        link = await connect(f"unix:{path}")
        assert await link.call("echo", {}) == {}
        await acceptor.close()
        assert path.exists()
        assert bound.fileno() == -1

    run(scene())


def test_closing_lets_calls_end_and_refuses_others(run: Run) -> None:
    async def scene() -> None:
        watcher = Watcher()
        acceptor = await listen("tcp:127.0.0.1:0", watcher.setup())
        link = await connect(f"tcp:{acceptor.addresses[0]}")
        running = asyncio.create_task(link.call("slow"))
        await until(lambda: watcher.calls)
        (server_side,) = acceptor.links.values()
        closing = asyncio.create_task(acceptor.close(5.0))
        await asyncio.sleep(0)
        with pytest.raises(RemoteFault, match="Shutting down"):
            await link.call("more")
        server_side.answer(watcher.calls[0].id, "done")
        assert await running == "done"
        await closing

    run(scene())


def test_nobody_listens(run: Run, home: Path) -> None:
    async def scene() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            for address in (f"tcp:127.0.0.1:{port}", f"unix:{home}/none.sock", f"unix:{home}/none/none.sock"):
                with pytest.raises(NotRunning) as caught:
                    await connect(address)
                assert isinstance(caught.value, OSError)

    run(scene())


def test_a_connection_that_is_not_taken_in_time_is_given_up(run: Run, home: Path) -> None:
    async def scene() -> None:
        # Nobody accepts, and the queue of the kernel is full.
        with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as waiting:
            deaf.bind(str(home / "deaf.sock"))
            deaf.listen(0)
            waiting.connect(str(home / "deaf.sock"))
            with pytest.raises(NotRunning, match=r"within 0\.2 seconds"):
                await connect(f"unix:{home}/deaf.sock", timeout=0.2)

    run(scene())


@pytest.mark.parametrize("address", ["mux:(stdio:)", "null", "internal:", "tcpserv::1", "restart:1:stdio:"])
def test_some_addresses_are_none_to_connect_to(run: Run, address: str) -> None:
    with pytest.raises(ValueError, match="open_endpoint"):
        run(connect(address))


@pytest.mark.parametrize("address", ["mux:(stdio:)", "null", "internal:", "stdio:", "restart:1:stdio:"])
def test_some_addresses_are_none_to_listen_on(run: Run, address: str) -> None:
    with pytest.raises(ValueError, match="no address to listen on"):
        run(listen(address))


def test_a_wrong_codec_is_an_error_before_anybody_connects(run: Run) -> None:
    with pytest.raises(ValueError, match="is no codec"):
        run(listen("tcp:127.0.0.1:0", codec="pickle"))


@pytest.mark.rule("rpc.B7")
def test_one_that_does_not_read_is_cut_off_and_others_go_on(run: Run) -> None:
    async def scene() -> None:
        limits = PeerLimits(write_buffer=65536, timeout=5.0)
        setup = LinkSetup(on_call=serve, slow_reader=0.2, limits=limits)
        watcher = Watcher()
        acceptor = await listen("tcp:127.0.0.1:0", setup, on_event=watcher.on_event)
        good = await connect(f"tcp:{acceptor.addresses[0]}")
        host, port = acceptor.addresses[0].split(":")
        _reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        text = b"x" * 50_000
        call = b'{"jsonrpc":"2.0","method":"echo","params":{"a":"' + text + b'"},"id":1}\n'

        async def flood() -> None:
            while True:
                writer.write(call)
                await writer.drain()

        flooding = asyncio.create_task(flood())
        for number in range(200):
            assert await good.call("echo", {"number": number}) == {"number": number}
        await asyncio.wait([flooding])
        assert isinstance(flooding.exception(), ConnectionError)
        await until(lambda: len(acceptor.links) == 1)
        assert "unread" in watcher.events[-1].reason
        assert await good.call("echo", {}) == {}
        writer.close()
        await acceptor.close()

    run(scene())


def test_one_that_reads_again_in_time_gets_all_of_its_answers(run: Run) -> None:
    async def scene() -> None:
        limits = PeerLimits(write_buffer=65536)
        acceptor = await listen("tcp:127.0.0.1:0", LinkSetup(on_call=serve, limits=limits))
        host, port = acceptor.addresses[0].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        reader._transport.pause_reading()
        text = b"x" * 50_000
        for number in range(300):
            writer.write(b'{"jsonrpc":"2.0","method":"echo","params":["%b"],"id":%d}\n' % (text, number))
        (link,) = acceptor.links.values() if acceptor.links else await _first(acceptor)
        await until(lambda: not link.statistics().is_reading)
        held = link.statistics()
        assert held.unsent < 65536 + 2 * 262144
        reader._transport.resume_reading()
        for number in range(300):
            line = await _line(reader)
            assert line.startswith(b'{"jsonrpc":"2.0","result":["xxx')
            assert line.endswith(b'"id":%d}\n' % number)
        writer.close()
        await acceptor.close()

    async def _first(acceptor: Any) -> Any:
        await until(lambda: acceptor.links)
        return acceptor.links.values()

    async def _line(reader: asyncio.StreamReader) -> bytes:
        whole = b""
        while not whole.endswith(b"\n"):
            try:
                whole += await reader.readuntil(b"\n")
            except asyncio.LimitOverrunError as error:
                whole += await reader.readexactly(error.consumed)
        return whole

    run(scene())


def test_one_that_has_said_all_still_gets_its_answers(run: Run) -> None:
    async def scene() -> None:
        watcher = Watcher()
        acceptor = await listen("tcp:127.0.0.1:0", watcher.setup())
        host, port = acceptor.addresses[0].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b'{"jsonrpc":"2.0","method":"a","id":1}\n{"jsonrpc":"2.0","method":"b","id":2}\n')
        writer.write_eof()
        await until(lambda: len(watcher.calls) == 2)
        (link,) = acceptor.links.values()
        link.answer(2, "second")
        link.answer(1, "first")
        answers = (await reader.read()).splitlines()
        assert answers == [
            b'{"jsonrpc":"2.0","result":"second","id":2}',
            b'{"jsonrpc":"2.0","result":"first","id":1}',
        ]
        writer.close()
        await acceptor.close()

    run(scene())


@pytest.mark.rule("rpc.B4")
def test_a_program_that_ends_ends_its_calls(run: Run) -> None:
    async def scene() -> None:
        watcher = Watcher()
        acceptor = await listen("tcp:127.0.0.1:0", watcher.setup())
        link = await connect(f"tcp:{acceptor.addresses[0]}")
        running = asyncio.create_task(link.call("slow"))
        await until(lambda: watcher.calls)
        link.close()
        with pytest.raises(ConnectionLost, match="closed on this side"):
            await running
        await until(lambda: not acceptor.links)
        (lost,) = [event for event in watcher.events if isinstance(event, Lost)]
        assert lost.running == (watcher.calls[0].id,)
        assert not lost.may_answer
        assert watcher.kinds[-1] == "Disconnected"
        await acceptor.close()

    run(scene())


def test_keep_alive_octets_are_sent_when_nothing_else_is(run: Run) -> None:
    async def scene() -> None:
        heard: asyncio.Queue[bytes] = asyncio.Queue()

        async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(100):
                heard.put_nowait(data)
            writer.close()

        server = await asyncio.start_server(note, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        link = await connect(f"tcp:127.0.0.1:{port}", hello=None, keepalive=b"\n", keepalive_interval=0.02)
        assert [await heard.get() for _ in range(3)] == [b"\n"] * 3
        link.close()
        await link.wait_closed()
        server.close()
        await server.wait_closed()

    run(scene())


async def talk(link: Link) -> None:
    """Say more and more, without end."""
    while True:
        link.cast("note", {"text": "x" * 500_000})
        await asyncio.sleep(0)


@pytest.mark.rule("rpc.B7")
def test_what_waits_for_one_that_does_not_read_is_bounded_and_ends(run: Run) -> None:
    async def scene() -> None:
        deaf = socket.socket()
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(5)
        watcher = Watcher()
        setup = watcher.setup(hello=None, slow_reader=1.5, limits=PeerLimits(write_buffer=65536))
        link = await connect(f"tcp:127.0.0.1:{deaf.getsockname()[1]}", setup)
        with pytest.raises(Busy):
            await talk(link)
        with pytest.raises(Busy):
            link.request("ask")
        with pytest.raises(CallExpired, match="was not made"):
            await link.call("ask", timeout=0.01)
        waiting = asyncio.create_task(link.call("ask"))
        await asyncio.sleep(0)
        link.close()
        with pytest.raises(ConnectionLost) as caught:
            await waiting
        assert not caught.value.sent
        await link.wait_closed()
        deaf.close()

    run(scene())


@pytest.mark.rule("rpc.B7")
def test_a_call_waits_until_the_other_side_reads_again(run: Run) -> None:
    async def scene() -> None:
        listening = socket.socket()
        listening.setblocking(False)
        listening.bind(("127.0.0.1", 0))
        listening.listen(5)
        limits = PeerLimits(write_buffer=65536)
        link = await connect(f"tcp:127.0.0.1:{listening.getsockname()[1]}", hello=None, limits=limits)
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(listening)
        with pytest.raises(Busy):
            await talk(link)
        waiting = asyncio.create_task(link.call("ask"))
        heard = b""
        while b'"ask"' not in heard:
            heard = heard[-10:] + await loop.sock_recv(connection, 1 << 20)
        await loop.sock_sendall(connection, b'{"jsonrpc":"2.0","result":"yes","id":1}\n')
        assert await waiting == "yes"
        link.close()
        await link.wait_closed()
        connection.close()
        listening.close()

    run(scene())
