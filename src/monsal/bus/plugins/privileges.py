"""Becoming an ordinary user, once what only root may do is done (opening ports and files, for example)."""

from __future__ import annotations

import errno
import grp
import os
import pwd
from collections.abc import Callable
from typing import NamedTuple

from monsal.bus.core import Bus
from monsal.bus.plugins.simple import SimplePlugin

__all__ = ["DropPrivileges", "blocked_for", "drop_privileges", "find_gid", "find_uid", "find_umask"]

#: The largest number of a user or group; the next one means "no change" to setresuid(2).
_LAST_ID = 2**32 - 2


class DropPrivileges(SimplePlugin):
    """Makes the process that of another user when the bus starts, at priority 77: group, groups, user, then umask.

    `uid` and `gid` are names or numbers, `umask` is a number or octal digits; what is None stays as it is, but without
    `gid` the group is that of the user. What each of them means is found out here: raises LookupError for a name that
    does not exist, ValueError for what is no name and no number. Done once; see `drop_privileges` for what is done.
    """

    def __init__(
        self,
        bus: Bus,
        umask: int | str | None = None,
        uid: int | str | None = None,
        gid: int | str | None = None,
    ) -> None:
        super().__init__(bus)
        #: Whether it is done.
        self.finalized = False
        self.umask = umask
        self.uid = uid
        self.gid = gid

    @property
    def umask(self) -> int | None:
        """The umask to have, or None."""
        return self._umask

    @umask.setter
    def umask(self, value: int | str | None) -> None:
        self._umask = None if value is None else find_umask(value)

    @property
    def uid(self) -> int | None:
        """The number of the user to become, or None; may be set to a name."""
        return self._uid

    @uid.setter
    def uid(self, value: int | str | None) -> None:
        self._uid = None if value is None else find_uid(value)

    @property
    def gid(self) -> int | None:
        """The number of the group to be in, or None; may be set to a name."""
        return self._gid

    @gid.setter
    def gid(self, value: int | str | None) -> None:
        self._gid = None if value is None else find_gid(value)

    def start(self) -> None:
        """Drop them; what fails is fatal to the start. Raises PermissionError, LookupError or RuntimeError."""
        if not self.finalized:
            drop_privileges(uid=self.uid, gid=self.gid, umask=self.umask, log=self.bus.log)
            self.finalized = True

    start.priority = 77  # type: ignore[attr-defined]  # functions take attributes


def drop_privileges(
    *,
    uid: int | str | None = None,
    gid: int | str | None = None,
    umask: int | str | None = None,
    log: Callable[[str], object] | None = None,
) -> bool:
    """Become another user, for good and with all threads; returns whether ids had to be changed.

    The group is set first, because only root may do so, then the supplementary groups that the user has in the group
    file (the original emptied them, B14), then the user, then the umask. A user that is in no file has `gid` as its
    only group. With `gid` alone the groups are those of the present user. HOME, USER and LOGNAME follow the user, as
    under systemd: with root's, programs would look for files where they may not. Then it is verified that the ids are
    the right ones and that there is no way back.

    A process that is that user already is left alone; so a process may replace itself by a fresh one after the drop.
    `log` is told the ids before and after. Raises PermissionError if the process may not do it, LookupError for an
    unknown name, RuntimeError if the verification fails: then do not go on.
    """
    say = log if log is not None else _quiet
    target = _find_target(uid, gid)
    changed = False
    if target is not None:
        if target.is_reached():
            say(f"No privileges to drop: already {_ids()}.")
        else:
            say(f"Privileges before: {_ids()}.")
            _become(target)
            changed = True
            say(f"Privileges after: {_ids()}.")
    if umask is not None:
        wanted = find_umask(umask)
        say(f"The umask was {os.umask(wanted):03o} and is {wanted:03o}.")
    return changed


def find_uid(user: int | str) -> int:
    """The number of a user, given by name or number. Raises LookupError or ValueError."""
    try:
        return pwd.getpwnam(user).pw_uid if isinstance(user, str) else _checked(user, "user")
    except KeyError:
        return _checked(user, "user")


def find_gid(group: int | str) -> int:
    """The number of a group, given by name or number. Raises LookupError or ValueError."""
    try:
        return grp.getgrnam(group).gr_gid if isinstance(group, str) else _checked(group, "group")
    except KeyError:
        return _checked(group, "group")


