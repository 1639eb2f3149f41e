"""The names of contract 2.2 by which one plugs in a codec, a transport or a security of one's own, for blocking code.

What is decoded is a Message, Reply or ErrorReply here and only here: natively they are Call, Cast, Reply and Fault of
`monsal.wire`. Texts are `shorthand:parameters`, and which shorthands there are stands in tables (rpc.R5, rpc.B15).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from monsal.errors import UsageError
from monsal.rpc.promise import Promise

__all__ = ["Codec", "ErrorReply", "Message", "MessageBatch", "Reply", "SecIn", "SecOut", "Security", "Transport"]

log = logging.getLogger("monsal.rpc")

#: `payload -> (secinfo, new payload or None)`
SecOut = Callable[[bytes], tuple[dict[str, Any], bytes | None]]
#: `payload, secinfo -> new payload or None`
SecIn = Callable[[bytes, dict[str, Any]], bytes | None]


class Message(msgspec.Struct):
    """A call; `id` is 0 or None if no reply is wanted. `kwargs` is a mapping as a rule; see rpc.R13."""

    method: str
    kwargs: Any
    id: Any = 0
    secinfo: dict[str, Any] = msgspec.field(default_factory=dict)
    #: JSON-RPC 2.0 tells a call with the id 0 or null from one without; other codecs need not.
    wants_reply: bool | None = None

    @property
    def is_cast(self) -> bool:
        """Whether no reply is wanted."""
        return not self.id if self.wants_reply is None else not self.wants_reply


class Reply(msgspec.Struct):
    """The result of the call with this id."""

    result: Any
    id: Any
    secinfo: dict[str, Any] = msgspec.field(default_factory=dict)


class ErrorReply(msgspec.Struct):
    """The call with this id failed. `exception` is the text or the exception, `data` what else was said of it."""

    exception: Any
    id: Any
    errorcode: int = 0
    secinfo: dict[str, Any] = msgspec.field(default_factory=dict)
    data: Any = None


class MessageBatch(msgspec.Struct):
    """Several items that came as one; their replies go back as one (JSON-RPC 2.0, section 6)."""

    items: list[Any]


class Codec:
    """Writes calls and replies as bytes, ends of frames included. A subclass gives `encode` and `decode` at least."""

    @classmethod
    def fromstring(cls, text: str) -> Codec:
        """The codec for an expression; a subclass makes one of itself. Raises ValueError for an unknown shorthand."""
        return cls()

    def encode(self, method: str, kwargs: Any = None, id: Any = 0, sec_out: SecOut | None = None) -> bytes:  # noqa: A002 - the name is the contract's
        """The bytes of a call. Raises EncodeError."""
        raise UsageError(f"{type(self).__name__} cannot encode calls")

    def encode_reply(self, in_reply_to: Any, result: Any, sec_out: SecOut | None = None) -> bytes:
        """The bytes of a reply to `in_reply_to`, which has an `id`. Raises EncodeError."""
        raise UsageError(f"{type(self).__name__} cannot encode replies")

    def encode_error(
        self, in_reply_to: Any, exception: Any, errorcode: int = 0, sec_out: SecOut | None = None
    ) -> bytes:
        """The bytes of an error reply. Raises EncodeError."""
        raise UsageError(f"{type(self).__name__} cannot encode errors")

    def decode(self, data: bytes, sec_in: SecIn | None = None) -> tuple[list[Any], bytes]:
        """What the bytes hold, and those that are no whole message yet.

        It must not raise: what cannot be decoded stands as an exception in the list.
        """
        raise UsageError(f"{type(self).__name__} cannot decode")


class Security:
    """Says who we are, and checks who they are. Natively see `monsal.wire`: Null, Token, Hmac."""

    @classmethod
    def fromstring(cls, text: str) -> Security:
        """The security for an expression; a subclass makes one of itself."""
        return cls()

    def sec_out(self, payload: bytes) -> tuple[dict[str, Any], bytes | None]:
        """The secinfo to send with a payload, and what to send in its place if that is not the payload itself."""
        return {}, None

    def sec_in(self, payload: bytes, secinfo: dict[str, Any]) -> bytes | None:
        """Check a payload that came with `secinfo`; what it was before `sec_out`, if that is another. Raises
        SecurityError. It is not asked about a message without secinfo: that one is refused (rpc.B6)."""
        return None


class Transport:
    """Moves bytes. A subclass gives `open`, `run` and `send`, and calls `received` for what comes.

    `start` runs `open` and then `run` on a thread of their own, the receiver thread. `run` returns soon after `running`
    has turned false.
    """

    def __init__(self) -> None:
        self.running = False
        self.receiver_thread: threading.Thread | None = None
        self._on_received: Callable[[str, bytes], bytes] | None = None
        self._on_stopped: Callable[[], object] | None = None

    @classmethod
    def fromstring(cls, text: str) -> Transport:
        """The transport for an expression; a subclass makes one of itself."""
        return cls()

    def open(self) -> None:
        """Get ready; what it raises is raised by `start`."""

    def run(self) -> None:
        """Receive until `running` is false."""

    def send(self, data: bytes, receivers: list[str] | None = None) -> None:
        """Send to the named receivers, or to all. Raises OSError."""
        raise OSError(f"{type(self).__name__} cannot send")

    def set_on_received(self, on_received: Callable[[str, bytes], bytes] | None) -> None:
        """Have `on_received(sender, data)` called for what comes; it gives back what it cannot use yet."""
        self._on_received = on_received

    def received(self, sender: str, data: bytes) -> bytes:
        """Give on what came; the bytes that are to stand before the next ones of that sender."""
        return b"" if self._on_received is None else self._on_received(sender, data)

    def start(self, block: bool = True, timeout: float = 10.0) -> Any:
        """Open and run on the receiver thread.

        With `block` it is true once that is open, and raises what opening raised, or PromiseTimeoutError; without, the
        Promise of that.
        """
        if self.running:
            raise UsageError("this transport runs already")
        self.running = True
        # Whose thread sets it is known only after that has begun, and the promise has to be there before.
        opened = Promise(patience=timeout)
        self.receiver_thread = threading.Thread(
            target=self._main, args=(opened,), name=type(self).__name__, daemon=True
        )
        opened.setter_thread = self.receiver_thread
        self.receiver_thread.start()
        return opened.result(timeout) if block else opened

    def stop(self, block: bool = True) -> None:
        """Have `run` return; with `block` wait until it has, unless this is its thread."""
        self.running = False
        thread = self.receiver_thread
        if block and thread is not None and thread is not threading.current_thread():
            thread.join()

    def _main(self, opened: Promise) -> None:
        try:
            self.open()
        except BaseException as error:  # noqa: BLE001 - it is raised where `start` was called
            self.running = False
            opened.set_exception(error)
            return
        opened.set_result(True)
        try:
            self.run()
        except Exception:
            log.exception("%s failed", type(self).__name__, extra={"action": "transport_failed"})
        finally:
            self.running = False
            if self._on_stopped is not None:
                self._on_stopped()
