"""The stages of the way of a mail, as the bench tells them apart: by the file and function that works."""

from __future__ import annotations

from collections.abc import Sequence

from bench.sampling import LOGGING, LOOP, OTHER

__all__ = ["ACCEPT", "PLACES", "THREADS", "TURN", "stage_of"]

CONNECTION = "connection"
PROTOCOL = "SMTP protocol"
SPOOL = "spool: header, queue, digest"
STORE_IN = "store: accept"
ROWS = "store: rows of a group"
STORE = "store: groups and answers"
FLUSH = "store: flush"
CHECKPOINT = "store: checkpoint"
CLAIM = "store: claim"
TURNS = "turn: choose, bookkeeping"
HANDLER = "handler threads: call, compose"
MAKE = "turn: make the commit"
COMMIT = "store: commit of the turn"
OUTBOX = "outbox"
STORE_OUT = "store: outbox"
RELAY = "relay: SMTP out"
LOG = "log lines"

#: The stages of a mail that is only taken, and of one that is answered, in the order of its way.
ACCEPT = (LOOP, CONNECTION, PROTOCOL, SPOOL, STORE_IN, ROWS, STORE, FLUSH, CHECKPOINT, OTHER)
TURN = (
    *(LOOP, CONNECTION, PROTOCOL, SPOOL, STORE_IN, CLAIM, TURNS, HANDLER, MAKE, COMMIT),
    *(OUTBOX, STORE_OUT, RELAY, ROWS, STORE, FLUSH, CHECKPOINT, LOG, OTHER),
)
#: Threads by the beginning of their names.
THREADS = {"monsal-store": FLUSH, "monsal-checkpoint": CHECKPOINT, "monsal-turn": HANDLER, "monsal-handlers": HANDLER}

#: What belongs to whoever calls it.
_LENT = (
    *("address.py", "backoff.py", "clock.py", "errors.py", "ids.py", "mail/", "routing/"),
    *(f"conversation/{name}.py" for name in ("accepting", "bounces", "capabilities", "keys")),
)
_BY_FUNCTION = {
    ("store/engine/hand.py", "flush"): FLUSH,
    ("store/engine/writer.py", "commit"): FLUSH,
    ("store/engine/hand.py", "go_on"): CHECKPOINT,
    ("store/engine/spool.py", "claim"): CLAIM,
    ("store/engine/spool.py", "accept"): STORE_IN,
    ("store/engine/arrivals.py", "__init__"): STORE_IN,
    ("store/engine/arrivals.py", "write_arrivals"): ROWS,
    ("store/engine/data.py", "write_arrivals"): ROWS,
    ("store/engine/data.py", "seal"): ROWS,
    ("store/engine/pending.py", "write"): ROWS,
    ("store/engine/face.py", "accept"): STORE_IN,
    ("store/engine/face.py", "begin_accept"): STORE_IN,
    ("store/engine/face.py", "claim"): CLAIM,
    ("store/engine/face.py", "commit"): COMMIT,
    ("store/engine/face.py", "read_states"): TURNS,
    ("store/engine/face.py", "take_outgoing"): STORE_OUT,
    ("store/engine/face.py", "settle"): STORE_OUT,
}
#: By the beginning of the path; the first that fits.
_BY_FILE = (
    (LOGGING, LOG),
    ("logs.py", LOG),
    ("logline.py", LOG),
    ("store/engine/turns.py", COMMIT),
    ("store/engine/outbox.py", STORE_OUT),
    ("conversation/spool.py", SPOOL),
    ("conversation/turn.py", MAKE),
    ("conversation/outbox.py", OUTBOX),
    ("conversation/", TURNS),
    ("delivery/", RELAY),
    ("ingress/", CONNECTION),
)

#: All files, and functions in them, that are named here.
PLACES = tuple(_BY_FUNCTION) + tuple(
    (file, "") for file in (*_LENT, *(begin for begin, _ in _BY_FILE if begin != LOGGING))
)


def stage_of(stack: Sequence[tuple[str, str]]) -> str | None:
    """The stage of a stack of calls below `monsal`, innermost first; None if nothing of it is of a stage."""
    smtp = store = False
    for file, function in stack:
        if file.startswith(_LENT):
            continue
        by_file = next((name for begin, name in _BY_FILE if file.startswith(begin)), None)
        stage = _BY_FUNCTION.get((file, function), by_file)
        if stage is not None:
            # A session of SMTP works for a connection, a client's for the relay.
            return PROTOCOL if smtp and stage == CONNECTION else stage
        # These work for several: further out is seen for which.
        smtp, store = smtp or file.startswith("smtp/"), store or file.startswith("store/")
    return STORE if store else PROTOCOL if smtp else None
