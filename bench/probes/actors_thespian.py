"""Thespian, multiprocTCPBase: one actor sends another as many messages as are to be in flight, one more an answer."""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from typing import Any

from bench.probes.rpc_clock import VALUE, Meter

__all__ = ["Echo", "Flooder"]

_actors: Any = import_module("thespian.actors")


class Echo(_actors.Actor):  # type: ignore[misc] # it is not there when types are checked
    def receiveMessage(self, message: Any, sender: Any) -> None:
        self.send(sender, os.getpid() if message == "where" else message)


class Flooder(_actors.Actor):  # type: ignore[misc] # it is not there when types are checked
    def receiveMessage(self, message: Any, sender: Any) -> None:
        if isinstance(message, dict) and "flight" in message:
            self.asker, self.plan = sender, message
            self.other = message["echo"]
            self.send(self.other, "where")
        elif isinstance(message, int):
            self.count, self.meter = 0, Meter(message)
            self.until = self.meter.began + self.plan["seconds"]
            for _ in range(self.plan["flight"]):
                self.send(self.other, VALUE)
        elif message == VALUE:
            self.count += 1
            if time.perf_counter() < self.until:
                self.send(self.other, VALUE)
            elif self.count:
                self.send(self.asker, self.meter.over(self.count))
                self.count = 0


def main() -> None:
    flight, seconds = int(sys.argv[1]), float(sys.argv[2])
    system = _actors.ActorSystem("multiprocTCPBase")
    try:
        echo, run = system.createActor(Echo), system.createActor(Flooder)
        found = system.ask(run, {"flight": flight, "seconds": seconds, "echo": echo}, seconds + 30.0)
    finally:
        system.shutdown()
    if not isinstance(found, dict):
        raise SystemExit(f"it said {found!r}")
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    import_module("bench.probes.actors_thespian").main()
