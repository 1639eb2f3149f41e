"""The machine that is measured on: what it is, and what else it does meanwhile."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from pathlib import Path

from bench.document import Load, Machine

__all__ = ["Watch", "commit", "describe", "remark"]

#: CPUs that others may use on average, or that the host may take away, before a row says that it was not quiet.
_OTHERS, _STEAL = 0.25, 0.05
#: The load average before the first contest; later ones see that of the bench itself.
_BUSY = 1.0


class Watch:
    """Looks at the machine from its making until `over`."""

    _first = True

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._clock, self._own = time.monotonic(), _own_cpu()
        self._machine = _machine_cpu()
        self._is_first, Watch._first = Watch._first, False

    def over(self) -> Load:
        """What was seen, in CPUs used on average by others and taken by the host."""
        after = os.getloadavg()[0]
        passed = max(time.monotonic() - self._clock, 1e-6)
        now, before = _machine_cpu(), self._machine
        others = steal = None
        if now is not None and before is not None:
            own = _own_cpu() - self._own
            others = round(max(0.0, now[0] - before[0] - own) / passed, 2)
            steal = round((now[1] - before[1]) / passed, 2)
        said = remark(self._load if self._is_first else 0.0, others, steal)
        return Load(round(self._load, 2), round(after, 2), others, steal, said)


def remark(before: float, others: float | None, steal: float | None) -> str:
    """What to say of a machine that was not quiet; nothing if it was."""
    said = []
    if before > _BUSY:
        said.append(f"load {before:.2f} at the beginning")
    if others is not None and others > _OTHERS:
        said.append(f"other processes used {others:.2f} CPUs")
    if steal is not None and steal > _STEAL:
        said.append(f"the host took {steal:.2f} CPUs")
    return ", ".join(said)


def _own_cpu() -> float:
    """Seconds that this process and the children it has waited for used; all of a contest's have ended with it."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def _machine_cpu() -> tuple[float, float] | None:
    """Seconds that all CPUs worked, and that the host took away (proc(5), /proc/stat)."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except FileNotFoundError:
        return None
    user, nice, system, _idle, _wait, irq, softirq, steal = (
        int(field) / os.sysconf("SC_CLK_TCK") for field in fields[:8]
    )
    return user + nice + system + irq + softirq, steal


def describe() -> Machine:
    """The facts that figures depend on."""
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cpus=os.cpu_count() or 1,
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        python=platform.python_version(),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def commit(root: Path) -> str | None:
    """The commit that is measured, with `+` if the sources differ from it; None where that is unknown."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "src") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
