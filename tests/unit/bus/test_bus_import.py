"""What importing does (P9), seen in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.rule("bus.B19")
def test_importing_starts_nothing_and_loads_nothing_foreign_or_heavy() -> None:
    assert fresh(
        "import signal, sys, threading\n"
        "before = [signal.getsignal(s) for s in signal.valid_signals()]\n"
        "import monsal.bus, monsal.bus.plugins\n"
        "assert [signal.getsignal(s) for s in signal.valid_signals()] == before\n"
        "assert len(threading.enumerate()) == 1\n"
        "assert 'bus' not in vars(monsal.bus)\n"
        "heavy = ('asyncio', 'logging', 'selectors', 'socket', 'subprocess', 'msgspec')\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "print([name for name in sys.modules if name.startswith('monsal.') and not name.startswith('monsal.bus')])\n"
    ).split("\n") == ["[]", "[]"]


def test_the_default_bus_is_made_on_first_touch_and_is_one() -> None:
    assert (
        fresh(
            "import threading\n"
            "import monsal.bus\n"
            "made, together = [], threading.Barrier(8)\n"
            "def touch():\n"
            "    together.wait()\n"
            "    made.append(monsal.bus.bus)\n"
            "threads = [threading.Thread(target=touch) for _ in range(8)]\n"
            "for thread in threads: thread.start()\n"
            "for thread in threads: thread.join()\n"
            "from monsal.bus import Bus, bus\n"
            "print(len({id(one) for one in made} | {id(bus)}), type(bus) is Bus)\n"
        )
        == "1 True"
    )
