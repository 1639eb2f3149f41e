"""How long a server takes with one mail at a time: `python -m bench.probes.light PORT COUNT GAP kept|anew`.

So many mails of 1 kB, the next one GAP seconds after the last was taken, over one connection or each over one of its
own. The last line is a JSON object with lists of milliseconds: `mail` from the writing of MAIL to the 250, `content`
from the writing of the content (after 354) to the 250, `all` from the connection's beginning (or MAIL) to the 250.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import count

import uvloop

from bench.mails import Mail, MailMaker
from bench.session import Session

__all__ = ["Light", "main"]

_RECIPIENT = "help@example.com"


class Light:
    """Mails one at a time, with a gap between them; `took` are the milliseconds of each."""

    def __init__(self, port: int, gap: float, *, anew: bool = False, seed: int = 1) -> None:
        self.took: dict[str, list[float]] = {"mail": [], "content": [], "all": []}
        self._port = port
        self._gap = gap
        self._anew = anew
        self._session: Session | None = None
        maker = MailMaker(seed, (_RECIPIENT,), 1024)
        self._mails = (maker.make(number % 500, 1 + number // 500) for number in count())

    async def run(self, mails: int) -> None:
        """Send so many. Raises ConnectionError if one is not taken."""
        for _ in range(mails):
            await self._one(next(self._mails))
            if self._anew:
                await self._quit()
            await asyncio.sleep(self._gap)

    async def close(self) -> None:
        """Take leave of the server."""
        await self._quit()

    async def _one(self, mail: Mail) -> None:
        began = time.perf_counter()
        if self._session is None:
            loop = asyncio.get_running_loop()
            _, self._session = await loop.create_connection(lambda: Session(loop), "127.0.0.1", self._port)
            await self._session.greeted()
        asked = time.perf_counter()
        ((_, answer),) = await self._session.transact(mail, [_RECIPIENT])
        over = time.perf_counter()
        if answer.code != 250:
            raise ConnectionError(f"{answer.code} {answer.text}")
        # Without a connection of its own there is nothing before MAIL.
        moments = {"mail": asked, "content": self._session.content_at, "all": began if self._anew else asked}
        for name, moment in moments.items():
            self.took[name].append(1000 * (over - moment))

    async def _quit(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.quit()


async def _measure(port: int, mails: int, gap: float, anew: bool) -> dict[str, list[float]]:
    light = Light(port, gap, anew=anew)
    # The first mails find a server that has nothing in its caches.
    await light.run(5)
    light.took = {name: [] for name in light.took}
    await light.run(mails)
    await light.close()
    return light.took


def main(words: list[str]) -> None:
    """Measure."""
    port, mails, gap, connections = words
    print(json.dumps(uvloop.run(_measure(int(port), int(mails), float(gap), connections == "anew"))))


if __name__ == "__main__":
    main(sys.argv[1:])
