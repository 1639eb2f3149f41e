"""Interfaces of an application that other programs call: what is exposed where, and how their calls are run.

    exposure = expose(HelpdeskAPI, "unix:run/api.sock")         when the application is composed
    apis = Apis([exposure], entrance, threads=16, deadline=60.0)    when it is run, on the sockets' loop
    await apis.open()
    await apis.listen(directory)
    await apis.drain(grace)
    await apis.close()

Links live on the sockets' loop. What a call runs does not: plain methods run in threads, coroutines on a loop of their
own, as handlers do (P7), but not in the threads of these, so that a call that hangs holds up no mail.
"""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import logging
from collections.abc import Callable, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from msgspec.structs import replace

from monsal.conversation import Entrance, Runner, TurnPage
from monsal.errors import Busy, ConfigError, DeadlineExceeded, RemoteError, UsageError
from monsal.rpc import HandlerExpired, IncomingCall, OutgoingCall, RemoteAPI, current
from monsal.rpc.bound import Step
from monsal.rpc.security import link_security, security_of
from monsal.rpc.views import CastView
from monsal.transport import NEWLINE_JSON, Address, Internal, Tcp, TcpServer, Tls, Unix, UnixServer, parse, wiring
from monsal.wire.security import Null, Token

__all__ = ["Apis", "ApisStatistics", "Exposure", "expose"]

log = logging.getLogger("monsal.api")

#: Calls that may be under way at once, of all programs together; one more is told to come later.
IN_FLIGHT: Final = 1024


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """One API at one address. `security` is None for that of the API itself; `slow_reader` is in seconds."""

    api: RemoteAPI
    at: Address
    security: Any = None
    codec: str = NEWLINE_JSON
    slow_reader: float = 20.0


def expose(
    api: type[RemoteAPI] | RemoteAPI,
    at: str | Address,
    *,
    security: Any = None,
    codec: str = NEWLINE_JSON,
    slow_reader: float = 20.0,
) -> Exposure:
    """Check what is to be exposed; nothing is opened. Raises ConfigError."""
    if isinstance(api, type) and issubclass(api, RemoteAPI):
        api = api()
    if not isinstance(api, RemoteAPI):
        raise ConfigError(f"expose takes a RemoteAPI, the class or an instance, not {api!r:.100}")
    name = type(api).__name__
    try:
        address = parse(at) if isinstance(at, str) else at
        wiring(codec)
        security = None if security is None else security_of(security)
    except ValueError as error:
        raise ConfigError(f"{name} cannot be exposed at {at}: {error}") from None
    if not isinstance(address, Unix | UnixServer | Tcp | TcpServer | Tls | Internal):
        raise ConfigError(f"{name} cannot be exposed at {at}: it takes unix:PATH, tcp://HOST:PORT or tcps://HOST:PORT")
    if not slow_reader > 0:
        raise ConfigError(f"slow_reader is a number of seconds above 0, not {slow_reader!r}")
    if isinstance(api.security if security is None else security, Token):
        raise ConfigError(
            f"{name} cannot be exposed with a Token, which is for the side that has one and checks nobody; "
            "who is called checks with Tokens({token: scopes})"
        )
    is_secured = not isinstance(api.security if security is None else security, Null)
    if not is_secured and (why := _open_to_all(address)):
        raise ConfigError(
            f"{name} cannot be exposed at {at}: {why}. Use a unix socket or 127.0.0.1, give it a security "
            "(security=Tokens({token: scopes})), or ask for certificates with tcps://...&ca=FILE"
        )
    return Exposure(api=api, at=address, security=security, codec=codec, slow_reader=slow_reader)


def _open_to_all(address: Address) -> str:
    """Why anybody could call what is exposed there, in words; empty if not (P8)."""
    if isinstance(address, Tls):
        return "" if address.ca else "TLS hides what is said, but it asks nobody who they are"
    host = address.host if isinstance(address, Tcp) else address.interface if isinstance(address, TcpServer) else None
    if host is None or host == "localhost":
        return ""
    try:
        if ipaddress.ip_address(host).is_loopback:
            return ""
    except ValueError:
        pass  # a name: whoever can resolve it may be anywhere
    return "others than this host could call it, and nothing asks who they are"


class ApisStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Programs that are connected, calls that run and those past their deadline; since the start: calls that were run
    and calls that were told to come later."""

    programs: int
    running: int
    stuck: int
    calls: int
    busy: int


class Apis:
    """The exposed APIs of one running application. Made and used on the sockets' loop.

    `threads` bounds the plain methods that run at once, `deadline` is how many seconds a call may take if its caller
    does not say less.
    """

    def __init__(self, exposures: Sequence[Exposure], entrance: Entrance, *, threads: int, deadline: float) -> None:
        self._exposures = exposures
        self._entrance = entrance
        self._deadline = deadline
        self._runner = Runner(threads=threads, page=TurnPage(None))
        #: Each API once, however often it is exposed; what its calls ran before we came.
        self._apis: dict[int, RemoteAPI] = {id(each.api): each.api for each in exposures}
        self._steps: list[tuple[IncomingCall, tuple[Step, ...]]] = []
        self._running = self._calls = self._busy = 0
        #: Where programs can connect, while they can.
        self.addresses: list[str] = []
        #: Where another process serves the programs: it is given what they are to be told, to do `tell` there.
        self.forward: Callable[[int, str, dict[str, Any]], None] | None = None

    async def open(self) -> None:
        """Have calls run where they are to run; nobody can call yet."""
        await self._runner.open()
        self._entrance.prepare = self._prepare
        for api in self._apis.values():
            for call in _incoming_calls(api):
                self._steps.append((call, call.steps))
                call.steps = tuple(cast(Step, _Aside(self, call.__name__, step)) for step in call.steps)

    async def listen(self, directory: Path) -> None:
        """Let programs connect; relative paths are below `directory`. Raises OSError naming the address."""
        for each in self._exposures:
            address = _below(each.at, directory)
            try:
                endpoint = await RemoteAPI.listen(
                    each.api,
                    address,
                    codec=each.codec,
                    slow_reader=each.slow_reader,
                    security=link_security(each.api.security if each.security is None else each.security),
                )
            except OSError as error:
                raise OSError(error.errno, f"cannot listen on {each.at}: {error.strerror or error}") from error
            self.addresses.extend(_in_full(each.at, at, directory) for at in endpoint.addresses)

    async def drain(self, grace: float) -> None:
        """Take no more calls; those that run may end within `grace` seconds."""
        self.addresses = []
        await asyncio.gather(*(RemoteAPI.close(api, grace) for api in self._apis.values()))

    async def close(self) -> None:
        """Give everything back."""
        await self.drain(0.0)
        for call, steps in self._steps:
            call.steps = steps
        self._steps = []
        await self._runner.close()

    def exposed(self, api: type) -> list[RemoteAPI]:
        """The instances of a class that are exposed. Raises UsageError if there are none."""
        found = [each for each in self._apis.values() if isinstance(each, api)]
        if not found:
            raise UsageError(f"{api.__name__} is not exposed by this application; app.expose(...) does that")
        return found

    def statistics(self) -> ApisStatistics:
        return ApisStatistics(
            programs=sum(len(_peers(api)) for api in self._apis.values()),
            running=self._running,
            stuck=self._runner.statistics().stuck,
            calls=self._calls,
            busy=self._busy,
        )

    def describe(self) -> str:
        """The calls that run now, for people; empty if there are none."""
        return "; ".join(self._runner.describe()[:5])

    # -- calls in ---------------------------------------------------------------------------------------------

    async def run(self, name: str, function: Callable[[], Any], *, is_async: bool) -> Any:
        """What `function()` gives, run where handlers of its kind run.

        Raises Busy, HandlerExpired when it takes too long, and what it raises itself.
        """
        self._calls += 1
        if self._running >= IN_FLIGHT or self._runner.is_full:
            self._busy += 1
            raise Busy(f"{self._running} calls are under way, {self._runner.statistics().stuck} of them hang")
        self._running += 1
        limit = asyncio.timeout(self._deadline)
        try:
            async with limit:
                value = await self._run(name, function, is_async=is_async)
                if not is_async and inspect.isawaitable(value):
                    value = await self._run(name, lambda: value, is_async=True)
                return value
        except TimeoutError as error:
            if not limit.expired() and not isinstance(error, DeadlineExceeded):
                raise  # the method's own
            current().cancelled = True  # a thread that looks at it ends by itself
            raise HandlerExpired(f"{name} took longer than {self._deadline:g} seconds") from None
        finally:
            self._running -= 1

    async def _run(self, name: str, function: Callable[[], Any], *, is_async: bool) -> Any:
        context = copy_context()
        context.run(self._entrance.enter)

        async def wait() -> Any:
            return await function()

        async def awaited() -> Any:
            return await asyncio.get_running_loop().create_task(wait(), context=context)

        work: Callable[[], Any] = awaited if is_async else lambda: context.run(function)
        outcome = await self._runner.run(work, is_async=is_async, deadline=self._deadline, what=name)
        error = outcome.error
        if error is not None and not isinstance(error, Exception):
            # It ends a call, and not the task that answers it.
            raise RuntimeError(f"{name} raised {error!r}") from error
        if error is not None:
            raise error
        return outcome.value

    # -- notifications out ------------------------------------------------------------------------------------

    def _prepare(self, api: type, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], None]:
        """A notification, ready to be sent to all who are connected. Raises what is wrong with it."""
        found = self.exposed(api)
        call = vars(found[0]).get(name)
        if not isinstance(call, OutgoingCall):
            raise AttributeError(f"{api.__name__} has no outgoing call {name!r}")
        given = call.signature.name_all(args, kwargs)
        call.signature.check_names(given)

        def send() -> None:
            if self.forward is not None:
                self.forward(list(self._apis.values()).index(found[0]), name, given)
            for each in found:
                self._tell_all(each, name, given)

        return send

    def tell(self, place: int, name: str, given: dict[str, Any]) -> None:
        """Tell all who are connected what another process gave to `forward`. Raises IndexError for no such API."""
        first = list(self._apis.values())[place]
        for each in self.exposed(type(first)):
            self._tell_all(each, name, given)

    @staticmethod
    def _tell_all(api: RemoteAPI, name: str, given: dict[str, Any]) -> None:
        for peer in _peers(api):
            _tell(api, peer, name, given)


def _tell(api: RemoteAPI, peer: str, name: str, kwargs: dict[str, Any]) -> None:
    try:
        getattr(CastView(api, {"to": peer}), name)(**kwargs)
    except RemoteError as error:
        # It has gone, or does not read; that is no reason not to tell the others (P7).
        log.info("%s is not told %s: %s", peer, name, error, extra={"action": "cast_dropped", "link": peer})


class _Aside:
    """A step of a call that came over a link: run away from the sockets' loop. Code of our own that makes the call
    elsewhere (`self.tickets(...)` in another method) runs it there and then."""

    def __init__(self, apis: Apis, name: str, step: Step) -> None:
        self._apis = apis
        self._name = name
        self._step = step
        self._loop = asyncio.get_running_loop()

    @property
    def is_async(self) -> bool:
        return self._step.is_async or self._is_here()

    def call(self, sender: str, kwargs: dict[str, Any], secinfo: dict[str, Any]) -> Any:
        step = self._step
        if not self._is_here():
            return step.call(sender, kwargs, secinfo)
        return self._apis.run(self._name, lambda: step.call(sender, kwargs, secinfo), is_async=step.is_async)

    def _is_here(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False


# A call may have the name of a method of RemoteAPI, which is then to be asked by its class.


def _peers(api: RemoteAPI) -> list[str]:
    return list(RemoteAPI.peers.__get__(api))


def _incoming_calls(api: RemoteAPI) -> list[IncomingCall]:
    bound = (vars(api).get(name) for name in api.declarations)
    return [call for call in bound if isinstance(call, IncomingCall)]


def _in_full(address: Address, at: str, directory: Path) -> str:
    """Where it listens, as one connects to it: a path from the application's directory, the port that was chosen."""
    if isinstance(address, Unix | UnixServer):
        return f"unix:{at.removeprefix(f'{directory}/')}"
    return f"{'tcps' if isinstance(address, Tls) else 'tcp'}://{at}"


def _below(address: Address, directory: Path) -> Address:
    """The address; its path, if it is a relative one, is below the application's directory."""
    if isinstance(address, Unix | UnixServer):
        return replace(address, path=str(directory / address.path))
    return address
