"""multiprocessing.Pipe between two processes: pickle, blocking; 64 in flight are 64 that are sent, and then 64 read."""

from __future__ import annotations

import json
import multiprocessing
import sys
from typing import Any

from bench.probes.rpc_clock import VALUE, in_batches, one_by_one

__all__ = ["echo"]


def echo(connection: Any) -> None:
    """Give back what comes."""
    try:
        while True:
            connection.send(connection.recv())
    except EOFError:
        return


def main() -> None:
    flight, seconds = int(sys.argv[1]), float(sys.argv[2])
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=echo, args=(theirs,))
    child.start()
    theirs.close()
    assert child.pid is not None

    def call() -> Any:
        ours.send(VALUE)
        return ours.recv()

    def calls(number: int) -> list[Any]:
        for _ in range(number):
            ours.send(VALUE)
        return [ours.recv() for _ in range(number)]

    if flight == 1:
        found = one_by_one(call, child.pid, seconds)
    else:
        found = in_batches(calls, child.pid, flight, seconds)
    ours.close()
    child.join()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
