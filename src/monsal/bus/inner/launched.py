"""What a launcher and the process that it launched agree on, beside the messages of sd_notify(3) (see `launching.py`).

Until the new process is ready its standard error is kept by the launcher, which shows it if the start fails, and its
messages go to the launcher. From READY=1 on both go where they belong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

__all__ = ["child_environ", "settle_manager", "settle_stderr"]

#: Where standard error goes when the process is ready: descriptor, device and inode, so that no other file is taken.
_STDERR = "MONSAL_LAUNCH_STDERR"
#: The address of the service manager that is told from then on; may be empty.
_MANAGER = "MONSAL_LAUNCH_MANAGER"
_MEANT_FOR_US = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", _STDERR, _MANAGER)


def child_environ(environ: Mapping[str, str], *, address: str, stderr: int | None, heir: bool) -> dict[str, str]:
    """The environment of a launched process whose messages go to `address`.

    `stderr` is the descriptor of the final standard error, which is passed; None if it has that from the beginning. An
    `heir` reports to our service manager from READY=1 on, and feeds its watchdog; any other child does not.
    """
    result = {name: value for name, value in environ.items() if name not in _MEANT_FOR_US}
    result.pop("WATCHDOG_PID", None)
    if not heir:
        result.pop("WATCHDOG_USEC", None)
    result["NOTIFY_SOCKET"] = address
    result[_MANAGER] = environ.get("NOTIFY_SOCKET", "") if heir else ""
    if stderr is not None:
        status = os.fstat(stderr)
        result[_STDERR] = f"{stderr}:{status.st_dev}:{status.st_ino}"
    return result


def settle_stderr(environ: MutableMapping[str, str]) -> None:
    """Before READY=1: send standard error to its final place, and there first what was said so far.

    Does nothing in a process that was not launched, or whose descriptor is not the one that was meant.
    """
    text = environ.pop(_STDERR, "")
    if not text:
        return
    descriptor, device, inode = map(int, text.split(":"))
    try:
        status = os.fstat(descriptor)
    except OSError:
        return
    if (status.st_dev, status.st_ino) != (device, inode):
        return
    said = os.dup(2)
    try:
        # In this order a line that comes meanwhile may be early, but none is lost.
        os.dup2(descriptor, 2, inheritable=True)
        os.close(descriptor)
        place = 0
        while part := os.pread(said, 1 << 16, place):
            place += len(part)
            while part:
                part = part[os.write(2, part) :]
    finally:
        os.close(said)


def settle_manager(environ: MutableMapping[str, str]) -> None:
    """After READY=1: from now on our messages are for the service manager of the launcher, or for nobody."""
    address = environ.pop(_MANAGER, None)
    if address:
        environ["NOTIFY_SOCKET"] = address
    elif address is not None:
        environ.pop("NOTIFY_SOCKET", None)
