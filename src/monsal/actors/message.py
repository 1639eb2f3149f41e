"""What one actor says to another, over a `transport.Link`: the vocabulary of actors on the wire of the house.

The method of a call is the command; its params are an `Envelope`, an array whose `body` is `[args, kwargs]`. A body is
not looked into on its way: the arbiter, which passes messages on between its children, copies the octets. What is left
of the deadline and the W3C trace travel in the `Meta` of the call, and an answer is the result, or a Fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from monsal.actors.errors import error_of
from monsal.actors.refs import ActorRef
from monsal.transport.link import Link
from monsal.transport.setup import LinkSetup
from monsal.wire.events import Called
from monsal.wire.hello import HelloFacts
from monsal.wire.limits import PeerLimits
from monsal.wire.packets import Params

__all__ = ["FRAME", "TELL", "CommandRequest", "Envelope", "as_params", "body_of", "envelope_of", "link_setup", "opened"]

#: Octets of a message at most (mailbox.B4).
FRAME: Final = 64 * 1024 * 1024
#: Calls of one other side that may be open at a time. The mailboxes behind it are bounded themselves, and what is
#: between a parent and its child must not be held up by them.
_IN_FLIGHT: Final = 16384
#: A flag of an envelope: to be answered when it was taken in, not when it was done.
TELL: Final = 1


class Envelope(msgspec.Struct, array_like=True, gc=False):
    """A message: for whom (empty: whoever hears it), of whom, what, under which key, and who waits for its answer."""

    target: str
    sender: str
    body: Any
    key: str | None = None
    flags: int = 0
    chain: tuple[str, ...] = ()


class _Received(msgspec.Struct, array_like=True, gc=False):
    target: str
    sender: str
    body: Raw
    key: str | None = None
    flags: int = 0
    chain: tuple[str, ...] = ()


class CommandRequest(NamedTuple):
    """The first argument of each command: who executes it, who sent it (None if nobody knows), and over which link."""

    actor: Any
    caller: ActorRef | None
    connection: Link | None


_envelope: Final = msgspec.msgpack.Decoder(_Received).decode
_body: Final = msgspec.msgpack.Decoder(tuple[list[Any], dict[str, Any]]).decode
_EMPTY: Final = b"\x92\x90\x80"


def envelope_of(called: Called) -> Any:
    """The envelope of a call that came over a link, with its body undecoded. Raises msgspec.ValidationError."""
    return _envelope(called.params)  # type: ignore[arg-type] # links of actors leave params undecoded


def body_of(body: Any) -> tuple[list[Any], dict[str, Any]]:
    """Arguments by position and by name. Raises msgspec.ValidationError."""
    if type(body) is Raw:
        if body == _EMPTY:
            return [], {}
        return _body(body)
    return body  # type: ignore[no-any-return] # it did not come over a link


def as_params(envelope: Envelope) -> Params:
    """An envelope as the params of a call: it is written as an array."""
    return envelope  # type: ignore[return-value] # a Struct of `array_like` is an array to the codec


def link_setup(
    on_call: Callable[[Any, Called], object] | None, on_event: Callable[[Any, Any], object] | None
) -> LinkSetup:
    """How links between actors speak."""
    limits = PeerLimits(frame=FRAME, in_flight=_IN_FLIGHT, beat=None, garbage=1, timeout=5.0)
    return LinkSetup(
        codec="msgpack:",
        raw=True,
        limits=limits,
        hello=HelloFacts(),
        on_call=on_call,
        on_event=on_event,
        error=error_of,
        # A worker may be busy for as long as its own limits allow; whether it hangs is judged by its beats.
        slow_reader=3600.0,
    )


def opened(setup: LinkSetup, name: str) -> Link:
    """A link that is about to be connected. Both sides are this program, so there is no hello: all is known."""
    link = Link(setup, name=name)
    link.peer.theirs = HelloFacts()
    return link
