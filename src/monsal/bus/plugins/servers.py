"""A server on the bus: started in a thread of its own, ready when `start` returns, gone when `stop` returns.

    ServerAdapter(bus, server, ("127.0.0.1", 8080)).subscribe()

A server is any object with `start()`, which serves until `stop()` is called on another thread, and with `ready`: true
when it serves, or a function or an event that says so. Those of cheroot and CherryPy are; the FastCGI and SCGI servers
that the family wraps are not built here, any that has the three names will do.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from monsal.bus.channels import ChannelFailures
from monsal.bus.core import Bus
from monsal.bus.states import Phase

__all__ = ["Address", "ServerAdapter", "port_answers", "wait_free", "wait_occupied"]

#: Host and port, or the path of a unix socket.
Address = tuple[str, int] | str | bytes

#: How many seconds a port may take to be free before the start and after the stop, and to answer after the start
#: (contract 2.2).
FREE = 1.0
OCCUPIED = 5.0
#: How long the thread of a server may take to end after its `stop()` has returned.
ENDED = 5.0
#: Seconds between two looks at what gives no sign when it changes: a port, and the attribute of a foreign server.
_STEP = 0.02

#: Addresses that mean all interfaces -> the one at which this machine finds them.
_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1", "::0": "::1", "::0.0.0.0": "::1"}


def port_answers(addr: Address, timeout: float = 1.0) -> bool:
    """Whether something accepts connections at an address.

    Raises OSError if that cannot be found out, for example because the host has no address or no way leads there.
    """
    if isinstance(addr, str | bytes):
        return _connects(socket.AF_UNIX, addr, timeout)
    host, port = addr[:2]
    unknown: OSError | None = None
    refused = False
    for family, _, _, _, place in socket.getaddrinfo(_LOOPBACK.get(host, host), port, type=socket.SOCK_STREAM):
        try:
            if _connects(family, place, timeout):
                return True
            refused = True
        except OSError as error:
            # A name can have several addresses, and a machine no IPv6.
            unknown = error
    if unknown is not None and not refused:
        raise unknown
    return False


def _connects(family: int, place: Any, timeout: float) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout)
        try:
            probe.connect(place)
        except BlockingIOError:
            # A unix socket whose backlog is full: somebody listens (connect(2), EAGAIN).
            return True
        except (ConnectionError, TimeoutError, FileNotFoundError):
            return False
        # A connection to a free port of the dynamic range can meet itself (RFC 9293, simultaneous open).
        return bool(probe.getsockname() != place)


def wait_free(addr: Address, timeout: float | None = None) -> None:
    """Wait until nothing answers at an address, 1 second if not said otherwise.

    Raises TimeoutError, and what `port_answers` raises.
    """
    end = monotonic() + (FREE if timeout is None else timeout)
    while port_answers(addr):
        if monotonic() >= end:
            raise TimeoutError(f"{_named(addr)}; another server listens there, or this one was not shut down")
        threading.Event().wait(_STEP)


def wait_occupied(addr: Address, timeout: float | None = None, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Wait until something answers at an address, 5 seconds if not said otherwise, calling `meanwhile` now and then.

    Raises TimeoutError, and what `port_answers` and `meanwhile` raise.
    """
    end = monotonic() + (OCCUPIED if timeout is None else timeout)
    while not port_answers(addr):
        meanwhile()
        if monotonic() >= end:
            raise TimeoutError(_named(addr, "bound"))
        threading.Event().wait(_STEP)


def _named(addr: Address, wanted: str = "free") -> str:
    if isinstance(addr, str | bytes):
        return f"Socket file {os.fsdecode(addr)!r} not {wanted}"
    return f"Port {addr[1]} not {wanted} on {addr[0]}"


class _Run:
    """One life of a server, from start to stop."""

    __slots__ = ("brought", "ended", "returned", "stopping", "thread")

    def __init__(self, brought: bool = False) -> None:
        #: Whether the server listened before it was started: the socket was given to it, and may outlive it.
        self.brought = brought
        #: Set when the server's own `start()` has returned or raised.
        self.ended = threading.Event()
        self.returned = 0.0
        self.stopping = False
        self.thread: threading.Thread | None = None


