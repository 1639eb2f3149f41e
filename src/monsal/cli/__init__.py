"""The command `monsal`: what an operator and a developer type.

May import every room below. Each command is a module of its name with an object `command`, imported only when it is
used, so that `monsal --help` and `monsal stop` do not wait for a database or an event loop to be loaded.
Start reading at `root.py` (commands, errors, exit codes), which `entry.py` loads; `reach.py` knows how a server or its
store is found.
"""

from monsal.cli.entry import main

__all__ = ["main"]
