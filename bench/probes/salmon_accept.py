"""salmon-mail that takes mail and keeps none: `python bench/probes/salmon_accept.py PORT`, in its environment.

Its SMTPReceiver with one stateless handler that does nothing: the taking of a mail alone. It prints a line when it
listens, and runs until SIGTERM. Nothing of ours is imported.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Any

__all__ = ["main"]


def _taken(message: Any, **captures: Any) -> None:
    """The handler."""


def main(words: list[str]) -> None:
    """Serve."""
    routing, server = import_module("salmon.routing"), import_module("salmon.server")
    routing.Router.defaults(host=r"example\.com")
    # What its decorators do; it needs no lock, for there is no state.
    routing.route("help@(host)")(routing.stateless(routing.nolocking(_taken)))
    # Nothing is kept, and its poller would not hear of the end.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.SMTPReceiver("127.0.0.1", int(words[0])).start()
    print("listening", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
