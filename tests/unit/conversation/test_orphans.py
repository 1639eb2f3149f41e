"""Conversations in a state whose function was renamed or removed: nobody is stranded, and it is loud (P5)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from monsal.store.contract import StateKey, StateValue
from monsal.testing import TestClient

Make = Callable[[str], ModuleType]
Play = Callable[..., TestClient]

DESK = "desk@example.com"
ANN = "ann@example.net"


def put(mail: TestClient, machine: ModuleType, state: str) -> None:
    store = mail._open_engine().store
    mail._run(store.set_state(StateKey(machine.__name__, ANN), state, mail.clock.now()))


def value(mail: TestClient, machine: ModuleType) -> StateValue:
    key = StateKey(machine.__name__, ANN)
    return mail._run(mail._open_engine().store.read_states([key]))[key]


RENAMED = """
@route("desk@(host)")
def START(message): ...

@route("desk@(host)", was=("OLD", "OLDER"))
def NEW(message):
    calls.append(current().state)
    return {result}

@route("desk@(host)")
def LAST(message): ...
"""


@pytest.mark.rule("routing.B8", "state.B7")
@pytest.mark.parametrize("result", ["None", "NEW"])
def test_a_renamed_handler_finds_the_old_state_and_stores_the_new_name(module: Make, play: Play, result: str) -> None:
    desk = module(RENAMED.format(result=result))
    mail = play(desk)
    put(mail, desk, "OLD")
    before = value(mail, desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls == ["NEW"]
    after = value(mail, desk)
    assert (after.state, after.previous) == ("NEW", before.previous)
    assert (after.entered, after.since) == (before.entered, before.since)
    assert after.version > before.version
    mail.deliver("again", to=DESK, sender=ANN)
    assert value(mail, desk).version == after.version
    assert mail.query("select before, after from monsal_history order by id") == [("NEW", "NEW")] * 2


@pytest.mark.rule("routing.B8")
def test_a_renamed_handler_may_go_on(module: Make, play: Play) -> None:
    desk = module(RENAMED.format(result="LAST"))
    mail = play(desk)
    put(mail, desk, "OLDER")
    mail.deliver("hi", to=DESK, sender=ANN)
    assert mail.state_of(ANN, desk) == "LAST"


@pytest.mark.rule("routing.B8", "state.B15")
def test_the_timers_of_a_renamed_state_live(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            after(days=2, run=LATER)
            return OLD

        @route("desk@(host)")
        def OLD(message): ...

        def LATER(message):
            calls.append(current().state)
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    mail.advance(days=1)
    path = Path(str(desk.__file__))
    source = path.read_text().replace("return OLD", "return NEWER")
    path.write_text(source.replace('@route("desk@(host)")\ndef OLD', '@route("desk@(host)", was="OLD")\ndef NEWER'))
    mail.app.router.reload()
    mail.deliver("still here", to=DESK, sender=ANN)
    assert mail.state_of(ANN, desk) == "NEWER"
    mail.advance(days=1)
    assert desk.calls == ["NEWER"]


GONE = """
@route("desk@(host)")
def START(message):
    calls.append("START")
"""


@pytest.mark.rule("routing.B8", "state.B7")
@pytest.mark.parametrize(("policy", "where"), [("dead", "dead"), ("hold", "queue")])
def test_mail_in_an_unknown_state_is_kept_when_the_setting_says_so(
    module: Make, play: Play, policy: str, where: Any, caplog: pytest.LogCaptureFixture
) -> None:
    desk = module(GONE)
    mail = play(desk, unknown_state=policy)
    put(mail, desk, "GONE")
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls == []
    (row,) = mail.rows(where)
    assert "unknown_state" in row["reason"]
    assert "no state GONE" in row["reason"]
    assert "no state GONE" in caplog.text
    assert mail._open_engine().worker.statistics().orphans == 1
    # When the state is mended it goes on with the very message.
    put(mail, desk, "START")
    if policy == "dead":
        mail.replay(row["id"])
    else:
        mail._run(mail._open_engine().store.release(ANN, mail.clock.now()))
        mail.settle()
    assert desk.calls == ["START"]
    assert mail.rows(where) == []


@pytest.mark.rule("routing.B8")
@pytest.mark.parametrize("policy", ["dead", "hold"])
def test_otherwise_takes_it_whatever_the_setting_says(module: Make, play: Play, policy: str) -> None:
    desk = module(GONE + "\n@otherwise\ndef HELP(message):\n    calls.append('HELP')\n")
    mail = play(desk, unknown_state=policy)
    put(mail, desk, "GONE")
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls == ["HELP"]
    assert mail.rows("dead") == []


@pytest.mark.rule("routing.B8")
def test_a_stateless_handler_beside_it_does_not_make_it_done(module: Make, play: Play) -> None:
    desk = module(GONE + "\n@route('desk@(host)')\n@stateless\ndef LOG(message):\n    calls.append('LOG')\n")
    mail = play(desk, unknown_state="hold")
    put(mail, desk, "GONE")
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls == ["LOG"]
    assert [row["state"] for row in mail.rows("queue")] == ["held"]
    put(mail, desk, "START")
    mail._run(mail._open_engine().store.release(ANN, mail.clock.now()))
    mail.settle()
    assert desk.calls == ["LOG", "START"]


@pytest.mark.rule("state.B7")
def test_the_start_says_which_stored_states_nobody_has(
    module: Make, play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    desk = module(GONE)
    mail = play(desk, unknown_state="hold")
    put(mail, desk, "GONE")
    engine = mail._open_engine()
    mail._run(engine._warn_of_orphans())
    assert "1 conversations" not in caplog.text
    assert f"1 conversation with {desk.__name__} is in GONE, which no function has any more" in caplog.text
    assert "held" in caplog.text