class ServerAdapter:
    """Starts and stops one server with the bus.

    Until it is known that the server serves `start` does not return, and a port that is in use is an error. If the
    server fails later, the bus exits; `stop` then raises the failure, so that the process does not end with code 0.
    A process that was started by socket activation (`LISTEN_PID` is its own) has no port checks.
    """

    #: What the server's thread raised; `start` and `wait` raise it, too.
    interrupt: BaseException | None = None
    running: bool = False
    # A default of the class, because CherryPy's own server is a subclass that does not call __init__.
    _run: _Run | None = None

    def __init__(self, bus: Bus, httpserver: Any = None, bind_addr: Address | None = None) -> None:
        self.bus = bus
        self.httpserver = httpserver
        self.bind_addr = bind_addr
        self.interrupt = None
        self.running = False

    def subscribe(self) -> None:
        """Have the bus start and stop the server."""
        self.bus.subscribe("start", self.start)
        self.bus.subscribe("stop", self.stop)

    def unsubscribe(self) -> None:
        """Undo `subscribe`."""
        self.bus.unsubscribe("start", self.start)
        self.bus.unsubscribe("stop", self.stop)

    def start(self) -> None:
        """Start the server and wait until it serves.

        Raises ValueError if there is none, TimeoutError if the port is in use or does not answer in time, and what the
        server's own `start()` raises.
        """
        if self.running:
            self.bus.log(f"Already serving on {self.description}")
            return
        if self.httpserver is None:
            raise ValueError("No HTTP server has been created.")
        if self._run is not None and not self._run.ended.is_set():
            raise RuntimeError(f"HTTP Server {self.httpserver} is still being started or has not ended yet")
        self.interrupt = None
        self._run = run = _Run(brought=self._listens())
        if not run.brought:
            self._check(wait_free, self.bind_addr)
        # A daemon thread: a server that does not end must not keep the process (B6). What it owes to its clients is
        # the task of its `stop()`, for which the bus waits.
        run.thread = threading.Thread(target=self._serve, args=(run,), daemon=True)
        run.thread.name = f"HTTPServer {run.thread.name}"
        run.thread.start()
        self.wait()
        self._look(run)
        self.running = True
        self.bus.log(f"Serving on {self.description}")

    start.priority = 75  # type: ignore[attr-defined]  # functions take attributes

    def wait(self) -> None:
        """Wait until the server is ready, and then until its port answers.

        Raises what the server's thread raised, and RuntimeError if it was stopped or has ended meanwhile.
        """
        run = self._run or _Run()
        self._look(run)
        while not self._is_ready():
            self._pause(run)
            self._look(run)
        self._check(lambda addr: wait_occupied(addr, meanwhile=lambda: self._look(run)), self.bound_addr)

    def stop(self) -> None:
        """Stop the server and wait until its port is free.

        Raises TimeoutError if it is not, and the failure of a server that had failed before.
        """
        run = self._run or _Run()
        alive = self._run is not None and not run.ended.is_set()
        if not (self.running or alive):
            self.bus.log(f"HTTP Server {self.httpserver} already shut down")
            return
        # Where it listens cannot be asked any more when it has stopped.
        addr = self.bound_addr
        run.stopping = True
        self.httpserver.stop()
        # What the server itself calls may stop the bus on this very thread, which ends when that is done.
        if alive and run.thread is not threading.current_thread() and not run.ended.wait(ENDED):
            self.bus.log(f"The thread of HTTP Server {self.httpserver} has not ended yet", 30)
        if not run.brought:
            self._check(wait_free, addr)
        self.running = False
        self.bus.log(f"HTTP Server {self.httpserver} shut down")
        if isinstance(self.interrupt, Exception):
            raise self.interrupt

    stop.priority = 25  # type: ignore[attr-defined]  # as above

    def restart(self) -> None:
        """Stop and start; subscribe it to `graceful` if that is how the server reads its settings again."""
        self.stop()
        self.start()

    @property
    def bound_addr(self) -> Address | None:
        """Where the server listens: `bind_addr`, and instead of port 0 the one that it got."""
        addr = self.bind_addr
        if not isinstance(addr, tuple) or addr[1] != 0:
            return addr
        server = self.httpserver
        # What a server says beside its socket is what it was told, and stays when the socket is gone.
        others = () if hasattr(server, "socket") else ("bind_addr", "server_address")
        for known in (_name_of(server), *(getattr(server, name, None) for name in others)):
            if isinstance(known, tuple) and known[1]:
                return addr[0], known[1]
        return addr

    @property
    def description(self) -> str:
        """Where the server listens, for people."""
        addr = self.bound_addr
        if addr is None:
            return "unknown interface (dynamic?)"
        if not isinstance(addr, tuple):
            return f"socket file: {os.fsdecode(addr)}"
        scheme, usual = ("https", 443) if getattr(self.httpserver, "ssl_adapter", None) else ("http", 80)
        host = f"[{addr[0]}]" if ":" in addr[0] else addr[0]
        return f"{scheme}://{host}" if addr[1] == usual else f"{scheme}://{host}:{addr[1]}"

    # The server's thread

    def _serve(self, run: _Run) -> None:
        try:
            self.httpserver.start()
        except BaseException as error:  # noqa: BLE001 - the thread ends here; start, wait and stop raise it
            self.interrupt = error
            if isinstance(error, KeyboardInterrupt):
                self.bus.log("<Ctrl-C> hit: shutting down HTTP server")
            elif isinstance(error, SystemExit):
                self.bus.log("SystemExit raised: shutting down HTTP server")
            else:
                self.bus.log("Error in HTTP server: shutting down", 40, True)
            # Not on this thread, for whose end `start` waits; and not a daemon, so that the interpreter waits for it.
            threading.Thread(target=self._leave, args=(error,), name="HTTPServer failed", daemon=False).start()
        else:
            if not run.stopping and getattr(self.httpserver, "ready", True) is False:
                self.bus.log(f"HTTP Server {self.httpserver} has ended by itself", 30)
        finally:
            run.returned = monotonic()
            run.ended.set()

    def _leave(self, error: BaseException) -> None:
        """Exit the bus because the server failed."""
        try:
            self.bus.exit()
            if not isinstance(error, Exception):
                # `start` raises it, too, which breaks a start of the bus off and has it forget who asked to exit (R11).
                self.bus.wait([phase for phase in Phase if phase is not Phase.STARTING])
                self.bus.exit()
        except ChannelFailures as failures:
            # Each was logged as it failed, and `block` raises them.
            self.bus.history.add("log", "the exit was not clean", cause=str(failures))

    # Watching it

    def _is_ready(self) -> bool:
        if not hasattr(self.httpserver, "ready"):
            if self._tried(self.bound_addr) is None:
                raise ValueError(
                    f"HTTP Server {self.httpserver} has no `ready`, and no address where it could be tried"
                )
            return True
        ready = self.httpserver.ready
        if hasattr(ready, "is_set"):
            return bool(ready.is_set())
        return bool(ready() if callable(ready) else ready)

    def _pause(self, run: _Run) -> None:
        """Wait a little: for the server's own event if it has one, else for the end of its thread."""
        ready: Any = getattr(self.httpserver, "ready", None)
        if hasattr(ready, "is_set") and hasattr(ready, "wait"):
            ready.wait(_STEP)
        elif run.ended.is_set():
            threading.Event().wait(_STEP)
        else:
            run.ended.wait(_STEP)

    def _look(self, run: _Run) -> None:
        """Raise what there is to say against waiting on."""
        # Not before the thread has ended: by then somebody else exits the bus, and the interpreter waits for that.
        if self.interrupt is not None and run.ended.is_set():
            raise self.interrupt
        if run.stopping:
            raise RuntimeError(f"HTTP Server {self.httpserver} was stopped before it was ready")
        # One that works on threads of its own may return from its `start()` a little before it is ready.
        if run.ended.is_set() and not self._is_ready() and monotonic() > run.returned + OCCUPIED:
            raise RuntimeError(f"HTTP Server {self.httpserver} has ended and was never ready")

    def _listens(self) -> bool:
        """Whether the server has a listening socket now."""
        own = getattr(self.httpserver, "socket", None)
        if not isinstance(own, socket.socket) or own.fileno() < 0:
            return False
        return bool(own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    def _check(self, check: Callable[[Address], None], addr: Address | None) -> None:
        """Try an address, unless there is none that could be tried."""
        tried = self._tried(addr)
        if tried is None:
            return
        try:
            check(tried)
        except TimeoutError:
            raise
        except OSError as error:
            if self.interrupt is error:
                raise
            # On a machine without a loopback interface, for example. The server itself says that it is ready.
            self.bus.log(f"Cannot try whether {self.description} answers: {error}", 30)

    @staticmethod
    def _tried(addr: Address | None) -> Address | None:
        """The address if it can be tried; None if it is not known, or if the service manager holds the socket."""
        return None if addr is None or _activated() or (isinstance(addr, tuple) and not addr[1]) else addr


def _name_of(server: Any) -> Any:
    """What the server's socket is bound to, if it has one."""
    try:
        return server.socket.getsockname()
    except (AttributeError, OSError):
        return None


def _activated() -> bool:
    """Whether this very process was given its sockets by the service manager (sd_listen_fds(3)).

    The variables are inherited by every child, so their presence alone says nothing.
    """
    return os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "0") != "0"
