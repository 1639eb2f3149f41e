"""The ancestor as a server: `python bench/probes/salmon_desk.py STORAGE DIRECTORY PORT RELAY`, in its environment.

STORAGE is `memory` or `shelve`; PORT is where its SMTPReceiver listens, or `queue` for its QueueReceiver on the maildir
DIRECTORY/queue. Each mail moves the state of its correspondent and is answered through its Relay. Nothing of ours is
imported.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    storage, directory, port, relay_port = arguments
    routing, server = import_module("salmon.routing"), import_module("salmon.server")
    router = routing.Router
    router.defaults(host=r"example\.com")  # before the routes: they are compiled as they are declared
    relay = server.Relay(host="127.0.0.1", port=int(relay_port))

    @routing.route("help@(host)")  # type: ignore[untyped-decorator]  # it has no types
    def START(message: Any, host: str | None = None) -> Any:
        relay.reply(message, f"help@{host}", "Re: your mail", "What would you like?")
        return NEXT

    @routing.route("help@(host)")  # type: ignore[untyped-decorator]  # as above
    def NEXT(message: Any, host: str | None = None) -> Any:
        relay.reply(message, f"help@{host}", "Re: your mail", "What else?")
        return START

    router.STATE_STORE = (
        routing.MemoryStorage() if storage == "memory" else routing.ShelveStorage(str(Path(directory) / "states"))
    )
    if port == "queue":
        print("ready", flush=True)
        # Ten threads are its default.
        server.QueueReceiver(str(Path(directory) / "queue"), sleep=0.01).start()
    server.SMTPReceiver("127.0.0.1", int(port)).start()


if __name__ == "__main__":
    main(sys.argv[1:])
