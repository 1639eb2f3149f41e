"""A help desk: run it with `make run`, or `monsal run --dir examples/helpdesk`.

People write to help@example.com. Each question becomes a ticket with an address of its own, at which customer and
agents meet; who is not answered is not forgotten. Programs call the same desk: see `api.py` and `client.py`.
"""

from pathlib import Path

from helpdesk.people import HOST
from helpdesk.service import Helpdesk
from monsal import App, literal

app = App(
    "helpdesk.desk",
    "helpdesk.tickets",
    captures={"host": literal(HOST), "ticket": "[0-9a-f]{10}"},
    store="sqlite:///run/monsal.db",
    ingress=["smtp://127.0.0.1:8825"],
    relay="capture:run/sent",
    tables=(Path(__file__).parent / "tables.sql").read_text(),
)
app.expose(Helpdesk, at="unix:run/api.sock")
