"""Supervision, fact by fact. What OTP does is in shared words of its manual: "supervisor", OTP 25."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from monsal.actors import (
    BOOT_FAILURES,
    Action,
    Backoff,
    Child,
    ChildPhase,
    Escalate,
    Exit,
    ExitKind,
    Phase,
    Policy,
    Refused,
    Start,
    StateError,
    Stop,
    Stopped,
    Supervisor,
    Up,
    Wait,
)

CRASH = Exit(kind=ExitKind.SIGNAL, signal=11)
NORMAL = Exit(kind=ExitKind.NORMAL, code=0)
SHUTDOWN = Exit(kind=ExitKind.SHUTDOWN, code=0)
BROKEN = Exit(kind=ExitKind.IMPORT_ERROR, code=1, detail="ModuleNotFoundError: No module named 'orders'")


def running(*children: Child | str, **policy: Any) -> Supervisor:
    """A supervisor whose children have started at 0."""
    supervisor = Supervisor([Child(child) if isinstance(child, str) else child for child in children], Policy(**policy))
    assert carry_out(supervisor, supervisor.start(0.0), 0.0)[-1] == Up()
    return supervisor


def carry_out(supervisor: Supervisor, actions: Sequence[Action], now: float) -> list[Action]:
    """Do at once what is asked for; all actions, in order."""
    done: list[Action] = []
    todo = list(actions)
    while todo:
        action = todo.pop(0)
        done.append(action)
        if isinstance(action, Start):
            todo += supervisor.started(action.id, now)
        elif isinstance(action, Stop):
            todo += supervisor.died(action.id, SHUTDOWN, now)
    return done


def stops_and_starts(actions: Sequence[Action]) -> str:
    marks = {Start: "+", Stop: "-"}
    return " ".join(marks[type(action)] + action.id for action in actions if isinstance(action, Start | Stop))


def restarted(supervisor: Supervisor, name: str, now: float, cause: Exit = CRASH) -> str:
    return stops_and_starts(carry_out(supervisor, supervisor.died(name, cause, now), now))


pytestmark = pytest.mark.rule("mailbox.B10")


class TestDefaults:
    def test_a_child_is_permanent_and_has_five_seconds_to_stop(self) -> None:
        assert (Child("a").restart, Child("a").shutdown) == ("permanent", 5.0)

    def test_one_restart_in_five_seconds_one_for_one(self) -> None:
        policy = Policy()
        assert (policy.strategy, policy.intensity, policy.period) == ("one_for_one", 1, 5.0)
        assert policy.backoff is None

    def test_a_child_that_is_a_supervisor_has_for_ever(self) -> None:
        supervisor = running(Child("tree", shutdown=None))
        assert supervisor.stop(1.0) == [Stop("tree", None)]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"strategy": "simple_one_for_one"},
            {"intensity": -1},
            {"period": 0},
            {"auto_shutdown": "always"},
            {"intensity": None},
            {"forgiven": BOOT_FAILURES},
            {"strategy": "one_for_all", "at_once": True},
        ],
    )
    def test_policies_that_cannot_be(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"strategy|intensity|auto_shutdown|backoff|at once"):
            Policy(**wrong)

    @pytest.mark.parametrize(
        "wrong",
        [{"restart": "sometimes"}, {"shutdown": -1}, {"significant": True}],
    )
    def test_children_that_cannot_be(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="a: "):
            Child("a", **wrong)

    def test_significant_children_need_an_automatic_shutdown(self) -> None:
        child = Child("a", restart="transient", significant=True)
        with pytest.raises(ValueError, match="auto_shutdown"):
            Supervisor([child])
        with pytest.raises(ValueError, match="auto_shutdown"):
            running("b").add(child, 1.0)

    def test_two_children_of_one_id(self) -> None:
        with pytest.raises(ValueError, match="two children are called a"):
            Supervisor([Child("a"), Child("a")])


class TestOrder:
    def test_each_child_starts_when_the_one_before_it_has(self) -> None:
        supervisor = Supervisor([Child("a"), Child("b")])
        assert supervisor.start(0.0) == [Start("a")]
        assert supervisor.started("a", 0.0) == [Start("b")]
        assert supervisor.phase is Phase.STARTING
        assert supervisor.started("b", 0.0) == [Up()]
        assert (supervisor.phase, supervisor.living) == (Phase.UP, ("a", "b"))

    def test_they_stop_in_reverse_each_when_the_one_after_it_has(self) -> None:
        supervisor = running("a", "b")
        assert supervisor.stop(1.0) == [Stop("b", 5.0)]
        assert supervisor.died("b", SHUTDOWN, 1.0) == [Stop("a", 5.0)]
        assert supervisor.died("a", CRASH, 1.0) == [Stopped()]
        assert (supervisor.phase, supervisor.exit) == (Phase.DOWN, Exit(kind=ExitKind.SHUTDOWN))
        assert supervisor.stop(2.0) == []

    def test_a_failing_first_start_stops_the_others_in_reverse_and_fails_upwards(self) -> None:
        supervisor = Supervisor([Child("a"), Child("b"), Child("c"), Child("d")])
        supervisor.start(0.0)
        supervisor.started("a", 0.0)
        supervisor.started("b", 0.0)
        done = carry_out(supervisor, supervisor.start_failed("c", BROKEN, 0.0), 0.0)
        assert stops_and_starts(done) == "-b -a"
        assert isinstance(done[-1], Escalate)
        assert (done[-1].reason, done[-1].id, done[-1].cause) == ("start_failed", "c", BROKEN)
        assert done[-1].exit.kind is ExitKind.START_FAILED
        assert "No module named 'orders'" in str(done[-1].exit)

    def test_a_child_that_ignores_its_start_is_known_and_absent(self) -> None:
        supervisor = Supervisor([Child("a"), Child("b", restart="temporary"), Child("c")])
        supervisor.start(0.0)
        assert supervisor.ignored("a", 0.0) == [Start("b")]
        assert supervisor.ignored("b", 0.0) == [Start("c")]
        assert supervisor.started("c", 0.0) == [Up()]
        assert [child.id for child in supervisor.statistics().children] == ["a", "c"]
        assert supervisor.restart("a", 1.0) == [Start("a")]

    def test_nobody_at_all(self) -> None:
        supervisor = Supervisor()
        assert supervisor.start(0.0) == [Up()]
        assert supervisor.stop(0.0) == [Stopped()]


class TestKinds:
    @pytest.mark.parametrize("cause", [CRASH, NORMAL, SHUTDOWN])
    def test_permanent_children_come_back_always(self, cause: Exit) -> None:
        assert restarted(running("a"), "a", 1.0, cause) == "+a"

    @pytest.mark.parametrize("cause", [NORMAL, SHUTDOWN])
    def test_transient_children_stay_away_after_an_orderly_end(self, cause: Exit) -> None:
        supervisor = running(Child("a", restart="transient"))
        assert restarted(supervisor, "a", 1.0, cause) == ""
        assert [child.id for child in supervisor.statistics().children] == ["a"]

    @pytest.mark.parametrize("kind", sorted(set(ExitKind) - {ExitKind.NORMAL, ExitKind.SHUTDOWN}))
    def test_transient_children_come_back_after_each_other_end(self, kind: ExitKind) -> None:
        assert restarted(running(Child("a", restart="transient")), "a", 1.0, Exit(kind=kind)) == "+a"

    @pytest.mark.parametrize("cause", [CRASH, NORMAL, SHUTDOWN])
    def test_temporary_children_are_forgotten(self, cause: Exit) -> None:
        supervisor = running(Child("a", restart="temporary"), "b")
        assert restarted(supervisor, "a", 1.0, cause) == ""
        assert [child.id for child in supervisor.statistics().children] == ["b"]


class TestStrategies:
    @pytest.mark.parametrize(
        ("strategy", "done"),
        [("one_for_one", "+b"), ("one_for_all", "-d -c -a +a +b +c +d"), ("rest_for_one", "-d -c +b +c +d")],
    )
    def test_who_is_started_again_with_a_child(self, strategy: str, done: str) -> None:
        assert restarted(running("a", "b", "c", "d", strategy=strategy), "b", 1.0) == done

    def test_temporary_children_are_stopped_with_the_others_and_not_started(self) -> None:
        supervisor = running("a", Child("b", restart="temporary"), "c", strategy="one_for_all")
        assert restarted(supervisor, "c", 1.0) == "-b -a +a +c"

    def test_children_that_ended_in_order_start_again_with_the_others(self) -> None:
        supervisor = running("a", Child("b", restart="transient"), strategy="one_for_all")
        assert restarted(supervisor, "b", 1.0, NORMAL) == ""
        assert restarted(supervisor, "a", 1.0) == "+a +b"

    def test_what_happens_meanwhile_waits_its_turn(self) -> None:
        supervisor = running("a", "b", "c", strategy="rest_for_one", intensity=9)
        assert supervisor.died("b", CRASH, 1.0) == [Stop("c", 5.0)]
        assert supervisor.died("a", CRASH, 1.0) == []
        assert supervisor.died("c", SHUTDOWN, 1.0) == [Start("b")]
        assert supervisor.started("b", 1.0) == [Start("c")]
        assert supervisor.started("c", 1.0) == [Stop("c", 5.0)]  # and now a

    def test_a_child_found_dead_when_it_was_to_be_stopped_counts_once(self) -> None:
        supervisor = running("a", "b", "c", strategy="one_for_all", intensity=1)
        assert supervisor.died("a", CRASH, 1.0) == [Stop("c", 5.0)]
        assert supervisor.died("b", CRASH, 1.0) == []
        assert supervisor.died("c", SHUTDOWN, 1.0) == [Start("a")]
        assert supervisor.statistics().recent == 1

    def test_the_news_of_a_death_that_was_dealt_with_is_no_news_of_the_next_one(self) -> None:
        """The successor of a child that was found dead dies after another one: first come, first served."""
        supervisor = running("a", "b", "c", strategy="rest_for_one", intensity=9)
        assert supervisor.died("a", CRASH, 1.0) == [Stop("c", 5.0)]
        assert supervisor.died("b", CRASH, 1.0) == []
        assert supervisor.died("c", SHUTDOWN, 1.0) == [Start("a")]  # b was found dead
        assert supervisor.started("a", 1.0) == [Start("b")]
        assert supervisor.started("b", 1.0) == [Start("c")]
        assert supervisor.died("a", CRASH, 1.0) == []
        assert supervisor.died("b", CRASH, 1.0) == []
        assert supervisor.started("c", 1.0) == [Stop("c", 5.0)]
        assert supervisor.died("c", SHUTDOWN, 1.0) == [Start("a")]


class TestIntensity:
    def test_more_than_so_many_stop_all_in_reverse_and_escalate_with_shutdown(self) -> None:
        supervisor = running("a", "b", "c")
        assert restarted(supervisor, "b", 1.0) == "+b"
        done = carry_out(supervisor, supervisor.died("b", CRASH, 2.0), 2.0)
        assert stops_and_starts(done) == "-c -a"
        last = done[-1]
        assert isinstance(last, Escalate)
        assert (last.reason, last.id, last.cause, last.exit.kind) == ("intensity", "b", CRASH, ExitKind.SHUTDOWN)
        assert not last.exit.is_abnormal, "a transient supervisor is not started again"
        assert supervisor.exit == last.exit

    def test_the_ends_of_the_period_belong_to_it(self) -> None:
        supervisor = running("a", period=5.0)
        assert restarted(supervisor, "a", 1.0) == "+a"
        assert restarted(supervisor, "a", 6.001) == "+a"
        assert supervisor.died("a", CRASH, 11.001)[-1].reason == "intensity"

    def test_intensity_is_of_all_children_together(self) -> None:
        supervisor = running("a", "b")
        assert restarted(supervisor, "a", 1.0) == "+a"
        assert isinstance(carry_out(supervisor, supervisor.died("b", CRASH, 1.0), 1.0)[-1], Escalate)

    def test_zero_bears_none(self) -> None:
        supervisor = running("a", intensity=0)
        assert isinstance(supervisor.died("a", CRASH, 1.0)[-1], Escalate)

    def test_a_failed_restart_is_tried_again_and_counts_again(self) -> None:
        supervisor = running("a", intensity=3)
        assert supervisor.died("a", CRASH, 1.0) == [Start("a")]
        assert supervisor.start_failed("a", BROKEN, 1.0) == [Start("a")]
        assert supervisor.start_failed("a", BROKEN, 1.0) == [Start("a")]
        assert isinstance(supervisor.start_failed("a", BROKEN, 1.0)[-1], Escalate)

    def test_the_next_try_comes_after_what_came_meanwhile(self) -> None:
        supervisor = running("a", "b", intensity=9)
        assert supervisor.died("a", CRASH, 1.0) == [Start("a")]
        assert supervisor.died("b", CRASH, 1.0) == []
        assert supervisor.start_failed("a", BROKEN, 1.0) == [Start("b")]
        assert supervisor.started("b", 1.0) == [Start("a")]

    def test_a_failed_restart_of_several_is_tried_again_from_the_one_that_failed(self) -> None:
        supervisor = running("a", "b", "c", strategy="rest_for_one", intensity=9)
        assert supervisor.died("a", CRASH, 1.0) == [Stop("c", 5.0)]
        assert supervisor.died("c", SHUTDOWN, 1.0) == [Stop("b", 5.0)]
        assert supervisor.died("b", SHUTDOWN, 1.0) == [Start("a")]
        assert supervisor.started("a", 1.0) == [Start("b")]
        assert supervisor.start_failed("b", BROKEN, 1.0) == [Start("b")]
        assert supervisor.started("b", 1.0) == [Start("c")]

    def test_who_dies_before_it_was_ready_could_not_be_started(self) -> None:
        supervisor = running("a", intensity=3)
        supervisor.died("a", CRASH, 1.0)
        assert supervisor.died("a", CRASH, 1.0) == [Start("a")]


class TestSignificance:
    def test_any_ends_the_supervisor_for_good(self) -> None:
        child = Child("b", restart="transient", significant=True)
        supervisor = running("a", child, "c", auto_shutdown="any_significant")
        done = carry_out(supervisor, supervisor.died("b", NORMAL, 1.0), 1.0)
        assert stops_and_starts(done) == "-c -a"
        assert (done[-1].reason, done[-1].exit.kind) == ("auto_shutdown", ExitKind.SHUTDOWN)

    def test_all_waits_for_the_last_of_them_even_one_that_is_to_be_tried_again(self) -> None:
        children = [Child(name, restart="transient", significant=True) for name in "ab"]
        supervisor = running(*children, "c", auto_shutdown="all_significant", backoff=Backoff(), intensity=None)
        restarted(supervisor, "b", 1.0)
        assert isinstance(supervisor.died("b", CRASH, 1.0)[-1], Wait)
        assert supervisor.died("a", NORMAL, 1.0) == []
        assert carry_out(supervisor, supervisor.tick(60.0), 60.0) == [Start("b")]
        assert supervisor.died("b", NORMAL, 60.0) == [Stop("c", 5.0)]

    def test_a_restart_is_no_end(self) -> None:
        child = Child("a", restart="transient", significant=True)
        assert restarted(running(child, auto_shutdown="any_significant"), "a", 1.0) == "+a"


class TestCalls:
    def test_a_child_is_added_after_the_others(self) -> None:
        supervisor = running("a")
        assert supervisor.add(Child("b"), 1.0) == [Start("b")]
        assert supervisor.started("b", 1.0) == []
        assert supervisor.living == ("a", "b")

    def test_one_that_cannot_be_started_is_not_added(self) -> None:
        supervisor = running("a")
        supervisor.add(Child("b"), 1.0)
        assert supervisor.start_failed("b", BROKEN, 1.0) == [Refused("b", "start_failed", BROKEN)]
        assert supervisor.add(Child("b"), 2.0) == [Start("b")]

    def test_one_that_is_known_is_not_added_twice(self) -> None:
        supervisor = running("a", "b")
        assert supervisor.add(Child("a"), 1.0) == [Refused("a", "running")]
        carry_out(supervisor, supervisor.terminate("a", 1.0), 1.0)
        assert supervisor.add(Child("a"), 1.0) == [Refused("a", "already_present")]

    def test_terminate_restart_delete(self) -> None:
        supervisor = running("a", "b")
        assert supervisor.delete("a", 1.0) == [Refused("a", "running")]
        assert supervisor.restart("a", 1.0) == [Refused("a", "running")]
        assert supervisor.terminate("a", 1.0) == [Stop("a", 5.0)]
        assert supervisor.died("a", SHUTDOWN, 1.0) == []
        assert supervisor.restart("a", 1.0) == [Start("a")]
        assert supervisor.start_failed("a", BROKEN, 1.0) == [Refused("a", "start_failed", BROKEN)]
        assert supervisor.delete("a", 1.0) == []
        assert supervisor.delete("a", 1.0) == [Refused("a", "not_found")]
        assert supervisor.statistics().recent == 0

    def test_remove_stops_and_forgets(self) -> None:
        supervisor = running("a", "b")
        assert supervisor.remove("a", 1.0) == [Stop("a", 5.0)]
        assert supervisor.died("a", SHUTDOWN, 1.0) == []
        assert [child.id for child in supervisor.statistics().children] == ["b"]
        assert supervisor.remove("a", 1.0) == [Refused("a", "not_found")]

    def test_a_child_that_waits_to_be_tried_again_can_be_given_up(self) -> None:
        supervisor = running("a", intensity=None, backoff=Backoff())
        restarted(supervisor, "a", 1.0)
        assert isinstance(supervisor.died("a", CRASH, 1.0)[-1], Wait)
        assert supervisor.restart("a", 1.0) == [Refused("a", "restarting")]
        assert supervisor.terminate("a", 1.0) == []
        assert supervisor.next_deadline() is None
        assert supervisor.tick(99.0) == []

    def test_nothing_is_changed_after_the_stop(self) -> None:
        supervisor = running("a", "b")
        supervisor.stop(1.0)
        assert supervisor.add(Child("c"), 1.0) == [Refused("c", "not_up")]
        assert supervisor.restart("a", 1.0) == [Refused("a", "not_up")]

    def test_it_starts_once_and_first(self) -> None:
        supervisor = Supervisor([Child("a")])
        with pytest.raises(StateError, match="is started before"):
            supervisor.add(Child("b"), 0.0)
        supervisor.start(0.0)
        with pytest.raises(StateError, match="starts once"):
            supervisor.start(0.0)

    def test_reports_that_cannot_be(self) -> None:
        supervisor = running("a")
        with pytest.raises(KeyError):
            supervisor.died("b", CRASH, 1.0)
        with pytest.raises(StateError, match="a is running"):
            supervisor.started("a", 1.0)


class TestStopping:
    def test_a_stop_does_not_wait_for_a_start(self) -> None:
        """The order stays: c before b, even if b is the one that is just starting."""
        supervisor = running("a", "b", "c")
        supervisor.died("b", CRASH, 1.0)
        assert supervisor.stop(1.0) == [Stop("c", 5.0)]
        assert supervisor.died("c", SHUTDOWN, 1.0) == [Stop("b", 5.0)]
        assert supervisor.started("b", 1.0) == [], "it came too late"
        assert supervisor.died("b", SHUTDOWN, 1.0) == [Stop("a", 5.0)]
        assert supervisor.died("a", SHUTDOWN, 1.0) == [Stopped()]

    def test_one_that_starts_while_the_others_stop_is_stopped_in_its_turn(self) -> None:
        supervisor = running("a", "b", "c")
        supervisor.died("b", CRASH, 1.0)
        supervisor.stop(1.0)
        assert supervisor.started("b", 1.0) == []
        assert supervisor.died("c", SHUTDOWN, 1.0) == [Stop("b", 5.0)]

    def test_one_that_fails_to_start_meanwhile_is_not_stopped(self) -> None:
        supervisor = running("a", "b", "c")
        supervisor.died("b", CRASH, 1.0)
        supervisor.stop(1.0)
        assert supervisor.start_failed("b", BROKEN, 1.0) == []
        assert supervisor.died("c", SHUTDOWN, 1.0) == [Stop("a", 5.0)]

    def test_deaths_that_were_not_dealt_with_do_not_matter_any_more(self) -> None:
        supervisor = running("a", "b", "c", strategy="rest_for_one")
        supervisor.died("b", CRASH, 1.0)
        supervisor.died("a", CRASH, 1.0)
        assert supervisor.stop(1.0) == []  # c is being stopped already
        assert supervisor.died("c", SHUTDOWN, 1.0) == [Stopped()]

    def test_a_stop_while_it_gives_up_is_a_stop(self) -> None:
        supervisor = running("a", "b", intensity=0)
        assert supervisor.died("a", CRASH, 1.0) == [Stop("b", 5.0)]
        assert supervisor.stop(1.0) == []
        assert supervisor.died("b", SHUTDOWN, 1.0) == [Stopped()]


class TestBackoff:
    """Beyond OTP, where it was asked for and not taken (erlang/otp, pull request 1287)."""

    def test_the_first_restart_is_at_once_the_next_ones_wait_longer_and_longer(self) -> None:
        supervisor = running("a", intensity=None, backoff=Backoff(first=0.1, factor=2, limit=0.5))
        waits = []
        now = 1.0
        for _ in range(6):
            actions = supervisor.died("a", CRASH, now)
            if isinstance(actions[0], Wait):
                assert supervisor.next_deadline() == actions[0].until
                assert supervisor.tick(actions[0].until - 0.01) == []
                waits.append(round(actions[0].until - now, 6))
                now = actions[0].until
                actions = supervisor.tick(now)
            assert actions == [Start("a")]
            supervisor.started("a", now)
        assert waits == [0.1, 0.2, 0.4, 0.5, 0.5]

    def test_it_begins_anew_when_the_child_has_lived_long_enough(self) -> None:
        supervisor = running("a", intensity=None, backoff=Backoff(reset_after=60))
        assert restarted(supervisor, "a", 1.0) == "+a"
        assert restarted(supervisor, "a", 61.0) == "+a"
        assert isinstance(supervisor.died("a", CRASH, 120.9)[0], Wait)

    def test_jitter_takes_up_to_half_of_the_wait_away(self) -> None:
        supervisor = running("a", "b", intensity=None, backoff=Backoff(first=1))
        for name, jitter in (("a", 0.0), ("b", 1.0)):
            restarted(supervisor, name, 1.0)
            supervisor.died(name, CRASH, 1.0, jitter=jitter)
        assert [child.due for child in supervisor.statistics().children] == [2.0, 1.5]

    def test_others_are_stopped_at_once_and_start_again_after_the_wait(self) -> None:
        supervisor = running("a", "b", strategy="one_for_all", intensity=None, backoff=Backoff(first=1))
        assert restarted(supervisor, "a", 1.0) == "-b +a +b"
        done = carry_out(supervisor, supervisor.died("a", CRASH, 2.0), 2.0)
        assert done == [Stop("b", 5.0), Wait("a", 3.0)]
        assert stops_and_starts(carry_out(supervisor, supervisor.tick(3.0), 3.0)) == "+a +b"

    def test_a_wait_that_is_over_before_the_others_have_stopped(self) -> None:
        supervisor = running("a", "b", strategy="one_for_all", intensity=None, backoff=Backoff(first=1))
        restarted(supervisor, "a", 1.0)
        assert supervisor.died("a", CRASH, 2.0) == [Stop("b", 5.0)]
        assert supervisor.died("b", SHUTDOWN, 4.0) == [Start("a")]

    def test_a_restart_counts_once_however_long_it_waits(self) -> None:
        supervisor = running("a", intensity=9, period=100, backoff=Backoff(first=1))
        supervisor.died("a", CRASH, 1.0)
        supervisor.start_failed("a", BROKEN, 1.0)
        assert supervisor.tick(2.0) == [Start("a")]
        assert supervisor.statistics().recent == 2, "its end, and the start that failed"
        supervisor.started("a", 2.0)
        assert supervisor.died("a", CRASH, 3.0) == [Wait("a", 5.0)]
        assert supervisor.tick(5.0) == [Start("a")]
        assert supervisor.statistics().recent == 3

    def test_one_that_does_not_start_is_tried_again_after_the_wait(self) -> None:
        supervisor = running("a", intensity=None, backoff=Backoff(first=1))
        assert supervisor.died("a", CRASH, 1.0) == [Start("a")]
        assert supervisor.start_failed("a", BROKEN, 1.0) == [Wait("a", 2.0)]
        assert supervisor.tick(2.0) == [Start("a")]
        assert supervisor.start_failed("a", BROKEN, 2.0) == [Wait("a", 4.0)]

    def test_code_that_does_not_boot_never_burns_the_intensity(self) -> None:
        supervisor = running("a", "b", intensity=1, period=1000, backoff=Backoff(limit=1), forgiven=BOOT_FAILURES)
        assert supervisor.died("a", CRASH, 1.0) == [Start("a")]
        for now in range(2, 50):
            assert isinstance(supervisor.start_failed("a", BROKEN, float(now))[0], Wait)
            assert supervisor.tick(now + 1.0) == [Start("a")]
        assert supervisor.statistics().recent == 1
        supervisor.started("a", 50.0)
        assert carry_out(supervisor, supervisor.died("b", CRASH, 51.0), 51.0)[-1].reason == "intensity"


class TestAtOnce:
    """Like children that do not depend on one another."""

    def test_all_start_and_stop_beside_one_another(self) -> None:
        supervisor = Supervisor([Child("a"), Child("b")], Policy(at_once=True))
        assert supervisor.start(0.0) == [Start("a"), Start("b")]
        assert supervisor.started("b", 0.0) == []
        assert supervisor.started("a", 0.0) == [Up()]
        assert supervisor.stop(1.0) == [Stop("b", 5.0), Stop("a", 5.0)]
        assert supervisor.died("a", SHUTDOWN, 1.0) == []
        assert supervisor.died("b", SHUTDOWN, 1.0) == [Stopped()]

    def test_no_restart_waits_for_another(self) -> None:
        supervisor = running("a", "b", at_once=True, intensity=9)
        assert supervisor.died("a", CRASH, 1.0) == [Start("a")]
        assert supervisor.died("b", CRASH, 1.0) == [Start("b")]
        assert supervisor.statistics().children[1].phase is ChildPhase.STARTING

    def test_one_that_never_came_up_ends_all(self) -> None:
        supervisor = Supervisor([Child("a"), Child("b"), Child("c")], Policy(at_once=True))
        supervisor.start(0.0)
        supervisor.started("a", 0.0)
        assert supervisor.start_failed("b", BROKEN, 0.0) == [Stop("c", 5.0), Stop("a", 5.0)]
        assert supervisor.died("c", SHUTDOWN, 0.0) == []
        assert supervisor.died("a", SHUTDOWN, 0.0)[-1].reason == "start_failed"

    def test_one_that_came_up_and_died_is_started_again_while_others_still_start(self) -> None:
        supervisor = Supervisor([Child("a"), Child("b")], Policy(at_once=True))
        supervisor.start(0.0)
        supervisor.started("a", 0.0)
        assert supervisor.died("a", CRASH, 0.0) == [Start("a")]
        assert supervisor.started("b", 0.0) == [Up()]


def test_statistics_tell_of_each_child() -> None:
    supervisor = running("a", "b", intensity=5, backoff=Backoff())
    restarted(supervisor, "a", 1.0)
    supervisor.died("a", CRASH, 2.0)
    seen = supervisor.statistics()
    assert (seen.phase, seen.restarts, seen.recent) == (Phase.UP, 1, 2)
    first, second = seen.children
    assert (first.phase, first.restarts, first.failures, first.last) == (ChildPhase.WAITING, 1, 2, CRASH)
    assert first.due == pytest.approx(2.1)
    assert (second.phase, second.restarts, second.failures, second.last) == (ChildPhase.RUNNING, 0, 0, None)
