"""Measure side by side, and write bench/results.json, bench/RESULTS.md and the charts that it shows.

Rates move with the machine and with what else runs on it, so each round measures all contestants in turn, and what
counts are ratios and CPU time. Running some suites keeps what the page says of the others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.document import Document, Report, load, save
from bench.excerpt import with_excerpt
from bench.harness import Suite, run_table
from bench.machine import commit, describe
from bench.page import page
from bench.pictures import pictures
from bench.suites import NAMES, suite

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
#: Where our own results are, and the page of the documents that has some of them.
_OWN, _PERFORMANCE = ROOT / "bench", ROOT / "docs" / "performance.md"
_EXAMPLES = """
examples:
  python -m bench                          all suites, as `make bench` does
  python -m bench bus                      only that one: `make bench SUITE=bus`
  python -m bench bus --seconds 0.01 --rounds 1 --out some/directory
                                           a short look that leaves the published results alone
  python -m bench accept --json | jq '.suites.accept.tables[0].rows'
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run suites; 0 if all that is there could be measured, 1 if a contestant failed, whatever the figures are."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        for name in NAMES:
            print(f"{name:10} {suite(name).about}")
        return 0
    unknown = [name for name in options.suites if name not in NAMES]
    if unknown:
        parser.error(f"no such suite: {', '.join(unknown)} (there are {', '.join(NAMES)})")
    results = options.out / "results.json"
    # First: who mistook the directory hears of it before and not after the measuring.
    options.out.mkdir(parents=True, exist_ok=True)
    document = load(results)
    for name in options.suites or NAMES:
        report = _run(suite(name), options)
        document = document.merged(name, report, NAMES)
        # After each, so that who breaks off keeps what was measured.
        save(results, document)
        _publish(document, options.out)
    print(f"written to {results} and RESULTS.md beside it", file=sys.stderr)
    if options.json:
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    return 1 if _failed(document, options.suites or NAMES) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="what to measure; all without")
    parser.add_argument("--list", action="store_true", help="say what there is, and measure nothing")
    parser.add_argument("--seconds", type=_seconds, help="of each measurement, instead of the suite's own")
    parser.add_argument("--rounds", type=_rounds, help="how often each contestant is measured")
    parser.add_argument("--seed", type=int, default=1, help="decides who comes first (default: 1)")
    parser.add_argument("--no-peers", action="store_true", help="leave out what the package index would be asked for")
    parser.add_argument("--json", action="store_true", help="print the document on standard output, too")
    parser.add_argument("--out", type=Path, default=_OWN, help="directory of results.json and RESULTS.md")
    return parser


def _seconds(text: str) -> float:
    found = float(text)
    if not 0 < found < float("inf"):
        raise ValueError(text)
    return found


def _rounds(text: str) -> int:
    found = int(text)
    if found < 1:
        raise ValueError(text)
    return found


def _run(found: Suite, options: argparse.Namespace) -> Report:
    seconds, rounds = options.seconds or found.seconds, options.rounds or found.rounds
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    tables = [run_table(table, rounds, options.seed, _say) for table in found.tables(seconds, not options.no_peers)]
    return Report(found.title, date, commit(ROOT), describe(), seconds, rounds, tables)


def _publish(document: Document, out: Path) -> None:
    """Write the page and the charts that it shows; and the table of docs/performance.md, if these are our results."""
    for name, drawn in pictures(document).items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(drawn, encoding="utf-8")
    (out / "RESULTS.md").write_text(page(document), encoding="utf-8")
    if out == _OWN and "stages" in document.suites:
        text = _PERFORMANCE.read_text(encoding="utf-8")
        _PERFORMANCE.write_text(with_excerpt(text, document.suites["stages"]), encoding="utf-8")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _failed(document: Document, names: Sequence[str]) -> bool:
    return any(
        row.note.startswith("failed") for name in names for table in document.suites[name].tables for row in table.rows
    )


if __name__ == "__main__":
    sys.exit(main())
