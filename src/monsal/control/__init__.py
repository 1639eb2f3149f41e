"""How a running server is looked at and steered: small objects, mounted by prefix on one unix socket.

May import: `monsal.rpc`, `monsal.transport`, `monsal.wire`, `monsal.store.contract` and the ground floor. Names come
when they are first asked for, because every command of the shell starts with the client, and the server would bring
asyncio with it. Start reading at `server.py`; `api.py` has what can be asked, `client.py` asks it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    "MAX_RAW": "api",
    "MAX_REPLY": "client",
    "MAX_ROWS": "api",
    "Control": "server",
    "ControlClient": "client",
    "ControlLimits": "server",
    "ControlServer": "server",
    "ServerApi": "api",
    "StoreApi": "api",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'monsal.control' has no attribute {name!r}")
    value = getattr(import_module(f"monsal.control.{home}"), name)
    globals()[name] = value
    return value
