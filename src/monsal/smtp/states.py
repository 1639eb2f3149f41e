"""The states of a receiving session: one table, the only place that says which command may come when.

    CONNECTED -HELLO-> READY -MAIL-> MAIL_ASKED -ACCEPT-> MAIL -RCPT-> FIRST_RCPT_ASKED -ACCEPT-> RCPT
    RCPT -RCPT-> NEXT_RCPT_ASKED -ACCEPT/REFUSE-> RCPT -DATA-> CONTENT -END-> MESSAGE_ASKED -ACCEPT/REFUSE-> READY
    CONTENT -DISCARD-> DISCARDING -END-> READY            CLOSE leads from everywhere to CLOSED

    RCPT -BDAT-> CHUNK -MORE-> CHUNKED -BDAT-> CHUNK -END-> MESSAGE_ASKED     CHUNK -DISCARD-> SKIPPING -END-> READY
    READY -STARTTLS-> TLS_STARTING -ACCEPT-> CONNECTED    CONNECTED, READY -XCLIENT-> XCLIENT_ASKED -> CONNECTED
    READY -AUTH-> AUTH_LINE -MORE-> AUTH_LINE -READ-> AUTH_ASKED -ACCEPT/REFUSE-> READY

Kinds of state: in a command state a line is read next, in a line state one that is no command; in an asked state the
session rests until the caller has decided; in a content state the message is read; in TLS_STARTING everything is
thrown away until the caller says that the link is encrypted. An entry is the next state, or the reply that refuses the
command (then the state stays). RFC 5321, section 4.1.4 is the source of the order; RFC 2033 differs only in HELLO.
BDAT is of RFC 3030, STARTTLS of RFC 3207, AUTH of RFC 4954, XCLIENT of Postfix.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from monsal.smtp.replies import BAD_SEQUENCE, NO_RECIPIENTS, Reply

__all__ = [
    "ASKED_STATES",
    "CHUNK_STATES",
    "COMMANDS",
    "COMMAND_STATES",
    "CONTENT_STATES",
    "LINE_STATES",
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
    CHUNK = 11
    CHUNKED = 12
    SKIPPING = 13
    TLS_STARTING = 14
    AUTH_LINE = 15
    AUTH_ASKED = 16
    XCLIENT_ASKED = 17


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
    BDAT = 15
    STARTTLS = 16
    AUTH = 17
    XCLIENT = 18
    MORE = 19
    READ = 20


_S = SessionState
_I = Input

COMMANDS: Final = frozenset(
    {_I.HELLO, _I.MAIL, _I.RCPT, _I.DATA, _I.RSET, _I.NOOP, _I.VRFY, _I.EXPN, _I.HELP, _I.QUIT}
    | {_I.BDAT, _I.STARTTLS, _I.AUTH, _I.XCLIENT}
)
COMMAND_STATES: Final = frozenset({_S.CONNECTED, _S.READY, _S.MAIL, _S.RCPT, _S.CHUNKED})
LINE_STATES: Final = frozenset({_S.AUTH_LINE})
ASKED_STATES: Final = frozenset(
    {_S.MAIL_ASKED, _S.FIRST_RCPT_ASKED, _S.NEXT_RCPT_ASKED, _S.MESSAGE_ASKED, _S.AUTH_ASKED, _S.XCLIENT_ASKED}
)
CHUNK_STATES: Final = frozenset({_S.CHUNK, _S.SKIPPING})
CONTENT_STATES: Final = frozenset({_S.CONTENT, _S.DISCARDING}) | CHUNK_STATES


#: What would change the session in the middle of a mail.
_ONLY_READY: Final[dict[Input, SessionState | Reply]] = dict.fromkeys((_I.STARTTLS, _I.AUTH, _I.XCLIENT), BAD_SEQUENCE)


def _anywhere(state: SessionState) -> dict[Input, SessionState | Reply]:
    """What may come in any command state and changes nothing, and the ways out."""
    told = dict.fromkeys((_I.NOOP, _I.VRFY, _I.EXPN, _I.HELP), state)
    return {**told, **_ONLY_READY, _I.QUIT: _S.CLOSED, _I.CLOSE: _S.CLOSED}


TRANSITIONS: Final[dict[SessionState, dict[Input, SessionState | Reply]]] = {
    _S.CONNECTED: {
        **_anywhere(_S.CONNECTED),
        _I.HELLO: _S.READY,
        _I.RSET: _S.CONNECTED,
        _I.MAIL: BAD_SEQUENCE,
        _I.RCPT: BAD_SEQUENCE,
        _I.DATA: BAD_SEQUENCE,
        _I.BDAT: BAD_SEQUENCE,
        _I.XCLIENT: _S.XCLIENT_ASKED,
    },
    _S.READY: {
        **_anywhere(_S.READY),
        _I.HELLO: _S.READY,
        _I.RSET: _S.READY,
        _I.MAIL: _S.MAIL_ASKED,
        _I.RCPT: BAD_SEQUENCE,
        _I.DATA: BAD_SEQUENCE,
        _I.BDAT: BAD_SEQUENCE,
        _I.STARTTLS: _S.TLS_STARTING,
        _I.AUTH: _S.AUTH_LINE,
        _I.XCLIENT: _S.XCLIENT_ASKED,
    },
    _S.MAIL_ASKED: {_I.ACCEPT: _S.MAIL, _I.REFUSE: _S.READY, _I.CLOSE: _S.CLOSED},
    _S.MAIL: {
        **_anywhere(_S.MAIL),
        _I.HELLO: _S.READY,
        _I.RSET: _S.READY,
        _I.MAIL: BAD_SEQUENCE,
        _I.RCPT: _S.FIRST_RCPT_ASKED,
        _I.DATA: NO_RECIPIENTS,
        _I.BDAT: NO_RECIPIENTS,
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
        _I.BDAT: _S.CHUNK,
    },
    _S.CONTENT: {_I.END: _S.MESSAGE_ASKED, _I.DISCARD: _S.DISCARDING, _I.CLOSE: _S.CLOSED},
    _S.DISCARDING: {_I.END: _S.READY, _I.CLOSE: _S.CLOSED},
    _S.MESSAGE_ASKED: {_I.ACCEPT: _S.READY, _I.REFUSE: _S.READY, _I.CLOSE: _S.CLOSED},
    _S.CHUNK: {_I.MORE: _S.CHUNKED, _I.END: _S.MESSAGE_ASKED, _I.DISCARD: _S.SKIPPING, _I.CLOSE: _S.CLOSED},
    _S.CHUNKED: {
        **_anywhere(_S.CHUNKED),
        _I.HELLO: _S.READY,
        _I.RSET: _S.READY,
        _I.MAIL: BAD_SEQUENCE,
        _I.RCPT: BAD_SEQUENCE,
        _I.DATA: BAD_SEQUENCE,
        _I.BDAT: _S.CHUNK,
    },
    _S.SKIPPING: {_I.END: _S.READY, _I.CLOSE: _S.CLOSED},
    _S.TLS_STARTING: {_I.ACCEPT: _S.CONNECTED, _I.CLOSE: _S.CLOSED},
    _S.AUTH_LINE: {_I.MORE: _S.AUTH_LINE, _I.READ: _S.AUTH_ASKED, _I.REFUSE: _S.READY, _I.CLOSE: _S.CLOSED},
    _S.AUTH_ASKED: {_I.ACCEPT: _S.READY, _I.REFUSE: _S.READY, _I.CLOSE: _S.CLOSED},
    _S.XCLIENT_ASKED: {_I.ACCEPT: _S.CONNECTED, _I.REFUSE: _S.CONNECTED, _I.CLOSE: _S.CLOSED},
    _S.CLOSED: {},
}

_EXPECTED: Final[dict[SessionState, frozenset[Input]]] = {
    **dict.fromkeys(COMMAND_STATES, COMMANDS | {_I.CLOSE}),
    **dict.fromkeys(ASKED_STATES, frozenset({_I.ACCEPT, _I.REFUSE, _I.CLOSE})),
    _S.CONTENT: frozenset({_I.END, _I.DISCARD, _I.CLOSE}),
    _S.DISCARDING: frozenset({_I.END, _I.CLOSE}),
    _S.CHUNK: frozenset({_I.MORE, _I.END, _I.DISCARD, _I.CLOSE}),
    _S.SKIPPING: frozenset({_I.END, _I.CLOSE}),
    _S.AUTH_LINE: frozenset({_I.MORE, _I.READ, _I.REFUSE, _I.CLOSE}),
    _S.TLS_STARTING: frozenset({_I.ACCEPT, _I.CLOSE}),
    _S.CLOSED: frozenset(),
}


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
        found += [f"{state.name} lacks {given.name}" for given in _EXPECTED[state] - row.keys()]
        found += [f"{state.name} cannot get {given.name}" for given in row.keys() - _EXPECTED[state]]
        found += [f"{state.name} refuses with {to}" for to in row.values() if isinstance(to, Reply) and to.is_positive]
        if state is not _S.CLOSED and row.get(_I.CLOSE) is not _S.CLOSED:
            found.append(f"{state.name} does not close")
    return found
