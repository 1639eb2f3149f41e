"""Small mails beside large ones: `python -m bench.probes.large PORT SECONDS SESSIONS MEGABYTES`.

Mails of 1 kB, one at a time with 10 ms between them, for some seconds; then the same while other sessions send large
mails again and again, from a process of their own (`python -m bench.probes.large large PORT SESSIONS MEGABYTES`, until
SIGTERM). The last line is a JSON object: lists of milliseconds from MAIL to 250, `quiet` and `beside`, and `large`, the
large mails that were taken a second.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from itertools import count

import uvloop

from bench.mails import Mail
from bench.probes.light import Light
from bench.session import Session

__all__ = ["main"]

_GAP = 0.01
_RECIPIENT = "help@example.com"
_LINE = b"All work and no play makes a very large mail, and this is one of its many lines.\r\n"


class _Large:
    """Sessions that send large mails until they are stopped; each mail is another, so that no server knows it."""

    def __init__(self, port: int, sessions: int, size: int) -> None:
        self._port = port
        self._sessions = sessions
        self._content = _LINE * (size // len(_LINE))

    async def run(self) -> None:
        over = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
        drivers = [asyncio.create_task(self._drive(number)) for number in range(self._sessions)]
        end = asyncio.create_task(over.wait())
        await asyncio.wait([end, *drivers], return_when=asyncio.FIRST_COMPLETED)
        for task in (end, *drivers):
            # A mail on its way is cut off: to finish ten of them can take longer than all that is measured.
            task.cancel()
        for outcome in await asyncio.gather(*drivers, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def _drive(self, lane: int) -> None:
        loop = asyncio.get_running_loop()
        _, session = await loop.create_connection(lambda: Session(loop), "127.0.0.1", self._port)
        await session.greeted()
        for number in count():
            ((_, answer),) = await session.transact(self._mail(lane, number), [_RECIPIENT])
            if answer.code != 250:
                raise ConnectionError(f"{answer.code} {answer.text}")
            print(lane, flush=True)

    def _mail(self, lane: int, number: int) -> Mail:
        sender, name = f"large{lane}@load.example", f"<{lane}.{number}@large.load.example>"
        head = f"From: {sender}\r\nTo: {_RECIPIENT}\r\nMessage-ID: {name}\r\nSubject: large\r\n\r\n".encode()
        return Mail(name, lane, number, sender, (_RECIPIENT,), head + self._content)


async def _measure(port: int, seconds: float, sessions: int, megabytes: int) -> dict[str, object]:
    light = Light(port, _GAP)
    mails = max(20, int(seconds / _GAP))
    await light.run(10)
    quiet = await _so_long(light, mails, seconds)
    words = ["large", str(port), str(sessions), str(megabytes)]
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.probes.large", *words), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    # The first of them is on the disk: from now on large mails come in at all stages.
    if not await child.stdout.readline():
        raise ConnectionError(f"the large mails were not taken (exit code {await child.wait()})")
    began = time.perf_counter()
    counting = asyncio.create_task(child.stdout.read())
    try:
        beside = await _so_long(light, mails, seconds)
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
    taken = len((await counting).splitlines())
    took = time.perf_counter() - began
    if await child.wait():
        raise ConnectionError(f"the large mails ended with {child.returncode}")
    await light.close()
    return {"quiet": quiet, "beside": beside, "large": taken / took}


async def _so_long(light: Light, mails: int, seconds: float) -> list[float]:
    """Milliseconds of so many mails, or of those that were taken within twice the time that they should take."""
    light.took["mail"] = []
    end = time.perf_counter() + 2 * seconds
    while len(light.took["mail"]) < mails and (time.perf_counter() < end or not light.took["mail"]):
        await light.run(1)
    return light.took["mail"]


def main(words: list[str]) -> None:
    """Send large mails, or measure."""
    if words[0] == "large":
        port, sessions, megabytes = map(int, words[1:])
        uvloop.run(_large(port, sessions, megabytes * 1_000_000))
        return
    found = uvloop.run(_measure(int(words[0]), float(words[1]), int(words[2]), int(words[3])))
    print(json.dumps(found))


async def _large(port: int, sessions: int, size: int) -> None:
    await _Large(port, sessions, size).run()


if __name__ == "__main__":
    main(sys.argv[1:])
