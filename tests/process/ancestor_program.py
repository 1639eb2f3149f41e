"""A small application as the ancestor's users write them: config/, app/handlers, and two lines of ours."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

__all__ = ["make_ancestor"]

SETTINGS = """
relay_config = {"host": "localhost", "port": 8825}
receiver_config = {"host": "127.0.0.1", "port": 0}
handlers = ["app.handlers.desk"]
router_defaults = {"host": "example\\\\.com"}
"""

BOOT = """
from salmon import queue, view
from salmon.routing import Router
from salmon.server import Relay, SMTPReceiver
import jinja2
from . import settings

settings.relay = Relay(host=settings.relay_config["host"], port=settings.relay_config["port"], debug=1)
settings.receiver = SMTPReceiver(**settings.receiver_config)
view.LOADER = jinja2.DictLoader({"hello.txt": "Hello {{ message['subject'] }}."})
view.LOADER = jinja2.Environment(loader=view.LOADER)
Router.defaults(**settings.router_defaults)
Router.load(settings.handlers)
Router.RELOAD = True
Router.UNDELIVERABLE_QUEUE = queue.Queue("run/undeliverable")
"""

HANDLERS = """
from config.settings import relay
from salmon import view
from salmon.bounce import bounce_to
from salmon.routing import Router, route, route_like, stateless
from salmon.server import SMTPError

BOUNCES = []

@route("desk@(host)")
def SOFT(message):
    return START

@route("desk@(host)")
def HARD(message):
    BOUNCES.append(message.bounce.final_recipient)
    return START

@route(".*@(host)")
@stateless
def TAG(message, host=None):
    message["X-Tag"] = "seen"

@route("desk@(host)")
@bounce_to(soft=SOFT, hard=HARD)
def START(message, host=None):
    if message["subject"] == "fail":
        raise RuntimeError("on purpose")
    if message["subject"] == "no":
        raise SMTPError(554, "not here")
    subject = message["subject"]
    answer = view.respond(locals(), "hello.txt", To=message["from"], From=message.To, Subject="Re: %(subject)s")
    answer["X-Was"] = message["x-tag"]
    relay.deliver(answer)
    return AGAIN

@route_like(START)
def AGAIN(message, host=None):
    relay.reply(message, message.To, "again", "You were in " + Router.get_state(__name__, message))
    if message["subject"] == "over":
        return START(message, host=host)

@route("quiet@(host)")
def ERROR(message, host=None):
    pass
"""


def make_ancestor(home: Path, *, handlers: str = HANDLERS, boot: str = BOOT, settings: str = SETTINGS) -> Path:
    """Write the application into a directory; returns it."""
    for path, text in (
        ("config/__init__.py", ""),
        ("config/settings.py", settings),
        ("config/boot.py", boot),
        ("app/__init__.py", "from monsal.compat import application\n\napp = application()\n"),
        ("app/handlers/__init__.py", ""),
        ("app/handlers/desk.py", handlers),
    ):
        file = home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")
    return home
