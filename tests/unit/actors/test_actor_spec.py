"""What an actor and a group are to be is checked when it is said."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from monsal.actors import BOOT_FAILURES, ActorSpec, Backoff, Bounds, Child, GroupSpec

WORKER = ActorSpec(name="worker", actor="orders.work:Worker")


def test_defaults_are_those_of_the_contract() -> None:
    assert (WORKER.kind, WORKER.restart, WORKER.shutdown, WORKER.timeout) == ("process", "permanent", 5.0, 30.0)
    assert (WORKER.mailbox, WORKER.serial, WORKER.args) == (Bounds(), True, {})
    assert (Bounds().count, Bounds().octets) == (1000, 8 * 1024 * 1024)


@pytest.mark.rule("mailbox.R20")
@pytest.mark.parametrize(("said", "meant"), [("process", "process"), ("thread", "thread"), ("subprocess", "process")])
def test_kinds(said: Any, meant: str) -> None:
    assert replace(WORKER, kind=said).kind == meant


@pytest.mark.rule("mailbox.R20")
@pytest.mark.parametrize("kind", ["coroutine", "monitor", "", None])
def test_an_unknown_kind_is_a_value_error(kind: Any) -> None:
    with pytest.raises(ValueError, match="there is no kind"):
        replace(WORKER, kind=kind)


@pytest.mark.rule("mailbox.B15")
def test_unknown_keywords_are_errors_and_nothing_changes_afterwards() -> None:
    with pytest.raises(TypeError, match="workers"):
        ActorSpec(name="worker", actor="a:B", workers=3)  # type: ignore[call-arg] - that is what is tested
    with pytest.raises(AttributeError, match="immutable"):
        WORKER.name = "another"  # type: ignore[misc] - that is what is tested


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"name": ""}, "has a name"),
        ({"actor": "orders.work.Worker"}, "package.module:Class"),
        ({"actor": "orders work:Worker"}, "package.module:Class"),
        ({"actor": "os:system('x')"}, "package.module:Class"),
        ({"restart": "always"}, "permanent, transient or temporary"),
        ({"shutdown": -1}, "seconds to stop"),
        ({"ready_within": 0}, "more than 0"),
        ({"timeout": 0}, "more than 0"),
    ],
)
@pytest.mark.rule("mailbox.B10")
def test_specs_that_cannot_be(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(WORKER, **wrong)


@pytest.mark.rule("mailbox.B10")
def test_what_supervision_knows_of_it() -> None:
    spec = replace(WORKER, restart="transient", shutdown=None)
    assert spec.child() == Child("worker", restart="transient", shutdown=None)
    assert spec.child("worker-2").id == "worker-2"


@pytest.mark.rule("mailbox.B10")
def test_a_group_of_the_server_never_gives_up_and_backs_off() -> None:
    policy = GroupSpec(member=WORKER, count=4).policy()
    assert (policy.intensity, policy.backoff, policy.at_once) == (None, Backoff(), True)
    assert policy.forgiven == BOOT_FAILURES


@pytest.mark.rule("mailbox.B10")
def test_a_group_may_be_supervised_as_in_otp() -> None:
    policy = GroupSpec(member=WORKER, strategy="rest_for_one", intensity=1, backoff=None).policy()
    assert (policy.strategy, policy.intensity, policy.period) == ("rest_for_one", 1, 5.0)
    assert (policy.backoff, policy.at_once, policy.forgiven) == (None, False, frozenset())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"count": -1}, "0 or more members"),
        ({"recycle_after": -1}, "0 or more messages"),
        ({"spare": 2}, "one spare or none"),
        ({"backoff": None}, "need a backoff"),
        ({"strategy": "all_for_one"}, "no strategy"),
    ],
)
def test_groups_that_cannot_be(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        GroupSpec(member=WORKER, **wrong)


def test_places_in_a_group_have_names() -> None:
    group = GroupSpec(member=WORKER, count=2)
    assert (group.name, group.member_id(1)) == ("worker", "worker-1")


@pytest.mark.parametrize("wrong", [{"first": 0}, {"factor": 0.5}, {"first": 2, "limit": 1}, {"reset_after": -1}])
def test_backoffs_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a backoff"):
        Backoff(**wrong)
