"""A proof that cannot fail proves nothing: each claim is shown a small, doctored piece of evidence."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from evidence import DeskEvidence, Evidence
from harness import Server

ANN = "ann@load.example"
VIEWS = """
create table v_messages (id, message_id, sender, recipient, status, received);
create table v_turns (id, message, message_id, recipient, sender, handler, key, state_before, state_after, at);
create table v_states (key, sender, state, version, since);
create table v_outbox (id, turn, message_id, sender, recipient, status, attempts, due, reason);
create table v_ledger (source, accepted, done, waiting, running, held, dead, dropped, duplicates);
create table work (id integer primary key, sender, seq);
create table seen (id integer primary key, sender, seq);
create table reminder (id integer primary key, sender);
insert into v_messages values (1, '<1@x>', 'ann', 'desk@example.com', 'done', 0),
    (2, '<2@x>', 'ann', 'desk@example.com', 'done', 0), (3, null, 'ann', 'desk@example.com', 'done', 0);
insert into v_turns values
    (1, 1, '<1@x>', '', 'ann@load.example', 'handlers:START', '', 'START', 'OPEN', 0),
    (2, 1, '<1@x>', '', 'ann@load.example', 'handlers:COUNT', '', 'OPEN', 'OPEN', 0),
    (3, 2, '<2@x>', '', 'ann@load.example', 'handlers:COUNT', '', 'OPEN', 'OPEN', 0),
    (4, 2, '<2@x>', '', 'ann@load.example', 'handlers:OPEN', '', 'OPEN', 'WAITING', 0),
    (5, 3, null, '', 'ann@load.example', 'handlers:REMIND', '', 'WAITING', 'WAITING', 0);
insert into v_states values ('', 'ann@load.example', 'WAITING', 2, 0);
insert into v_outbox values (1, 1, '<r1@x>', '', '', 'sent', 1, 0, ''), (2, 4, '<r2@x>', '', '', 'sent', 1, 0, ''),
    (3, 5, '<r3@x>', '', '', 'sent', 1, 0, '');
insert into v_ledger values ('mail', 2, 2, 0, 0, 0, 0, 0, 1), ('timer', 1, 1, 0, 0, 0, 0, 0, 0);
insert into work (sender, seq) values ('ann@load.example', 1), ('ann@load.example', 2);
insert into seen (sender, seq) values ('ann@load.example', 1), ('ann@load.example', 2);
insert into reminder (sender) values ('ann@load.example');
"""


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    """Two mails of Ann, all well; a timer of hers has run."""
    server = Server(tmp_path)
    server.database.parent.mkdir()
    with closing(sqlite3.connect(server.database)) as connection:
        connection.executescript(VIEWS)
    mails = [
        {"message_id": f"<{n}@x>", "recipients": ["desk@example.com"], "sender": ANN, "correspondent": 0, "seq": n}
        for n in (1, 2)
    ]
    lines = [{"message_id": mail["message_id"], "recipient": "desk@example.com", "seq": mail["seq"]} for mail in mails]
    captured = [
        ("<r1@x>", b"Message-ID: <r1@x>\r\nTo: ann\r\nX-Answers: 1\r\n\r\nx"),
        ("<r2@x>", b"Message-ID: <r2@x>\r\nTo: ann\r\nX-Answers: 2\r\n\r\nx"),
        ("<r3@x>", b"Message-ID: <r3@x>\r\nTo: ann\r\n\r\nx"),
    ]
    return DeskEvidence(server, mails, lines, {}, [*captured, captured[0]])


def test_where_all_is_well_nothing_is_found(evidence: Evidence) -> None:
    assert evidence.contradictions() == {}


@pytest.mark.parametrize(
    ("claim", "statement"),
    [
        ("acknowledged_but_not_stored_once", "delete from v_messages where id = 2"),
        ("acknowledged_but_not_stored_once", "insert into v_messages select 9, message_id, sender, recipient, status, "
         "0 from v_messages where id = 2"),
        ("stored_but_never_sent", "insert into v_messages values (9, '<9@x>', '', 'desk@example.com', 'done', 0)"),
        ("turns_that_are_not_one_for_each_handler", "delete from v_turns where id = 3"),
        ("turns_that_are_not_one_for_each_handler", "update v_messages set status = 'dead' where id = 2"),
        ("turns_that_are_not_one_for_each_handler", "insert into v_turns select 9, message, message_id, recipient, "
         "sender, handler, key, state_before, state_after, at from v_turns where id = 5"),
        ("turns_out_of_order", "update v_turns set id = 10 - id"),
        ("broken_chains_of_states", "update v_turns set state_after = 'START' where id = 1"),
        ("broken_chains_of_states", "update v_states set state = 'OPEN'"),
        ("ledger_that_does_not_balance", "update v_ledger set accepted = 3 where source = 'mail'"),
        ("ledger_that_does_not_balance", "update v_ledger set accepted = 3, done = 3 where source = 'mail'"),
        ("rows_of_the_application_that_differ", "insert into work (sender, seq) values ('ann@load.example', 2)"),
        ("rows_of_the_application_that_differ", "delete from seen where seq = 1"),
        ("rows_of_the_application_that_differ", "delete from reminder"),
        ("replies_that_are_not_one_for_each_turn", "delete from v_outbox where id = 2"),
        ("replies_that_are_not_one_for_each_turn", "update v_outbox set turn = 4"),
        ("mails_that_did_not_leave_as_written", "update v_outbox set message_id = '<r9@x>' where id = 1"),
        ("mails_that_did_not_leave_as_written", "update v_outbox set status = 'failed' where id = 1"),
    ],
)  # fmt: skip
def test_a_doctored_database_is_found_out(evidence: Evidence, claim: str, statement: str) -> None:
    with closing(sqlite3.connect(evidence.server.database)) as connection:
        connection.execute(statement)
        connection.commit()
    assert claim in evidence.contradictions()


@pytest.mark.parametrize(
    ("claim", "doctor"),
    [
        ("mails_that_did_not_leave_as_written", lambda mails: mails.append(("<r1@x>", b"Message-ID: <r1@x>\r\n\r\ny"))),
        ("mails_that_did_not_leave_as_written", lambda mails: mails.pop(1)),
        (
            "answers_that_were_given_twice",
            lambda mails: mails.append(("<r7@x>", b"Message-ID: <r7@x>\r\nTo: ann\r\nX-Answers: 2\r\n\r\nx")),
        ),
    ],
)
def test_doctored_mail_is_found_out(
    evidence: Evidence, claim: str, doctor: Callable[[list[tuple[str, bytes]]], object]
) -> None:
    doctor(evidence.captured)
    assert claim in evidence.contradictions()
