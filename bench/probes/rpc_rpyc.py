"""RPyC: a service; the value travels as a tuple of pairs, for a dict would be a reference to the caller's."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bench.probes.rpc_clock import VALUE, main, one_by_one, ready, sliding

__all__ = ["drive", "serve"]

_PAIRS = tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in VALUE.items())


def serve(address: str) -> None:
    rpyc = import_module("rpyc")

    class Echo(rpyc.Service):  # type: ignore[name-defined,misc]  # RPyC has no types
        def exposed_echo(self, value: Any) -> Any:
            return value

    scheme, _, rest = address.partition(":")
    where = {"socket_path": rest} if scheme == "unix" else {"hostname": "127.0.0.1", "port": 0}
    server = import_module("rpyc.utils.server").ThreadedServer(Echo, **where)
    ready(address if scheme == "unix" else f"tcp:127.0.0.1:{server.port}")
    server.start()


def drive(address: str, pid: int, flight: int, seconds: float) -> dict[str, float]:
    rpyc = import_module("rpyc")
    scheme, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")
    link = rpyc.utils.factory.unix_connect(rest) if scheme == "unix" else rpyc.connect(host, int(port))
    echo = link.root.echo
    if flight == 1:
        return one_by_one(lambda: _as_sent(echo(_PAIRS)), pid, seconds)
    begin = rpyc.async_(echo)
    return sliding(lambda: begin(_PAIRS), lambda result: _as_sent(result.value), pid, flight, seconds)


def _as_sent(pairs: object) -> object:
    """The value if these are its pairs, for the comparison with what was sent."""
    return VALUE if pairs == _PAIRS else pairs


if __name__ == "__main__":
    main(serve, drive)
