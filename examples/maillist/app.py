"""A mailing list: run it with `monsal run --dir examples/maillist`."""

from monsal import App, literal

app = App(
    "maillist.members",
    "maillist.digest",
    captures={"host": literal("lists.example.com"), "name": "tea|coffee"},
    store="sqlite:///run/monsal.db",
    ingress=["smtp://127.0.0.1:8825"],
    relay="capture:run/sent",
    tables="""
        create table if not exists member (
            list text, address text, digest integer not null, primary key (list, address)
        ) strict;
        create table if not exists post (list text, subject text, text text) strict;
    """,
)
