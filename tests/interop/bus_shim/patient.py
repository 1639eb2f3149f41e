"""A plugin of pytest for magicbus's own tests: they wait for what they are about to talk to.

Their programs write the PID file first and listen for signals and connections a moment later; the tests send both as
soon as they see the file. On a busy machine they come first, on whatever bus: the signal kills, the file stays for
ever, or the connection is refused. Only this waiting is added, and it ends with the time limit of the test.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from magicbus.plugins.opsys import PIDFile
from magicbus.test import WebService

PAUSE = 0.01

#: PID file -> the process that it named when it was waited for, until that was joined.
_named: dict[str, int] = {}
_join = PIDFile.join
_get = WebService.do_GET


def _wait(self: Any, timeout: float | None = None, poll_interval: float = PAUSE) -> int:
    """Wait for a process that was not waited for before: after a restart there is a new one."""
    while True:
        try:
            pid = int(Path(self.pidfile).read_text(encoding="ascii"))
            if pid != _named.get(self.pidfile) and ("test_signals" not in self.pidfile or _listens(pid)):
                _named[self.pidfile] = pid
                return pid
        except (FileNotFoundError, ProcessLookupError, ValueError):
            # Not there yet, not written yet, or just about to be replaced.
            time.sleep(PAUSE)
        else:
            time.sleep(PAUSE)


def _listens(pid: int) -> bool:
    """Whether the process has a handler for the signals (proc(5)); SIGUSR1 is the last one that it gets."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return all(caught >> (number - 1) & 1 for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1))


def _joined(self: Any, timeout: float | None = None, poll_interval: float = PAUSE) -> None:
    _join(self, timeout, poll_interval)
    _named.pop(self.pidfile, None)


def _patiently(self: Any, uri: str) -> Any:
    while True:
        try:
            return _get(self, uri)
        except ConnectionRefusedError:
            time.sleep(PAUSE)


PIDFile.wait, PIDFile.join = _wait, _joined
WebService.do_GET = _patiently
