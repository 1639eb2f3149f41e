"""Listening sockets from the process before: as systemd gives them, as a launcher does, and on to the next image."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from monsal.bus import hand_over, listen_fds
from monsal.bus.inherited import hand_over_by_exec

#: How long a child may take; far above what it needs on a busy machine.
PATIENCE = 60.0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def listening(stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_server(("127.0.0.1", 0)))


def passed(sockets: dict[str, list[socket.socket]], code: str, **environ: str) -> str:
    """What a child says that got the sockets as a launcher gives them."""
    given, descriptors = hand_over(sockets)
    return child(code, {**given, **environ}, descriptors)


def child(code: str, environ: dict[str, str], descriptors: tuple[int, ...] = ()) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environ},
        pass_fds=descriptors,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def by_exec(sockets: dict[str, list[socket.socket]], code: str, **environ: str) -> str:
    """What the next image says of a process that replaced itself; it has the sockets from the descriptors 3 on."""
    return passed(
        sockets,
        """
        import os, sys
        from monsal.bus.inherited import hand_over_by_exec, listen_fds

        given = hand_over_by_exec(listen_fds())
        environ = {**os.environ, **given}
        for item in os.environ["CHANGE"].split(","):
            name, equals, value = item.partition("=")
            environ.update({name: value.replace("PID", str(os.getpid()))} if equals else {})
        os.execve(sys.executable, [sys.executable, "-c", os.environ["NEXT"]], environ)
        """,
        NEXT=textwrap.dedent(code),
        CHANGE=",".join(f"{name}={value}" for name, value in environ.items()),
    )


SAY = """
import fcntl, os, sys
from monsal.bus import listen_fds

try:
    found = listen_fds()
except ValueError as error:
    print(error)
