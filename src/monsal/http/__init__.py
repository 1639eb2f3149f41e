"""HTTP comes in: applications of ASGI, mounted below paths, served by uvicorn on sockets that are given.

    mounted = mounting("/list", "maillist.web:pages")       what is served where; nothing is imported yet
    app = Mounts([mounted], HttpSettings())                 one application of them all, with bounds
    from monsal.http.serving import HttpServer              needs the extra `http`

May import the ground floor; nothing of mail. Start reading at `mounts.py`; `protocol.py` bounds connections as that
bounds requests, and `serving.py` has the thread in which both run.
"""

from __future__ import annotations

from monsal.http.mounts import HttpSettings, Mount, Mounts, MountsStatistics, mounting

__all__ = ["HttpSettings", "Mount", "Mounts", "MountsStatistics", "mounting"]
