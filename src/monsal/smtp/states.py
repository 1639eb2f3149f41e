"""The states of a receiving session: one table, the only place that says which command may come when.

    CONNECTED -HELLO-> READY -MAIL-> MAIL_ASKED -ACCEPT-> MAIL -RCPT-> FIRST_RCPT_ASKED -ACCEPT-> RCPT
    RCPT -RCPT-> NEXT_RCPT_ASKED -ACCEPT/REFUSE-> RCPT -DATA-> CONTENT -END-> MESSAGE_ASKED -ACCEPT/REFUSE-> READY
    CONTENT -DISCARD-> DISCARDING -END-> READY            CLOSE leads from everywhere to CLOSED

Three kinds of state: in a command state a line is read next; in an asked state the session rests until the caller
has decided; in a content state the message is read. An entry is the next state, or the reply that refuses the
command (then the state stays). RFC 5321, section 4.1.4 is the source of the order; RFC 2033 differs only in HELLO.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from monsal.smtp.replies import BAD_SEQUENCE, NO_RECIPIENTS, Reply

__all__ = [
    "ASKED_STATES",
    "COMMANDS",
    "COMMAND_STATES",
    "CONTENT_STATES",
    "TRANSITIONS",
    "Input",
    "SessionState",
    "session_table_defects",
]


class SessionState(IntEnum):
    """Where a session stands."""

    CONNECTED = 0
    READY = 1
    MAIL_ASKED = 2
    MAIL = 3
    FIRST_RCPT_ASKED = 4
    NEXT_RCPT_ASKED = 5
    RCPT = 6
    CONTENT = 7
    DISCARDING = 8
    MESSAGE_ASKED = 9
    CLOSED = 10


class Input(IntEnum):
    """What moves a session: a command of the client, a decision of the caller, or the content."""

    HELLO = 0
    MAIL = 1
    RCPT = 2
    DATA = 3
    RSET = 4
    NOOP = 5
    VRFY = 6
    EXPN = 7
    HELP = 8
    QUIT = 9
    ACCEPT = 10
    REFUSE = 11
    END = 12
    DISCARD = 13
    CLOSE = 14


_S = SessionState
_I = Input

COMMANDS: Final = frozenset({_I.HELLO, _I.MAIL, _I.RCPT, _I.DATA, _I.RSET, _I.NOOP, _I.VRFY, _I.EXPN, _I.HELP, _I.QUIT})
COMMAND_STATES: Final = frozenset({_S.CONNECTED, _S.READY, _S.MAIL, _S.RCPT})
ASKED_STATES: Final = frozenset({_S.MAIL_ASKED, _S.FIRST_RCPT_ASKED, _S.NEXT_RCPT_ASKED, _S.MESSAGE_ASKED})
CONTENT_STATES: Final = frozenset({_S.CONTENT, _S.DISCARDING})


def _anywhere(state: SessionState) -> dict[Input, SessionState | Reply]:
    """What may come in any command state and changes nothing, and the ways out."""
    told = dict.fromkeys((_I.NOOP, _I.VRFY, _I.EXPN, _I.HELP), state)
    return {**told, _I.QUIT: _S.CLOSED, _I.CLOSE: _S.CLOSED}


TRANSITIONS: Final[dict[SessionState, dict[Input, SessionState | Reply]]] = {
    _S.CONNECTED: {
        **_anywhere(_S.CONNECTED),
        _I.HELLO: _S.READY,
        _I.RSET: _S.CONNECTED,
        _I.MAIL: BAD_SEQUENCE,
        _I.RCPT: BAD_SEQUENCE,
        _I.DATA: BAD_SEQUENCE,
    },
    _S.READY: {
        **_anywhere(_S.READY),
        _I.HELLO: _S.READY,
        _I.RSET: _S.READY,
        _I.MAIL: _S.MAIL_ASKED,
        _I.RCPT: BAD_SEQUENCE,
        _I.DATA: BAD_SEQUENCE,
    },
    _S.MAIL_ASKED: {_I.ACCEPT: _S.MAIL, _I.REFUSE: _S.READY, _I.CLOSE: _S.CLOSED},
    _S.MAIL: {
        **_anywhere(_S.MAIL),
        _I.HELLO: _S.READY,
        _I.RSET: _S.READY,
        _I.MAIL: BAD_SEQUENCE,
        _I.RCPT: _S.FIRST_RCPT_ASKED,
        _I.DATA: NO_RECIPIENTS,
    },
    _S.FIRST_RCPT_ASKED: {_I.ACCEPT: _S.RCPT, _I.REFUSE: _S.MAIL, _I.CLOSE: _S.CLOSED},
    _S.NEXT_RCPT_ASKED: {_I.ACCEPT: _S.RCPT, _I.REFUSE: _S.RCPT, _I.CLOSE: _S.CLOSED},
    _S.RCPT: {
        **_anywhere(_S.RCPT),
        _I.HELLO: _S.READY,
        _I.RSET: _S.READY,
        _I.MAIL: BAD_SEQUENCE,
        _I.RCPT: _S.NEXT_RCPT_ASKED,
        _I.DATA: _S.CONTENT,
    },
    _S.CONTENT: {_I.END: _S.MESSAGE_ASKED, _I.DISCARD: _S.DISCARDING, _I.CLOSE: _S.CLOSED},
    _S.DISCARDING: {_I.END: _S.READY, _I.CLOSE: _S.CLOSED},
    _S.MESSAGE_ASKED: {_I.ACCEPT: _S.READY, _I.REFUSE: _S.READY, _I.CLOSE: _S.CLOSED},
    _S.CLOSED: {},
}


def _expected_inputs(state: SessionState) -> frozenset[Input]:
    if state in COMMAND_STATES:
        return COMMANDS | {_I.CLOSE}
    if state in ASKED_STATES:
        return frozenset({_I.ACCEPT, _I.REFUSE, _I.CLOSE})
    if state is _S.CONTENT:
        return frozenset({_I.END, _I.DISCARD, _I.CLOSE})
    return frozenset({_I.END, _I.CLOSE}) if state is _S.DISCARDING else frozenset()


def session_table_defects() -> list[str]:
    """What is wrong with the table, one line each: nothing, or the tests fail.

    Each state has exactly the inputs that can reach it, each refusal is negative, each state can be reached from
    CONNECTED, and CLOSED can be reached from each.
    """
    found = [f"{state.name} has no row" for state in SessionState if state not in TRANSITIONS]
    reached, edge = {_S.CONNECTED}, [_S.CONNECTED]
    while edge:
        new = {to for to in TRANSITIONS.get(edge.pop(), {}).values() if isinstance(to, SessionState)} - reached
        reached |= new
        edge.extend(new)
    found += [f"{state.name} is never reached" for state in SessionState if state not in reached]
    for state, row in TRANSITIONS.items():
        found += [f"{state.name} lacks {given.name}" for given in _expected_inputs(state) - row.keys()]
        found += [f"{state.name} cannot get {given.name}" for given in row.keys() - _expected_inputs(state)]
        found += [f"{state.name} refuses with {to}" for to in row.values() if isinstance(to, Reply) and to.is_positive]
        if state is not _S.CLOSED and row.get(_I.CLOSE) is not _S.CLOSED:
            found.append(f"{state.name} does not close")
    return found
