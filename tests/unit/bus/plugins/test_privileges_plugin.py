"""Becoming another user: what is asked for, in which order it is done, and that it is verified (B14).

The system is a fake here, which keeps ids as the kernel does; the real one is in tests/process/test_bus_places.py.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
from typing import Any

import pytest

from monsal.bus import Bus, ChannelFailures, DropPrivileges, Phase, drop_privileges, find_gid, find_uid, find_umask

USER = pwd.getpwuid(65534) if any(user.pw_uid == 65534 for user in pwd.getpwall()) else pwd.getpwall()[-1]


class System:
    """A process as the kernel sees it: ids, groups, and who may change them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.uids = (0, 0, 0)
        self.gids = (0, 0, 0)
        self.groups = [0, 4, 27]
        self.masked = 0o022
        self.done: list[str] = []
        #: A system on which one can come back, as with a capability that was kept.
        self.lets_back = False
        self.members = {USER.pw_name: [7, 8]}
        for name in ("setgid", "setuid", "setgroups", "initgroups", "umask", "getgroups", "getgrouplist"):
            monkeypatch.setattr(os, name, getattr(self, name))
        monkeypatch.setattr(os, "getresuid", lambda: self.uids)
        monkeypatch.setattr(os, "getresgid", lambda: self.gids)
        monkeypatch.setattr(os, "getuid", lambda: self.uids[0])
        for name in ("HOME", "USER", "LOGNAME"):
            monkeypatch.setenv(name, "root's")

    def _may(self) -> None:
        if self.uids[1] != 0 and not self.lets_back:
            raise PermissionError(errno.EPERM, "Operation not permitted")

    def setgid(self, gid: int) -> None:
        self._may()
        self.done.append(f"group {gid}")
        self.gids = (gid, gid, gid)

    def setuid(self, uid: int) -> None:
        self._may()
        self.done.append(f"user {uid}")
        self.uids = (uid, uid, uid)

    def setgroups(self, groups: list[int]) -> None:
        self._may()
        self.done.append("groups")
        self.groups = list(groups)

    def initgroups(self, name: str, gid: int) -> None:
        self.setgroups(self.getgrouplist(name, gid))

    def getgrouplist(self, name: str, gid: int) -> list[int]:
        return [gid, *self.members.get(name, [])]

    def getgroups(self) -> list[int]:
        return self.groups

    def umask(self, umask: int) -> int:
        self.done.append(f"umask {umask:03o}")
        self.masked, before = umask, self.masked
        return before


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    return System(monkeypatch)


@pytest.fixture
def bus() -> Bus:
    made = Bus()
    made.said = []  # type: ignore[attr-defined] - free attributes are part of the contract
    made.subscribe("log", lambda msg, level: made.said.append(msg))  # type: ignore[attr-defined] - as above
    return made


# What is asked for


def test_users_and_groups_have_names_and_numbers() -> None:
    group = grp.getgrgid(USER.pw_gid)
    assert find_uid(USER.pw_name) == find_uid(USER.pw_uid) == find_uid(str(USER.pw_uid)) == USER.pw_uid
    assert find_gid(group.gr_name) == find_gid(group.gr_gid) == find_gid(str(group.gr_gid)) == group.gr_gid


def test_what_does_not_exist_is_told_when_the_plugin_is_made(bus: Bus) -> None:
    with pytest.raises(LookupError, match="no user is called 'no body' on this system"):
        DropPrivileges(bus, uid="no body")
    with pytest.raises(LookupError, match="no group is called 'no body' on this system"):
        DropPrivileges(bus, gid="no body")
    for wrong in (-1, 2**32 - 1, "4294967295"):
        with pytest.raises(ValueError, match="is no number of a user"):
            DropPrivileges(bus, uid=wrong)
        with pytest.raises(ValueError, match="is no number of a group"):
            DropPrivileges(bus, gid=wrong)


@pytest.mark.parametrize(("umask", "value"), [(0o22, 0o22), ("022", 0o22), ("77", 0o77), ("0o27", 0o27), (0, 0)])
def test_a_umask_is_a_number_or_octal_digits(umask: int | str, value: int) -> None:
    assert find_umask(umask) == value


@pytest.mark.parametrize("wrong", [-1, 0o1000, "8", "1000", "", "rwx"])
def test_what_is_no_umask_is_refused(bus: Bus, wrong: int | str) -> None:
    with pytest.raises(ValueError, match="is no umask"):
        DropPrivileges(bus, umask=wrong)


def test_the_properties_take_names_and_give_numbers(bus: Bus) -> None:
    plugin = DropPrivileges(bus)
    assert (plugin.umask, plugin.uid, plugin.gid) == (None, None, None)
    plugin.umask, plugin.uid, plugin.gid = "027", USER.pw_name, str(USER.pw_gid)
    assert (plugin.umask, plugin.uid, plugin.gid) == (0o27, USER.pw_uid, USER.pw_gid)
    with pytest.raises(LookupError):
        plugin.uid = "no body"
    plugin.uid = None
    assert plugin.uid is None


# What is done


