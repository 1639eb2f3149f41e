"""What each process of a server has loaded before it serves, and after a plain mail: what it needs, and no more.

What it loads is most of its start and of its memory.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from harness import Server, make_application, monsal_command

#: Process -> what is loaded in it before it serves.
PROCESSES = {
    "a server in one process": "monsal.cli.run monsal.life monsal.service monsal.store.sqlite monsal.delivery.capture",
    "a supervisor": "monsal.cli.run monsal.app monsal.processes.ahead monsal.life monsal.processes.fleet",
    "a store process": "monsal.actors.child monsal.processes.storekeeper monsal.store.sqlite",
    "a worker": "monsal.actors.child monsal.processes.worker monsal.app monsal.delivery.capture",
}
#: What needs them loads them at their first use.
FOR_LATER = {
    *("dataclasses", "json", "shutil", "tomllib", "html.entities", "importlib.resources", "encodings.idna", "email"),
    *("jinja2", "starlette", "uvicorn", "cryptography", "dns"),
    *("monsal.wire.terse", "monsal.transport.connector", "monsal.transport.stdio", "monsal.http.serving"),
    *("monsal.mail.dsn", "monsal.mail.dsnreport", "monsal.mail.dsntext", "monsal.mail.replytext"),
    *("monsal.mail.replywords", "monsal.mail.htmltext", "monsal.mail.htmlmarks", "monsal.ingress.maildir"),
    *("monsal.bus.plugins.autoreload", "monsal.bus.plugins.daemonizer", "monsal.bus.plugins.tasks"),
    *("monsal.bus.plugins.threads", "monsal.store.backup", "monsal.store.engine.chronicle", "monsal.troupe"),
}
#: What only others of them need.
FOR_OTHERS = {
    "a server in one process": {"monsal.actors", "monsal.store.remote", "monsal.store.host"},
    "a supervisor": {"monsal.service", "monsal.store.sqlite", "monsal.conversation.worker", "monsal.mail", "apsw"},
    "a store process": {"click", "monsal.bus", "monsal.routing", "monsal.rpc", "monsal.smtp"},
    "a worker": {"click", "monsal.bus", "monsal.control", "monsal.store.host", "apsw"},
}
_LOOK = """
import sys
for name in {names!r}.split():
    __import__(name)
print(*sys.modules)
print(*{{
    f"{{value.__module__}}.{{value.__name__}}"
    for name in list(sys.modules) if name.startswith("monsal")
    for value in list(vars(sys.modules[name]).values())
    if isinstance(value, type) and "__dataclass_fields__" in vars(value)
}})
"""


def look(process: str) -> tuple[set[str], set[str]]:
    """The modules that a process has loaded, and those classes of monsal in it that are dataclasses."""
    code = _LOOK.format(names=PROCESSES[process])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    modules, dataclasses = done.stdout.split("\n")[:2]
    return set(modules.split()), set(dataclasses.split())


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_has_loaded_what_it_needs_to_serve_and_no_more(process: str) -> None:
    loaded, _ = look(process)
    assert loaded >= {*PROCESSES[process].split(), "msgspec", "asyncio"}
    assert loaded & (FOR_LATER | FOR_OTHERS[process]) == set()


@pytest.mark.parametrize("process", PROCESSES)
def test_no_record_is_a_dataclass(process: str) -> None:
    """To make a dataclass takes a millisecond of each start, a `msgspec.Struct` a twentieth of that."""
    _, dataclasses = look(process)
    assert dataclasses == set()


HANDLERS = """
import sys
from pathlib import Path
from monsal import reply, route

@route("desk@(host)")
def START(message):
    Path(__file__).with_name("loaded").write_text(" ".join(sys.modules))
    reply(f"You wrote {message.text!r}")
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_a_plain_mail_loads_nothing_of_what_is_for_later(home: Path, workers: int) -> None:
    # Given a server, in one process or with a worker
    application = make_application(home, HANDLERS)
    with Server(application) as server:
        server.start("--workers", str(workers))
        # When a plain mail is answered
        command = [*monsal_command(), "say", "desk@example.com", "--dir", str(home), "--wait", "60", "hello"]
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert "You wrote 'hello" in told.stdout, told.stderr
        # Then the process that did so has loaded what that takes
        loaded = set((home / "loaded").read_text().split())
        assert {"monsal.mail.message", "monsal.conversation.turn", "handlers"} <= loaded
        assert loaded & FOR_LATER == set()
