"""Foreign programs from the package index, each in an environment of its own that can be thrown away.

    python = environment("cherrypy")            # requirements/peers/cherrypy.txt, made once, below .peers/

Neither the project nor its tests are installed there; what a peer needs of ours is put on its PYTHONPATH.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["environment"]

ROOT = Path(__file__).resolve().parent.parent
#: Where the environments are; `make clean` removes it.
PLACE = ROOT / ".peers"


def environment(name: str) -> Path:
    """The interpreter of the environment of `requirements/peers/<name>.txt`; made if it is not there yet.

    Raises FileNotFoundError if there is no such list, RuntimeError with pip's words if it cannot be installed.
    """
    pins = ROOT / "requirements" / "peers" / f"{name}.txt"
    mark = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = PLACE / f"{name}-{mark}"
    python = home / "bin" / "python"
    if python.exists():
        return python
    PLACE.mkdir(exist_ok=True)
    # Made beside and moved: whoever finds it finds it whole. Its interpreter is called by its path, never its scripts,
    # whose first lines name the place where they were made.
    made = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=PLACE))
    try:
        subprocess.run([sys.executable, "-m", "venv", made], check=True)
        command = [str(made / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*command, "-r", str(pins)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"cannot install {pins.relative_to(ROOT)}:\n{done.stdout}{done.stderr}")
        os.rename(made, home)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return python
