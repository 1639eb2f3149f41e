"""`mx:` and its parameters."""

from __future__ import annotations

import pytest

from monsal.errors import ConfigError
from monsal.smtp.mxurl import MxUrl, parse_mx


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("mx:", MxUrl()),
        ("mx:?port=2525&private=yes", MxUrl(port=2525, private=True)),
        ("mx:?tls=require&verify=no", MxUrl(tls="require", verify=False)),
        ("mx:?ca=ca.pem&tls=off", MxUrl(ca="ca.pem", tls="off")),
        ("mx:?nameserver=192.0.2.1", MxUrl(nameserver="192.0.2.1")),
        ("mx:?nameserver=192.0.2.1:5353", MxUrl(nameserver="192.0.2.1", nameserver_port=5353)),
        ("mx:?nameserver=[2001:db8::1]:5353", MxUrl(nameserver="2001:db8::1", nameserver_port=5353)),
    ],
)
def test_what_is_understood(url: str, wanted: MxUrl) -> None:
    assert parse_mx(url) == wanted


@pytest.mark.parametrize(
    "url",
    [
        *("mx", "mx:x", "mx://h", "smtp:", "mx:?x", "mx:?port=0", "mx:?port=65536", "mx:?port=", "mx:?port=1&port=2"),
        *("mx:?tls=implicit", "mx:?private=true", "mx:?ca=", "mx:?nameserver=dns.example", "mx:?nameserver=1.2.3"),
        *("mx:?nameserver=2001:db8::1", "mx:?nameserver=192.0.2.1:0", "mx:?user=me"),
    ],
)
def test_what_is_not(url: str) -> None:
    with pytest.raises(ConfigError, match=r"relay '(mx|smtp)"):
        parse_mx(url)
