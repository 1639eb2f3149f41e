"""How a running server is looked at and steered: small objects, mounted by prefix on one unix socket.

May import: `monsal.rpc`, `monsal.transport`, `monsal.wire`, `monsal.store.contract` and the ground floor. Names come
when they are first asked for, because every command of the shell starts with the client, and the server would bring
asyncio with it. Start reading at `server.py`; `api.py` has what can be asked, `client.py` asks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monsal.late import late

if TYPE_CHECKING:
    from monsal.control.api import MAX_RAW as MAX_RAW
    from monsal.control.api import MAX_ROWS as MAX_ROWS
    from monsal.control.api import ServerApi as ServerApi
    from monsal.control.api import StoreApi as StoreApi
    from monsal.control.client import MAX_REPLY as MAX_REPLY
    from monsal.control.client import ControlClient as ControlClient
    from monsal.control.server import Control as Control
    from monsal.control.server import ControlLimits as ControlLimits
    from monsal.control.server import ControlServer as ControlServer

_HOME = {
    "MAX_RAW": "monsal.control.api",
    "MAX_REPLY": "monsal.control.client",
    "MAX_ROWS": "monsal.control.api",
    "Control": "monsal.control.server",
    "ControlClient": "monsal.control.client",
    "ControlLimits": "monsal.control.server",
    "ControlServer": "monsal.control.server",
    "ServerApi": "monsal.control.api",
    "StoreApi": "monsal.control.api",
}

__all__ = [*_HOME]

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _HOME)
