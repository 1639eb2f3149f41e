"""Who is proved: From can be forged, and so can Authentication-Results."""

from __future__ import annotations

import pytest

from monsal.mail import Auth, Envelope, Message

US = "mx.example.com"
FROM = "From: Alice <Alice@Example.org>\n"


def auth(
    header: str, *, user: str | None = None, authserv_id: str | None = US, correspondent: str = "alice@example.org"
) -> Auth:
    return Message(
        raw=f"{header}\n\n".encode(),
        recipient="orders@example.com",
        correspondent=correspondent,
        envelope=Envelope(sender="alice@example.org", recipients=("orders@example.com",), user=user),
        authserv_id=authserv_id,
    ).auth


def test_a_login_proves() -> None:
    found = auth(FROM, user="Alice@Example.ORG", authserv_id=None)

    assert found == Auth(method="smtp", user="Alice@Example.ORG")
    assert found.authenticated


@pytest.mark.parametrize(
    ("results", "method"),
    [
        (f"{US}; dmarc=pass header.from=example.org", "dmarc"),
        (f"{US.upper()} 1; dmarc=pass (p=none dis=none) header.from=Example.ORG", "dmarc"),
        (f"{US}; spf=fail smtp.mailfrom=x@evil.example;\n dkim=pass header.d=example.org header.s=s", "dkim"),
        (f"{US}; dkim=fail header.d=example.org; dkim=pass header.i=@example.org", "dkim"),
        (f"{US}; spf=pass (sender is permitted) smtp.mailfrom=bounce@example.org", "spf"),
        (f"{US}; dmarc=pass", "dmarc"),
        (f"{US}; dkim=pass header.d=evil.example; spf=pass smtp.mailfrom=evil.example", ""),
        (f"{US}; dmarc=pass header.from=evil.example", ""),
        (f"{US}; dmarc=fail header.from=example.org", ""),
        (f"{US}; dkim=pass header.d=sub.example.org", ""),
        (f"{US}; dkim=pass header.d=org", ""),
        (f"{US}; none", ""),
        ("other.example; dmarc=pass header.from=example.org", ""),
        (f"{US}.evil.example; dmarc=pass header.from=example.org", ""),
        # What a stranger got into a comment or a quotation is no entry.
        (f"{US}; spf=fail (a; dmarc=pass header.from=example.org) smtp.mailfrom=x", ""),
        (f"{US}; spf=fail (a (b); dmarc=pass (c)) smtp.mailfrom=x", ""),
        (f'{US}; spf=fail smtp.mailfrom="x; dmarc=pass header.from=example.org"', ""),
        (f"{US}; spf=fail (never closed; dmarc=pass header.from=example.org", ""),
        (f'{US}; spf=pass smtp.mailfrom="a@example.org"@evil.example', ""),
        (f"{US}; " + "x=y; " * 5000 + "dmarc=pass header.from=example.org", ""),
    ],
)  # fmt: skip
def test_the_word_of_the_pinned_upstream(results: str, method: str) -> None:
    assert auth(f"Authentication-Results: {results}\n{FROM}").method == method


def test_without_a_pinned_name_no_field_is_believed() -> None:
    header = f"Authentication-Results: {US}; dmarc=pass header.from=example.org\n{FROM}"

    assert not auth(header, authserv_id=None).authenticated


def test_only_the_topmost_field_of_the_upstream_is_believed() -> None:
    """The upstream adds its own on top; what stands below may have come with the mail."""
    header = (
        "Authentication-Results: other.example; dmarc=pass\n"
        f"Authentication-Results: {US}; dmarc=fail header.from=example.org\n"
        f"Authentication-Results: {US}; dmarc=pass header.from=example.org\n{FROM}"
    )

    found = auth(header)
    assert (found.method, found.dmarc) == ("", "fail")


@pytest.mark.parametrize(
    "header", [FROM + "From: Mallory <m@evil.example>\n", "From: alice@example.org, m@evil.example\n"]
)
def test_two_addresses_in_from_prove_nothing(header: str) -> None:
    assert not auth(f"Authentication-Results: {US}; dmarc=pass; dkim=pass header.d=example.org\n{header}").authenticated


def test_a_correspondent_out_of_the_envelope_is_proved_by_spf_alone() -> None:
    header = f"Authentication-Results: {US}; {{}}\nFrom: list@lists.example\n"

    by_dkim = auth(header.format("dkim=pass header.d=example.org; dmarc=pass"))
    by_spf = auth(header.format("spf=pass smtp.mailfrom=alice@example.org"))
    assert not by_dkim.authenticated
    assert by_spf.method == "spf"


@pytest.mark.parametrize(
    ("user", "may_write", "proved"),
    [
        ("alice@example.org", (), True),
        ("bob@example.org", (), False),
        ("alice", (), False),
        ("robot", ("alice@example.org",), True),
        ("robot", ("@Example.org",), True),
        ("robot", ("@example.com", "bob@example.org"), False),
        ("robot", ("@org", "example.org"), False),
    ],
)
def test_a_login_proves_only_who_the_user_may_be(user: str, may_write: tuple[str, ...], proved: bool) -> None:
    """Whoever may log in can still write any From."""
    message = Message(
        raw=f"{FROM}\n\n".encode(),
        recipient="orders@example.com",
        correspondent="alice@example.org",
        envelope=Envelope(
            sender="alice@example.org", recipients=("orders@example.com",), user=user, may_write=may_write
        ),
        authserv_id=None,
    )

    assert message.authenticated is proved
    assert message.auth.user == user
