"""A caller of monsal.rpc that does nothing wrong: `python -m bench.probes.rpc_calm ADDRESS ATTACK SECONDS`.

It calls every few milliseconds, for so many seconds alone and for so many beside `rpc_unkind`, and prints how long its
calls took then and now.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from bench.probes.rpc_clock import VALUE, percentile, uvloop_run
from bench.probes.rpc_monsal import Echo

__all__ = ["main"]

#: Seconds from call to call. A caller without pause would not call while it waits for a slow answer, and so not see
#: most of what it is kept waiting for.
_PACE = 0.002


async def _calls(call: Any, seconds: float) -> list[float]:
    """Seconds of each call from when it was due."""
    # Not the time of the loop, which uvloop counts in milliseconds.
    now = time.perf_counter
    waits: list[float] = []
    due = now()
    until = due + seconds
    while due < until:
        await asyncio.sleep(max(0.0, due - now()))
        # What a call is late because the one before took too long counts; what the timer is late does not.
        begun = due if waits and waits[-1] > _PACE else now()
        if await call(value=VALUE) != VALUE:
            raise ValueError("the echo is wrong")
        waits.append(now() - begun)
        due += _PACE
    return waits


async def _measure(address: str, attack: str, seconds: float) -> dict[str, float]:
    api = Echo(codec="jrpc:\n", invert=True)
    await api.connect(address)
    call = api.call.echo
    await _calls(call, seconds / 4)
    quiet = await _calls(call, seconds)
    command = [sys.executable, "-m", "bench.probes.rpc_unkind", address, attack, str(seconds + 1)]
    unkind = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert unkind.stdout is not None
    await unkind.stdout.readline()
    beside = await _calls(call, seconds)
    await unkind.communicate()
    before, after = percentile(quiet, 0.99), percentile(beside, 0.99)
    return {
        "quiet_us": 1e6 * before,
        "p99_us": 1e6 * after,
        "worst_ms": 1e3 * max(beside),
        "times": after / before,
    }


def main(address: str, attack: str, seconds: str) -> None:
    """Measure, and print what was found."""
    print(json.dumps(uvloop_run(_measure(address, attack, float(seconds)))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
