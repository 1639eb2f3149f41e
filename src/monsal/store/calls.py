"""What a worker and the store process say to each other: the one table of calls, the link they need, and errors.

Params and results are msgpack straight from and into the records of `contract` (no dict in between, no pickle). The
answer to a call is (its result, `next_work`, `next_outgoing`): so a worker knows both as of the last answer it got.

| said by | word | params | result |
|---|---|---|---|
| worker | hello | `Hello` | `Facts` |
| worker | bye | () | None |
| worker | those of `CALLS` | as there | as there |
| worker (cast) | give_back, put_back | leases or outgoing rows that came too late | - |
| store (cast) | wake | `Wake` | - |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Raw
from msgspec.msgpack import Decoder, Encoder, Ext

from monsal.errors import (
    Busy,
    ConnectionLost,
    NoAnswer,
    RemoteError,
    RemoteFault,
    StatementError,
    StoreCorrupt,
    StoreError,
    StoreLocked,
    StoreNewer,
    StoreUnavailable,
)
from monsal.store.bounced import SentMail
from monsal.store.contract import (
    Accept,
    Capabilities,
    Claimed,
    CommitResult,
    Fence,
    Ledger,
    Outgoing,
    Receipt,
    Settled,
    Source,
    StateKey,
    StateValue,
    TurnCommit,
)
from monsal.store.engine.text import load_text, store_text
from monsal.store.upkeep import Erased

__all__ = [
    "BYE",
    "CALLS",
    "GIVE_BACK",
    "HELLO",
    "LIMITS",
    "MAIL",
    "PUT_BACK",
    "WAKE",
    "WORK",
    "Call",
    "ClaimedRow",
    "Facts",
    "Hello",
    "Link",
    "LinkLimits",
    "OutgoingRow",
    "Wake",
    "What",
    "Words",
    "error_of",
    "kind_of",
    "packed",
    "with_path",
]


class LinkLimits(NamedTuple):
    """Bounds of the links, for whoever makes them (P7). `frame` is in octets, `in_flight` calls of one worker run,
    `queue` more of together `held` octets wait; `timeout` is how many seconds a call may take."""

    frame: int = 64 * 1024 * 1024
    in_flight: int = 1024
    queue: int = 4096
    held: int = 64 * 1024 * 1024
    timeout: float = 60.0


LIMITS: Final = LinkLimits()


class Link(Protocol):
    """One connection with msgpack, whose params and results are left undecoded. `monsal.transport.Link` is one."""

    @property
    def name(self) -> str:
        """What the other side is called."""
        ...

    def call(self, method: str, params: Raw) -> Awaitable[Any]:
        """The result, as `msgspec.Raw`. Raises ConnectionLost, CallExpired, RemoteFault, or ValueError if it is
        longer than the other side takes."""
        ...

    def cast(self, method: str, params: Raw) -> object:
        """Say something that is not answered. Raises RemoteError."""
        ...

    def answer(self, identifier: Any, result: Any) -> object:
        """Give the result of a call; nothing if the other side is gone."""
        ...

    def refuse(self, identifier: Any, code: int, message: str, data: Any = None) -> object:
        """Answer a call with a fault."""
        ...


# -- records that only a link knows -----------------------------------------------------------------------------


class ClaimedRow(Claimed, frozen=True, kw_only=True, array_like=True):
    """A claimed row as it comes over a link: a body that is a file comes as a path in a tuple."""

    body: bytes | tuple[str]  # type: ignore[assignment]  # until `with_path`


class OutgoingRow(Outgoing, frozen=True, kw_only=True, array_like=True):
    """The same of an outgoing row."""

    body: bytes | tuple[str]  # type: ignore[assignment]  # until `with_path`


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """What a worker is at when it comes: lease keys whose turns still run, each with the end of its lease (epoch
    seconds), and outgoing rows that it took and has not settled."""

    running: list[tuple[str, float]] = []
    sending: list[int] = []


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """What the store process is: `bodies` is the folder of large bodies, those above `body_limit` octets."""

    epoch: int
    secret: bytes
    capabilities: Capabilities
    bodies: str | None
    body_limit: int

    def __repr__(self) -> str:
        return f"Facts(epoch={self.epoch}, capabilities={self.capabilities}, bodies={self.bodies!r}, secret=...)"


#: Bits of `Wake.bells`.
WORK: Final = 1
MAIL: Final = 2


class Wake(msgspec.Struct, frozen=True, array_like=True):
    """There may be more: work, mail to send, or both. Also the times of now, as in each answer, and the epoch."""

    bells: int
    work: float | None
    mail: float | None
    epoch: int


# -- the table --------------------------------------------------------------------------------------------------

HELLO: Final = "hello"
BYE: Final = "bye"
WAKE: Final = "wake"
GIVE_BACK: Final = "give_back"
PUT_BACK: Final = "put_back"

What = Literal["queue", "dead", "states", "outbox", "suppressed"]
Leases = list[tuple[str, Fence]]
#: The name of a file with a large body, as `ids.new_token` makes it: never a way to another folder (P8).
Token = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{20}\Z")]
#: Token of an outgoing mail -> token and size of the file that holds its body.
Files = dict[str, tuple[Token, int]]
Table = list[dict[str, Any]]


class Words:
    """The texts of one kind of call: reads and writes its params and results.

    A text with lone surrogates has no form in msgpack. It is rare, so the whole value is then written with such texts
    in their stored form, inside an extension type that says so.
    """

    __slots__ = ("_kind", "_read")

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._read: Callable[[Any], Any] = Decoder(kind).decode

    def read(self, raw: Any) -> Any:
        """The value. Raises msgspec.ValidationError if it is none."""
        try:
            return self._read(raw)
        except msgspec.ValidationError:
            try:
                inner = _escaped(raw)[0].data
            except msgspec.ValidationError:
                inner = None
            if inner is None:
                raise
        return _map_texts(self._read(inner), load_text)


def packed(value: Any) -> Raw:
    """An array as it goes over a link.

    Raises TypeError, ValueError if a value in it has no form in msgpack, StatementError if it is longer than a frame:
    only what a turn or a statement makes can be so long.
    """
    try:
        data = _encode(value)
    except UnicodeEncodeError:
        data = _encode((Ext(_ESCAPED, _encode(_map_texts(value, store_text))),))
    if len(data) > _MOST:
        raise StatementError(f"{len(data)} octets are more than goes between a worker and the store process at once")
    return Raw(data)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return (str(value),)
    raise TypeError(f"{type(value).__name__} cannot be sent to the store process")


_ESCAPED: Final = 1
#: A frame without what the link puts around.
_MOST: Final = LIMITS.frame - 1024
_encode: Final = Encoder(enc_hook=_plain).encode
_escaped: Final = Decoder(tuple[Ext]).decode


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The same value with each text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        return type(value)(**{name: _map_texts(getattr(value, name), change) for name in names})
    if isinstance(value, dict):
        return {_map_texts(key, change): _map_texts(item, change) for key, item in value.items()}
    if isinstance(value, Path):
        return (change(str(value)),)
    if isinstance(value, list | tuple):
        return [_map_texts(item, change) for item in value] if isinstance(value, list) else _map_tuple(value, change)
    return value


def _map_tuple(value: tuple[Any, ...], change: Callable[[str], str]) -> tuple[Any, ...]:
    return tuple(_map_texts(item, change) for item in value)


def with_path(row: Any) -> Any:
    """A row whose body is a path again, if it is one."""
    return msgspec.structs.replace(row, body=Path(row.body[0])) if type(row.body) is tuple else row


class Call(NamedTuple):
    """What is said with one word."""

    params: Words
    answer: Words


def _call(params: Any, result: Any) -> Call:
    return Call(Words(params), Words(tuple[result, float | None, float | None]))


CALLS: Final[dict[str, Call]] = {
    HELLO: _call(Hello, Facts),
    BYE: _call(tuple[()], None),
    "accept": _call(Accept, Receipt),
    "accept_large": _call(tuple[Accept, Token, int], Receipt),
    "claim": _call(tuple[int, float, float], list[ClaimedRow]),
    "extend": _call(tuple[Leases, float], list[bool]),
    "commit": _call(TurnCommit, CommitResult),
    # With it come the tokens of the mails whose files it did not take.
    "commit_large": _call(tuple[TurnCommit, Files], tuple[CommitResult, list[str]]),
    "read_states": _call(list[StateKey], list[StateValue]),
    "read": _call(tuple[str, list[Any]], list[tuple[Any, ...]]),
    "take_outgoing": _call(tuple[int, float], list[OutgoingRow]),
    "settle": _call(list[Settled], None),
    "ledger": _call(tuple[()], dict[Source, Ledger]),
    "outbox_counts": _call(tuple[()], dict[str, int]),
    "rows": _call(tuple[What, int], Table),
    "dead_detail": _call(tuple[int], dict[str, Any] | None),
    "replay": _call(tuple[int, float], bool),
    "drop": _call(tuple[int, float], bool),
    "release": _call(tuple[str, float], int),
    "retry_outgoing": _call(tuple[int, float], bool),
    "cancel_outgoing": _call(tuple[int, float], bool),
    "sent": _call(tuple[str], SentMail | None),
    "suppress": _call(tuple[str, str, float, float | None], None),
    "unsuppress": _call(tuple[str], bool),
    "set_state": _call(tuple[StateKey, str, float], None),
    "set_all": _call(tuple[str, str, float], int),
    "rename_state": _call(tuple[str, str, str, float], int),
    "clear_states": _call(tuple[()], None),
    "prune": _call(tuple[float, float, int], int),
    "prune_bodies": _call(tuple[float, float, int], int),
    "erase": _call(tuple[str, float, bool], Erased),
    "killed": _call(tuple[list[int], float], list[int]),
}


# -- errors -----------------------------------------------------------------------------------------------------

_KINDS: Final[dict[str, type[Exception]]] = {
    kind.__name__: kind
    for kind in (
        StoreUnavailable,
        StoreLocked,
        StoreCorrupt,
        StoreNewer,
        StatementError,
        StoreError,
        TypeError,
        ValueError,
        OverflowError,
    )
}


def kind_of(error: BaseException) -> str | None:
    """The word for an error that a caller is to see as it is; None for a fault of the store process itself."""
    # Errors of the store that are known by what they are a kind of, such as InDoubt, are told as that.
    kinds = type(error).__mro__ if isinstance(error, StoreError) else (type(error),)
    return next((kind.__name__ for kind in kinds if _KINDS.get(kind.__name__) is kind), None)


def error_of(error: Exception, word: str) -> Exception:
    """What an error of a link means to those who called the store. Never a yes: what is not known is an error (P1)."""
    if isinstance(error, Busy):
        return StoreUnavailable(f"the store process has too much to do; {word} was not done")
    if isinstance(error, RemoteFault):
        return _KINDS.get(error.kind, StoreUnavailable)(str(error))
    if isinstance(error, ConnectionLost) and not error.sent:
        return StoreUnavailable(f"the store process is gone; {word} did not reach it")
    if isinstance(error, NoAnswer):
        return StoreUnavailable(f"the store process did not answer ({error}); whether {word} reached it is not known")
    if isinstance(error, RemoteError):
        return StoreUnavailable(f"the store process cannot be reached: {error}")
    if isinstance(error, ValueError):
        return StatementError(f"too much for the store process: {error}")
    return error