def find_umask(umask: int | str) -> int:
    """A umask, given as a number or in octal digits. Raises ValueError."""
    try:
        value = int(umask, 8) if isinstance(umask, str) else int(umask)
    except ValueError:
        value = -1
    if not 0 <= value <= 0o777:
        raise ValueError(f"{umask!r} is no umask: it takes 000 to 777 in octal digits, or that as a number")
    return value


def _checked(value: int | str, what: str) -> int:
    """A number of a user or group; as text it was looked for as a name before."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise LookupError(f"no {what} is called {value!r} on this system, and it is no number either")
    number = int(value)
    if not 0 <= number <= _LAST_ID:
        raise ValueError(f"{value!r} is no number of a {what}: it takes 0 to {_LAST_ID}")
    return number


def _quiet(text: str) -> None:
    """Nobody wants to know."""


class _Target(NamedTuple):
    """Who to become; `uid` is None if the user stays, `user` is its entry if it has one."""

    uid: int | None
    gid: int
    user: pwd.struct_passwd | None

    def groups(self) -> set[int]:
        """The supplementary groups, the main one included."""
        return {self.gid} if self.user is None else set(os.getgrouplist(self.user.pw_name, self.gid))

    def is_reached(self) -> bool:
        """Whether real, effective and saved ids are those."""
        return set(os.getresgid()) == {self.gid} and (self.uid is None or set(os.getresuid()) == {self.uid})


def _find_target(uid: int | str | None, gid: int | str | None) -> _Target | None:
    if uid is None and gid is None:
        return None
    number = None if uid is None else find_uid(uid)
    try:
        user = pwd.getpwuid(os.getuid() if number is None else number)
    except KeyError:
        user = None
    if gid is not None:
        return _Target(number, find_gid(gid), user)
    if user is None:
        raise LookupError(f"user {number} is in no file of this system, so its group has to be given, too")
    return _Target(number, user.pw_gid, user)


def _become(target: _Target) -> None:
    try:
        os.setgid(target.gid)
        if target.user is None:
            os.setgroups([target.gid])
        else:
            os.initgroups(target.user.pw_name, target.gid)
        if target.uid is not None:
            os.setuid(target.uid)
    except PermissionError as error:
        wanted = f"group {target.gid}" if target.uid is None else f"user {target.uid} and group {target.gid}"
        raise PermissionError(
            errno.EPERM, f"only root can become {wanted}, and this process is {_ids()}; start it as root, or as them"
        ) from error
    _verify(target)
    if target.uid is not None and target.user is not None:
        names = {"HOME": target.user.pw_dir, "USER": target.user.pw_name, "LOGNAME": target.user.pw_name}
        os.environ.update(names)


def _verify(target: _Target) -> None:
    """Look at what was reached, and try to come back: setuid(2) and friends have failed silently before."""
    if not target.is_reached() or set(os.getgroups()) != target.groups():
        raise RuntimeError(f"the privileges were not dropped: the process is {_ids()}")
    if not target.uid:
        return
    for back, now in ((os.setuid, target.uid), (os.setgid, target.gid)):
        if now:
            try:
                back(0)
            except OSError:
                continue
            raise RuntimeError("the privileges were not dropped: the process can become root again")


def _ids() -> str:
    user, group = os.getresuid(), os.getresgid()
    groups = " ".join(map(str, sorted(os.getgroups())))
    return f"uid {_one(user)}, gid {_one(group)}, groups {groups or 'none'}"


def _one(ids: tuple[int, int, int]) -> str:
    """Real, effective and saved, or one number if they are the same."""
    return str(ids[0]) if len(set(ids)) == 1 else "/".join(map(str, ids))


def blocked_for(uid: int, path: str, wanted: int = os.R_OK) -> str | None:
    """The part of an absolute `path` whose mode keeps a user from it, a directory on the way or the file itself.

    None if there is none. `wanted` is what is to be done with the last part (`os.R_OK`, `os.W_OK`). Raises OSError if
    there is no such file, KeyError if there is no such user.
    """
    if uid == 0:
        return None
    user = pwd.getpwuid(uid)
    groups = set(os.getgrouplist(user.pw_name, user.pw_gid))
    place = os.sep
    for part in ("", *os.path.normpath(path).strip(os.sep).split(os.sep)):
        place = os.path.join(place, part)
        found = os.stat(place)
        shift = 6 if found.st_uid == uid else 3 if found.st_gid in groups else 0
        needed = wanted if place == os.path.normpath(path) else os.X_OK
        if (found.st_mode >> shift) & needed != needed:
            return place
    return None
