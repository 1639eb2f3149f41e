"""Applications of the ancestor, run as they are: `salmon` and `lamson` by name, over one application of ours.

    from monsal.compat import application
    app = application()                     # config.settings and config.boot, as `salmon start` reads them

May import everything but the other faces; no other room imports it, and importing it does nothing (P9). Start
reading at `application`, then `naming` (whose names are found), `table` (routes for the engine), `salmon` (modules).
docs/coming-from-salmon.md is for its users.
"""

from monsal.compat.application import application
from monsal.compat.naming import install, uninstall

__all__ = ["application", "install", "uninstall"]
