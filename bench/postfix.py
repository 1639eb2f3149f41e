"""Debian's Postfix with a configuration, queue and log of its own, in one directory.

    with postfix(directory, HOLD) as (port, pid):
        ...                                  # it listens there; its processes are `pid` and those below it

Nothing of the system's own Postfix is read or changed, and its master is ended by its process id. `settings` are lines
of main.cf(5).
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.harness import Absent, Failed
from bench.processes import plain_environment
from bench.sinks import free_port, wait_for_port

__all__ = ["HOLD", "postfix"]

#: Each mail is written to the queue, synced and kept there: access(5).
HOLD = "smtpd_client_restrictions = check_client_access static:HOLD"

_MASTER = Path("/usr/lib/postfix/sbin/master")
#: Debian's defaults and limits; what is not here is not needed.
_MAIN_CF = """
compatibility_level = 3.6
queue_directory = {home}/spool
data_directory = {home}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
meta_directory = /etc/postfix
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.bench.example
mydestination =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
maillog_file = {home}/maillog
maillog_file_prefixes = {home}
alias_maps =
alias_database =
local_recipient_maps =
{settings}
"""
_MASTER_CF = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""


@contextmanager
def postfix(home: Path, settings: str) -> Iterator[tuple[int, int]]:
    """Run one in an empty directory; its port and the process id of its master. Raises Absent, Failed."""
    if not _MASTER.exists():
        raise Absent("not installed")
    if os.geteuid():
        raise Absent("only root can start it")
    port = free_port()
    home.chmod(0o755)  # its processes are those of another user
    for name in ("etc", "spool", "data"):
        (home / name).mkdir()
    os.chown(home / "data", pwd.getpwnam("postfix").pw_uid, -1)
    names = {"home": home, "port": port, "settings": settings}
    (home / "etc" / "main.cf").write_text(_MAIN_CF.format(**names), encoding="utf-8")
    (home / "etc" / "master.cf").write_text(_MASTER_CF.format(**names), encoding="utf-8")
    # Makes the directories of the queue.
    check = ["/usr/sbin/postfix", "-c", str(home / "etc"), "check"]
    made = subprocess.run(check, capture_output=True, text=True, check=False)
    if made.returncode:
        raise Failed(f"postfix check: {made.stderr.strip()[-200:]}")
    with (home / "log").open("wb") as log:
        # A session of its own: its master ends all of its process group when it ends.
        master = subprocess.Popen(
            [str(_MASTER), "-c", str(home / "etc"), "-d"],
            cwd=home,
            env=plain_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for_port(port, master)
        yield port, master.pid
    finally:
        master.terminate()
        master.wait(60)
