"""The application: run it with `monsal run --dir examples/orders`."""

from monsal import App, literal

app = App(
    "orders.handlers",
    captures={"host": literal("example.com")},
    store="sqlite:///run/monsal.db",
    ingress=["smtp://127.0.0.1:8825"],
    relay="capture:run/sent",
    tables="""
        create table if not exists orders (
            id integer primary key, customer text, item text, price text, status text
        ) strict;
        create unique index if not exists orders_asked on orders (customer) where status = 'asked';
    """,
)
