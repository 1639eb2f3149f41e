"""What root does in a directory that another user may write to, before it becomes that user.

Whoever owns a directory can put links there, so that what root makes, opens or gives away would be somewhere else. So
no link is followed here, and a file with a second name is left alone.
"""

from __future__ import annotations

import logging
import os
import pwd
import stat
from pathlib import Path

from monsal.bus.plugins.privileges import blocked_for, find_gid, find_uid
from monsal.errors import UsageError

__all__ = ["check_reader", "give_away", "open_log", "owner_to_be"]

log = logging.getLogger("monsal.server")


def owner_to_be(user: str | None, group: str | None) -> tuple[int, int] | None:
    """User and group that root will become for these names; None if this process stays what it is."""
    if user is None or os.geteuid():
        return None
    uid = find_uid(user)
    return uid, find_gid(group) if group is not None else pwd.getpwuid(uid).pw_gid


def check_reader(user: str) -> None:
    """Raises UsageError if a user cannot read this Python: a lazy import would fail at any time later."""
    uid = find_uid(user)
    for path in (os.__file__, __file__):
        blocked = blocked_for(uid, os.path.realpath(path))
        if blocked is not None:
            raise UsageError(
                f"the user {user} may not read {path} (see the rights of {blocked}), so modules could not be "
                "imported; run a Python that is installed where this user can read it"
            )


def give_away(directory: Path, owner: tuple[int, int]) -> None:
    """Make a directory if need be, and have `owner` (uid, gid) own it with all that is in it.

    Raises UsageError if a link stands in its place.
    """
    if directory.is_symlink():
        raise UsageError(f"{directory} is a link; as root nothing is made or given away behind it")
    directory.mkdir(exist_ok=True)
    # It opens each directory and works from there: a link that takes its place meanwhile changes nothing.
    for _, _, files, descriptor in os.fwalk(directory, follow_symlinks=False):
        os.fchown(descriptor, *owner)
        for name in files:
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
                log.warning("%s in %s has a second name and is not given away", name, directory)
            elif not stat.S_ISLNK(found.st_mode):
                os.chown(name, *owner, dir_fd=descriptor, follow_symlinks=False)


def open_log(path: Path, owner: tuple[int, int] | None = None) -> int:
    """A descriptor to append to a log file, which is made if need be; with `owner` it belongs to that user.

    Raises OSError, UsageError if it is a link or no ordinary file of one name, which root must not write to.
    """
    place = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if owner else 0))
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | (os.O_NOFOLLOW if owner else 0)
        descriptor = os.open(path.name, flags, 0o640, dir_fd=place)
    except OSError as error:
        if owner and path.is_symlink():
            raise UsageError(f"{path} is a link; as root nothing is written behind it") from None
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(place)
    found = os.fstat(descriptor)
    if owner and not (stat.S_ISREG(found.st_mode) and found.st_nlink == 1):
        os.close(descriptor)
        raise UsageError(f"{path} is no ordinary file of one name; as root nothing is written there")
    if owner:
        os.fchown(descriptor, *owner)
    return descriptor
