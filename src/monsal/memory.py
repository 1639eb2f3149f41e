"""How much memory a process uses, and how often it looks for what it does not need any more."""

from __future__ import annotations

import gc
from pathlib import Path

__all__ = ["collect_seldom", "memory_of"]

#: The thresholds that Python 3.11 to 3.13 begin with: of 3.14, whose collector is another one, nothing is known here.
_BY_DEFAULT = ((700, 10, 10), (2000, 10, 10))


def memory_of(pid: int) -> int:
    """Octets of memory that are a process's: its own, and its share of what it shares (PSS); 0 if nobody tells."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    except (OSError, ValueError, StopIteration):
        return 0


def collect_seldom() -> None:
    """Have Python look for circles of dead objects less often; for a process that serves.

    A mail makes some hundred objects, none of them in a circle: they end with their last use. By default Python looks
    for circles each time that 700 more objects were made than have ended, which a dozen mails under way do already, and
    then goes through them in vain. 10,000 of them are about 1 MB.
    """
    if gc.isenabled() and gc.get_threshold() in _BY_DEFAULT:  # else the application knows better
        gc.set_threshold(10_000, 20, 50)