else:
    print({name: [one.getsockname()[1] for one in several] for name, several in found.items()},
          [one.fileno() for several in found.values() for one in several],
          {fcntl.fcntl(one, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for several in found.values() for one in several},
          [name for name in os.environ if "LISTEN_" in name], listen_fds())
"""


@pytest.mark.rule("bus.B13")
def test_sockets_of_systemd_are_found_by_name_from_descriptor_three_on(stack: ExitStack) -> None:
    several = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
    ports = [one.getsockname()[1] for one in several]
    given = {"smtp": several[:2], "lmtp": several[2:]}
    assert by_exec(given, SAY) == f"{{'smtp': {ports[:2]}, 'lmtp': {ports[2:]}}} [3, 4, 5] {{1}} [] {{}}"


@pytest.mark.rule("bus.B13")
def test_a_socket_without_a_name_is_unknown(listening: socket.socket) -> None:
    code = "import os; del os.environ['LISTEN_FDNAMES']" + SAY
    port = listening.getsockname()[1]
    assert by_exec({"smtp": [listening]}, code).startswith(f"{{'unknown': [{port}]}} [3]")
    assert by_exec({"smtp": [listening]}, SAY, LISTEN_FDNAMES="").startswith(f"{{'unknown': [{port}]}} [3]")


@pytest.mark.rule("bus.B13")
def test_sockets_for_another_process_are_left_alone(listening: socket.socket) -> None:
    # A child of a daemon that was activated finds the variables of its parent.
    assert by_exec({"smtp": [listening]}, SAY, LISTEN_PID="1") == "{} [] set() [] {}"
    assert listen_fds({"LISTEN_PID": "1", "LISTEN_FDS": "nonsense"}) == {}
    assert listen_fds({"LISTEN_FDS": "2"}) == {}
    assert listen_fds({}) == {}


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"LISTEN_PID": "me", "LISTEN_FDS": "1"}, "LISTEN_PID is not a number: 'me'"),
        ({"LISTEN_PID": "PID", "LISTEN_FDS": "-1"}, "LISTEN_FDS is not a number: '-1'"),
        ({"LISTEN_PID": "PID", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "smtp"}, "has 1 names for 2 descriptors"),
        ({"LISTEN_PID": "PID", "LISTEN_FDS": "0", "LISTEN_FDNAMES": "a"}, "has 1 names for 0 descriptors"),
        ({"MONSAL_LISTEN_FDS": "smtp:7"}, "'smtp:7' is not name:descriptor:inode"),
        ({"MONSAL_LISTEN_FDS": "smtp:7:x"}, "'smtp:7:x' is not name:descriptor:inode"),
        ({"MONSAL_LISTEN_FDS": "smtp:7:8"}, "MONSAL_LISTEN_PARENT is not a number: ''"),
    ],
)
def test_malformed_variables_are_told(environ: dict[str, str], complaint: str) -> None:
    given = {name: value.replace("PID", str(os.getpid())) for name, value in environ.items()}
    with pytest.raises(ValueError, match=complaint):
        listen_fds(given)


def test_none_passed_by_systemd_is_no_error() -> None:
    assert listen_fds({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}) == {}
    assert listen_fds({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0", "LISTEN_FDNAMES": ""}) == {}


@pytest.mark.rule("bus.B13")
@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        ("socket.socket()", "does not listen; a unit must not have Accept=yes"),
        ("socket.socket(type=socket.SOCK_DGRAM)", "is a socket of type 2, not a stream"),
        ("socket.socketpair()[0]", "does not listen; a unit must not have Accept=yes"),
        ("open(os.devnull)", "is not a socket"),
    ],
)
def test_what_cannot_accept_connections_is_told(made: str, complaint: str) -> None:
    said = child(
        f"""
        import os, socket
        from monsal.bus import listen_fds

        given = {made}
        inode = os.fstat(given.fileno()).st_ino
        environ = {{"MONSAL_LISTEN_FDS": f"x:{{given.fileno()}}:{{inode}}", "MONSAL_LISTEN_PARENT": "1"}}
        try:
            listen_fds(environ)
        except ValueError as error:
            print(error)
        os.fstat(given.fileno())
        """,
        {},
    )
    assert said.endswith(complaint)
    assert "(x)" in said


def test_a_closed_descriptor_of_systemd_is_told(listening: socket.socket) -> None:
    assert by_exec({"smtp": [listening]}, "import os; os.close(3)" + SAY) == "descriptor 3 (smtp) is not open"


@pytest.mark.rule("bus.B11")
def test_a_launched_process_finds_what_it_was_given(stack: ExitStack, listening: socket.socket, home: object) -> None:
    unix = stack.enter_context(socket.socket(socket.AF_UNIX))
    unix.bind(f"{home}/lmtp.sock")
    unix.listen()
    six = stack.enter_context(socket.socket(socket.AF_INET6))
    six.listen()
    given = {"smtp": [listening, six], "lmtp": [unix]}
    said = passed(given, SAY.replace("getsockname()[1]", "family.name"))
    assert said.startswith("{'smtp': ['AF_INET', 'AF_INET6'], 'lmtp': ['AF_UNIX']}")
    assert said.endswith("{1} [] {}")


@pytest.mark.rule("bus.B11")
def test_a_wrapper_between_launcher_and_process_does_no_harm(listening: socket.socket) -> None:
    given, descriptors = hand_over({"smtp": [listening]})
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", SAY],
        env={**os.environ, **given},
        pass_fds=descriptors,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout.startswith(f"{{'smtp': [{listening.getsockname()[1]}]}}")


def test_a_grandchild_does_not_take_a_descriptor_of_the_same_number_for_its_own(listening: socket.socket) -> None:
    # The child does not take its sockets, and its own child gets the variables, but another file.
    said = passed(
        {"smtp": [listening]},
        """
        import os, subprocess, sys
        number = int(os.environ["MONSAL_LISTEN_FDS"].split(":")[1])
        with open(os.devnull) as other:
            os.dup2(other.fileno(), number)
        print(subprocess.check_output([sys.executable, "-c", os.environ["NEXT"]], pass_fds=[number], text=True))
        """,
        NEXT=SAY,
    )
    assert said.startswith("{} [] set()")


def test_a_socket_that_was_lost_on_the_way_to_us_is_told(listening: socket.socket) -> None:
    given, _ = hand_over({"smtp": [listening]})
    said = child(SAY, given)
    assert said == f"MONSAL_LISTEN_FDS: descriptor {listening.fileno()} (smtp) was lost on the way"


def test_the_variables_may_be_kept_for_somebody_else(listening: socket.socket) -> None:
    given, descriptors = hand_over({"smtp": [listening]})
    for one in listen_fds(given, unset=False)["smtp"]:
        # The very same descriptor, in an object of its own.
        assert one.fileno() in descriptors
        one.detach()
    assert set(given) == {"MONSAL_LISTEN_FDS", "MONSAL_LISTEN_PARENT"}
    for one in listen_fds(given)["smtp"]:
        one.detach()
    assert given == {}


def test_the_blocking_flag_that_others_rely_on_is_left_as_it_is(stack: ExitStack, listening: socket.socket) -> None:
    for blocking in (False, True):
        listening.setblocking(blocking)
        ours = listening.dup()
        given, _ = hand_over({"smtp": [ours]})
        ours.detach()
        taken = stack.enter_context(listen_fds(given)["smtp"][0])
        assert os.get_blocking(listening.fileno()) is blocking
        assert taken.getblocking() is blocking


@pytest.mark.parametrize("name", ["", "a:b", "a,b", "a\nb", "ä"])
def test_a_name_that_cannot_be_passed_is_refused(listening: socket.socket, name: str) -> None:
    for give in (hand_over, hand_over_by_exec):
        with pytest.raises(ValueError, match="no name for a socket"):
            give({name: [listening]})


def test_a_closed_socket_cannot_be_handed_over(listening: socket.socket) -> None:
    listening.close()
    with pytest.raises(ValueError, match="the socket smtp is closed"):
        hand_over({"smtp": [listening]})


def test_nothing_to_hand_over_changes_nothing() -> None:
    assert hand_over({}) == ({}, ())
    assert hand_over({"smtp": []}) == ({}, ())
    assert hand_over_by_exec({}) == {}
