"""What those hear who look on: the channels `phase` and `extended`, and what a restart takes along."""

from __future__ import annotations

import gc
import os
import socket
from typing import Any

import pytest

from monsal.bus import ChannelFailures, Phase


def follow(bus: Any) -> list[Phase]:
    """The phases that are told, each checked to be the one that is."""
    heard: list[Phase] = []

    def hears(phase: Phase) -> None:
        assert bus.phase is phase
        heard.append(phase)

    bus.subscribe("phase", hears)
    return heard


@pytest.mark.rule("bus.R9")
def test_each_phase_is_told_after_it_was_set_and_logged(bus: Any) -> None:
    heard = follow(bus)
    lines: list[str] = []
    bus.subscribe("phase", lambda phase: lines.append(f"{phase.value}: {bus.said[-1]}"))
    bus.subscribe("drain", lambda: None)
    bus.start()
    bus.graceful()
    bus.exit()
    assert heard == [
        Phase.STARTING,
        Phase.STARTED,
        Phase.RELOADING,
        Phase.STARTED,
        Phase.STOPPING,
        Phase.DRAINING,
        Phase.EXITING,
    ]
    assert lines == [
        "starting: Bus STARTING",
        "started: Bus STARTED",
        "reloading: Bus graceful",
        "started: Bus graceful",
        "stopping: Bus STOPPING",
        "draining: Bus STOPPING",
        "exiting: Bus EXITING",
    ]


@pytest.mark.rule("bus.B4")
def test_an_onlooker_that_fails_stops_nobody(bus: Any) -> None:
    def fails(phase: Phase) -> None:
        raise OSError("no such disk")

    bus.subscribe("phase", fails)
    bus.start()
    bus.graceful()
    bus.exit()
    assert bus.phase is Phase.EXITED
    assert "OSError: no such disk" in bus.text_of("Error in 'phase' listener")


@pytest.mark.rule("bus.R6", "bus.B4")
@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])
@pytest.mark.parametrize(
    "heard", ["Bus STOPPING", "Bus EXITING", Phase.STOPPING, Phase.DRAINING, Phase.EXITING], ids=str
)
def test_an_interrupt_while_the_bus_says_that_a_step_begins_keeps_nobody_from_being_called(
    bus: Any, end: BaseException, heard: object
) -> None:
    """The step ended where it was, so its listeners were never called: a PID file stayed, for example."""
    called: list[str] = []

    def hears(what: object, level: int = 0) -> None:
        if what == heard:
            raise end

    for channel in ("drain", "stop", "exit"):
        bus.subscribe(channel, lambda channel=channel: called.append(channel))
    for channel in ("log", "phase"):
        bus.subscribe(channel, hears)
    bus.start()
    with pytest.raises(type(end)):
        bus.exit()
    assert called == ["drain", "stop", "exit"]
    assert bus.phase is Phase.EXITED
    with pytest.raises(type(end)):
        bus.block()


def test_more_time_that_is_asked_for_is_told(bus: Any) -> None:
    heard: list[float] = []
    bus.subscribe("extended", heard.append)
    bus.subscribe("start", lambda: bus.extend(100.0))
    bus.start()
    assert heard == [100.0]


def test_leaving_is_on_the_way_to_the_exit_and_not_to_a_stop(bus: Any) -> None:
    seen: list[bool] = []
    bus.subscribe("stop", lambda: seen.append(bus.leaving))
    bus.start()
    bus.stop()
    bus.start()
    bus.exit()
    assert seen == [False, True]


def test_a_failed_start_is_leaving(bus: Any) -> None:
    def fails() -> None:
        raise OSError("no such disk")

    seen: list[bool] = []
    bus.subscribe("start", lambda: None, 10)
    bus.subscribe("start", fails)
    bus.subscribe("stop", lambda: seen.append(bus.leaving))
    with pytest.raises(ChannelFailures):
        bus.start()
    assert seen == [True]


@pytest.mark.rule("bus.B11")
def test_sockets_are_kept_for_a_restart_only(bus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[dict[str, str]] = []
    monkeypatch.setattr("monsal.bus.core.execute_again", lambda command, environ: done.append(environ))
    monkeypatch.setattr("monsal.bus.inherited.hand_over_by_exec", lambda sockets: {"LISTEN_FDS": str(sockets)})
    gc.collect()  # what earlier tests left open is not ours
    before = len(os.listdir("/proc/self/fd"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        bus.keep_for_restart({"smtp": [listening]})
    assert len(os.listdir("/proc/self/fd")) <= before

    bus.execv_environ["GENERATION"] = "2"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        bus.subscribe("stop", lambda: bus.keep_for_restart({"smtp": [listening]}))
        bus.subscribe("stop", listening.close, 90)
        bus.start()
        bus.restart()
    bus.block()
    [environ] = done
    assert environ["GENERATION"] == "2"
    # A descriptor of its own, so that whoever listened may close theirs.
    assert "smtp" in environ["LISTEN_FDS"]
    assert "[closed]" not in environ["LISTEN_FDS"]
    for several in bus._kept.values():
        for one in several:
            one.close()
