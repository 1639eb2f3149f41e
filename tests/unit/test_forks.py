"""What a handler forked outlives a killed server, and holds nothing that the next one needs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from monsal.control.server import ControlServer
from monsal.errors import StoreLocked
from monsal.forks import close_in_children
from monsal.ingress.smtp import SmtpIngress
from monsal.store import SqliteStore

#: A server, as far as the operating system sees it. Its child waits for the end of what we say to it.
SERVER = """
import asyncio, os, sys, threading
from pathlib import Path
import uvloop
from monsal.control.server import ControlServer
from monsal.ingress.smtp import SmtpIngress
from monsal.store import SqliteStore

def fork():
    child = os.fork()
    if child == 0:
        os.write(1, b"child runs\\n")
        os.read(0, 1)
        os._exit(0)

async def serve(home):
    await SqliteStore(home / "monsal.db").open()
    smtp = SmtpIngress("smtp://127.0.0.1:0", None)
    await smtp.start()
    await ControlServer(home / "run" / "control.sock").start()
    os.write(1, smtp.addresses[0].encode() + b"\\n")
    handler = threading.Thread(target=fork)
    handler.start()
    handler.join()
    await asyncio.Event().wait()

loop = uvloop.new_event_loop() if sys.argv[2] == "uvloop" else asyncio.new_event_loop()
loop.run_until_complete(serve(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_next_server_starts_while_a_child_of_the_killed_one_lives(tmp_path: Path, loop: str) -> None:
    # Given a server whose handler has forked
    command = [sys.executable, "-W", "ignore", "-c", SERVER, str(tmp_path), loop]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        address = server.stdout.readline().decode().strip()
        assert server.stdout.readline() == b"child runs\n"
        # And which is in use by it, child or not
        with pytest.raises(StoreLocked):
            asyncio.run(SqliteStore(tmp_path / "monsal.db").open())
        # When it is killed
        server.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
        # Then another one takes its place, though the child still lives
        asyncio.run(_start(tmp_path, address))
        assert server.stdin is not None
        server.stdin.close()
        assert server.stdout.read() == b"", "the child ended only now"


async def _start(home: Path, address: str) -> None:
    store = SqliteStore(home / "monsal.db")
    smtp = SmtpIngress(f"smtp://{address}", _NoIntake())
    control = ControlServer(home / "run" / "control.sock")
    for part in (store.open, smtp.start, control.start):
        await part()
    await control.stop()
    await smtp.stop(1.0)
    await store.close()


class _NoIntake:
    def accepts(self, address: str) -> None:
        return None

    def screen(self, address: str) -> None:
        return None

    async def accept(self, *_: Any) -> Any:
        raise AssertionError("nobody sends")


def test_the_parent_keeps_what_the_child_closes() -> None:
    ours, theirs = socket.socketpair()
    close_in_children(ours, socket.socket.detach)
    child = os.fork()
    if child == 0:
        os._exit(0 if ours.fileno() == -1 and theirs.fileno() != -1 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    ours.send(b"x")
    assert theirs.recv(1) == b"x"
    ours.close()
    theirs.close()


#: A handler's thread is in the midst of the first import of what another one's forked child needs, too.
FORKED_IN_AN_IMPORT = """
import os, signal, sys, threading, time
from monsal.mail import Message

def message():
    raw = b"From: ann@example.org\\r\\nContent-Type: text/html\\r\\n\\r\\n<p>hello</p>\\r\\n"
    return Message(raw=raw, recipient="desk@example.com", correspondent="ann@example.org")

begun, forked = threading.Event(), threading.Event()

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            begun.set()
            forked.wait(0.5)

sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=lambda: message().{asked})
thread.start()
assert begun.wait(20)
child = os.fork()
if child == 0:
    message().{asked}
    os._exit(0)
forked.set()
for _ in range(1000):
    if os.waitpid(child, os.WNOHANG)[0]:
        print("ended")
        break
    time.sleep(0.01)
else:
    os.kill(child, signal.SIGKILL)
    print("hangs")
thread.join()
"""


@pytest.mark.parametrize(
    ("asked", "module"),
    [
        ("reply_text", "monsal.mail.replytext"),
        ("text", "monsal.mail.htmltext"),
        ("bounce", "monsal.mail.dsn"),
    ],
)
def test_a_child_has_what_another_thread_was_about_to_import(asked: str, module: str) -> None:
    code = FORKED_IN_AN_IMPORT.format(asked=asked, module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "ended\n", done.stderr
