"""Measure side by side and write bench/RESULTS.md: `python -m bench [--seconds S] [--rounds N]`.

Rates move with the machine and with what else runs on it, so each contest measures all its servers in turn, several
rounds of it, and what counts are the ratios of medians, and the CPU microseconds that a server needs for a mail.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.servers import SERVERS

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Contest:
    """Some connections that send 1 kB mails, each connection one after the other or with `per_connection` mails."""

    title: str
    connections: int
    per_connection: int = 0


@dataclass(frozen=True)
class Figure:
    """One measurement: mails a second, the server's CPU microseconds a mail, milliseconds from MAIL to 250."""

    rate: float
    cpu_us: float
    p50: float
    p99: float


CONTESTS = (
    Contest("1 session, kept", 1),
    Contest("10 sessions, kept", 10),
    Contest("50 sessions, kept", 50),
    Contest("10 sessions, a connection per mail", 10, 1),
)
#: What `monsal` is set against (DESIGN 8), and what the ratio should be at least, by contest.
TARGETS = {
    "aiosmtpd-store": {"10 sessions, kept": 3.5, "50 sessions, kept": 4.0, "10 sessions, a connection per mail": 3.0},
    "smtp-sink": {"50 sessions, kept": 0.35},
}


@contextmanager
def _running(name: str, directory: Path) -> Iterator[tuple[int, int]]:
    """A server; its port and pid."""
    if name == "smtp-sink":
        port = _free_port()
        command = [_sink() or "", *(["-u", "nobody"] if os.geteuid() == 0 else []), f"127.0.0.1:{port}", "100"]
        process = subprocess.Popen(command)
    else:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.servers", name, str(directory)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        port = int(process.stdout.readline())
    try:
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _sink() -> str | None:
    return shutil.which("smtp-sink", path=os.environ["PATH"] + ":/usr/sbin")


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _load(port: int, contest: Contest, seconds: float, seed: int) -> dict[str, Any]:
    command = [
        *(sys.executable, "-m", "bench.load", "--port", str(port), "--recipient", "help@example.com"),
        *("--correspondents", "500", "--connections", str(contest.connections), "--seconds", str(seconds)),
        *("--per-connection", str(contest.per_connection), "--seed", str(seed)),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return found


def _measure(name: str, contest: Contest, seconds: float, seed: int) -> Figure:
    with (
        tempfile.TemporaryDirectory(prefix="monsal-bench-") as directory,
        _running(name, Path(directory)) as (port, pid),
    ):
        _load(port, contest, min(seconds, 0.5), seed + 1000)  # warm
        before = _cpu(pid)
        found = _load(port, contest, seconds, seed)
        cpu = 1e6 * (_cpu(pid) - before) / max(found["acknowledged"], 1)
    return Figure(found["rate"], round(cpu, 1), found["p50_ms"], found["p99_ms"])


def _median(figures: Sequence[Figure]) -> Figure:
    def middle(name: str) -> float:
        values: list[float] = [getattr(figure, name) for figure in figures]
        return round(statistics.median(values), 3)

    return Figure(middle("rate"), middle("cpu_us"), middle("p50"), middle("p99"))


def _run(seconds: float, rounds: int) -> dict[str, dict[str, Figure]]:
    names = [*SERVERS, *(["smtp-sink"] if _sink() else [])]
    results = {}
    for contest in CONTESTS:
        measured: dict[str, list[Figure]] = {name: [] for name in names}
        for turn in range(rounds):
            for name in names:
                measured[name].append(_measure(name, contest, seconds, turn + 1))
        results[contest.title] = {name: _median(figures) for name, figures in measured.items()}
        for name, figure in results[contest.title].items():
            print(f"{contest.title:38} {name:16} {figure.rate:9.0f}/s {figure.cpu_us:7.0f} us", file=sys.stderr)
    return results


def _page(results: dict[str, dict[str, Figure]], seconds: float, rounds: int) -> str:
    lines = [
        "# Results",
        "",
        f"Written by `make bench`: medians of {rounds} rounds of {seconds:g} s each, {os.cpu_count()} CPUs shared by "
        f"server and load, Python {platform.python_version()}. Rates of one line were measured in turn and can be "
        "compared with one another; those of other machines and other days cannot.",
        "",
        "## Durable accept, 1 kB mails",
        "",
        "`accept` is the product's ingress, spool and store; 250 is said after the flush (P1). `aiosmtpd-store` is",
        "aiosmtpd before the same spool and store; `aiosmtpd` and `smtp-sink` (C) store nothing.",
        "",
        "| contest | server | mails/s | CPU us a mail | p50 ms | p99 ms | accept is | should be |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for title, figures in results.items():
        for name, figure in figures.items():
            ratio = "" if name == "accept" else f"{figures['accept'].rate / max(figure.rate, 0.1):.2f}x"
            target = TARGETS.get(name, {}).get(title)
            lines.append(
                f"| {title} | {name} | {figure.rate:.0f} | {figure.cpu_us:.0f} | {figure.p50:.2f} | {figure.p99:.2f} "
                f"| {ratio} | {f'{target:g}x' if target else ''} |"
            )
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all contests and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "RESULTS.md")
    options = parser.parse_args(arguments)
    page = _page(_run(options.seconds, options.rounds), options.seconds, options.rounds)
    options.out.write_text(page, encoding="utf-8")
    print(f"written to {options.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
