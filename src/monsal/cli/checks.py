"""What `monsal doctor` looks at. Each check looks, changes nothing, and says of what is wrong what to do about it.

A check is a function of `Case` that yields findings; one that cannot be made says so. Nothing here waits longer than
some seconds for a network that is silent.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from monsal.cli.findings import Case, Finding
from monsal.cli.outside import certificates, names, relay
from monsal.errors import MonsalError, NotRunning

__all__ = ["CHECKS", "examine", "file_system_of"]

_MB: Final = 1024 * 1024
#: File systems whose locks and shared memory do not reach from one machine to another.
_REMOTE: Final = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "9p", "fuse.sshfs", "fuse.glusterfs")
)
#: The longest path of a unix socket on Linux (sun_path of 108 octets with its end).
_LONGEST_SOCKET: Final = 107


Check = Callable[[Case], Iterator[Finding]]


def examine(case: Case) -> Iterator[Finding]:
    """The findings of all checks, in their order. A check that fails is a finding itself."""
    for name, check in CHECKS.items():
        try:
            yield from check(case)
        except (OSError, MonsalError) as error:
            text = f"this could not be looked at: {error}"
            yield Finding(check=name, level="warning", text=text, advice="see what the error says, then look again")


def _python(case: Case) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    # An older one does not come to this line.
    yield Finding(check="python", level="ok", text=f"Python {version} at {sys.executable}")


def _sqlite(case: Case) -> Iterator[Finding]:
    import apsw

    from monsal.store.engine.database import has_wal_reset_fault

    version = apsw.sqlite_lib_version()
    if has_wal_reset_fault(version):
        yield Finding(
            check="sqlite",
            level="error",
            text=f"SQLite {version} can lose pages of its WAL when a checkpoint and a writer meet",
            advice="install apsw 3.51.3 or later",
        )
    else:
        yield Finding(check="sqlite", level="ok", text=f"SQLite {version}")


# -- places -------------------------------------------------------------------------------------------------------


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system of a path, by the text of /proc/self/mountinfo (proc(5)); empty if unknown."""
    best, found = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or not kind:
            continue
        point = Path(fields[4].encode().decode("unicode_escape"))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), kind[0]
    return found


