"""quickrpc: an API with one call over `jrpc` on tcp; handlers run on the thread that receives."""

from __future__ import annotations

import os
import threading
from importlib import import_module
from typing import Any

from bench.probes.rpc_clock import VALUE, main, one_by_one, ready, sliding

__all__ = ["drive", "serve"]

#: Seconds that a reply is waited for; its own default is 1.
_PATIENCE = 30


def _api(transport: str, invert: bool = False) -> Any:
    quickrpc = import_module("quickrpc")

    class Echo(quickrpc.RemoteAPI):  # type: ignore[name-defined,misc]  # quickrpc has no types
        @quickrpc.incoming(has_reply=True)  # type: ignore[untyped-decorator]  # it has no types
        def echo(self, sender: str, value: Any = None) -> None: ...

    return Echo(codec="jrpc", transport=transport, invert=invert)


def serve(address: str) -> None:
    api = _api("tcpserv:127.0.0.1:0")
    api.echo.connect(lambda sender, value: value)
    api.transport.start()
    ready(f"tcp:127.0.0.1:{api.transport.server.server_address[1]}")
    threading.Event().wait()


def drive(address: str, pid: int, flight: int, seconds: float) -> dict[str, float]:
    api = _api(address, invert=True)
    api.transport.start()
    try:
        if flight == 1:
            return one_by_one(lambda: api.echo(value=VALUE).result(timeout=_PATIENCE), pid, seconds)
        return sliding(
            lambda: api.echo(value=VALUE), lambda reply: reply.result(timeout=_PATIENCE), pid, flight, seconds
        )
    finally:
        api.transport.stop()


if __name__ == "__main__":
    main(serve, drive)
    # Its threads are not daemons.
    os._exit(0)
