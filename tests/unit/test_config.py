"""Settings: who overrides whom, and what is said about a wrong one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monsal import App
from monsal.config import Resolved, Settings, load_settings, mask_secrets
from monsal.delivery import open_relay
from monsal.errors import ConfigError
from monsal.ingress import parse_bind
from monsal.store import open_store


def resolve(
    given: dict[str, Any] | None = None,
    *,
    directory: Path = Path("/nowhere/at/all"),
    environ: dict[str, str] | None = None,
) -> Settings:
    return load_settings(given or {}, directory, environ or {}).settings


def test_without_anything_the_defaults_hold_and_nothing_leaves_the_machine() -> None:
    settings = resolve()
    assert settings.ingress == ("smtp://127.0.0.1:8825",)
    assert settings.relay == "capture:run/sent"
    assert settings.max_message_size == 26214400
    assert settings.hostname


def test_each_layer_overrides_the_one_before_and_origins_are_kept(tmp_path: Path) -> None:
    (tmp_path / "monsal.toml").write_text('relay = "smtp://127.0.0.1:26"\ndrain = 5\nlog = "json"\n')
    environ = {"MONSAL_DRAIN": "7.5", "MONSAL_INGRESS": "smtp://[::1]:25, lmtp:run/lmtp.sock", "HOME": "/"}
    resolved = load_settings({"relay": "smtp://mail", "drain": 1, "deadline": 3}, tmp_path, environ)
    resolved = resolved.override({"log": "text", "workers": None})
    assert resolved.settings.relay == "smtp://127.0.0.1:26"
    assert resolved.settings.drain == 7.5
    assert resolved.settings.ingress == ("smtp://[::1]:25", "lmtp:run/lmtp.sock")
    origins = {row.name: row.origin for row in resolved.describe()}
    assert origins["deadline"] == "App(...)"
    assert origins["relay"] == "monsal.toml"
    assert origins["drain"] == "MONSAL_DRAIN"
    assert origins["log"] == "the command line"
    assert origins["store"] == origins["workers"] == "default"
    assert list(origins) == list(Settings.__struct_fields__)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"ingres": "smtp://x"}, "did you mean ingress?"),
        ({"max-connections": 5}, "did you mean max_connections?"),
        ({"colour": "red"}, "there are store, ingress"),
        ({"drain": "soon"}, "drain cannot be 'soon'; it is a number of at least 0"),
        ({"max_recipients": 0}, "cannot be 0; it is a whole number of at least 1"),
        ({"max_recipients": True}, "cannot be True; it is a whole number"),
        ({"ingress": 25}, "it is a list of texts"),
        ({"correspondent": "sender"}, "cannot be 'sender'; it is one of from, envelope"),
        ({"log": "xml"}, "cannot be 'xml'; it is one of text, json"),
        ({"deadline": "60"}, "it is a number above 0, without quotes"),
        ({"max_replies_per_hour": -1}, 'it is a whole number of at least 0, or "none"'),
        ({"hostname": 5}, "it is a text"),
        ({"relay": "127.0.0.1:25"}, "relay cannot be '127.0.0.1:25'; it is smtp://HOST:PORT"),
        ({"relay": "imap://h:25"}, "or capture:DIR (a maildir"),
        ({"relay": "smtp://h:0"}, "relay cannot be"),
        ({"relay": "capture:"}, "relay cannot be"),
        ({"relay": "mx://h"}, "relay cannot be"),
        ({"relay": "mx:?port=0"}, "relay cannot be used: relay 'mx:?port=0': port is not understood"),
        ({"store": "postgres://x"}, "stores on PostgreSQL come with a later version; it is sqlite:///"),
        ({"store": "sqlite:///"}, "store cannot be"),
        ({"tls_key": "key.pem"}, "tls_key needs tls_cert"),
        ({"ingress": ["smtps://127.0.0.1:465"]}, "which needs tls_cert"),
        ({"auth_users": "users"}, "over TLS only"),
        ({"proxy_from": ["mail.example.com"]}, "it is a list of addresses"),
        ({"xclient_from": "192.0.2.1/24"}, "xclient_from cannot be"),
        ({"ingress": ["http://127.0.0.1:8931"]}, "ingress cannot be 'http://127.0.0.1:8931'; it is a list of smtp:"),
        ({"http": ["smtp://127.0.0.1:80"]}, "http cannot be 'smtp://127.0.0.1:80'; it is a list of http://HOST:PORT"),
        ({"http": ["http://127.0.0.1:99999"]}, "http cannot be"),
        ({"http": ["https://127.0.0.1:443"]}, "which needs tls_cert"),
        ({"public_url": "lists.example.com"}, "it is a URL such as https://"),
        ({"public_url": "https://h/?x=1"}, "public_url cannot be"),
        ({"ingress": ["smtp://127.0.0.1"]}, "it is a list of smtp://HOST:PORT"),
        ({"ingress": ["smtp://127.0.0.1:88250"]}, "lmtp:PATH/TO/SOCKET"),
        ({"store": "run/monsal.db"}, "sqlite:///run/monsal.db"),
        ({"ingress": ["smtp://x:1", "127.0.0.1:25"]}, "cannot be '127.0.0.1:25'"),
        ({"hostname": "not a name"}, "must be a domain name"),
        ({"hostname": "a\nb.example.com"}, "must be a domain name"),
        ({"workers": 1000}, "more than 256 processes"),
        ({"workers": -1}, "it is a whole number of at least 0"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_hint(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(given)
    assert says in str(caught.value)
    assert str(caught.value).startswith("App(...): ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("drain = = 5", "monsal.toml: Invalid value"),
        ("relay = smtp://x", '; a text is in quotes: relay = "smtp'),
        ("[server]\ndrain = 5", "no tables like [server]"),
        ("dran = 5", "monsal.toml: there is no setting 'dran'; did you mean drain?"),
        ('drain = "5"', "monsal.toml: drain cannot be '5'"),
        ("\xff", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "monsal.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        resolve(directory=tmp_path)
    assert says in str(caught.value)


def test_the_environment_is_read_as_text_and_strangers_in_it_are_left_alone() -> None:
    settings = resolve(
        environ={
            "MONSAL_MAX_REPLIES_PER_HOUR": "none",
            "MONSAL_MAX_HOPS": "12",
            "MONSAL_LOG_LEVEL": "DEBUG",
            "MONSAL_DIR": "/srv/app",
            "MONSAL_SERVICE_HOST": "10.0.0.1",
            "MONSAL_PORT_25_TCP": "tcp://10.0.0.1:25",
        }
    )
    assert settings.max_replies_per_hour is None
    assert settings.max_hops == 12
    assert settings.log_level == "debug"
    with pytest.raises(ConfigError, match="did you mean MONSAL_INGRESS"):
        resolve(environ={"MONSAL_INGRES": "smtp://x"})
    with pytest.raises(ConfigError, match="MONSAL_MAX_HOPS: max_hops cannot be 'many'"):
        resolve(environ={"MONSAL_MAX_HOPS": "many"})


def test_an_override_is_checked_like_any_other_layer(tmp_path: Path) -> None:
    resolved = load_settings({}, tmp_path, {})
    with pytest.raises(ConfigError, match="the command line: workers is 300"):
        resolved.override({"workers": 300})
    with pytest.raises(ConfigError, match="no setting 'colour'"):
        resolved.override({"colour": 3})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:s3cret@db/mail", "postgresql://me:***@db/mail"),
        ("smtp://me@mail:25", "smtp://me@mail:25"),
        ("sqlite:///run/monsal.db", "sqlite:///run/monsal.db"),
        ("capture:run/sent", "capture:run/sent"),
        ("smtp://[::1", "smtp://[::1"),
        ("postgresql://db/mail?user=me&password=s3cret&ssl=1", "postgresql://db/mail?user=me&password=***&ssl=1"),
        ("smtp://u:p@ss@host:25", "smtp://u:***@host:25"),
    ],
)
def test_passwords_are_not_shown(text: str, shown: str) -> None:
    assert mask_secrets(text) == shown


def test_secrets_are_masked_in_rows_and_in_errors() -> None:
    resolved = Resolved(Settings(relay="smtp://u:hush@h:25", ingress=("smtp://u:hush@h",)), {})
    assert "hush" not in repr(resolved.describe())
    for name in ("workers", "relay", "ingress", "store"):
        with pytest.raises(ConfigError) as caught:
            resolve({name: "smtp://u:hush@h:0"})
        assert "hush" not in str(caught.value)


EXPRESSIONS = [
    f"{scheme}{rest}"
    for scheme in (
        "smtp:", "lmtp:", "smtps:", "smtp+starttls:", "unix:", "capture:", "mx:", "sqlite:", "memory:", "http:",
        "SMTP:", "",
    )
    for rest in (
        "", "//", "//h", "//h:25", "//h:0", "//h:65536", "//h:x", "//h:25/", "//h:25/x", "//[::1]:25", "//[::1]",
        "//::1:25", "///run/x", "///", "run/x", "/run/x", "x", "run/", "//u:p@h:25",
        "//u:p@127.0.0.1:25", "//u@h", "//h?tls=off", "//h?tls=require&verify=no",
        "h:25", "//h?x", "//:25", "?port=26&private=yes", "?port=0", "?tls=require", "?nameserver=127.0.0.1:53", "?",
        "//h h:25",
    )
]  # fmt: skip


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_what_is_accepted_here_is_understood_by_those_who_open_it(text: str, tmp_path: Path) -> None:
    openers: dict[str, Callable[[str], object]] = {
        "store": lambda text: open_store(text, base=tmp_path),
        "relay": lambda text: open_relay(text, tmp_path),
        "ingress": parse_bind,
    }
    for name, opener in openers.items():
        try:
            resolve({name: text if name != "ingress" else [text]})
        except ConfigError:
            continue
        opener(text)


def test_a_machine_with_an_odd_name_still_gets_a_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    def odd() -> os.uname_result:
        return os.uname_result(("Linux", "my_box!", "6", "1", "x86_64"))

    monkeypatch.setattr(os, "uname", odd)
    assert resolve().hostname == "localhost.localdomain"


def test_lists_of_hosts_come_from_the_environment_too() -> None:
    environ = {"MONSAL_PROXY_FROM": "192.0.2.1, 2001:db8::/32", "MONSAL_XCLIENT_FROM": "unix"}

    assert resolve(environ=environ).proxy_from == ("192.0.2.1", "2001:db8::/32")
    assert resolve(environ=environ).xclient_from == ("unix",)


def test_a_wrong_name_may_have_been_meant_for_the_application_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no setting 'capture'; did you mean captures"):
        App("orders", capture={}).settings(tmp_path, environ={})
    with pytest.raises(ConfigError, match="there are captures, states, tables, templates, actors, store, ingress"):
        App("orders", xyzzy=1).settings(tmp_path, environ={})
    # In the file they mean nothing.
    (tmp_path / "monsal.toml").write_text("capture = 1")
    with pytest.raises(ConfigError, match=r"monsal\.toml: there is no setting 'capture'; there are store, ingress"):
        App("orders").settings(tmp_path, environ={})
