"""Remote calls: an echo between two processes, against five other libraries, a bare protocol and a bare socket."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial

from tools.peers import environment

from bench.document import Column
from bench.harness import Absent, Contest, Goal, Sample, Suite, Table, TimesBetter, in_turn
from bench.probes.rpc_unkind import ATTACKS
from bench.processes import ROOT, Child, our_environment, plain_environment, probe

__all__ = ["SUITE"]

OURS = "monsal.rpc"


@dataclass(frozen=True)
class Contestant:
    """A module of `../probes`, with the environment of a peer it runs in, if not in ours."""

    module: str
    peer: str | None = None
    carriers: tuple[str, ...] = ("unix", "tcp")
    #: The codec, where a probe has several.
    codec: str = ""


#: In the order of the page.
CONTESTANTS: Mapping[str, Contestant] = {
    "socket": Contestant("rpc_socket"),
    "protocol": Contestant("rpc_protocol"),
    OURS: Contestant("rpc_monsal"),
    f"{OURS} msgpack": Contestant("rpc_monsal", codec="msgpack:"),
    "quickrpc": Contestant("rpc_quickrpc", "quickrpc", ("tcp",)),
    "Pyro5": Contestant("rpc_pyro5", "pyro5"),
    "RPyC": Contestant("rpc_rpyc", "rpyc"),
    "aiorpcX": Contestant("rpc_aiorpcx", "aiorpcx"),
    "grpc.aio": Contestant("rpc_grpc", "grpc"),
}
#: DESIGN 8: how many times fewer CPU microseconds with 64 in flight.
_TIMES = 6.0
_ADDRESSES = {"unix": "unix:{place}/echo.sock", "tcp": "tcp:127.0.0.1:0"}

_RATE = Column(key="rate", heading="calls/s", spread=True, more_is_better=True)
_CPU = Column(key="cpu_us", heading="CPU us a call", digits=1, spread=True)
_IS = f"CPU, {OURS} is"
_TIMES_QUIET = Column(key="times", heading="times", digits=2, spread=True)
#: A window of calls beside others takes so many times the seconds of another measurement.
_WINDOW = 2.0
_COLUMNS = (
    _CPU,
    Column(key="client_us", heading="client us", digits=1),
    Column(key="server_us", heading="server us", digits=1),
    _RATE,
    Column(key="p50_us", heading="p50 us"),
    Column(key="p99_us", heading="p99 us"),
)


@cache
def _interpreter(contestant: Contestant) -> tuple[str, dict[str, str]]:
    """With what a contestant is run: an interpreter and its variables. Raises Absent."""
    if contestant.peer is None:
        ours = our_environment(BENCH_CODEC=contestant.codec)
        return sys.executable, {**ours, "PYTHONPATH": f"{ROOT}:{ours['PYTHONPATH']}"}
    try:
        return str(environment(contestant.peer)), {**plain_environment(), "PYTHONPATH": str(ROOT)}
    except (OSError, RuntimeError) as reason:
        raise Absent(f"not installed: {str(reason).splitlines()[0]}") from reason


@contextmanager
def _server(contestant: Contestant, carrier: str) -> Iterator[tuple[str, int]]:
    """An echo server; its address and pid."""
    python, variables = _interpreter(contestant)
    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place:
        where = _ADDRESSES[carrier].format(place=place)
        command = [python, "-m", f"bench.probes.{contestant.module}", "serve", where]
        with Child(command, variables, mark=b"ready") as child:
            yield child.wait_line(b"ready").split()[1].decode(), child.pid


def _measure(name: str, carrier: str, flight: int, seconds: float, turn: int) -> Sample:
    contestant = CONTESTANTS[name]
    python, variables = _interpreter(contestant)
    module = f"bench.probes.{contestant.module}"
    with _server(contestant, carrier) as (address, pid):
        return probe([python, "-m", module, "call", address, str(pid), str(flight), str(seconds)], variables)


def _beside(attack: str, seconds: float, turn: int) -> Sample:
    contestant = CONTESTANTS[OURS]
    python, variables = _interpreter(contestant)
    with _server(contestant, "unix") as (address, _):
        return probe([python, "-m", "bench.probes.rpc_calm", address, attack, str(seconds)], variables)


def _robust(seconds: float) -> Table:
    window = _WINDOW * seconds
    return Table(
        name="beside",
        title="Beside a caller that means no good",
        text="99 of 100 calls of another caller, which calls each 2 ms, are answered within so many microseconds: "
        "alone, and beside\none that sends such a piece ten times a second, over a connection of its own, and a new "
        "one whenever it is cut off. A piece\nis 1000 lines of garbage, 100 calls of 10 kB, or a frame of 1 MB.",
        columns=(
            Column(key="quiet_us", heading="alone us", spread=True),
            Column(key="p99_us", heading="beside us", spread=True),
            Column(key="worst_ms", heading="worst ms", digits=1),
            _TIMES_QUIET,
        ),
        contests=[Contest(attack, in_turn({OURS: partial(_beside, attack, window)})) for attack in ATTACKS],
        goals=[Goal(contest=attack, contestant=OURS, of=_TIMES_QUIET.key, at_most=3.0) for attack in ATTACKS],
    )


def _in_flight(number: int) -> str:
    return f"{number} in flight"


def _echo(carrier: str, title: str, names: Sequence[str], seconds: float) -> Table:
    peers = [name for name in names if CONTESTANTS[name].peer is not None]
    return Table(
        name=f"echo-{carrier}",
        title=title,
        text=_TEXT,
        columns=_COLUMNS,
        contests=[
            Contest(
                _in_flight(number), in_turn({name: partial(_measure, name, carrier, number, seconds) for name in names})
            )
            for number in (1, 64)
        ],
        ratios=(TimesBetter(_IS, OURS, _CPU),),
        goals=[
            Goal(contest=_in_flight(1), contestant=OURS, of=_CPU.key, at_most=60.0),
            Goal(contest=_in_flight(64), contestant=OURS, of=_CPU.key, at_most=20.0),
            *(Goal(contest=_in_flight(64), contestant=name, of=_IS, at_least=_TIMES) for name in peers),
        ],
    )


_TEXT = (
    "Each call carries a dict of five members there and back, over one connection of two processes; CPU is that of "
    "both.\n`socket` is a blocking socket with msgspec, `protocol` a bare asyncio.Protocol on uvloop that speaks "
    "JSON-RPC and writes once\na turn: both are what is possible, without deadlines, limits, faults and validation. "
    "64 in flight are 64 tasks (aiorpcX,\ngrpc.aio, ours), a window of 64 replies (RPyC, quickrpc) or a batch of 64 "
    "(Pyro5, `socket`). aiorpcX runs on uvloop and\nwithout its limits; RPyC sends a tuple of pairs, for a dict would "
    "be a reference."
)


def _tables(seconds: float, with_peers: bool) -> Sequence[Table]:
    known = {name: one for name, one in CONTESTANTS.items() if with_peers or one.peer is None}
    return [
        *(
            _echo(carrier, title, [name for name, one in known.items() if carrier in one.carriers], seconds)
            for carrier, title in (("unix", "Echo over a unix socket"), ("tcp", "Echo over TCP on loopback"))
        ),
        _robust(seconds),
    ]


SUITE = Suite(
    title="Remote calls",
    about="CPU and calls a second, 1 and 64 in flight, against quickrpc, Pyro5, RPyC, aiorpcX and grpc.aio",
    seconds=1.0,
    rounds=5,
    tables=_tables,
)
