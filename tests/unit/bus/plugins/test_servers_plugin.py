"""Servers on the bus: ready when `start` returns, gone when `stop` returns, and never failing in silence."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from monsal.bus import Bus, ChannelFailures, Phase, State
from monsal.bus.plugins import ServerAdapter, servers
from monsal.bus.plugins.servers import port_answers, wait_free, wait_occupied

PATIENCE = 60.0
HERE = "127.0.0.1"


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args: object) -> None:
        """Nothing is written to the standard error stream."""


class UnixServer(ThreadingUnixStreamServer):
    daemon_threads = True


class Server:
    """A small server as the family knows them: it binds in `start`, serves there, and says so in `ready`."""

    def __init__(self, addr: Any) -> None:
        self.addr = addr
        self.ready: Any = False
        self.socket: socket.socket | None = None
        self.bind_addr = addr
        self.crash = threading.Event()
        self.error: BaseException | None = None
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        kind: Any = ThreadingHTTPServer if isinstance(self.addr, tuple) else UnixServer
        with kind(self.addr, Page) as server:
            self.server, self.socket, self.bind_addr = server, server.socket, server.server_address
            server.service_actions = self.look
            self.ready = True
            server.serve_forever(0.01)

    def look(self) -> None:
        if self.crash.is_set():
            assert self.error is not None
            raise self.error

    def stop(self) -> None:
        self.ready = False
        self.server.shutdown()

    def __str__(self) -> str:
        return "of the test"


class Fake:
    """A server without a socket, for what is about threads only."""

    def __init__(self, ready: Any = True, error: BaseException | None = None) -> None:
        self.ready = ready
        self.error = error
        self.ended = threading.Event()

    def start(self) -> None:
        if self.error is not None:
            raise self.error
        assert self.ended.wait(PATIENCE)

    def stop(self) -> None:
        self.ended.set()


@pytest.fixture
def bus() -> Iterator[Bus]:
    made = Bus()
    made.said = []  # type: ignore[attr-defined] - free attributes are part of the contract
    made.subscribe("log", lambda msg, level: made.said.append(msg))  # type: ignore[attr-defined] - as above
    yield made
    try:
        made.exit()
    except ChannelFailures:
        assert made.phase is Phase.EXITED
    for thread in threading.enumerate():
        if thread.name.startswith("HTTPServer"):
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread.name} did not end"
    # A server that is dropped with its socket open is seen here and not in a later test.
    gc.collect()


@pytest.fixture
def server() -> Server:
    return Server((HERE, 0))


@pytest.fixture
def adapter(bus: Bus, server: Server) -> ServerAdapter:
    made = ServerAdapter(bus, server, server.addr)
    made.subscribe()
    return made


@pytest.fixture
def taken() -> Iterator[tuple[str, int]]:
    """The address of somebody else's server."""
    with socket.create_server((HERE, 0)) as other:
        yield other.getsockname()


@contextmanager
def failing(text: str) -> Iterator[pytest.ExceptionInfo[ChannelFailures]]:
    """What is raised says `text`; the message of a group does not show what is inside."""
    with pytest.raises(ChannelFailures) as caught:
        yield caught
    assert text in str(caught.value)


