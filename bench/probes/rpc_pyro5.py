"""Pyro5: an exposed class; what is in flight together is a batch, its way to have several calls on one connection."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from bench.probes.rpc_clock import VALUE, in_batches, main, one_by_one, ready

__all__ = ["drive", "serve"]


def serve(address: str) -> None:
    api = import_module("Pyro5.api")

    @api.expose
    class Echo:
        def echo(self, value: Any) -> Any:
            return value

    scheme, _, rest = address.partition(":")
    daemon = api.Daemon(unixsocket=rest) if scheme == "unix" else api.Daemon(host="127.0.0.1", port=0)
    ready(str(daemon.register(Echo(), "echo")))
    daemon.requestLoop()


def drive(address: str, pid: int, flight: int, seconds: float) -> dict[str, float]:
    api = import_module("Pyro5.api")
    with api.Proxy(address) as proxy:
        if flight == 1:
            return one_by_one(lambda: proxy.echo(VALUE), pid, seconds)

        def calls(number: int) -> Sequence[object]:
            batch = api.BatchProxy(proxy)
            for _ in range(number):
                batch.echo(VALUE)
            return list(batch())

        return in_batches(calls, pid, flight, seconds)


if __name__ == "__main__":
    main(serve, drive)
