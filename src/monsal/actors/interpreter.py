"""A fresh interpreter for an actor, with all that connects us to it; it waits to be told what it is to be.

    made = Interpreter("worker-1", imports=("monsal.processes.worker",))     # imports them while others prepare
    process = Process("worker-1", made)                                      # on the loop, when there is one
    made.discard()                                                           # or nobody wants it after all

To import what an actor needs takes longer than all else of its start, and needs nothing of its parent: whoever knows
early which processes there will be has them begin with that at once. Imports little itself, for the same reason.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from monsal.actors.recorder import new_page

__all__ = ["Interpreter", "oom_kills"]

#: A child does not import this: its first act is to find the house where we have it.
_CODE: Final = "import sys; sys.path.insert(0, {root!r}); from monsal.actors.child import main; main()"


class Interpreter:
    """One that runs. To be started on the thread that lives as long as it does: its end is that of the child, too.

    `link` and `door` are our ends of what connects us, `page` the descriptor of its recorder's, `said` and `stacks`
    those of what it writes to standard error before it is ready, and of its stacks. `imports` are modules that it
    imports without being told to; what cannot be imported is told when it is needed.

    Raises OSError if it cannot be started; nothing is left over then, but a `page` that was given.
    """

    def __init__(self, name: str, *, page: int = -1, imports: Sequence[str] = ()) -> None:
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            self.page = page
            if page < 0:
                self.page = new_page("monsal-recorder")
                ours.callback(os.close, self.page)
            self.link, link = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            ours.callback(self.link.close)
            theirs.callback(link.close)
            # Records, not octets: a descriptor and what it is for arrive together, or not at all.
            self.door, door = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.callback(self.door.close)
            theirs.callback(door.close)
            self.said = _kept(ours, "monsal-said")
            self.stacks = _kept(ours, "monsal-stacks")
            final = _duplicate(theirs, 2)
            passed = (link.fileno(), door.fileno(), self.page, self.stacks, final)
            self.oom_kills = oom_kills()
            root = str(Path(__file__).resolve().parents[2])
            self.popen = subprocess.Popen(
                [
                    sys.executable,
                    *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined] # as multiprocessing does
                    "-c",
                    _CODE.format(root=root),
                    *map(str, passed),
                    str(os.getpid()),
                    *imports,
                    f"monsal actor {name}",
                ],
                stdin=subprocess.DEVNULL,
                stderr=self.said,
                pass_fds=passed,
                # A key pressed at the terminal is for us, and we decide what it means for them (DESIGN 6).
                process_group=0,
            )
            ours.pop_all()

    def discard(self) -> None:
        """End it: it has begun with nothing that could be lost."""
        self.popen.kill()
        self.popen.wait()
        self.link.close()
        self.door.close()
        for descriptor in (self.page, self.said, self.stacks):
            os.close(descriptor)


def oom_kills() -> int:
    """How often the kernel killed a process of our control group for want of memory; 0 where that cannot be read."""
    try:
        group = next(
            line.split("::", 1)[1]
            for line in Path("/proc/self/cgroup").read_text("ascii", "replace").splitlines()
            if line.startswith("0::")
        )
        events = Path(f"/sys/fs/cgroup/{group.lstrip('/')}/memory.events").read_text("ascii")
        return int(dict(line.split() for line in events.splitlines())["oom_kill"])
    except (OSError, StopIteration, KeyError, ValueError):
        return 0


def _kept(stack: contextlib.ExitStack, name: str) -> int:
    descriptor = os.memfd_create(name)
    stack.callback(os.close, descriptor)
    return descriptor


def _duplicate(stack: contextlib.ExitStack, descriptor: int) -> int:
    """A descriptor of our own for the same; /dev/null if it is closed, as standard error of a daemon can be."""
    # `monsal.bus.launching` has the same: it imports nothing of ours, and to import the bus takes longer than all of
    # this module, which is there to begin before anything else.
    try:
        made = os.dup(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        made = os.open(os.devnull, os.O_WRONLY)
    stack.callback(os.close, made)
    return made
