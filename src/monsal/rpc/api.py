"""RemoteAPI: a class that lists every call of an interface, and whose instances are one end of it.

class Echo(RemoteAPI):
    @incoming
    async def echo(self, sender: str, text: str) -> str: ...
    @outgoing
    def said(self, receivers: list[str] | None, text: str) -> None: ...

server = Echo()                                     client = Echo.peer()()
server.echo.connect(answer)                         await client.connect("unix:run/api.sock")
await server.listen("unix:run/api.sock")            await client.call.echo(text="hello")
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ClassVar, Self, Unpack, cast

from monsal.errors import MonsalError, UsageError
from monsal.rpc.bound import IncomingCall, OutgoingCall, Terms
from monsal.rpc.bytewise import ByteEnd
from monsal.rpc.classic import Codec, Transport
from monsal.rpc.context import CallContext
from monsal.rpc.declare import Declaration, Options
from monsal.rpc.discover import DISCOVER, differences, fingerprint, openrpc
from monsal.rpc.dispatch import Dispatcher
from monsal.rpc.errors import AppError, ErrorTable
from monsal.rpc.links import Links
from monsal.rpc.promise import Promise
from monsal.rpc.security import link_security, security_of
from monsal.rpc.throttle import Throttle
from monsal.rpc.values import DeclarationError
from monsal.rpc.views import AsyncView, CastView, SyncView
from monsal.rpc.wirecodec import WireCodec, wiring_of
from monsal.rpc.wirecodec import codec as codec_of
from monsal.transport.acceptor import AcceptSetup, listen
from monsal.transport.address import Address, Tcp, Tls, Unix, parse
from monsal.transport.endpoint import Endpoint, Single
from monsal.transport.link import Link
from monsal.transport.setup import LinkOptions, LinkSetup
from monsal.wire.hello import HelloFacts
from monsal.wire.limits import PeerLimits

__all__ = ["RemoteAPI"]

log = logging.getLogger("monsal.rpc")

#: Names that a call cannot have: those of contract 2.1, and those that the parts of an API ask it for. The other names
#: of this class may be taken by calls: `RemoteAPI.connect(api, ...)` is there all the same.
_TAKEN = frozenset(
    {
        "async_processing",
        "codec",
        "debug",
        "declarations",
        "errors",
        "interface_differs",
        "interface_version",
        "invert",
        "is_administrator",
        "limits",
        "message_error",
        "openrpc",
        "peer",
        "peer_connected",
        "peer_disconnected",
        "security",
        "transport",
        "unhandled_calls",
    }
)


async def _discover(self: RemoteAPI, sender: str) -> dict[str, Any]:
    """An OpenRPC document of what may be called here."""
    return self.openrpc()


_DISCOVER = Declaration(_discover, "incoming", Options())
_DISCOVER.name = DISCOVER


class RemoteAPI:
    """One end of an interface. Subclass it and declare calls with `@incoming` and `@outgoing`.

    `codec`, `transport` and `security` may be texts (rpc.R5). `transport` is for blocking code, `connect`, `listen` and
    `open` for asyncio; links keep the codec and the security that they were made with. `invert` swaps incoming and
    outgoing on this instance. `async_processing` has blocking code handle calls on a thread of their own (rpc.R21).
    """

    #: The errors of the application that both sides know (rpc.B9).
    errors: ClassVar[tuple[type[AppError], ...]] = ()
    #: Whether an administrator is shown the traceback of a failure (rpc.B9).
    debug: bool = False
    #: Of the interface, for its OpenRPC document.
    interface_version: ClassVar[str] = "1"
    #: What one link may use (rpc.B7).
    limits: PeerLimits = PeerLimits()
    #: All calls of the class, by name.
    declarations: ClassVar[dict[str, Declaration]] = {}

    call: AsyncView
    sync: SyncView
    notify: CastView

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        found: dict[str, Declaration] = {}
        for kind in reversed(cls.__mro__):
            for name, member in vars(kind).items():
                if isinstance(member, Declaration):
                    if name in _TAKEN or name.startswith("_"):
                        raise DeclarationError(f"{cls.__name__}.{name}: a call cannot have this name")
                    found[name] = member
                elif member is None:
                    found.pop(name, None)
                elif name in found:
                    raise DeclarationError(
                        f"{cls.__name__}.{name}: it overrides a call; mark it as one too, or rename it"
                    )
        for declaration in found.values():
            _ = declaration.signature  # checked now, and not at the first call
        cls.declarations = found
        ErrorTable(cls.errors)

    def __init__(
        self,
        codec: str | Codec = "jrpc",
        transport: str | Transport | None = None,
        security: Any = "null",
        invert: bool = False,
        async_processing: bool = False,
    ) -> None:
        self._transport: Transport | None = None
        #: Whether that is one of bytes, and none of links.
        self._moves_bytes = False
        self._table: dict[str, IncomingCall] = {}
        self._outgoing: dict[str, OutgoingCall] = {}
        self._errors = ErrorTable(self.errors)
        self._throttle = Throttle()
        self._dispatcher = Dispatcher(self)
        self._links = Links(self, self._dispatcher)
        self.async_processing = async_processing
        self._codec: Codec = WireCodec()
        self.codec = codec
        self._security: Any = None
        self.security = security
        self._bytes = ByteEnd(self, self._dispatcher)
        self._opened: list[Endpoint] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._prints: tuple[str, str] | None = None
        self._inverted = False
        self._bind_all()
        if invert:
            self.invert()
        if transport is not None:
            self.transport = transport

    # -- declaring --------------------------------------------------------------------------------------------

    @classmethod
    def peer(cls) -> type[Self]:
        """The class of the other side: the same calls, each in the opposite direction."""
        made = cls.__dict__.get("_peer")
        if made is None:
            opposite = {name: one.inverted() for name, one in cls.declarations.items()}
            made = type(
                f"{cls.__name__}Peer", (cls,), {**opposite, "__doc__": cls.__doc__, "__module__": cls.__module__}
            )
            made._peer = cls  # type: ignore[attr-defined] # the way back
            cls._peer = made  # type: ignore[attr-defined] # made once
        return made

    def invert(self) -> None:
        """Swap incoming and outgoing on this instance. Do it before anything is connected: listeners are lost."""
        self._inverted = not self._inverted
        self._bind_all()

    def unhandled_calls(self) -> Iterator[str]:
        """The names of incoming calls that nobody listens to (rpc.R24)."""
        return (name for name, call in self._table.items() if not call._listeners and call.signature.body is None)

    def mount(self, prefix: str, api: RemoteAPI) -> None:
        """Take the calls that may come in to `api` as `prefix.name`, over the links of this one. Do it before these.

        Raises UsageError if the prefix is taken or reserved, or if `api` has outgoing calls: these would go nowhere.
        """
        taken = any(name.startswith(f"{prefix}.") for name in self._table)
        if not prefix or prefix == "rpc" or taken:
            why = "reserved" if prefix == "rpc" else "taken" if taken else "empty"
            raise UsageError(f"nothing can be mounted at {prefix!r}: it is {why}")
        if api._outgoing:
            raise UsageError(f"{type(api).__name__} has outgoing calls; only what may come in can be mounted")
        self._table.update({f"{prefix}.{name}": call for name, call in api._table.items() if name != DISCOVER})
        self._prints = None

    def _bind_all(self) -> None:
        self._prints = None
        self._table.clear()
        self._outgoing.clear()
        views = {"call": AsyncView(self), "sync": SyncView(self), "notify": CastView(self)}
        self.__dict__.update(views)
        for name, declaration in self.declarations.items():
            bound = self._bind(declaration.inverted() if self._inverted else declaration)
            if isinstance(bound, IncomingCall):
                self._table[name] = bound
            else:
                self._outgoing[name] = bound
            self.__dict__[name] = bound
        self._table[DISCOVER] = IncomingCall(self, _DISCOVER)

    def _bind(self, declaration: Declaration) -> IncomingCall | OutgoingCall:
        return (IncomingCall if declaration.direction == "incoming" else OutgoingCall)(self, declaration)

    def _outgoing_call(self, name: str) -> OutgoingCall:
        try:
            return self._outgoing[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no outgoing call {name!r}") from None

    # -- hooks ------------------------------------------------------------------------------------------------

    def message_error(self, sender: str, exception: Exception, in_reply_to: Any = None) -> None:
        """Called for everything that came in and is no good; may be overridden (rpc.R25).

        This one logs a warning and, if `in_reply_to` is a call with an id, answers it with the error. Of a flood of
        them, ten lines a second are logged.
        """
        left_out = self._throttle.left_out()
        if left_out is not None:
            more = f" ({left_out} more were not logged)" if left_out else ""
            told = {"action": "message_error"}
            log.warning("from %s: %s: %s%s", sender, type(exception).__name__, exception, more, extra=told)
        if isinstance(in_reply_to, CallContext):
            self._dispatcher.refuse(in_reply_to, exception)

    def peer_connected(self, sender: str) -> None:
        """Called when a peer has connected; may be overridden. It is not to block (rpc.B16)."""

    def peer_disconnected(self, sender: str, reason: str) -> None:
        """Called when a peer has gone; may be overridden. It is not to block (rpc.B16)."""

    def is_administrator(self, caller: CallContext) -> bool:
        """Whether this caller may see tracebacks when `debug` is on: who runs us, by its unix socket."""
        uid = getattr(caller.source.credentials, "uid", None)
        return uid is not None and uid in (0, os.geteuid())

    def _run_here(self, call: IncomingCall, sender: str, kwargs: dict[str, Any]) -> Any:
        """Run a call as if `sender` had made it."""
        call.signature.check_names(kwargs)
        return self._dispatcher.run_here(call, sender, kwargs)

    # -- connecting -------------------------------------------------------------------------------------------

    @property
    def peers(self) -> list[str]:
        """The names of all connected peers."""
        return self._links.names

    @property
    def transport(self) -> Transport | None:
        """What blocking code sends and receives with; a text is made into one. Setting it detaches the one before."""
        return self._transport

    @transport.setter
    def transport(self, given: str | Transport | None) -> None:
        if given is None and self._transport is None:
            return
        # Not before: a program on a loop, such as a server, needs nothing of what blocking code does.
        from monsal.rpc.blocking import LinkTransport
        from monsal.rpc.blocking import transport as transport_of

        new = transport_of(given) if isinstance(given, str) else given
        old = self._transport
        if new is old:
            return
        if isinstance(new, LinkTransport):
            new.attach(self)
        elif new is not None:
            new.set_on_received(self._handle_received)
            new._on_stopped = lambda: self._bytes.lost("the transport has stopped")
        if isinstance(old, LinkTransport):
            old.attach(None)
            self._links.remove_all(old)
        elif old is not None:
            old.set_on_received(None)
            old._on_stopped = None
            self._bytes.lost("another transport was set")
        self._transport = new
        self._moves_bytes = new is not None and not isinstance(new, LinkTransport)

    @property
    def codec(self) -> Any:
        """How calls are written; a text is made into one."""
        return self._codec

    @codec.setter
    def codec(self, given: str | Codec) -> None:
        self._codec = codec_of(given) if isinstance(given, str) else given

    @property
    def security(self) -> Any:
        """Who we are and who they are; a text is made into one."""
        return self._security

    @security.setter
    def security(self, given: Any) -> None:
        self._security = security_of(given)

    async def connect(self, address: str | Address, **options: Unpack[LinkOptions]) -> Link:
        """Connect to a program on the running loop; the link to it. `options` are those of a `transport.LinkSetup`.

        Raises NotRunning if nobody answers there.
        """
        # Not before: a server listens.
        from monsal.transport.connector import connect

        link = await connect(address, self._setup(options))
        self._keep(Single(link))
        return link

    async def open(self, address: str | Address, **options: Unpack[LinkOptions]) -> Endpoint:
        """Open an address of any kind on the running loop: also `restart:`, `mux:` and `internal:`."""
        # Not before, as in `listen`: most listen at one address, or connect to one.
        from monsal.transport.mux import open_endpoint

        return self._keep(await open_endpoint(address, self._setup(options)))

    async def listen(
        self, address: str | Address, *, accept: AcceptSetup | None = None, **options: Unpack[LinkOptions]
    ) -> Endpoint:
        """Listen at an address on the running loop; `addresses` of what is given back has the port that was chosen."""
        target = parse(address) if isinstance(address, str) else address
        if isinstance(target, Tcp | Tls | Unix):
            return self._keep(await listen(target, self._setup(options), accept=accept))
        from monsal.transport.mux import open_endpoint

        return self._keep(await open_endpoint(target, self._setup(options), accept=accept))

    async def close(self, grace: float = 1.0) -> None:
        """End all that was opened on this loop; calls that run may be answered within `grace` seconds."""
        opened, self._opened = self._opened, []
        self._links.listening = 0
        await asyncio.gather(*(endpoint.close(grace) for endpoint in opened))
        self._dispatcher.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await RemoteAPI.close(self)

    def _keep(self, endpoint: Endpoint) -> Endpoint:
        self._opened = [one for one in self._opened if not isinstance(one, Single) or one.link.is_open]
        self._opened.append(endpoint)
        self._links.listening += bool(endpoint.addresses)
        return endpoint

    def _setup(self, given: LinkOptions) -> LinkSetup:
        options: LinkOptions = {
            "codec": wiring_of(self.codec),
            "raw": True,
            "security": link_security(self._security),
            "limits": self.limits,
            "hello": HelloFacts(api=self._fingerprint()),
            "on_call": self._dispatcher.on_call,
            "on_event": self._links.on_event,
            "error": self._errors.error,
        }
        options.update(given)
        return LinkSetup(**options)

    def _handle_received(self, sender: str, data: bytes) -> bytes:
        """What a transport of bytes calls; what it gives back is to stand before the next bytes (rpc.R11)."""
        return self._bytes.received(sender, data)

    # -- calling ----------------------------------------------------------------------------------------------

    def _ask(self, call: OutgoingCall, kwargs: dict[str, Any], terms: Terms) -> Coroutine[Any, Any, Any]:
        if self._moves_bytes:
            return self._bytes.ask(call, kwargs, terms)
        return self._links.ask(call, kwargs, terms)

    def _wait(self, call: OutgoingCall, args: tuple[Any, ...], kwargs: dict[str, Any], terms: Terms) -> Any:
        if self._moves_bytes:
            receivers = None if terms.to is None else list(terms.to)
            promise = self._bytes.post(call, call.prepare(receivers, args, kwargs), terms, True)
            return cast(Promise, promise).result()
        return self._links.wait(call, args, kwargs, terms)

    def _tell(self, call: OutgoingCall, kwargs: dict[str, Any], terms: Terms) -> None:
        if self._moves_bytes:
            self._bytes.post(call, kwargs, terms, False)
        else:
            self._links.tell(call, kwargs, terms)

    def _post(self, call: OutgoingCall, kwargs: dict[str, Any], terms: Terms) -> Promise | None:
        """Send a call as blocking code does (rpc.R9). Raises UsageError if there is nothing to send with (rpc.B17)."""
        has_reply = call.signature.has_reply
        if self._moves_bytes:
            return self._bytes.post(call, kwargs, terms, has_reply)
        if self._transport is None and not self._links.listening and not len(self._links):
            raise UsageError("this API has no transport and no link; connect it first")
        if has_reply:
            return self._links.post(call, kwargs, terms)
        self._links.tell(call, kwargs, terms)
        return None

    # -- comparing --------------------------------------------------------------------------------------------

    def openrpc(self) -> dict[str, Any]:
        """The OpenRPC document of what may come in (rpc.B11); the same that `rpc.discover` gives."""
        name = type(self).__name__.removesuffix("Peer")
        calls = {key: call.declaration for key, call in self._table.items() if key != DISCOVER}
        words = inspect.getdoc(type(self)) or ""
        return openrpc(name, calls, version=self.interface_version, description=words, errors=self.errors)

    async def differences(self, to: str | None = None) -> list[str]:
        """What the other side does not take as we send it, one line for each call; empty if all fits."""
        way = self._links.one(None if to is None else (to,))
        document = way.link.peer.codec.value(await way.link.call(DISCOVER, {}))
        ours = {name: call.declaration for name, call in self._outgoing.items()}
        return differences(ours, document)

    def interface_differs(self, sender: str, differences: list[str]) -> None:
        """Called when a peer does not take calls as we send them; may be overridden. This one logs each (rpc.B11)."""
        for line in differences:
            log.warning("the interface of %s differs: %s", sender, line, extra={"action": "interface_differs"})

    def _fingerprint(self, *, swapped: bool = False) -> str:
        if self._prints is None:
            coming = {key: call.declaration for key, call in self._table.items() if key != DISCOVER}
            going = {key: call.declaration for key, call in self._outgoing.items()}
            self._prints = (fingerprint(coming), fingerprint(going))
        return ".".join(reversed(self._prints) if swapped else self._prints)

    def _compare(self, link: Link, theirs: str | None, hear: Callable[[Callable[[], object]], object]) -> None:
        """The other side has told the hash of its interface: if it is not ours, ask which call differs (rpc.B11)."""
        if theirs is None or theirs == self._fingerprint(swapped=True):
            return

        async def ask() -> None:
            try:
                found = await RemoteAPI.differences(self, link.name)
            except (MonsalError, ValueError) as error:
                log.warning("the interface of %s differs; which call, it does not say: %s", link.name, error)
            else:
                if found:
                    hear(lambda: self.interface_differs(link.name, found))

        task = asyncio.get_running_loop().create_task(ask(), name="rpc compare")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
