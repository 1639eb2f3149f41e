"""Clients that send 1 kB mails over kept connections: `python senders.py NAME CONNECTIONS PORT SECONDS`.

NAME is `smtplib` (a thread for each connection) or `aiosmtplib` (on uvloop, in its environment). The last line is a
JSON object: mails, seconds and CPU seconds of this process. Nothing of ours is imported.
"""

from __future__ import annotations

import asyncio
import json
import smtplib
import sys
import threading
import time
from importlib import import_module

__all__ = ["main"]

_SENDER, _RECIPIENT = "help@example.com", "customer@load.example"
_MAIL = (
    f"From: {_SENDER}\r\nTo: {_RECIPIENT}\r\nMessage-ID: <answer@example.com>\r\nSubject: Re: yours\r\n\r\n".encode()
    + b"What would you like? We have it.\r\n" * 26
)


def _by_smtplib(connections: int, port: int, seconds: float) -> int:
    counts: list[int] = []
    end = time.monotonic() + seconds

    def lane() -> None:
        sent = 0
        with smtplib.SMTP("127.0.0.1", port) as client:
            while time.monotonic() < end or not sent:
                client.sendmail(_SENDER, [_RECIPIENT], _MAIL)
                sent += 1
        counts.append(sent)

    threads = [threading.Thread(target=lane) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def _by_aiosmtplib(connections: int, port: int, seconds: float) -> int:
    aiosmtplib, uvloop = import_module("aiosmtplib"), import_module("uvloop")
    end = time.monotonic() + seconds

    async def lane() -> int:
        sent = 0
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, use_tls=False, start_tls=False) as client:
            while time.monotonic() < end or not sent:
                await client.sendmail(_SENDER, [_RECIPIENT], _MAIL)
                sent += 1
        return sent

    async def body() -> int:
        return sum(await asyncio.gather(*(lane() for _ in range(connections))))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(body())


def main(arguments: list[str]) -> None:
    """Send, and say how it went."""
    name, connections, port, seconds = arguments
    send = {"smtplib": _by_smtplib, "aiosmtplib": _by_aiosmtplib}[name]
    send(1, int(port), 0.1)  # warm
    began, used = time.monotonic(), time.process_time()
    mails = send(int(connections), int(port), float(seconds))
    print(json.dumps({"mails": mails, "seconds": time.monotonic() - began, "cpu": time.process_time() - used}))


if __name__ == "__main__":
    main(sys.argv[1:])
