"""HTTP on real sockets: what is bounded, and that it has a thread of its own (P7)."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificate

PATIENCE = 30.0


async def until(condition: Any, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        await asyncio.sleep(0.01)


def test_a_request_is_answered_and_a_second_one_on_the_same_connection(served: Any) -> None:
    async def play() -> None:
        async with served() as server:
            one = b"POST /app/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
            two = b"GET /app HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            told = await server.say(one + two)
            assert told.count(b"HTTP/1.1 200 OK\r\n") == 2
            assert b"POST /app /app/x 2" in told
            assert b"GET /app /app 0" in told
            assert b"uvicorn" not in told
            assert (await server.request("GET /other")).startswith(b"HTTP/1.1 404 ")

    asyncio.run(play())


def test_a_body_of_a_megabyte_is_refused_in_words(served: Any) -> None:
    async def play() -> None:
        async with served(max_body=64 * 1024) as server:
            told = await server.request("POST /app", b"x" * 1_000_000)
            assert told.startswith(b"HTTP/1.1 413 ")
            assert b"at most 65536 octets" in told

    asyncio.run(play())


def test_a_head_that_never_ends_and_one_that_is_too_large(served: Any) -> None:
    async def play() -> None:
        async with served(head=0.2) as server:
            assert await server.say(b"") == b""
            assert await server.say(b"GET /app HTTP/1.1\r\nHost: x\r\nX-Slow: ") == b""
            assert server.server.places.expired == 2
        async with served(max_head=1000) as server:
            told = await server.say(b"GET /app HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 5000)
            assert told.startswith(b"HTTP/1.1 400 ")
            assert (await server.say(b"\x16\x03\x01 no HTTP\r\n\r\n")).startswith(b"HTTP/1.1 400 ")

    asyncio.run(play())


HEAD = b"POST /app HTTP/1.1\r\nHost: x\r\n"


def test_a_request_whose_end_others_see_elsewhere_is_not_answered_twice(served: Any) -> None:
    """RFC 9112, sections 6.1 and 6.3: what a proxy before us takes for a body must be no request here."""
    hidden = b"0\r\n\r\nGET /app/hidden HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n"

    async def play() -> None:
        async with served() as server:
            for head in (HEAD + b"Content-Length: 5\r\n" + chunked, HEAD.replace(b"1.1", b"1.0") + chunked):
                told = await server.say(head + b"\r\n" + hidden)
                assert (told[:13], told.count(b"HTTP/1.1")) == (b"HTTP/1.1 400 ", 1), head
            assert server.server._app.statistics().refused == 2
            told = await server.say(HEAD + chunked + b"Connection: close\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
            assert told.endswith(b"POST /app /app 2")

    asyncio.run(play())


def test_what_strangers_send_makes_no_traceback(served: Any, caplog: Any) -> None:
    async def play() -> None:
        async with served() as server:
            chunks = HEAD.replace(b"/app", b"/none") + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"
            assert b" 200 " not in await server.say(chunks + b"no chunk\r\n\r\n")
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(chunks)
            await asyncio.wait_for(reader.readuntil(b"nothing here.\n"), PATIENCE)
            writer.write(b"no chunk\r\n\r\n")
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()
            assert (await server.say(b"CONNECT /app HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
            await until(lambda: server.server.places.open == 0, "the ends of all")

    asyncio.run(play())
    assert caplog.records == []


def test_an_answer_shorter_than_it_says_is_broken_off_and_stops_no_stop(served: Any) -> None:
    async def short(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"short"})

    async def play() -> None:
        async with served(short) as server:
            told = await server.say(b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n")
            assert told.endswith(b"\r\n\r\nshort")
            await until(lambda: server.server.places.open == 0, "its end")

    asyncio.run(play())


def test_an_answer_that_nobody_reads_ends_its_connection(served: Any) -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

    async def play() -> None:
        async with served(endless, body=0.1, deadline=0.2, write=0.1) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
            writer.write(b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: server.server.places.open == 1, "the connection")
            await until(lambda: server.server.places.open == 0, "its end")
            writer.close()
            # Others are served all the while, and afterwards.
            assert (await server.request("GET /none")).startswith(b"HTTP/1.1 404 ")

    asyncio.run(play())


def test_there_are_so_many_places_and_they_are_given_back(served: Any) -> None:
    async def play() -> None:
        async with served(max_connections_per_peer=2, max_connections=3) as server:
            held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
            await until(lambda: server.server.places.open == 2, "two connections")
            # Nothing is said before: what is sent to a connection that has ended may reset it before its word is read.
            assert (await server.say(b"")).startswith(b"HTTP/1.1 503 ")
            assert server.server.places.refused == 1
            for _, writer in held:
                writer.close()
            await until(lambda: server.server.places.open == 0, "their ends")
            assert (await server.request("GET /app")).startswith(b"HTTP/1.1 200 ")

    asyncio.run(play())


def test_an_application_that_blocks_holds_up_no_other_loop(served: Any) -> None:
    entered, go = threading.Event(), threading.Event()

    async def blocks(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        assert go.wait(PATIENCE)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def play() -> None:
        async with served(blocks) as server:
            asked = asyncio.create_task(server.request("GET /app"))
            await asyncio.get_running_loop().run_in_executor(None, entered.wait, PATIENCE)
            # This loop, which stands for that of mail, goes on.
            await asyncio.sleep(0)
            assert not asked.done()
            go.set()
            assert (await asked).endswith(b"done\r\n0\r\n\r\n")

    asyncio.run(play())


def test_a_stop_lets_end_what_runs_and_closes_what_waits(served: Any) -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        entered = asyncio.Event()
        go = threading.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            loop.call_soon_threadsafe(entered.set)
            await asyncio.get_running_loop().run_in_executor(None, go.wait, PATIENCE)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
            await send({"type": "http.response.body", "body": b"done"})

        async with served(slow) as server:
            idle, writer = await asyncio.open_connection("127.0.0.1", server.port)
            asked = asyncio.create_task(server.request("GET /app"))
            await asyncio.wait_for(entered.wait(), PATIENCE)
            stopping = asyncio.create_task(server.server.stop(PATIENCE))
            assert await asyncio.wait_for(idle.read(), PATIENCE) == b""
            writer.close()
            go.set()
            assert (await asked).endswith(b"done")
            await stopping
            assert server.server.places.open == 0

    asyncio.run(play())


def test_a_stop_does_not_wait_for_what_hangs(served: Any) -> None:
    async def play() -> None:
        loop, entered = asyncio.get_running_loop(), asyncio.Event()

        async def hangs(scope: Any, receive: Any, send: Any) -> None:
            loop.call_soon_threadsafe(entered.set)
            await asyncio.Event().wait()

        async with served(hangs) as server:
            asked = asyncio.create_task(server.request("GET /app"))
            await asyncio.wait_for(entered.wait(), PATIENCE)
            await asyncio.wait_for(server.server.stop(0.05), PATIENCE)
            # It was told nothing, or that it failed, but not that all is well.
            assert b" 200 " not in await asked

    asyncio.run(play())


def test_tls_is_spoken_where_it_is_asked_for(served: Any, tmp_path: Path) -> None:
    authority = make_certificate(tmp_path, "authority")
    made = make_certificate(tmp_path, "server", signer=authority, hosts=("127.0.0.1",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    client = ssl.create_default_context(cafile=authority.cert)

    async def play() -> None:
        async with served(context=context) as server:
            assert (await server.request("GET /app", context=client)).startswith(b"HTTP/1.1 200 ")

    asyncio.run(play())


@pytest.mark.parametrize("plain", [False, True], ids=["uvloop", "asyncio"])
def test_who_says_nothing_before_tls_has_a_place_too(
    served: Any, tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    if plain:
        monkeypatch.setattr("monsal.http.serving.new_loop", asyncio.new_event_loop)
    authority = make_certificate(tmp_path, "authority")
    made = make_certificate(tmp_path, "server", signer=authority, hosts=("127.0.0.1",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    client = ssl.create_default_context(cafile=authority.cert)

    async def play() -> None:
        async with served(context=context, max_connections_per_peer=2) as server:
            places = server.server.places
            held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
            await until(lambda: places.open == 2, "two connections")
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            assert places.refused == 1
            for _, each in [*held, (reader, writer)]:
                each.close()
            await until(lambda: places.open == 0, "their ends")
            # What is no TLS ends at once; and then there is room again.
            for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"):
                with suppress(ConnectionResetError):
                    await server.say(data)
            await until(lambda: places.open == 0, "their ends")
            assert (await server.request("GET /app", context=client)).startswith(b"HTTP/1.1 200 ")
            assert (await server.request("POST /app", b"x" * 900, client)).endswith(b" 900")
            await until(lambda: places.open == 0, "its end")
        async with served(context=context, head=0.1) as server:
            with suppress(ConnectionResetError):
                assert await server.say(b"") == b""
            await until(lambda: server.server.places.open == 0, "its end")
        async with served(context=context) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await until(lambda: server.server.places.open == 1, "a connection")
            await asyncio.wait_for(server.server.stop(PATIENCE), PATIENCE)
            assert server.server.places.open == 0
            writer.close()

    asyncio.run(play())
    assert caplog.records == []