def _place(case: Case) -> Iterator[Finding]:
    store = case.store
    if store is None:
        yield Finding(
            check="store",
            level="warning",
            text=f"the store is {case.settings.store}: nothing outlives the process",
            advice="set store to sqlite:///run/monsal.db",
        )
        return
    folder = store.parent
    while not folder.exists():
        folder = folder.parent
    with contextlib.suppress(FileNotFoundError):  # no /proc: not Linux
        kind = file_system_of(folder.resolve(), Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
        if kind in _REMOTE:
            yield Finding(
                check="store",
                level="error",
                text=f"{folder} is on a network file system ({kind}), where locks do not hold",
                advice="move the store to a disk of this machine: stop the server, move the files, set store",
            )
        elif kind in ("tmpfs", "ramfs"):
            yield Finding(
                check="store",
                level="warning",
                text=f"{folder} is in memory ({kind}): a restart of the machine loses all mail",
                advice="move the store to a disk",
            )
        elif kind:
            yield Finding(check="store", level="ok", text=f"{store} on {kind}")
    yield from _disk(folder)
    yield from _rights(case, store, folder)


def _disk(folder: Path) -> Iterator[Finding]:
    usage, inodes = shutil.disk_usage(folder), os.statvfs(folder)
    free = f"{usage.free // _MB} MB free of {usage.total // _MB} MB below {folder}"
    low = usage.free < max(1024 * _MB, usage.total // 50)
    if usage.free < 100 * _MB or (inodes.f_files and inodes.f_favail < 1000):
        text = f"{free}, {inodes.f_favail} files" if inodes.f_files else free
        advice = "make room; mail is refused for the time being (451) when the disk is full"
        yield Finding(check="disk", level="error", text=text, advice=advice)
    elif low:
        yield Finding(check="disk", level="warning", text=free, advice="make room, or shorten keep_bodies")
    else:
        yield Finding(check="disk", level="ok", text=free)


def _rights(case: Case, store: Path, folder: Path) -> Iterator[Finding]:
    if not os.access(folder, os.W_OK):
        yield Finding(
            check="rights",
            level="error",
            text=f"this user may not write to {folder}",
            advice=f"run as its owner, or give it to this user: chown -R $(id -un) {folder}",
        )
        return
    if store.exists():
        mode, owner = stat.S_IMODE(store.stat().st_mode), store.stat().st_uid
        if mode & 0o077:
            yield Finding(
                check="rights",
                level="error",
                text=f"others than its owner may read the mail in {store} (mode {mode:o})",
                advice=f"chmod 600 {store}",
            )
        if owner != os.geteuid() and os.geteuid():
            yield Finding(
                check="rights",
                level="warning",
                text=f"{store} belongs to user {owner}, and you are {os.geteuid()}",
                advice="run as that user",
            )
    code = case.directory / "app.py"
    if code.exists() and code.stat().st_mode & stat.S_IWOTH:
        text = f"anybody may write to {code}, which the server runs"
        yield Finding(check="rights", level="error", text=text, advice=f"chmod o-w {code}")


# -- the server ---------------------------------------------------------------------------------------------------


def _server(case: Case) -> Iterator[Finding]:
    if case.server is None:
        yield Finding(check="server", level="ok", text="no server runs here")
        yield from _lock(case)
        ready = case.directory / "run" / "ready.json"
        if ready.exists():
            text = f"{ready} is left of a server that was killed"
            advice = f"`{case.typed('run')}` goes on where it was"
            yield Finding(check="server", level="warning", text=text, advice=advice)
        return
    if not case.server.get("ready"):
        why = case.typed("why")
        text = f"the server is not ready ({case.server.get('phase', 'starting')})"
        yield Finding(check="server", level="warning", text=text, advice=f"`{why}` says what it waits for")
    for line in case.server.get("health", ()):
        yield Finding(check="server", level="error", text=str(line), advice=f"`{case.typed('status')}` has more")
    if case.server.get("ready") and not case.server.get("health"):
        yield Finding(check="server", level="ok", text=f"process {case.server.get('pid')} serves")


def _lock(case: Case) -> Iterator[Finding]:
    """Who has the store, if no server that answers does."""
    if case.store is None or not (path := case.store.parent / "store.lock").exists():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            who = file.read(200).strip() or "another process"
            advice = "wait for it; if it is a server that does not answer, `monsal stop --now`"
            yield Finding(check="server", level="warning", text=f"the store is in use by {who}", advice=advice)


def _ports(case: Case) -> Iterator[Finding]:
    """Whether the listening sockets could be had; those of a running server are its own."""
    from monsal.ingress.doors import bind_of

    if case.server is not None:
        return
    for text in (*case.settings.ingress, *case.settings.http):
        bind = bind_of(text)
        if bind.path:
            yield from _socket_path(text, case.directory / bind.path)
            continue
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM):
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(address)
        except OSError as error:
            advice = {
                errno.EADDRINUSE: f"`ss -ltnp 'sport = :{bind.port}'` says who has it; end that, or take another port",
                errno.EACCES: "start as root with --user, or with the sockets of `monsal systemd --socket`",
                errno.EADDRNOTAVAIL: "this machine has no such address; `ip addr` lists those it has",
            }.get(error.errno or 0, f"take an address of this machine instead of {bind.host}")
            said = error.strerror or str(error)
            yield Finding(check="ports", level="error", text=f"{text} cannot be had: {said}", advice=advice)
        else:
            yield Finding(check="ports", level="ok", text=f"{text} is free")


def _socket_path(text: str, path: Path) -> Iterator[Finding]:
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        advice = f"give it a path of at most {_LONGEST_SOCKET} octets"
        yield Finding(check="ports", level="error", text=f"{path} is too long for a unix socket", advice=advice)
    elif path.parent.exists() and not os.access(path.parent, os.W_OK):
        advice = "give the directory to the user that serves"
        yield Finding(check="ports", level="error", text=f"this user may not make {path}", advice=advice)
    else:
        yield Finding(check="ports", level="ok", text=f"{text} can be made")


def _clock(case: Case) -> Iterator[Finding]:
    shown = datetime.fromtimestamp(case.now, UTC).isoformat(timespec="seconds")
    newest = 0.0
    if case.store is not None and case.store.exists():
        newest = _ask_store(case.store, "SELECT ifnull(max(received), 0) FROM v_messages", 0.0)
    if newest > case.now + 60.0:
        text = f"it is {shown}, and there is mail from {newest - case.now:.0f} seconds later"
        yield Finding(check="clock", level="error", text=text, advice="set the clock, and have NTP keep it right")
    elif case.now < 1_700_000_000.0:
        text = f"it is {shown}"
        yield Finding(check="clock", level="error", text=text, advice="set the clock, and have NTP keep it right")
    else:
        yield Finding(check="clock", level="ok", text=f"it is {shown}")


def _ask_store(path: Path, sql: str, default: Any) -> Any:
    import apsw

    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    except apsw.Error:
        return default
    with contextlib.closing(db):
        try:
            return db.execute(sql).fetchall()[0][0]
        except apsw.Error:
            return default


# -- mail ---------------------------------------------------------------------------------------------------------


def _mail(case: Case) -> Iterator[Finding]:
    """Dead letters, held conversations, mail that does not leave, states that nobody has."""
    from monsal.cli.reach import looking

    try:
        with looking(case.directory) as view:
            ledger, outbox = view.ledger(), view.outbox_counts()
            states: Sequence[Any] = view.rows("states", 100_000) if case.table is not None else ()
    except NotRunning:
        return
    dead, held = (sum(entry[name] for entry in ledger.values()) for name in ("dead", "held"))
    what = (
        ("dead letters", dead, f"`{case.typed('dead')}` lists them; replay or drop each"),
        (
            "held messages",
            held,
            f"`{case.typed('queue')}` lists them; `{case.typed('release', 'WHO')}` lets them go on",
        ),
        ("mails that could not be sent", outbox.get("failed", 0), f"`{case.typed('outbox')}` says why"),
    )
    for name, count, advice in what:
        if count:
            yield Finding(check="mail", level="warning", text=f"{count} {name}", advice=advice)
    orphans = [] if case.table is None else [row for row in states if not case.table.knows(row["key"], row["state"])]
    if orphans:
        first = f"{orphans[0]['key']} in {orphans[0]['state']}"
        yield Finding(
            check="mail",
            level="warning",
            text=f"{len(orphans)} conversations are in a state that no function has, such as {first}",
            advice=f"`{case.typed('states', 'orphans')}` lists them; `{case.typed('states', 'rename', 'OLD', 'NEW')}` "
            'moves them, or was="OLD" on a route',
        )
    if not (dead or held or outbox.get("failed", 0) or orphans):
        yield Finding(check="mail", level="ok", text="no dead letters, nothing held, nothing stuck")


def _routes(case: Case) -> Iterator[Finding]:
    if case.table is None:
        return
    from monsal.routing import findings

    warnings = [finding for finding in findings(case.table) if finding.severity == "warning"]
    if warnings:
        text = f"{len(warnings)} odd things about the routes, such as: {warnings[0].text}"
        advice = f"`{case.typed('routes', '--check')}` shows them all"
        yield Finding(check="routes", level="warning", text=text, advice=advice)
    else:
        count = len(case.table.routes)
        yield Finding(check="routes", level="ok", text=f"{count} route{'s' * (count != 1)}, nothing odd")


#: Name -> check, in the order in which they are told.
CHECKS: Final[dict[str, Check]] = {
    "python": _python,
    "sqlite": _sqlite,
    "store": _place,
    "server": _server,
    "ports": _ports,
    "relay": relay,
    "names": names,
    "clock": _clock,
    "certificates": certificates,
    "routes": _routes,
    "mail": _mail,
}
