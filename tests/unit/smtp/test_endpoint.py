"""The URL of a relay: what it means, what is refused, and that no password gets out."""

from __future__ import annotations

from typing import Any

import pytest

from monsal.errors import ConfigError
from monsal.smtp.endpoint import Credentials, Endpoint, is_loopback, parse_endpoint

ME = Credentials("me", "p@ss word")


@pytest.mark.parametrize(
    ("url", "wanted", "tls"),
    [
        ("smtp://mx.example", Endpoint(host="mx.example", port=25), "opportunistic"),
        ("smtp://mx.example?tls=off", Endpoint(host="mx.example", port=25, tls="off"), "off"),
        ("smtp://127.0.0.1:2525", Endpoint(host="127.0.0.1", port=2525), "off"),
        ("smtp://[::1]:2525?tls=require", Endpoint(host="::1", port=2525, tls="require"), "require"),
        ("smtps://mx.example", Endpoint(host="mx.example", port=465, tls="implicit"), "implicit"),
        ("smtp+starttls://mx.example", Endpoint(host="mx.example", port=587, tls="require"), "require"),
        ("lmtp://mx.example", Endpoint(host="mx.example", port=24, lmtp=True), "opportunistic"),
        ("smtp://me:p%40ss%20word@h", Endpoint(host="h", port=25, tls="require", credentials=ME), "require"),
        ("smtp://me:p%40ss%20word@localhost", Endpoint(host="localhost", port=25, credentials=ME), "off"),
    ],
)
def test_what_a_url_means(url: str, wanted: Endpoint, tls: str) -> None:
    found = parse_endpoint(url)
    assert found == wanted
    assert found.effective_tls == tls


def test_files_and_who_is_trusted() -> None:
    found = parse_endpoint("smtps://me@h?password_file=run/pw&verify=no&ca=/etc/ca.pem")
    assert (found.password_file, found.ca, found.verify) == ("run/pw", "/etc/ca.pem", False)
    assert found.credentials == Credentials("me", "")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("smtp://me:secret@h?tls=off", "TLS only"),
        ("smtp://me:secret@h?tls=opportunistic", "TLS only"),
        ("smtp://me@h", "needs one password"),
        ("smtps://me:secret@h?password_file=x", "needs one password"),
        ("smtps://:secret@h", "no name before it"),
        ("smtps://h?password_file=x", "no name before it"),
        ("smtps://me:secret%00@h", "NUL"),
        ("smtps://me:secret@h?tls=off", "leave tls= out"),
        ("smtp://h?tls=perhaps", "tls is not understood"),
        ("smtp://h?verify=maybe", "verify is not understood"),
        ("smtp://h?tls", "is not understood"),
        ("smtp://h?tls=off&tls=off", "is not understood"),
        ("smtp://h?colour=red", "colour is not understood"),
        ("smtp:///run/x.sock?tls=require", "neither host nor path"),
        ("smtp://me:secret@/run/x.sock", "neither host nor path"),
    ],
)
def test_what_is_refused(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        parse_endpoint(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("thing", [ME, parse_endpoint("smtps://me:p%40ss%20word@h")])
def test_a_password_does_not_show(thing: Any) -> None:
    assert "p@ss" not in f"{thing} {thing!r}"
    assert "p%40ss" not in f"{thing} {thing!r}"


def test_what_is_this_machine() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.8.8", "::1")))
    assert not any(map(is_loopback, ("localhost.example.com", "127.evil.example", "10.0.0.1", "")))
