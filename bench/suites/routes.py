"""One address among many routes, against itself among few and against salmon's scan."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial

from bench.document import Column, Picture
from bench.harness import Contest, Goal, Sample, Suite, Table, TimesBetter, TimesOf, in_turn
from bench.mailers import peer_python
from bench.probes.routes import FAMILIES
from bench.processes import ROOT, our_environment, plain_environment, probe
from bench.together import together

__all__ = ["SUITE"]

PROBE = ROOT / "bench" / "probes" / "routes.py"
OURS, SALMON = "monsal", "salmon"
SIZES = (10, 100, 1_000, 10_000)

_LAST = Column(key="last_us", heading="last us", digits=2, spread=True)
_MISS = Column(key="miss_us", heading="near miss us", digits=2, spread=True)
_ANY = Column(key="any_us", heading="any us", digits=2, spread=True)
_FIRST = Column(key="first_us", heading="first time us")
_BUILD = Column(key="build_ms", heading="build ms", digits=1, spread=True)
_KINDS = (_LAST, _MISS, _ANY)
_IS, _BUILDS = "match is", "build is"


def _title(family: str) -> str:
    return FAMILIES[family].fmt.replace("{k}", "K")


def _routes(size: int) -> str:
    return f"{size:,} routes"


def _of_few(column: Column) -> str:
    return f"{column.heading.removesuffix(' us')} of {_routes(SIZES[0])}"


def _probe(contestant: str, family: str, seconds: float, sizes: Sequence[int]) -> Mapping[str, Sample]:
    python, variables = (
        (sys.executable, our_environment()) if contestant == OURS else (peer_python(contestant), plain_environment())
    )
    words = [contestant, family, str(seconds), *map(str, sizes)]
    return probe([python, str(PROBE), *words], variables)


def _all_sizes(family: str, seconds: float, turn: int) -> Mapping[str, Sample]:
    found = _probe(OURS, family, seconds, SIZES)
    return {_routes(size): found[str(size)] for size in SIZES}


def _one_size(contestant: str, size: int, seconds: float, turn: int) -> Sample:
    return _probe(contestant, "action", seconds, [size])[str(size)]


def _growth(seconds: float) -> Table:
    return Table(
        name="growth",
        title="Our table as it grows",
        text="Process CPU time of `Router.match` for an address of the last route, for one with a number too much "
        "(near miss), and\nfor up to 1,000 addresses of other routes in turn (any: what the processor's caches do not "
        "hold counts, too). A pattern\nis compiled when it is first tried, which is the first time of each route. All "
        "sizes take turns in one process.",
        contestant="size",
        columns=(*_KINDS, _FIRST, _BUILD),
        contests=[
            Contest(_title(family), together(list(map(_routes, SIZES)), partial(_all_sizes, family, seconds)))
            for family in FAMILIES
        ],
        ratios=[TimesOf(_of_few(column), _routes(SIZES[0]), column) for column in _KINDS],
        goals=[
            Goal(contest=_title(family), contestant=_routes(SIZES[-1]), of=_of_few(column), at_most=2.0)
            for family in FAMILIES
            for column in _KINDS
        ],
    )


def _peers(seconds: float) -> Table:
    most = _routes(SIZES[-1])
    return Table(
        name="peers",
        title="Against a scan",
        text=f"The same with `{_title('action')}` and a function for each route. Of salmon the scan alone is measured "
        "(`Router.match`),\nwithout states and calls. Building is decorating and loading 10 to 10,000 functions.",
        columns=(*_KINDS, _FIRST, _BUILD),
        contests=[
            Contest(
                _routes(size), in_turn({name: partial(_one_size, name, size, seconds) for name in (OURS, SALMON)}), size
            )
            for size in SIZES
        ],
        ratios=(TimesBetter(_IS, OURS, _LAST), TimesBetter(_BUILDS, OURS, _BUILD)),
        goals=(
            Goal(contest=most, contestant=SALMON, of=_IS, at_least=300.0),
            Goal(contest=most, contestant=SALMON, of=_BUILDS, at_least=2.0),
        ),
        pictures=(
            Picture(column=_ANY.key, ours=OURS, size="routes", title="One address among many routes"),
            Picture(column=_BUILD.key, ours=OURS, size="routes", title="Building the table"),
        ),
    )


def _tables(seconds: float, peers: bool) -> Sequence[Table]:
    return [_growth(seconds), *([_peers(seconds)] if peers else [])]


SUITE = Suite(
    title="One address among many routes",
    about="the time to find the routes of an address among 10 to 10,000, against salmon's scan",
    seconds=2.0,
    rounds=3,
    tables=_tables,
)
