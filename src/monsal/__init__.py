"""monsal, an application server for stateful conversations.

    cli  testing                      F6  what people touch
    config  control  exposure  app    F5  one App owns everything and joins the floors below
    ingress  delivery                 F4  mail comes in, mail goes out
    conversation                      F3  one turn, one commit
    store  bus                        F2  the one durable thing; the life of the process
    mail  smtp  wire  routing         F1  pure: no socket, clock or await
    errors  address  backoff  clock  forks  ids  late  logline  loops    F0

Imports go down only; a test holds that. Importing does nothing: names come when they are first asked for (PEP 562).
Start reading at `app.py`, or follow one message through `ARCHITECTURE.md`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monsal.app import App as App
    from monsal.conversation.context import after as after
    from monsal.conversation.context import current as current
    from monsal.conversation.context import reject as reject
    from monsal.conversation.context import reply as reply
    from monsal.conversation.context import send as send
    from monsal.conversation.context import start as start
    from monsal.conversation.entrance import deliver as deliver
    from monsal.conversation.entrance import deliver_async as deliver_async
    from monsal.conversation.entrance import notify as notify
    from monsal.conversation.entrance import read as read
    from monsal.conversation.entrance import read_async as read_async
    from monsal.errors import Reject as Reject
    from monsal.errors import Retry as Retry
    from monsal.mail import Bounce as Bounce
    from monsal.mail import Draft as Draft
    from monsal.mail import Message as Message
    from monsal.routing import Capability as Capability
    from monsal.routing import accept as accept
    from monsal.routing import authenticate as authenticate
    from monsal.routing import days as days
    from monsal.routing import hours as hours
    from monsal.routing import literal as literal
    from monsal.routing import on_bounce as on_bounce
    from monsal.routing import otherwise as otherwise
    from monsal.routing import requires_authenticated as requires_authenticated
    from monsal.routing import route as route
    from monsal.routing import route_like as route_like
    from monsal.routing import state_key_generator as state_key_generator
    from monsal.routing import stateless as stateless

__version__ = "0.1.0"

_HOME = {
    "App": "monsal.app",
    "Bounce": "monsal.mail",
    "Capability": "monsal.routing",
    "Draft": "monsal.mail",
    "Message": "monsal.mail",
    "Reject": "monsal.errors",
    "Retry": "monsal.errors",
    "accept": "monsal.routing",
    "after": "monsal.conversation.context",
    "authenticate": "monsal.routing",
    "current": "monsal.conversation.context",
    "days": "monsal.routing",
    "deliver": "monsal.conversation.entrance",
    "deliver_async": "monsal.conversation.entrance",
    "hours": "monsal.routing",
    "literal": "monsal.routing",
    "notify": "monsal.conversation.entrance",
    "on_bounce": "monsal.routing",
    "otherwise": "monsal.routing",
    "read": "monsal.conversation.entrance",
    "read_async": "monsal.conversation.entrance",
    "reject": "monsal.conversation.context",
    "reply": "monsal.conversation.context",
    "requires_authenticated": "monsal.routing",
    "route": "monsal.routing",
    "route_like": "monsal.routing",
    "send": "monsal.conversation.context",
    "start": "monsal.conversation.context",
    "state_key_generator": "monsal.routing",
    "stateless": "monsal.routing",
}

__all__ = [*sorted(_HOME), "__version__"]

if not TYPE_CHECKING:
    # As `monsal.late` does it; but whoever imports the bus alone comes through this door and loads nothing else.

    def __getattr__(name: str) -> object:
        home = _HOME.get(name)
        if home is None:
            raise AttributeError(f"module 'monsal' has no attribute {name!r}", name=name, obj=sys.modules[__name__])
        globals()[name] = value = getattr(import_module(home), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOME})
