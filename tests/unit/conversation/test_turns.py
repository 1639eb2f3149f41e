"""What a message does: which handlers run, what is committed, what happens when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from monsal.errors import TurnError
from monsal.mail import Envelope
from monsal.smtp.replies import Refused
from monsal.store import MemoryStorage
from monsal.store.contract import StateKey
from monsal.testing import TestClient

Make = Callable[[str], ModuleType]
Play = Callable[..., TestClient]

ANN, BOB, DESK = "ann@example.net", "bob@example.net", "desk@example.com"


@pytest.mark.rule("routing.R16", "routing.R17", "routing.R24", "routing.R25", "routing.R27", "routing.B2")
def test_each_correspondent_has_a_state_of_their_own(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            calls.append("START")
            return ASKED

        @route("desk@(host)")
        def ASKED(message):
            calls.append("ASKED")
        """
    )
    mail = play(desk)
    for who in (ANN, ANN, ANN, BOB):
        mail.deliver("hi", to=DESK, sender=who)
    # A false result stays where it is.
    assert desk.calls == ["START", "ASKED", "ASKED", "START"]
    assert mail.state_of(ANN, desk) == mail.state_of(BOB, desk) == "ASKED"


@pytest.mark.rule("routing.R25", "state.R8")
def test_going_to_start_forgets_the_record(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            return END

        @route("desk@(host)")
        def END(message):
            return START
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert len(mail.rows("states")) == 1
    mail.deliver("hi", to=DESK, sender=ANN)
    assert mail.rows("states") == []


@pytest.mark.rule("routing.R15", "routing.R16")
def test_every_stateless_handler_and_one_stateful(module: Make, play: Play) -> None:
    first = module(
        """
        @route("desk@(host)")
        @stateless
        def LOG(message):
            calls.append("LOG")
            return START

        @route("desk@(host)")
        def START(message):
            calls.append("START")
        """
    )
    second = module(
        """
        @route("(any)@(host)", any=".+")
        @stateless
        def ALSO(message):
            calls.append("ALSO")

        @route("desk@(host)")
        def START(message):
            calls.append("START")
        """
    )
    mail = play(first, second)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert sorted(first.calls) == ["LOG", "START"]
    assert second.calls == ["ALSO"]
    assert mail.rows("states") == []


@pytest.mark.rule("routing.R25", "routing.R26")
def test_a_handler_may_move_the_machine_of_another_module(module: Make, play: Play) -> None:
    other = module(
        """
        @route("other@(host)")
        def START(message): ...

        @route("other@(host)")
        def WAITING(message): ...
        """
    )
    desk = module(
        f"""
        import {other.__name__} as other

        @route("desk@(host)")
        def START(message):
            return other.WAITING

        @route("force@(host)")
        @stateless
        def FORCE(message):
            current().set_state(other.WAITING, correspondent="Bob@example.net")
        """
    )
    mail = play(desk, other)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert (mail.state_of(ANN, desk), mail.state_of(ANN, other)) == ("START", "WAITING")
    mail.deliver("hi", to="force@example.com", sender=ANN)
    assert mail.state_of(BOB, other) == "WAITING"


@pytest.mark.rule("routing.B14", "routing.R26")
def test_a_method_of_a_handler_object_may_force_a_state_of_it(module: Make, play: Play) -> None:
    desk = module(
        """
        class Desk:
            @route("desk@(host)")
            def START(self, message):
                current().set_state(self.WAITING)
                current().set_state(self.WAITING, correspondent="bob@example.net")
                start("cid@example.net", self.WAITING, subject="x", text="y")

            @route("desk@(host)")
            def WAITING(self, message): ...
        """
    )
    mail = play(desk.Desk())
    mail.deliver("hi", to=DESK, sender=ANN)
    assert {row["sender"]: row["state"] for row in mail.rows("states")} == {
        ANN: "WAITING",
        BOB: "WAITING",
        "cid@example.net": "WAITING",
    }


@pytest.mark.rule("routing.R18")
def test_a_forced_state_counts_for_the_next_choice(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        @stateless
        def FIRST(message):
            current().set_state(SECOND)

        @route("desk@(host)")
        def START(message):
            calls.append("START")

        @route("desk@(host)")
        def SECOND(message):
            calls.append("SECOND")
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls == ["SECOND"]


@pytest.mark.rule("routing.R4", "routing.R19", "routing.B17")
def test_captures_reach_the_handler_with_their_case(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("(list)-(action)@(host)", list="[a-z]+", action="join|leave")
        def START(message, action, list, more=7):
            calls.append((list, action, more, message.recipient))
        """
    )
    mail = play(desk)
    mail.deliver("hi", to="Poets-JOIN@Example.com", sender=ANN)
    assert desk.calls == [("Poets", "JOIN", 7, "Poets-JOIN@Example.com")]


@pytest.mark.rule("routing.R23")
def test_a_key_generator_makes_a_machine_for_each_list(module: Make, play: Play) -> None:
    desk = module(
        """
        @state_key_generator
        def by_list(module, message):
            return f"{module}:{message.recipient.lower()}"

        @route("(list)@(host)", list="[a-z]+")
        def START(message, list):
            return JOINED

        @route("(list)@(host)", list="[a-z]+")
        def JOINED(message, list): ...
        """
    )
    mail = play(desk)
    mail.deliver("hi", to="poets@example.com", sender=ANN)
    assert mail.state_of(ANN, desk, to="poets@example.com") == "JOINED"
    assert mail.state_of(ANN, desk, to="cooks@example.com") == "START"


@pytest.mark.parametrize("body", ["raise ValueError('no key')", "return 7"])
def test_a_key_generator_that_fails_makes_a_dead_letter(module: Make, play: Play, body: str) -> None:
    desk = module(
        f"""
        @state_key_generator
        def broken(module, message):
            {body}

        @route("desk@(host)")
        def START(message): ...
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    (dead,) = mail.rows("dead")
    assert dead["reason"].startswith("state_key_generator")


def test_a_shared_state_is_moved_by_anybody(module: Make, play: Play) -> None:
    desk = module(
        """
        @state_key_generator(shared=True)
        def by_address(module, message):
            return message.recipient.lower()

        @route("(list)@(host)", list="[a-z]+")
        def START(message, list):
            return OPEN

        @route("(list)@(host)", list="[a-z]+")
        def OPEN(message, list):
            calls.append(message.sender)
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    mail.deliver("hi", to=DESK, sender=BOB)
    assert desk.calls == [BOB]
    assert [(row["key"], row["sender"]) for row in mail.rows("states")] == [(DESK, "")]


@pytest.mark.rule("routing.R20", "routing.B3")
def test_no_state_fits(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            return ELSEWHERE

        @route("other@(host)")
        def ELSEWHERE(message): ...
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    mail.deliver("hi", to=DESK, sender=ANN)
    (dead,) = mail.rows("dead")
    assert dead["reason"].startswith("no_handler_in_state")
    assert "ELSEWHERE" in dead["reason"]
    mail.deliver("hi", to="other@example.com", sender=ANN)
    assert len(mail.rows("dead")) == 1


def test_otherwise_takes_what_no_state_fits(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            return ELSEWHERE

        @route("other@(host)")
        def ELSEWHERE(message): ...

        @otherwise
        def lost(message):
            calls.append("lost")
            return START
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls == ["lost"]
    assert mail.state_of(ANN, desk) == "START"


def test_an_unknown_address_is_refused_and_postmaster_is_not(module: Make, play: Play) -> None:
    desk = module('@route("desk@(host)")\ndef START(message): ...')
    mail = play(desk)
    with pytest.raises(Refused, match=r"5\.1\.1"):
        mail.deliver("hi", to="nobody@example.com", sender=ANN)
    mail.deliver("hi", to="postmaster@example.com", sender=ANN)
    assert [row["reason"] for row in mail.rows("dead")] == ["no_route"]


@pytest.mark.rule("routing.R28", "routing.B16")
def test_a_rejection_after_acceptance_bounces(module: Make, play: Play) -> None:
    desk = module('@route("desk@(host)")\ndef START(message):\n    reply("no such luck")\n    reject(550, "Closed.")')
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    (bounce,) = mail.sent
    assert bounce.sender == ""
    assert "550 Closed." in bounce.text
    assert mail.rows("dead") == []
    mail.deliver("hi", to=DESK, sender=ANN, envelope_sender="")
    assert len(mail.sent) == 1


def test_nobody_is_told_of_rejections_without_end(module: Make, play: Play) -> None:
    """The sender of an envelope is easily forged, and the mail would go to whom it names."""
    desk = module('@route("desk@(host)")\ndef START(message):\n    reject(550, "Closed.")')
    mail = play(desk, max_replies_per_hour=3)
    for number in range(5):
        mail.deliver("hi", to=DESK, sender=f"x{number}@example.org", envelope_sender=ANN)
        mail.deliver("hi", to=DESK, sender=BOB)
    assert (len(mail.sent_to(ANN)), len(mail.sent_to(BOB))) == (3, 3)
    assert mail.rows("dead") == mail.rows("queue") == []
    mail.advance(hours=1)
    mail.deliver("hi", to=DESK, sender=BOB)
    assert len(mail.sent_to(BOB)) == 4


def test_a_temporary_rejection_is_tried_again(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            calls.append(current().attempts)
            if len(calls) < 3:
                reject(451, "later")
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls == [0]
    mail.advance(seconds=10)
    assert desk.calls == [0, 1, 2]
    assert mail.rows("queue") == mail.rows("dead") == []


@pytest.mark.rule("routing.R29", "routing.R31", "routing.B6")
def test_a_failure_without_an_error_handler_leaves_the_state(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            reply("this never leaves")
            raise ValueError("broken")
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert mail.sent == []
    assert mail.state_of(ANN, desk) == "START"
    (dead,) = mail.rows("dead")
    assert "ValueError: broken" in dead["reason"]
    assert dead["attempts"] == 1


@pytest.mark.parametrize(("on_failure", "what"), [("dead", "dead"), ("hold", "queue")])
def test_what_is_given_up_says_how_often_it_was_tried(module: Make, play: Play, on_failure: str, what: str) -> None:
    desk = module(
        f"""
        ON_FAILURE = "{on_failure}"
        @route("desk@(host)")
        def START(message):
            calls.append(message.id)
            raise TimeoutError("busy")
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    mail.advance(hours=2)
    assert [row["attempts"] for row in mail.rows(what)] == [len(desk.calls)] == [6]  # type: ignore[arg-type]


@pytest.mark.rule("routing.R29", "routing.R30", "routing.B7")
def test_the_error_handler_is_called_at_once(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("(box)@(host)", box="desk")
        def START(message, box):
            reply("this never leaves")
            raise ValueError("broken")

        def ERROR(message, box):
            calls.append((box, str(current().error)))
            reply("Sorry.")
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls == [("desk", "broken")]
    assert [sent.text.strip() for sent in mail.sent] == ["Sorry."]
    assert mail.state_of(ANN, desk) == "ERROR"
    assert len(mail.rows("dead")) == 1
    # The machine stays in ERROR, and the next message goes there.
    mail.deliver("hi", to=DESK, sender=ANN)
    assert len(desk.calls) == 2


def test_an_error_handler_that_fails_too(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            raise ValueError("first")

        def ERROR(message):
            raise KeyError("second")
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    (dead,) = mail.rows("dead")
    detail = mail._run(mail._open_engine().store.dead_detail(dead["id"]))["detail"]
    assert "ValueError: first" in detail
    assert "KeyError: 'second'" in detail
    assert mail.state_of(ANN, desk) == "START"


@pytest.mark.rule("routing.B5")
def test_a_failing_stateless_handler_touches_no_state_and_stops_nobody(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        @stateless
        def LOG(message):
            raise ValueError("log")

        @route("desk@(host)")
        def START(message):
            calls.append("START")
            return NEXT

        @route("desk@(host)")
        def NEXT(message): ...

        def ERROR(message):
            calls.append("ERROR")
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls == ["START"]
    assert mail.state_of(ANN, desk) == "NEXT"
    assert len(mail.rows("dead")) == 1


@pytest.mark.rule("routing.B4", "routing.R31")
def test_a_retry_runs_only_what_failed(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        @stateless
        def LOG(message):
            calls.append("LOG")
            if calls.count("LOG") < 3:
                raise ConnectionError

        @route("desk@(host)")
        def START(message):
            calls.append("START")
            return NEXT

        @route("desk@(host)")
        def NEXT(message):
            calls.append("NEXT")
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    mail.advance(minutes=5)
    assert desk.calls == ["LOG", "START", "LOG", "LOG"]
    assert mail.rows("dead") == mail.rows("queue") == []
    # A replay of something that is done is impossible; of a dead letter it runs what failed.
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls[-1] == "NEXT"


@pytest.mark.rule("routing.B1")
def test_later_mail_waits_behind_a_retry(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            calls.append(message.subject)
            if calls == ["one"]:
                raise TimeoutError
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN, subject="one")
    mail.deliver("hi", to=DESK, sender=ANN, subject="two")
    mail.deliver("hi", to=DESK, sender=BOB, subject="bob")
    assert desk.calls == ["one", "bob"]
    mail.advance(seconds=2)
    assert desk.calls == ["one", "bob", "one", "two"]


def test_a_dead_letter_is_replayed(module: Make, play: Play) -> None:
    desk = module(
        """
        broken = True

        @route("desk@(host)")
        def START(message):
            if broken:
                raise ValueError
            calls.append(message.text.strip())
        """
    )
    mail = play(desk)
    mail.deliver("the text", to=DESK, sender=ANN)
    (dead,) = mail.rows("dead")
    desk.broken = False
    mail.replay(dead["id"])
    assert desk.calls == ["the text"]
    assert mail.rows("dead") == []


@pytest.mark.rule("state.B6", "routing.B6")
@pytest.mark.parametrize(("leaves", "then"), [("", "DONE"), ("return ASKED", "DONE"), ("", "ASKED")])
def test_a_replay_runs_the_handler_that_failed_though_error_had_a_turn(
    module: Make, play: Play, leaves: str, then: str
) -> None:
    desk = module(
        f"""
        broken = True

        @route("desk@(host)")
        def START(message):
            return ASKED

        @route("desk@(host)")
        def ASKED(message):
            if broken:
                raise ValueError
            calls.append("ASKED")
            return {then if then != "ASKED" else None}

        @route("desk@(host)")
        def DONE(message): ...

        def ERROR(message):
            calls.append("ERROR")
            {leaves}
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    mail.deliver("tea", to=DESK, sender=ANN)
    assert desk.calls == ["ERROR"]
    (dead,) = mail.rows("dead")
    # While it still fails the letter stays dead, and ERROR is not called for it again.
    mail.replay(dead["id"])
    assert [row["id"] for row in mail.rows("dead")] == [dead["id"]]
    assert desk.calls == ["ERROR"]
    desk.broken = False
    mail.replay(dead["id"])
    assert mail.rows("dead") == mail.rows("queue") == []
    assert desk.calls == ["ERROR", "ASKED"]
    assert mail.state_of(ANN, desk) == then


@pytest.mark.rule("state.B12")
def test_hold_parks_the_conversation(module: Make, play: Play) -> None:
    desk = module(
        """
        ON_FAILURE = "hold"
        broken = True

        @route("desk@(host)")
        def START(message):
            if broken:
                raise ValueError
            calls.append(message.subject)
        """
    )
    mail = play(desk)
    for subject in ("one", "two"):
        mail.deliver("hi", to=DESK, sender=ANN, subject=subject)
    desk.broken = False
    mail.advance(days=1)
    assert desk.calls == []
    assert [row["state"] for row in mail.rows("queue")] == ["held", "waiting"]
    assert mail._run(mail._open_engine().store.release(ANN, mail.clock.now())) == 1
    mail.settle()
    assert desk.calls == ["one", "two"]


@pytest.mark.rule("routing.B19")
@pytest.mark.parametrize("result", ["'START'", "7", "helper", "print"])
def test_nonsense_results_are_named(module: Make, play: Play, result: str) -> None:
    desk = module(
        f"""
        def helper(message): ...

        @route("desk@(host)")
        def START(message):
            reply("this never leaves")
            return {result}
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    (dead,) = mail.rows("dead")
    assert "ResultError" in dead["reason"]
    assert "START" in dead["reason"]
    assert mail.sent == []


@pytest.mark.rule("routing.R9", "routing.B11")
def test_a_handler_may_call_another(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            return OTHER(message)

        @route("desk@(host)")
        def OTHER(message):
            return THIRD

        @route("desk@(host)")
        def THIRD(message): ...
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert mail.state_of(ANN, desk) == "THIRD"


@pytest.mark.rule("routing.B8")
def test_a_renamed_state_strands_nobody(module: Make, play: Play, caplog: pytest.LogCaptureFixture) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            calls.append("START")
        """
    )
    mail = play(desk)
    store = mail._open_engine().store
    mail._run(store.set_state(StateKey(desk.__name__, ANN), "GONE", mail.clock.now()))
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls == ["START"]
    assert "GONE" in caplog.text


def test_one_turn_in_the_history_for_each_handler(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            current().note("seen")
            return NEXT

        @route("desk@(host)")
        def NEXT(message): ...
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    rows = mail.query("select handler, sender, state_before, state_after from v_turns")
    assert rows == [(f"{desk.__name__}:START", ANN, "START", "NEXT")]


@pytest.mark.rule("state.B15")
def test_timers_run_replace_each_other_and_die(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            after(hours=1, run=REMIND)
            after(hours=2, run=REMIND)
            after(hours=3, run=OTHER)
            return WAITING

        @route("desk@(host)")
        def WAITING(message):
            return DONE

        @route("desk@(host)")
        def DONE(message): ...

        def REMIND(message):
            calls.append(("REMIND", message.source, message.subject))
            reply("Still there?")

        def OTHER(message):
            calls.append(("OTHER", message.source, message.subject))
            return DONE
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN, subject="one")
    mail.advance(minutes=90)
    assert desk.calls == []
    mail.advance(minutes=40)
    assert desk.calls == [("REMIND", "timer", "one")]
    assert mail.sent[-1].subject == "Re: one"
    mail.advance(hours=1)
    assert mail.state_of(ANN, desk) == "DONE"
    mail.deliver("hi", to=DESK, sender=BOB, subject="two")
    mail.deliver("hi", to=DESK, sender=BOB, subject="three")
    mail.advance(days=1)
    assert len(desk.calls) == 2


def test_a_timer_can_be_taken_away(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            if message.subject == "set":
                after(hours=1, run=REMIND)
            else:
                current().cancel(REMIND)

        def REMIND(message):
            calls.append(1)
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN, subject="set")
    mail.deliver("hi", to=DESK, sender=ANN, subject="cancel")
    mail.advance(days=1)
    assert desk.calls == []


def test_start_opens_a_conversation_with_somebody_else(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            start("Bob@example.net", APPROVE, subject="May she?", text="Ann asks.")

        @route("desk@(host)")
        def APPROVE(message):
            calls.append(message.sender)
            return START
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert mail.sent[-1].to == ("Bob@example.net",)
    assert mail.state_of(BOB, desk) == "APPROVE"
    mail.deliver("yes", to=DESK, sender=BOB)
    assert desk.calls == [BOB]


def test_writes_belong_to_the_turn(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            current().write("insert into noted values (?)", (message.subject,))
            calls.append(current().read("select count(*) from noted")[0][0])
            if message.subject == "bad":
                raise ValueError

        @route("wrong@(host)")
        def WRONG_START(message): ...

        @route("sql@(host)")
        @stateless
        def SQL(message):
            current().write("insert into nowhere values (1)")

        @route("async@(host)")
        @stateless
        async def READ(message):
            calls.append(await current().read_async("select count(*) from noted"))
        """
    )
    mail = play(desk, tables="create table noted (subject text) strict")
    for subject in ("good", "bad"):
        mail.deliver("hi", to=DESK, sender=ANN, subject=subject)
    assert mail.query("select subject from noted") == [("good",)]
    assert desk.calls == [0, 1]
    mail.deliver("hi", to="sql@example.com", sender=ANN)
    assert "nowhere" in mail.rows("dead")[-1]["reason"]
    mail.deliver("hi", to="async@example.com", sender=ANN)
    assert desk.calls[-1] == [(1,)]


def test_the_turn_id_is_stable_over_retries(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            calls.append(current().turn_id)
            if len(calls) < 3:
                raise ConnectionError
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    mail.advance(minutes=1)
    assert len(desk.calls) == 3
    assert len(set(desk.calls)) == 1
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls[3] != desk.calls[0]


@pytest.mark.parametrize(
    "headers",
    [
        {"Auto-Submitted": "auto-replied"},
        {"Precedence": "bulk"},
        {"List-Id": "<poets.example.net>"},
    ],
)
def test_automatic_mail_gets_no_answer(module: Make, play: Play, headers: dict[str, str]) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            calls.append(reply("Hello"))
            if message.subject == "anyway":
                reply("Hello", even_if_automatic=True)
        """
    )
    mail = play(desk)
    raw = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    mail.deliver(to=DESK, sender=ANN, raw=f"From: {ANN}\r\n{raw}Subject: x\r\n\r\nhi\r\n".encode())
    assert desk.calls == [None]
    assert mail.sent == []
    assert "suppressed" in mail.query("select note from monsal_history")[0][0]
    mail.deliver(to=DESK, sender=ANN, raw=f"From: {ANN}\r\n{raw}Subject: anyway\r\n\r\nhi\r\n".encode())
    assert len(mail.sent) == 1


def test_a_loop_ends_after_ten_replies_an_hour(module: Make, play: Play) -> None:
    desk = module('@route("desk@(host)")\ndef START(message):\n    reply("Hello")')
    mail = play(desk)
    for _ in range(15):
        mail.deliver("hi", to=DESK, sender=ANN)
        mail.advance(minutes=2)
    mail.deliver("hi", to=DESK, sender=BOB)
    assert len(mail.sent_to(ANN)) == 10
    assert len(mail.sent_to(BOB)) == 1
    mail.advance(hours=1)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert len(mail.sent_to(ANN)) == 11


def test_mail_from_ourselves_gets_no_answer(module: Make, play: Play) -> None:
    desk = module('@route("desk@(host)")\ndef START(message):\n    reply("Hello")')
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=DESK)
    assert mail.sent == []


def test_a_header_cannot_be_forged_through_a_reply(module: Make, play: Play) -> None:
    desk = module('@route("desk@(host)")\ndef START(message):\n    reply("x", subject="a\\r\\nBcc: all@example.net")')
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert mail.sent == []
    assert "ValueError" in mail.rows("dead")[0]["reason"]


def test_duplicates_are_counted_and_not_handled_again(module: Make, play: Play) -> None:
    desk = module('@route("desk@(host)")\ndef START(message):\n    calls.append(1)')
    mail = play(desk)
    raw = f"Message-ID: <1@x>\r\nFrom: {ANN}\r\n\r\nhi\r\n".encode()
    first = mail.deliver(to=DESK, sender=ANN, raw=raw)
    again = mail.deliver(to=DESK, sender=ANN, raw=b"Received: from a by b\r\n" + raw)
    assert again.ids == first.ids
    assert again.duplicates == (True,)
    assert desk.calls == [1]
    mail.deliver(to=DESK, sender=ANN, raw=raw + b"more\r\n")
    mail.advance(days=4)
    mail.deliver(to=DESK, sender=ANN, raw=raw)
    assert len(desk.calls) == 3


def test_every_mail_leaves_with_a_signed_envelope_sender(module: Make, play: Play) -> None:
    desk = module('@route("desk@(host)")\ndef START(message):\n    reply("Hello")')
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    sent = mail.sent[-1]
    assert sent.sender.startswith("b+")
    assert sent.sender.endswith("@example.com")
    mail.deliver("came back", to=sent.sender, sender=ANN, envelope_sender="")
    assert mail.rows("dead") == []
    forged = sent.sender[:-20] + ("a" if sent.sender[-20] != "a" else "b") + sent.sender[-19:]
    mail.deliver("came back", to=forged, sender=ANN, envelope_sender="")
    assert [row["reason"] for row in mail.rows("dead")] == ["forged bounce address"]


def test_a_loop_of_mail_systems_is_refused(module: Make, play: Play) -> None:
    desk = module('@route("desk@(host)")\ndef START(message): ...')
    mail = play(desk)
    raw = b"Received: from a by b\r\n" * 51 + f"From: {ANN}\r\n\r\nhi\r\n".encode()
    with pytest.raises(Refused, match=r"5\.4\.6"):
        mail.deliver(to=DESK, sender=ANN, raw=raw)
    assert mail.rows("queue") == []


def test_nothing_of_this_works_outside_of_a_turn() -> None:
    from monsal import after, current, reply, send

    for function in (current, lambda: reply("x"), lambda: send("a@b.c", subject="x")):
        with pytest.raises(TurnError, match="inside a handler"):
            function()
    with pytest.raises(TurnError):
        after(days=1, run=test_nothing_of_this_works_outside_of_a_turn)


def test_requires_authenticated(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        @requires_authenticated
        def START(message):
            calls.append(message.sender)
        """
    )
    mail = play(desk, max_unconfirmed=0)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert "not_authenticated" in mail.rows("dead")[0]["reason"]
    mail.deliver("hi", to=DESK, sender=ANN, user=ANN)
    assert desk.calls == [ANN]


@pytest.mark.rule("state.R16", "state.R17", "state.R20", "state.B14")
def test_a_foreign_storage_keeps_the_states(module: Make, play: Play) -> None:
    class Storage:
        def __init__(self) -> None:
            self.states: dict[tuple[str, str], str] = {}

        def get(self, key: str, sender: str) -> str:
            return self.states.get((key, sender), "START")

        def set(self, key: str, sender: str, state: str) -> None:
            self.states[key, sender] = state

        def clear(self) -> None:
            self.states.clear()

    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            calls.append("START")
            return NEXT

        @route("desk@(host)")
        def NEXT(message):
            calls.append("NEXT")
        """
    )
    storage = Storage()
    mail = play(desk, states=storage)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert storage.states == {(desk.__name__, ANN): "NEXT"}
    storage.states.clear()
    mail.deliver("hi", to=DESK, sender=ANN)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls == ["START", "START", "NEXT"]


@pytest.mark.rule("routing.R35")
def test_another_storage_begins_empty(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            return NEXT

        @route("desk@(host)")
        def NEXT(message): ...
        """
    )
    first, second = MemoryStorage(), MemoryStorage()
    play(desk, states=first).deliver("hi", to=DESK, sender=ANN)
    play(desk, states=second)
    assert first.get(desk.__name__, ANN) == "NEXT"
    assert second.get(desk.__name__, ANN) == "START"


@pytest.mark.rule("state.R18")
def test_tests_keep_states_in_memory_whatever_the_application_is_given(
    module: Make, play: Play, tmp_path: Path
) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            return NEXT

        @route("desk@(host)")
        def NEXT(message): ...
        """
    )
    mail = play(desk, store="sqlite:///run/monsal.db")
    mail.deliver("hi", to=DESK, sender=ANN)
    assert mail.state_of(ANN, desk) == "NEXT"
    assert not (tmp_path / "run").exists()


@pytest.mark.rule("state.R19", "routing.R33")
def test_reloading_leaves_all_states_alone(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            return NEXT

        @route("desk@(host)")
        def NEXT(message):
            calls.append("NEXT")
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    mail.app.router.reload()
    assert mail.state_of(ANN, desk) == "NEXT"
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls == ["NEXT"]


@pytest.mark.rule("routing.R22")
def test_what_a_delivery_gives_back_says_nothing_of_its_handlers(module: Make, play: Play) -> None:
    desk = module('@route("desk@(host)")\n@stateless\ndef LOOK(message):\n    return 7')
    receipt = play(desk).deliver("hi", to=DESK, sender=ANN)
    assert (len(receipt.ids), receipt.duplicates) == (1, (False,))


@pytest.mark.rule("routing.B15")
def test_coroutines_and_deadlines(module: Make, play: Play) -> None:
    desk = module(
        """
        import asyncio

        @route("desk@(host)", deadline=1.0)
        async def START(message):
            calls.append("START")
            reply("never")
            if len(calls) < 2:
                await asyncio.sleep(60)
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert mail.sent == []
    mail.advance(seconds=2)
    assert desk.calls == ["START", "START"]
    assert [sent.text.strip() for sent in mail.sent] == ["never"]


def test_threads_and_templates(module: Make, play: Play, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "hello.txt").write_text("Hello {{ name }} about {{ message.subject }}\n")
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            reply(template="hello.txt", name="Ann & Bob")

        @route("gone@(host)")
        @stateless
        def GONE(message):
            reply(template="gone.txt")
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN, subject="tea")
    sent = mail.sent[-1]
    assert sent.text.strip() == "Hello Ann & Bob about tea"
    assert sent.subject == "Re: tea"
    assert sent.message.in_reply_to == "<test-1@client.test>"
    mail.deliver("hi", to="gone@example.com", sender=ANN)
    assert "gone.txt" in mail.rows("dead")[0]["reason"]


def test_reply_to_is_followed_if_its_author_is_proved(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            reply(f"for {message.sender} {message.reply_address}")
            return AGAIN

        @route("desk@(host)")
        def AGAIN(message):
            reply("again")
        """
    )
    mail = play(desk, authserv_id="mx.example.com", max_replies_per_hour=4)
    proof = "Authentication-Results: mx.example.com; dmarc=pass header.from=example.net\r\n"

    def deliver(number: int, head: str, reply_to: str = "else@example.org") -> str | None:
        before = len(mail.sent)
        raw = f"{head}From: {ANN}\r\nReply-To: {reply_to}\r\nMessage-ID: <r{number}@x>\r\n\r\nhi\r\n"
        mail.deliver(raw=raw.encode(), to=DESK, sender=ANN)
        return mail.sent[-1].to[0] if len(mail.sent) > before else None

    assert deliver(1, "") == ANN  # anybody can write this From
    assert deliver(2, proof) == "else@example.org"
    assert mail.sent[-1].text.strip() == "again"  # the conversation is that of From
    assert deliver(3, proof, reply_to=DESK) == ANN  # never ourselves
    assert deliver(4, f"Auto-Submitted: auto-replied\r\n{proof}", reply_to="third@example.org") is None
    assert deliver(5, proof) == "else@example.org"
    assert deliver(6, proof, reply_to="third@example.org") is None  # an answer counts for whom it answers


def test_a_template_makes_text_html_and_subject(module: Make, play: Play, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "a.html").write_text(
        "{% subject %}For {{ message.subject }}{% endsubject %}<p>{{ x }}</p>"
    )
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            reply(template="a", x="1 < 2")
            send("ann@example.org", template="a.html", subject="Mine", x=2)
            send("ann@example.org", template="a", x=3, text="Own text", even_if_automatic=True)
            reply(html="<p>Only <b>HTML</b></p>")

        @route("wrong@(host)")
        @stateless
        def WRONG(message):
            reply(template="a", x=1, subject="two\\nlines")

        @route("none@(host)")
        @stateless
        def NONE(message):
            send("ann@example.org", text="x")
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN, subject="tea & cake")
    first, second, third, fourth = (sent.message for sent in mail.sent)
    assert (first.subject, first.text.strip(), first.html) == ("For tea & cake", "1 < 2", "<p>1 &lt; 2</p>\n")
    assert (second.subject, second.text.strip()) == ("Mine", "2")
    assert (third.subject, third.text.strip(), third.html) == ("For tea & cake", "Own text", "<p>3</p>\n")
    assert (fourth.subject, fourth.text.strip()) == ("Re: tea & cake", "Only HTML")
    for address in ("wrong@example.com", "none@example.com"):
        mail.deliver("hi", to=address, sender=ANN)
    reasons = [row["reason"] for row in mail.rows("dead")]
    assert ["CR, LF or NUL" in reasons[0], "needs a subject" in reasons[1]] == [True, True]


@pytest.mark.parametrize(
    "mistake",
    [
        "raise Odd",
        "raise Leaving",
        "raise Retry(after=__import__('datetime').timedelta(1))",
        "raise Retry(after=float('nan'))",
        "current().note(5)",
        "current().write(None)",
        "current().write('select ?', (object(),))",
        "reply('x', headers={'X-A': 5})",
        "reject(550, 5)",
        "reject('no')",
        "after(days=1, run='MORE')",
        "current().set_state('MORE')",
        "current().set_state(calls.append)",
        "current().set_state(HELPER)",
        "start('bob@example.net', HELPER, subject='x', text='x')",
    ],
)
def test_a_mistake_of_an_author_strands_nobody(module: Make, play: Play, mistake: str) -> None:
    desk = module(
        f"""
        class Odd(Exception):
            def __str__(self):
                return 5

        class Leaving(Exception):
            def __str__(self):
                raise SystemExit(3)

        def HELPER(message): ...

        @route("desk@(host)")
        def START(message):
            calls.append(message.subject)
            if message.subject == "bad":
                {mistake}
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN, subject="bad")
    mail.deliver("hi", to=DESK, sender=ANN, subject="good")
    mail.advance(days=1)
    assert desk.calls == ["bad", "good"]
    (dead,) = mail.rows("dead")
    assert dead["reason"].startswith(f"{desk.__name__}:START")


@pytest.mark.parametrize("address", ["plain@x.com", "dot@x.com.", "r@m\u00fcnchen.de", "R@X.COM"])
def test_the_limits_against_loops_know_every_form_of_an_address(module: Make, play: Play, address: str) -> None:
    desk = module('@route("desk@(host)")\ndef START(message):\n    reply("Hello")')
    mail = play(desk)
    for number in range(15):
        raw = f"From: {address}\r\nSubject: {number}\r\n\r\nhi\r\n".encode()
        mail.deliver(to=DESK, sender=address, raw=raw)
    assert len(mail.sent) == 10
    mail.advance(hours=2)
    raw = f"From: {address}\r\nAuto-Submitted: auto-replied\r\n\r\nhi\r\n".encode()
    mail.deliver(to=DESK, sender=address, raw=raw)
    assert len(mail.sent) == 10


def test_a_rejection_that_cannot_be_addressed_is_dropped(module: Make, play: Play) -> None:
    desk = module('@route("desk@(host)")\ndef START(message):\n    reject(550, "no")')
    mail = play(desk)
    odd = "a@" + "\u00e9" * 60 + ".com"
    mail.deliver("hi", to=DESK, sender=ANN, envelope_sender=odd)
    assert mail.rows("dead") == mail.rows("queue") == mail.sent == []


@pytest.mark.parametrize("mischief", ["asyncio.create_task(boom())", "asyncio.get_running_loop().stop()"])
def test_what_a_handler_leaves_on_its_loop_harms_no_other(module: Make, play: Play, mischief: str) -> None:
    desk = module(
        f"""
        import asyncio, sys

        async def boom():
            sys.exit(3)

        @route("desk@(host)", deadline=5)
        async def START(message):
            if message.subject == "bad":
                {mischief}
            await asyncio.sleep(0.01)
            calls.append(message.subject)
        """
    )
    mail = play(desk)
    for subject in ("bad", "good"):
        mail.deliver("hi", to=DESK, sender=ANN, subject=subject)
    assert desk.calls == ["bad", "good"]


def test_the_turn_of_an_error_handler_is_run_again_after_a_conflict(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            raise ValueError

        @route("desk@(host)")
        def OTHER(message): ...

        def ERROR(message):
            calls.append("ERROR")
            if len(calls) == 1:
                interfere()
            reply("Sorry.")
            return OTHER
        """
    )
    mail = play(desk)
    store = mail._open_engine().store

    def interfere() -> None:
        state = StateKey(desk.__name__, ANN)
        asyncio.run_coroutine_threadsafe(store.set_state(state, "OTHER", mail.clock.now()), mail._loop).result()
        asyncio.run_coroutine_threadsafe(store.set_state(state, "START", mail.clock.now()), mail._loop).result()
        asyncio.run_coroutine_threadsafe(store.set_state(state, "OTHER", mail.clock.now()), mail._loop).result()

    desk.interfere = interfere
    mail.deliver("hi", to=DESK, sender=ANN)
    assert desk.calls == ["ERROR", "ERROR"]
    assert len(mail.sent) == 1
    assert len(mail.rows("dead")) == 1


@pytest.mark.rule("routing.B1")
def test_two_turns_of_one_correspondent_never_overlap_even_if_the_lease_is_lost(module: Make, play: Play) -> None:
    desk = module(
        """
        import threading

        release, begun = threading.Event(), threading.Event()
        running, most = [], []

        @route("desk@(host)")
        def START(message):
            running.append(1)
            most.append(len(running))
            if message.sender.startswith("ann"):
                begun.set()
                release.wait(60)
            running.pop()
        """
    )
    mail = play(desk)
    engine = mail._open_engine()

    async def story() -> None:
        engine.start_worker(lambda error: None)
        for who in (ANN, BOB):
            envelope = Envelope(sender=who, recipients=(DESK,))
            await engine.spool.accept(envelope, (f"From: {who}\r\n\r\nhi\r\n".encode(),))
            while not desk.begun.is_set():
                await asyncio.sleep(0.01)
            # The clock of the machine jumps: the lease of Ann's turn is over, and Bob's mail makes the worker look.
            mail.clock.advance(10_000)
        while len(desk.most) < 2 or engine.worker.statistics().running != 2:
            await asyncio.sleep(0.01)
        desk.release.set()
        while len(desk.most) < 3 or engine.worker.statistics().running:
            await asyncio.sleep(0.01)

    mail._run(asyncio.wait_for(story(), 60))
    # Ann beside Bob is two; Ann beside Ann would be seen as a second entry of hers before her first one left.
    assert desk.most[0] == 1
    assert desk.most[-1] == 1
    assert mail.query("select count(*) from v_turns") == [(2,)]
