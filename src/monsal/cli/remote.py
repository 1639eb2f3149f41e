"""One call to a program somewhere, for a command that ends after it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from monsal.errors import CallExpired, UsageError

if TYPE_CHECKING:
    from monsal.transport import Link, Tcp, Tls, Unix

__all__ = ["MAX_RESULT", "Target", "ask", "tell"]

#: Octets of one answer, as those of the control socket.
MAX_RESULT = 16 * 1024 * 1024
#: Seconds that the end of a link may take.
_LAST_WORDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the other side is, how it speaks, and the seconds that a call to it may take."""

    address: Tcp | Tls | Unix
    codec: str
    timeout: float

    @classmethod
    def of(cls, text: str, directory: Path, *, codec: str, timeout: float) -> Target:
        """The target that somebody typed; paths are below `directory`. Raises UsageError if it is none."""
        from monsal.transport import Tcp, Tls, Unix, parse, wiring

        try:
            address = Unix(text) if _is_path(text) else parse(text)
            wiring(codec)
        except ValueError as error:
            raise UsageError(str(error)) from None
        if isinstance(address, Unix):
            address = Unix(os.fspath(directory / address.path))
        elif isinstance(address, Tls):
            files = {name: getattr(address, name) for name in ("ca", "cert", "key")}
            address = replace(address, **{name: os.fspath(directory / path) for name, path in files.items() if path})
        elif not isinstance(address, Tcp):
            raise UsageError(f"{text!r} is nothing to connect to: give a path, tcp://HOST:PORT or tcps://HOST:PORT")
        return cls(address=address, codec=codec, timeout=timeout)


def _is_path(text: str) -> bool:
    return text.startswith(("/", "./", "../")) or ":" not in text


def ask(target: Target, method: str, params: dict[str, Any] | list[Any]) -> Any:
    """The result of a call.

    Raises RemoteFault if the answer is a fault, NoAnswer if there is none, another RemoteError if nobody is there.
    """
    return _with_link(target, lambda link: link.call(method, params, timeout=target.timeout))


def tell(target: Target, method: str, params: dict[str, Any] | list[Any]) -> None:
    """Make a call that is not answered. Raises RemoteError if nobody is there, or nobody reads it."""
    import asyncio

    async def cast(link: Link) -> None:
        link.cast(method, params)
        link.close()
        try:
            async with asyncio.timeout(target.timeout):
                await link.wait_closed()
        except TimeoutError:
            raise CallExpired(f"{link.name} did not read within {target.timeout:g} seconds") from None

    _with_link(target, cast)


def _with_link(target: Target, work: Callable[[Link], Awaitable[Any]]) -> Any:
    import asyncio

    from monsal.transport import CONNECT_TIMEOUT, LinkSetup, connect
    from monsal.wire.limits import PeerLimits

    # No hello: one call is no reason to disturb a strict program, and hanging up gives it up as well.
    setup = LinkSetup(codec=target.codec, hello=None, limits=PeerLimits(frame=MAX_RESULT))

    async def run() -> Any:
        link = await connect(target.address, setup, timeout=min(CONNECT_TIMEOUT, target.timeout))
        try:
            return await work(link)
        finally:
            link.close()
            await link.leave(_LAST_WORDS)

    return asyncio.run(run())
