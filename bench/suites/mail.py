"""Reading a mail and writing an answer, against the standard library and salmon."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from bench.document import Column, Picture
from bench.harness import Contest, Goal, Sample, Suite, Table, TimesBetter, in_turn
from bench.mailers import peer_python
from bench.probes.reading import MAILS, REPLIES
from bench.processes import ROOT, our_environment, plain_environment, probe

__all__ = ["SUITE"]

PROBE = ROOT / "bench" / "probes" / "reading.py"
OURS, SALMON, MODERN, OLD = "monsal", "salmon", "EmailMessage", "compat32"

_HEADER = Column(key="header_us", heading="header us", spread=True)
_TEXT = Column(key="text_us", heading="text us", spread=True)
_WHOLE = Column(key="whole_us", heading="text and files us", spread=True)
_WRITE = Column(key="write_us", heading="CPU us", spread=True)
_HEADER_IS, _TEXT_IS, _WHOLE_IS, _WRITE_IS = "header is", "text is", "text and files is", "monsal is"


def _measure(contestant: str, what: str, seconds: float, turn: int) -> Sample:
    python, variables = (
        (peer_python(contestant), plain_environment()) if contestant == SALMON else (sys.executable, our_environment())
    )
    return probe([python, str(PROBE), contestant, what, str(seconds)], variables)


def _contests(things: Sequence[str], seconds: float, peers: bool) -> list[Contest]:
    names = [OURS, OLD, MODERN, *([SALMON] if peers else [])]
    return [Contest(what, in_turn({name: partial(_measure, name, what, seconds) for name in names})) for what in things]


def _reading(seconds: float, peers: bool) -> Table:
    large = "106 kB, a file"
    return Table(
        name="reading",
        title="Reading",
        text="Process CPU time. The header is what the way in reads between DATA and 250: hops, who writes, the "
        "Message-ID; the parsers\nof the standard library are given the header alone for it, salmon has no way but to "
        "parse all. Text is subject, sender and\nplain text as a handler reads them; the last column adds the data of "
        f"the files. `{OLD}` and `{MODERN}` are the package\n`email` with its policies compat32 and default. The nasty "
        "mail has 50 broken fields, and 20 multiparts in one another.",
        contestant="reader",
        columns=(_HEADER, _TEXT, _WHOLE),
        contests=_contests(list(MAILS), seconds, peers),
        ratios=(
            TimesBetter(_HEADER_IS, OURS, _HEADER),
            TimesBetter(_TEXT_IS, OURS, _TEXT),
            TimesBetter(_WHOLE_IS, OURS, _WHOLE),
        ),
        goals=(Goal(contest=large, contestant=SALMON, of=_HEADER_IS, at_least=15.0),),
        pictures=(Picture(column=_TEXT.key, ratio=_TEXT_IS, ours=OURS),),
    )


def _writing(seconds: float, peers: bool) -> Table:
    return Table(
        name="writing",
        title="Writing an answer",
        text="Process CPU time from the application's text to the bytes of an answer of 1 kB, with the fields of its "
        "thread. Salmon\nguesses the character set of what is not ASCII, which is most of what it needs there.",
        contestant="writer",
        columns=(_WRITE,),
        contests=_contests(list(REPLIES), seconds, peers),
        ratios=(TimesBetter(_WRITE_IS, OURS, _WRITE),),
        goals=(
            Goal(contest="plain", contestant=MODERN, of=_WRITE_IS, at_least=8.0),
            Goal(contest="text and HTML, not ASCII", contestant=SALMON, of=_WRITE_IS, at_least=40.0),
        ),
        pictures=(Picture(column=_WRITE.key, ratio=_WRITE_IS, ours=OURS),),
    )


def _tables(seconds: float, peers: bool) -> Sequence[Table]:
    return [_reading(seconds, peers), _writing(seconds, peers)]


SUITE = Suite(
    title="Reading and writing mail",
    about="CPU of reading mails of 1 to 106 kB and of writing an answer, against the package email and salmon",
    seconds=1.0,
    rounds=3,
    tables=_tables,
)