def page(addr: Any) -> bytes:
    connection = HTTPConnection(*addr, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.mark.rule("bus.B19")
def test_names_and_priorities_are_those_of_the_contract(bus: Bus) -> None:
    order: list[str] = []
    for channel, priorities in (("start", (74, 76)), ("stop", (24, 26))):
        for priority in priorities:
            bus.subscribe(channel, lambda at=f"{channel} {priority}": order.append(at), priority)

    class Noted(Fake):
        def start(self) -> None:
            order.append("server starts")
            super().start()

        def stop(self) -> None:
            order.append("server stops")
            super().stop()

    adapter = ServerAdapter(bus, httpserver=Noted(), bind_addr=None)
    adapter.subscribe()
    bus.start()
    bus.exit()
    assert order == ["start 74", "server starts", "start 76", "stop 24", "server stops", "stop 26"]
    adapter.unsubscribe()
    assert adapter.start not in bus.listeners["start"]
    assert adapter.stop not in bus.listeners["stop"]


def test_it_serves_when_start_returns_and_the_port_is_free_when_stop_returns(
    bus: Bus, adapter: ServerAdapter, server: Server
) -> None:
    bus.start()
    assert adapter.running
    addr = adapter.bound_addr
    assert isinstance(addr, tuple)
    assert addr[0] == HERE
    assert addr[1] != 0
    assert adapter.bind_addr == (HERE, 0)
    assert page(addr) == b"hello"
    bus.exit()
    assert not adapter.running
    assert not port_answers(addr)
    assert [line for line in bus.said if not line.startswith("Bus ")] == [  # type: ignore[attr-defined] - free
        f"Serving on http://{HERE}:{addr[1]}",
        "HTTP Server of the test shut down",
    ]


def test_it_runs_in_a_named_thread_that_does_not_keep_the_process(bus: Bus, adapter: ServerAdapter) -> None:
    bus.start()
    (thread,) = [thread for thread in threading.enumerate() if thread.name.startswith("HTTPServer")]
    assert thread.daemon
    bus.exit()
    bus.block()


def test_without_a_server_there_is_a_clear_error(bus: Bus) -> None:
    ServerAdapter(bus).subscribe()
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    assert [(type(error), str(error)) for error in caught.value.exceptions] == [
        (ValueError, "No HTTP server has been created.")
    ]
    assert bus.state is State.EXITING


def test_started_or_stopped_twice_it_is_only_said(bus: Bus, adapter: ServerAdapter, server: Server) -> None:
    adapter.stop()
    bus.start()
    adapter.start()
    adapter.stop()
    adapter.stop()
    assert server.starts == 1
    said = [line.split(" on ")[0] for line in bus.said if "erv" in line]  # type: ignore[attr-defined] - free attribute
    assert said == [
        "HTTP Server of the test already shut down",
        "Serving",
        "Already serving",
        "HTTP Server of the test shut down",
        "HTTP Server of the test already shut down",
    ]


def test_restart_and_graceful(bus: Bus, adapter: ServerAdapter, server: Server) -> None:
    bus.subscribe("graceful", adapter.restart)
    bus.start()
    before = server.server
    bus.graceful()
    assert server.starts == 2
    assert server.server is not before
    addr = adapter.bound_addr
    assert addr is not None
    assert page(addr) == b"hello"
    adapter.restart()
    assert server.starts == 3
    assert adapter.running


def test_the_bus_may_start_it_again_after_a_stop(bus: Bus, adapter: ServerAdapter, server: Server) -> None:
    bus.start()
    bus.stop()
    bus.start()
    assert page(adapter.bound_addr) == b"hello"
    assert server.starts == 2


# Ports


def test_a_port_that_is_in_use_is_named(bus: Bus, taken: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "FREE", 0.05)
    server = Server(taken)
    ServerAdapter(bus, server, taken).subscribe()
    with failing(f"Port {taken[1]} not free on {HERE}"):
        bus.start()
    assert server.starts == 0
    assert port_answers(taken)


def test_a_port_that_becomes_free_in_time_is_waited_for(bus: Bus, server: Server) -> None:
    with socket.create_server((HERE, 0)) as other:
        addr = other.getsockname()
        # Whoever listens there goes away with the first visit, which is the check of the adapter.
        thread = threading.Thread(target=lambda: (other.accept()[0].close(), other.close()))
        thread.start()
        wait_free(addr, PATIENCE)
        thread.join()


def test_a_server_that_is_ready_but_does_not_answer_is_an_error_and_is_stopped(
    bus: Bus, taken: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "OCCUPIED", 0.05)
    with socket.socket() as unused:
        unused.bind((HERE, 0))
        addr = unused.getsockname()
        server = Fake()
        ServerAdapter(bus, server, addr).subscribe()
        with failing(f"Port {addr[1]} not bound on {HERE}"):
            bus.start()
    assert server.ended.is_set()


def test_a_port_that_is_still_in_use_after_the_stop_is_an_error(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "FREE", 0.05)
    kept: list[socket.socket] = []

    class Keeps(Fake):
        def start(self) -> None:
            kept.append(socket.create_server(addr))
            self.ready = True
            super().start()

    with socket.socket() as unused:
        unused.bind((HERE, 0))
        addr = unused.getsockname()
    ServerAdapter(bus, Keeps(ready=False), addr).subscribe()
    bus.start()
    with failing("not free"):
        bus.exit()
    kept[0].close()
    assert bus.phase is Phase.EXITED


def test_a_server_that_was_given_its_socket_has_it_before_and_after(bus: Bus) -> None:
    with socket.create_server((HERE, 0)) as given:

        class Given(Fake):
            socket = given

        adapter = ServerAdapter(bus, Given(), given.getsockname())
        adapter.subscribe()
        bus.start()
        assert adapter.running
        bus.exit()
        assert not adapter.running


@pytest.mark.parametrize(
    ("pid", "checked"), [(os.getpid(), False), (os.getpid() + 1, True), ("", True)], ids=["ours", "of another", "none"]
)
@pytest.mark.rule("bus.B13")
def test_socket_activation_counts_only_for_this_process(
    bus: Bus, taken: tuple[str, int], monkeypatch: pytest.MonkeyPatch, pid: object, checked: bool
) -> None:
    """The family looks only whether LISTEN_PID is set, which a child inherits from its parent."""
    monkeypatch.setattr(servers, "FREE", 0.05)
    monkeypatch.setenv("LISTEN_PID", str(pid))
    monkeypatch.setenv("LISTEN_FDS", "1")
    adapter = ServerAdapter(bus, Fake(), taken)
    if checked:
        with pytest.raises(TimeoutError, match="not free"):
            adapter.start()
    else:
        adapter.start()
        adapter.stop()


def test_a_unix_socket(bus: Bus, tmp_path: Path) -> None:
    path = str(tmp_path / "http.sock")
    adapter = ServerAdapter(bus, Server(path), path)
    adapter.subscribe()
    bus.start()
    assert port_answers(path)
    assert adapter.bound_addr == path
    assert f"Serving on socket file: {path}" in bus.said  # type: ignore[attr-defined] - free attribute
    other = ServerAdapter(bus, Server(path), os.fsencode(path))
    with pytest.raises(TimeoutError, match=r"Socket file '.*http\.sock' not free"):
        other._check(lambda addr: wait_free(addr, 0.05), other.bind_addr)
    bus.exit()
    assert not port_answers(path)


@pytest.mark.parametrize(("listens", "asked"), [("0.0.0.0", "0.0.0.0"), ("0.0.0.0", ""), ("::1", "::"), ("::1", "::0")])
def test_all_interfaces_are_tried_on_the_loopback_one(listens: str, asked: str) -> None:
    family = socket.AF_INET6 if ":" in listens else socket.AF_INET
    with socket.create_server((listens, 0), family=family) as other:
        port = other.getsockname()[1]
        wait_occupied((asked, port))
    assert not port_answers((asked, port))


def test_what_cannot_be_tried_is_said_and_the_server_believed(bus: Bus, tmp_path: Path) -> None:
    """As the family does on machines without a loopback interface."""
    adapter = ServerAdapter(bus, Fake(), str(tmp_path / ("long" * 40)))
    adapter.start()
    assert adapter.running
    assert any(line.startswith("Cannot try whether") for line in bus.said)  # type: ignore[attr-defined] - free
    adapter.stop()


def test_a_name_that_nobody_has_cannot_be_tried() -> None:
    with pytest.raises(OSError):
        port_answers(("nobody.invalid", 80))


def test_a_full_backlog_is_an_answer(tmp_path: Path) -> None:
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(path)
        other.listen(0)
        waiting.connect(path)
        assert port_answers(path, 0.05)


def test_a_connection_that_meets_itself_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bound(socket.socket):
        """Tries from the very port that it tries, as happens by chance in the dynamic range."""

        def connect(self, addr: Any) -> None:
            self.bind(addr)
            super().connect(addr)

    with socket.socket() as unused:
        unused.bind((HERE, 0))
        addr = unused.getsockname()
    monkeypatch.setattr(servers.socket, "socket", Bound)
    assert not port_answers(addr)


# Failures


@pytest.mark.rule("bus.R11")
def test_a_crash_at_the_start_is_raised_with_its_traceback_and_exits_the_bus(bus: Bus) -> None:
    server = Fake(ready=False, error=OSError("no port for you"))
    adapter = ServerAdapter(bus, server, (HERE, 0))
    adapter.subscribe()
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    (error,) = caught.value.exceptions
    assert error is server.error is adapter.interrupt
    assert "raise self.error" in "".join(traceback.format_exception(error))
    assert bus.state is State.EXITING
    assert not adapter.running
    assert any(  # type: ignore[attr-defined] - free attribute
        line.startswith("Error in HTTP server: shutting down\nTraceback") for line in bus.said
    )
    with pytest.raises(OSError, match="no port for you"):
        adapter.wait()


@pytest.mark.rule("bus.B10")
def test_a_crash_later_exits_the_bus_and_block_raises_it(bus: Bus, adapter: ServerAdapter, server: Server) -> None:
    left: list[str] = []
    bus.subscribe("exit", lambda: left.append("exit"))
    bus.start()
    addr = adapter.bound_addr
    server.error = RuntimeError("out of order")
    server.crash.set()
    with failing("out of order") as caught:
        bus.block()
    assert caught.value.exceptions == (server.error,)
    assert (bus.phase, left, adapter.running) == (Phase.EXITED, ["exit"], False)
    assert not port_answers(addr)
    with pytest.raises(RuntimeError, match="out of order"):
        adapter.wait()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyboardInterrupt(), "<Ctrl-C> hit: shutting down HTTP server"),
        (SystemExit(3), "SystemExit raised: shutting down HTTP server"),
    ],
)
def test_an_interrupt_in_the_servers_thread_exits_the_bus(
    bus: Bus, adapter: ServerAdapter, server: Server, error: BaseException, text: str
) -> None:
    bus.start()
    server.error = error
    server.crash.set()
    bus.block()
    assert bus.phase is Phase.EXITED
    assert text in bus.said  # type: ignore[attr-defined] - free attribute
    assert adapter.interrupt is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.rule("bus.R11")