@pytest.mark.rule("bus.B14", "bus.B19")
def test_group_then_groups_of_the_user_then_user_then_umask_at_77_and_once(bus: Bus, system: System) -> None:
    plugin = DropPrivileges(bus, 0o027, USER.pw_name, 12)
    plugin.subscribe()
    for priority in (76, 78):
        bus.subscribe("start", lambda priority=priority: system.done.append(str(priority)), priority)
    bus.start()
    ours = ["group 12", "groups", f"user {USER.pw_uid}", "umask 027"]
    assert system.done == ["76", *ours, "78"]
    assert set(system.groups) == {12, 7, 8}
    assert plugin.finalized
    bus.stop()
    bus.start()
    assert system.done == ["76", *ours, "78", "76", "78"]
    bus.exit()
    said = [text for text in bus.said if "rivileges" in text]  # type: ignore[attr-defined] - free attribute
    assert said == [
        "Privileges before: uid 0, gid 0, groups 0 4 27.",
        f"Privileges after: uid {USER.pw_uid}, gid 12, groups 7 8 12.",
    ]


def test_without_a_group_it_is_that_of_the_user(system: System) -> None:
    assert drop_privileges(uid=USER.pw_name)
    assert system.gids == (USER.pw_gid,) * 3
    assert set(system.groups) == {USER.pw_gid, 7, 8}


def test_home_and_names_follow_the_user(system: System) -> None:
    drop_privileges(uid=USER.pw_uid)
    assert (os.environ["HOME"], os.environ["USER"], os.environ["LOGNAME"]) == (
        USER.pw_dir,
        USER.pw_name,
        USER.pw_name,
    )


def test_with_a_group_alone_the_user_stays(system: System) -> None:
    assert drop_privileges(gid=12)
    assert (system.uids, system.gids) == ((0, 0, 0), (12, 12, 12))
    assert set(system.groups) == {12}
    assert os.environ["HOME"] == "root's"


def test_a_user_in_no_file_needs_a_group_and_has_no_other(system: System) -> None:
    with pytest.raises(LookupError, match="user 54321 is in no file of this system, so its group has to be given"):
        drop_privileges(uid=54321)
    assert not system.done
    assert drop_privileges(uid=54321, gid=12345)
    assert (system.uids[0], system.gids[0], system.groups) == (54321, 12345, [12345])
    assert os.environ["HOME"] == "root's"


def test_a_umask_alone_needs_no_privileges(bus: Bus, system: System) -> None:
    system.uids = (1000, 1000, 1000)
    DropPrivileges(bus, umask="077").subscribe()
    bus.start()
    bus.exit()
    assert system.done == ["umask 077"]
    assert "The umask was 022 and is 077." in bus.said  # type: ignore[attr-defined] - free attribute


def test_nothing_asked_for_is_nothing_done(system: System) -> None:
    assert not drop_privileges()
    assert not system.done


@pytest.mark.rule("bus.B14")
def test_who_is_that_user_already_stays_so_without_privileges(system: System) -> None:
    """After a restart the fresh process has dropped them already (the ancestor failed at setgroups, #1211)."""
    said: list[str] = []
    drop_privileges(uid=USER.pw_name, gid=12)
    system.done.clear()
    assert not drop_privileges(uid=USER.pw_name, gid=12, umask="022", log=said.append)
    assert system.done == ["umask 022"]
    assert said[0] == f"No privileges to drop: already uid {USER.pw_uid}, gid 12, groups 7 8 12."


@pytest.mark.rule("bus.B14")
def test_who_may_not_is_told_so_and_it_is_fatal_to_the_start(bus: Bus, system: System) -> None:
    system.uids, system.gids = (1000, 1000, 1000), (1000, 1000, 1000)
    started: list[int] = []
    DropPrivileges(bus, uid=USER.pw_name).subscribe()
    bus.subscribe("start", lambda: started.append(1), 80)
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    error = caught.value.exceptions[0]
    assert isinstance(error, PermissionError)
    assert f"only root can become user {USER.pw_uid} and group {USER.pw_gid}, and this process is uid 1000" in str(
        error
    )
    assert not started
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.B14")
def test_a_drop_that_can_be_undone_is_an_error(system: System) -> None:
    system.lets_back = True
    with pytest.raises(RuntimeError, match="can become root again"):
        drop_privileges(uid=USER.pw_name)


@pytest.mark.rule("bus.B14")
@pytest.mark.parametrize("call", ["setgid", "setuid", "initgroups"])
def test_a_call_that_silently_does_nothing_is_an_error(
    system: System, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def nothing(*arguments: Any) -> None:
        """It says that all is well."""

    monkeypatch.setattr(os, call, nothing)
    with pytest.raises(RuntimeError, match="the privileges were not dropped: the process is uid"):
        drop_privileges(uid=USER.pw_name, gid=12)


def test_ids_that_differ_are_all_told(system: System) -> None:
    said: list[str] = []
    system.uids = (1000, 0, 0)
    drop_privileges(uid=USER.pw_name, gid=12, log=said.append)
    assert said[0] == "Privileges before: uid 1000/0/0, gid 0, groups 0 4 27."
