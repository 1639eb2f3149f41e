"""The listening sockets that a process gets from the one before it, and gives to the one after it.

    for name, sockets in listen_fds().items(): ...        # those of systemd, of a launcher, or of the image before

Sockets come in two ways. systemd, and a process that replaces itself by `exec`, put them at the descriptors from 3 on
and say so in `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` (sd_listen_fds(3)). A launcher does not know the pid of
its child beforehand, so it leaves the descriptors where they are and names them in `MONSAL_LISTEN_FDS`, each with its
inode: that tells one that was meant from one that only has the same number, also behind a wrapper.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Mapping, MutableMapping, Sequence

__all__ = ["hand_over", "hand_over_by_exec", "listen_fds"]

Sockets = Mapping[str, Sequence[socket.socket]]

#: SD_LISTEN_FDS_START of sd_listen_fds(3).
FIRST = 3
_OF_SYSTEMD = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_OURS = ("MONSAL_LISTEN_FDS", "MONSAL_LISTEN_PARENT")


def listen_fds(environ: MutableMapping[str, str] = os.environ, *, unset: bool = True) -> dict[str, list[socket.socket]]:
    """The listening sockets that were passed to this process, by name; one without a name is called `unknown`.

    Variables that are for another process are not looked at. What was taken is removed from `environ`, so that no child
    and no later image takes it for its own, unless `unset` is false. No socket is inherited by children any more. The
    blocking flag belongs to the open socket, which others have, too, so it is left as it is.

    Raises ValueError if the variables are malformed, or if a descriptor is no listening stream socket.
    """
    found = _from_systemd(environ) + _from_launcher(environ)
    result: dict[str, list[socket.socket]] = {}
    checked = [(name, _checked(name, descriptor)) for name, descriptor in found]
    for name, taken in checked:
        result.setdefault(name, []).append(taken)
    if unset:
        for variable in (*_OF_SYSTEMD, *_OURS):
            environ.pop(variable, None)
    return result


def _from_systemd(environ: Mapping[str, str]) -> list[tuple[str, int]]:
    """Names and descriptors as sd_listen_fds_with_names(3) tells them."""
    if "LISTEN_PID" not in environ or "LISTEN_FDS" not in environ:
        return []
    if _number(environ, "LISTEN_PID") != os.getpid():
        return []
    count = _number(environ, "LISTEN_FDS")
    text = environ.get("LISTEN_FDNAMES")
    names = ["unknown"] * count if text is None else text.split(":") if text or count else []
    if len(names) != count:
        raise ValueError(f"LISTEN_FDNAMES has {len(names)} names for {count} descriptors")
    return [(name or "unknown", FIRST + index) for index, name in enumerate(names)]


def _from_launcher(environ: Mapping[str, str]) -> list[tuple[str, int]]:
    """Names and descriptors as `hand_over` tells them; nothing if they were not meant for this process."""
    text = environ.get("MONSAL_LISTEN_FDS", "")
    found: list[tuple[str, int]] = []
    for item in text.split(",") if text else ():
        name, *numbers = item.split(":")
        if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            raise ValueError(f"MONSAL_LISTEN_FDS: {item!r} is not name:descriptor:inode")
        descriptor, inode = map(int, numbers)
        if not _is(descriptor, inode):
            if _number(environ, "MONSAL_LISTEN_PARENT") != os.getppid():
                return []
            raise ValueError(f"MONSAL_LISTEN_FDS: descriptor {descriptor} ({name}) was lost on the way")
        found.append((name, descriptor))
    return found


def _number(environ: Mapping[str, str], variable: str) -> int:
    text = environ.get(variable, "")
    if not text.isdecimal():
        raise ValueError(f"{variable} is not a number: {text!r}")
    return int(text)


def _is(descriptor: int, inode: int) -> bool:
    """Whether the descriptor is open, and is the very file that was meant."""
    try:
        return os.fstat(descriptor).st_ino == inode
    except OSError:
        return False


def _checked(name: str, descriptor: int) -> socket.socket:
    """The descriptor as a socket that can accept connections."""
    try:
        status = os.fstat(descriptor)
    except OSError as error:
        raise ValueError(f"descriptor {descriptor} ({name}) is not open") from error
    if not stat.S_ISSOCK(status.st_mode):
        raise ValueError(f"descriptor {descriptor} ({name}) is not a socket")
    taken = socket.socket(fileno=descriptor)
    if taken.type != socket.SOCK_STREAM:
        wrong = f"is a socket of type {taken.type}, not a stream"
    elif taken.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        wrong = f"is of address family {taken.family}, not of the internet or this machine"
    elif not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        wrong = "does not listen; a unit must not have Accept=yes"
    else:
        taken.set_inheritable(False)
        if not os.get_blocking(descriptor):
            # Only so that the object knows: changing the flag would make the others who have the socket hang or spin.
            taken.setblocking(False)
        return taken
    taken.detach()
    raise ValueError(f"descriptor {descriptor} ({name}) {wrong}")


def hand_over(sockets: Sockets) -> tuple[dict[str, str], tuple[int, ...]]:
    """For a child that is started with `subprocess`: what to add to its environment, and its `pass_fds`.

    Raises ValueError for a name with a control character, a colon or a comma, or if a socket is closed.
    """
    named = _named(sockets)
    if not named:
        return {}, ()
    items = [f"{name}:{descriptor}:{os.fstat(descriptor).st_ino}" for name, descriptor in named]
    environ = {"MONSAL_LISTEN_FDS": ",".join(items), "MONSAL_LISTEN_PARENT": str(os.getpid())}
    return environ, tuple(descriptor for _, descriptor in named)


def hand_over_by_exec(sockets: Sockets) -> dict[str, str]:
    """For the next image of this process: what to add to its environment.

    Puts the sockets at the descriptors from 3 on, whatever is there, so nothing but `os.execve` may follow.
    """
    named = _named(sockets)
    if not named:
        return {}
    after = FIRST + len(named)
    # First out of the way: one of them may be where another has to go.
    aside = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, after) for _, descriptor in named]
    for place, descriptor in enumerate(aside, FIRST):
        os.dup2(descriptor, place, inheritable=True)
    return {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(named)),
        "LISTEN_FDNAMES": ":".join(name for name, _ in named),
    }


def _named(sockets: Sockets) -> list[tuple[str, int]]:
    named = [(name, one.fileno()) for name, several in sockets.items() for one in several]
    for name, descriptor in named:
        # systemd.socket(5), FileDescriptorName=: ASCII without control characters and colons; the comma is ours.
        if not (name.isascii() and name.isprintable() and name) or set(name) & set(":,"):
            raise ValueError(f"no name for a socket: {name!r}")
        if descriptor < 0:
            raise ValueError(f"the socket {name} is closed")
    return named