def test_an_interrupt_at_the_start_is_raised_and_the_bus_exits_all_the_same(bus: Bus, error: BaseException) -> None:
    ServerAdapter(bus, Fake(ready=False, error=error)).subscribe()
    with pytest.raises(type(error)):
        bus.start()
    bus.wait(Phase.EXITED)


def test_what_the_server_calls_may_stop_it(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """On its own thread, for whose end nobody can wait there: that would take all of the time for it."""
    monkeypatch.setattr(servers, "ENDED", PATIENCE * 2)

    class Calls(Fake):
        def start(self) -> None:
            super().start()
            adapter.stop()

    server = Calls()
    adapter = ServerAdapter(bus, server)
    adapter.start()
    (thread,) = [thread for thread in threading.enumerate() if thread.name.startswith("HTTPServer")]
    server.ended.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert (adapter.running, adapter.interrupt) == (False, None)


def test_a_server_that_ends_by_itself_is_told_of(bus: Bus) -> None:
    server = Fake()
    ended = threading.Event()
    adapter = ServerAdapter(bus, server)
    adapter.subscribe()
    bus.subscribe("log", lambda msg, level: ended.set() if "has ended by itself" in msg else None)
    bus.start()
    server.ready = False
    server.ended.set()
    assert ended.wait(PATIENCE)
    assert bus.state is State.STARTED


def test_a_server_that_ends_and_never_was_ready_is_an_error(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "OCCUPIED", 0.05)
    server = Fake(ready=False)
    server.ended.set()
    ServerAdapter(bus, server).subscribe()
    with failing("was never ready"):
        bus.start()


@pytest.mark.rule("bus.B6")
def test_one_that_never_gets_ready_is_given_up_and_stopped(bus: Bus) -> None:
    """(C11): it waited for ever, and nothing stopped the server that was not yet ready."""
    server = Fake(ready=False)
    adapter = ServerAdapter(bus, server)

    def start() -> None:
        adapter.start()

    start.limit = 0.2  # type: ignore[attr-defined] - functions take attributes
    bus.subscribe("start", start)
    bus.subscribe("stop", adapter.stop)
    with failing("took more than"):
        bus.start()
    assert bus.phase is Phase.EXITED
    assert server.ended.is_set()
    assert not adapter.running


def test_one_whose_thread_does_not_end_cannot_be_started_again(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "ENDED", 0.05)
    server = Fake()
    end = server.stop
    server.stop = lambda: None  # type: ignore[method-assign] - a server that does not do what it is asked
    adapter = ServerAdapter(bus, server)
    adapter.start()
    adapter.stop()
    assert any("has not ended yet" in line for line in bus.said)  # type: ignore[attr-defined] - free attribute
    with pytest.raises(RuntimeError, match="has not ended yet"):
        adapter.start()
    end()


# How a server says that it is ready


def _attribute(server: Fake) -> Callable[[], object]:
    server.ready = False
    return lambda: setattr(server, "ready", True)


def _event(server: Fake) -> Callable[[], object]:
    server.ready = threading.Event()
    return server.ready.set


def _function(server: Fake) -> Callable[[], object]:
    state: list[int] = []
    server.ready = lambda: state
    return lambda: state.append(1)


@pytest.mark.parametrize("way", [_attribute, _event, _function])
def test_the_ways_to_say_ready(bus: Bus, way: Callable[[Fake], Callable[[], object]]) -> None:
    server = Fake()
    get_ready = way(server)
    adapter = ServerAdapter(bus, server)
    returned = threading.Event()
    thread = threading.Thread(target=lambda: (adapter.start(), returned.set()))
    thread.start()
    assert not returned.wait(0.1)
    get_ready()
    assert returned.wait(PATIENCE)
    thread.join()
    adapter.stop()


def test_one_that_says_nothing_is_known_by_its_port(bus: Bus, server: Server) -> None:
    class Silent:
        start, stop = server.start, server.stop

        @property
        def bind_addr(self) -> Any:
            return server.bind_addr

    with socket.socket() as unused:
        unused.bind((HERE, 0))
        server.addr = unused.getsockname()
    adapter = ServerAdapter(bus, Silent(), server.addr)
    adapter.subscribe()
    bus.start()
    assert page(server.addr) == b"hello"


def test_one_that_says_nothing_and_has_no_address_is_refused(bus: Bus) -> None:
    class Silent:
        def start(self) -> None:
            """Serves nobody."""

        stop = start

    with pytest.raises(ValueError, match="no `ready`, and no address"):
        ServerAdapter(bus, Silent()).start()


# What it says about itself


@pytest.mark.parametrize(
    ("addr", "secure", "text"),
    [
        (None, False, "unknown interface (dynamic?)"),
        (("127.0.0.1", 8080), False, "http://127.0.0.1:8080"),
        (("127.0.0.1", 80), False, "http://127.0.0.1"),
        (("127.0.0.1", 80), True, "https://127.0.0.1:80"),
        (("127.0.0.1", 443), True, "https://127.0.0.1"),
        (("::1", 8080), False, "http://[::1]:8080"),
        ("/run/x.sock", False, "socket file: /run/x.sock"),
        (b"/run/x.sock", False, "socket file: /run/x.sock"),
    ],
)
def test_descriptions(bus: Bus, addr: Any, secure: bool, text: str) -> None:
    server = Fake()
    server.ssl_adapter = object() if secure else None  # type: ignore[attr-defined] - as cheroot's servers have it
    assert ServerAdapter(bus, server, addr).description == text


def test_the_port_that_a_server_got_is_asked_of_it(bus: Bus) -> None:
    server: Any = Fake()
    adapter = ServerAdapter(bus, server, ("0.0.0.0", 0))
    assert adapter.bound_addr == ("0.0.0.0", 0)
    server.server_address = ("127.0.0.1", 4711)
    assert adapter.bound_addr == ("0.0.0.0", 4711)
    server.bind_addr = ("127.0.0.1", 4712)
    assert adapter.bound_addr == ("0.0.0.0", 4712)
    with socket.create_server((HERE, 0)) as own:
        server.socket = own
        assert adapter.bound_addr == ("0.0.0.0", own.getsockname()[1])
    server.socket = None
    assert adapter.bound_addr == ("0.0.0.0", 0)


def test_a_subclass_need_not_call_our_init(bus: Bus) -> None:
    """CherryPy's own server is such a one, and its `bind_addr` is a property."""

    class Own(ServerAdapter):
        def __init__(self) -> None:
            self.bus = bus
            self.httpserver = Fake()

        bind_addr = property(lambda self: None, lambda self, value: None)  # type: ignore[assignment] - as there

    adapter = Own()
    adapter.subscribe()
    bus.start()
    assert adapter.running
    bus.exit()
    assert not adapter.running


def test_a_program_that_dies_of_it_ends_the_bus_first() -> None:
    """The main thread leaves with the server's SystemExit, and what was started is stopped nevertheless."""
    program = (
        "from monsal.bus import Bus, ServerAdapter, StdoutLogger\n"
        "class Server:\n"
        "    ready = False\n"
        "    def start(self): raise SystemExit(7)\n"
        "bus = Bus()\n"
        "StdoutLogger(bus, format='%(message)s').subscribe()\n"
        "bus.subscribe('start', lambda: bus.log('started'))\n"
        "bus.subscribe('stop', lambda: bus.log('stopped'))\n"
        "ServerAdapter(bus, Server()).subscribe()\n"
        "bus.start()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (7, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "Bus STARTING"
    assert lines[-4:] == ["stopped", "Bus STOPPED", "Bus EXITING", "Bus EXITED"]
