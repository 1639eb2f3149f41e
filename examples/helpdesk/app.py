"""A help desk: run it with `make run`, or `monsal run --dir examples/helpdesk`.

People write to help@example.com. Each question becomes a ticket with an address of its own, at which customer and
agents meet; who is not answered is not forgotten.
"""

from pathlib import Path

from monsal import App, literal

app = App(
    "helpdesk.desk",
    "helpdesk.tickets",
    captures={"host": literal("example.com"), "ticket": "[0-9a-f]{10}"},
    store="sqlite:///run/monsal.db",
    ingress=["smtp://127.0.0.1:8825"],
    relay="capture:run/sent",
    tables=(Path(__file__).parent / "tables.sql").read_text(),
)
