"""quickrpc 0.1.0 as one of two sides, by its own means: quickrpc_peer.py serve CODEC KEY | connect CODEC KEY PORT

With a KEY that is not empty all that is said is signed.

Its standard input and output are those of tests/process/line_program.py.
"""

import base64
import json
import logging
import os
import sys
import threading
import time

import quickrpc
from desk_interface import Clerk, Visitor, declare, secure
from quickrpc.security import InvalidSignatureError, Security

Desk = declare(quickrpc.RemoteAPI, quickrpc.incoming, quickrpc.outgoing)
Signed = secure(Security, InvalidSignatureError)
lock = threading.Lock()


def say(what):
    with lock:
        print(json.dumps(what), flush=True)


def tell(event, **details):
    say({"event": event, **details})


def to_line(value):
    """Bytes do not fit into a line of JSON."""
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def from_line(value):
    return base64.b64decode(value["base64"]) if isinstance(value, dict) and set(value) == {"base64"} else value


def call(name, arguments=None, positional=(), count=1):
    """One result, or as many as calls made before the first result was waited for."""
    arguments = {key: from_line(value) for key, value in (arguments or {}).items()}
    promises = [getattr(desk, name)(None, *positional, **arguments) for _ in range(count)]
    results = [None if promise is None else to_line(promise.result(timeout=20)) for promise in promises]
    return results[0] if count == 1 else results


def pending():
    """How many calls have had no answer."""
    return len(desk._pending_replies)


def run(line):
    task = json.loads(line)
    number, name = task.pop("n"), task.pop("task")
    try:
        say({"n": number, "value": {"call": call, "pending": pending}[name](**task)})
    except Exception as error:  # noqa: BLE001 - whatever it is, the test is told
        known = {"kind": type(error).__name__, "message": str(error), "details": getattr(error, "details", None)}
        say({"n": number, "error": known})


class Complaints(logging.Handler):
    """What quickrpc says only to its log."""

    def emit(self, record):
        tell("logged", level=record.levelname, text=record.getMessage())


how, codec, key = sys.argv[1], sys.argv[2].encode().decode("unicode_escape"), sys.argv[3].encode()
given = {"codec": codec, "security": Signed(key, "quickrpc") if key else "null", "async_processing": True}
logging.getLogger("quickrpc").addHandler(Complaints(logging.WARNING))
if how == "serve":
    desk = Desk(transport="tcpserv:127.0.0.1:0", **given)
    desk.note.pass_secinfo(True)
    Clerk(desk, tell)
else:
    desk = Desk(transport=f"tcp:127.0.0.1:{sys.argv[4]}", invert=True, **given)
    Visitor(desk, tell)
desk.transport.start()
# It says that it has started before its thread runs, and refuses to send until then.
while not desk.transport.running:
    time.sleep(0.01)
tell(
    "ready", port=desk.transport.server.server_address[1] if how == "serve" else 0, unhandled=[*desk.unhandled_calls()]
)
for line in sys.stdin:
    threading.Thread(target=run, args=(line,), daemon=True).start()
# Its threads are no daemons, and stopping them waits for clients that are still there.
os._exit(0)
