"""A mailing list: run it with `monsal run --dir examples/maillist`."""

from monsal import App, literal

app = App(
    "maillist.members",
    "maillist.digest",
    captures={"host": literal("lists.example.com"), "name": "tea|coffee"},
    store="sqlite:///run/monsal.db",
    ingress=["smtp://127.0.0.1:8825"],
    http=["http://127.0.0.1:8880"],
    public_url="https://lists.example.com",
    relay="capture:run/sent",
    tables="""
        create table if not exists member (
            list text, address text, digest integer not null, joined integer not null, primary key (list, address)
        ) strict;
        create table if not exists post (list text, subject text, text text) strict;
    """,
)
app.mount("/list", "maillist.pages:pages", max_body=16 * 1024)
