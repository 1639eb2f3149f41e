"""Foreign programs from the package indexes and Debian, each in an environment of its own that can be thrown away.

    python = environment("cherrypy")            # requirements/peers/cherrypy.txt, made once, below .peers/
    modules = npm_environment("jsonrpc")        # requirements/peers/jsonrpc/package-lock.json; for NODE_PATH
    tests = sources("salmon", "salmon-mail")    # what of it is in no wheel: the version that salmon.txt pins, unpacked
    tree = debian("exim")                       # requirements/peers/exim.debian: packages unpacked, not installed
    python -m tools.peers cherrypy jsonrpc      # beforehand: a test that installs one may not be done in its time

Neither the project nor its tests are installed there; what a peer needs of ours is put on its PYTHONPATH.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["debian", "environment", "main", "npm_environment", "sources"]

ROOT = Path(__file__).resolve().parent.parent
#: Where the environments are; `make clean` removes it.
PLACE = ROOT / ".peers"


def environment(name: str) -> Path:
    """The interpreter of the environment of `requirements/peers/<name>.txt`; made if it is not there yet.

    Raises FileNotFoundError if there is no such list, RuntimeError with pip's words if it cannot be installed.
    """
    pins = ROOT / "requirements" / "peers" / f"{name}.txt"
    home = _home(name, pins.read_bytes() + sys.version.encode())

    def make(place: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        command = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _install([*command, "-r", str(pins)], pins)

    # Its interpreter is called by its path, never its scripts, whose first lines name the place where they were made.
    _make_once(home, make)
    return home / "bin" / "python"


def sources(name: str, project: str) -> Path:
    """The source distribution of a project, in the version that `requirements/peers/<name>.txt` pins, unpacked.

    Raises FileNotFoundError if there is no such list, LookupError if it does not pin the project, RuntimeError with
    pip's words if it cannot be had.
    """
    pins = ROOT / "requirements" / "peers" / f"{name}.txt"
    lines = pins.read_text(encoding="utf-8").splitlines()
    pinned = next((line.split()[0] for line in lines if line.lower().startswith(f"{project}==")), None)
    if pinned is None:
        raise LookupError(f"{pins.relative_to(ROOT)} does not pin {project}")
    home = _home(f"{name}-source", pinned.encode())

    def make(place: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        # pip builds the metadata of what it downloads, and would compile more than is needed for that.
        _install([*command, "--no-binary", ":all:", "--dest", str(place), pinned], pins)
        (archive,) = place.glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(place, filter="data")
        archive.unlink()

    _make_once(home, make)
    (unpacked,) = (path for path in home.iterdir() if path.is_dir())
    return unpacked


def npm_environment(name: str) -> Path:
    """The `node_modules` of `requirements/peers/<name>/package-lock.json`; made if they are not there yet.

    The lock has no addresses, only versions and hashes: whatever registry npm is set to serves. Raises
    FileNotFoundError if there is no such list or no npm, RuntimeError with npm's words if it cannot be installed.
    """
    pins = ROOT / "requirements" / "peers" / name
    files = [pins / "package.json", pins / "package-lock.json"]
    home = _home(name, b"".join(file.read_bytes() for file in files))

    def make(place: Path) -> None:
        for file in files:
            shutil.copy(file, place)
        # No peer has a native part: nothing that a package wants to run when it is installed is needed.
        quiet = ["--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"]
        _install(["npm", "ci", "--prefix", str(place), *quiet], pins)

    _make_once(home, make)
    return home / "node_modules"


def debian(name: str) -> Path:
    """The packages of `requirements/peers/<name>.debian` and the libraries they need, unpacked below one directory.

    Nothing on this machine changes, and it needs no root: apt keeps its lists in the same place. Raises
    FileNotFoundError if there is no such list, RuntimeError with apt's words if they cannot be had.
    """
    pins = ROOT / "requirements" / "peers" / f"{name}.debian"
    content = pins.read_bytes()
    wanted = [line for line in content.decode().splitlines() if line and not line.startswith("#")]
    home = _home(name, content)

    def make(place: Path) -> None:
        if not shutil.which("apt-get") or not shutil.which("dpkg"):
            raise RuntimeError(f"cannot unpack {pins.relative_to(ROOT)}: this machine has no apt-get and dpkg")
        apt = place / "apt"
        for directory in ("lists/partial", "cache/archives/partial"):
            (apt / directory).mkdir(parents=True)
        options = ["Dir::State::status=/var/lib/dpkg/status", "APT::Sandbox::User=", "Debug::NoLocking=true"]
        options += [f"Dir::State::lists={apt / 'lists'}", f"Dir::Cache={apt / 'cache'}", "Acquire::Languages=none"]
        command = ["apt-get", "-q", *(part for option in options for part in ("-o", option))]
        said = _install([*command, "update"], pins)
        if not any((apt / "lists").glob("*_Packages*")):  # apt-get calls that a success
            raise RuntimeError(f"cannot install {pins.relative_to(ROOT)}: no lists of packages:\n{said}")
        # What an installation would bring; of that, the libraries which this machine has not.
        plan = _install([*command, "--simulate", "--no-install-recommends", "install", *wanted], pins)
        brought = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
        libraries = [package for package in brought if package.startswith("lib") and package not in wanted]
        _install([*command, "download", *wanted, *libraries], pins, cwd=apt)
        for archive in sorted(apt.glob("*.deb")):
            _install(["dpkg", "-x", str(archive), str(place)], pins)
        shutil.rmtree(apt)

    _make_once(home, make)
    return home


def main(names: Sequence[str]) -> None:
    """Make the environments of these names."""
    for name in names:
        pins = ROOT / "requirements" / "peers" / name
        make = npm_environment if pins.is_dir() else debian if pins.with_suffix(".debian").exists() else environment
        make(name)


def _home(name: str, pins: bytes) -> Path:
    """Where an environment of these pins is: other pins, another place."""
    return PLACE / f"{name}-{hashlib.sha256(pins).hexdigest()[:12]}"


def _make_once(home: Path, make: Callable[[Path], None]) -> None:
    """Have `home` made beside itself and moved there: whoever finds it finds it whole."""
    if home.exists():
        return
    PLACE.mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f"{home.name}-", dir=PLACE))
    try:
        make(made)
        try:
            os.rename(made, home)
        except OSError:
            if not home.exists():  # else somebody was faster, with the same pins
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _install(command: Sequence[str], pins: Path, cwd: Path | None = None) -> str:
    """Run a step of an installation; what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode:
        raise RuntimeError(f"cannot install {pins.relative_to(ROOT)}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    main(sys.argv[1:])
