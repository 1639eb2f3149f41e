"""Our supervisor beside that of Erlang/OTP: the same random trees, the same scripts, the same transcript."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from supervised import Ours, scripts, tell

pytestmark = pytest.mark.interop

JUDGE = Path(__file__).resolve().parent / "otp" / "judge.escript"
#: Of each seed so many scripts; those in which time passes run beside one another, and are as slow as one.
SEED, COUNT, SLOW = 25, 4000, 100


@pytest.mark.rule("mailbox.B10")
def test_the_same_scripts_end_the_same_in_otp(program: Callable[[str], str], tmp_path: Path) -> None:
    """Living children, order of starts and stops, how often, results of calls, and who gives up."""
    quick = list(scripts(SEED, COUNT))
    slow = list(scripts(SEED, SLOW, waits=True))
    files = []
    for name, some in (("quick", quick), ("slow", slow)):
        files.append(tmp_path / f"{name}.terms")
        files[-1].write_text("\n".join(script.erlang() for script in some) + "\n", encoding="ascii")
    done = subprocess.run([program("escript"), JUDGE, *files], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr or done.stdout
    otp = _split(done.stdout)
    assert len(otp) == len(quick) + len(slow)
    for script, theirs in zip([*quick, *slow], otp, strict=True):
        ours = tell(script, Ours)
        assert ours == theirs, f"{script.erlang()}\n" + "\n".join(_beside(ours, theirs))


def _split(text: str) -> list[list[str]]:
    found: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("script "):
            found.append([])
        found[-1].append(line)
    return found


def _beside(ours: list[str], theirs: list[str]) -> list[str]:
    same = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    return [*ours[:same], "--- ours:", *ours[same : same + 6], "--- OTP:", *theirs[same : same + 6]]
