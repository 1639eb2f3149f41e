"""Who is proved: From can be forged, and so can Authentication-Results."""

from __future__ import annotations

from typing import Any

import pytest

from monsal.mail import Auth, Checks, Envelope, Message, Upstream, Verdict

US = "mx.example.com"
FROM = "From: Alice <Alice@Example.org>\n"


def auth(
    header: str,
    *,
    user: str | None = None,
    authserv_id: str | None = US,
    correspondent: str = "alice@example.org",
    **more: Any,
) -> Auth:
    return Message(
        raw=f"{header}\n\n".encode(),
        recipient="orders@example.com",
        correspondent=correspondent,
        envelope=Envelope(
            sender="alice@example.org",
            recipients=("orders@example.com",),
            user=user,
            checks=more.pop("checks", None),
            confirmed=more.pop("confirmed", False),
        ),
        upstream=Upstream(authserv_id=authserv_id, **more),
    ).auth


def test_a_login_proves() -> None:
    found = auth(FROM, user="Alice@Example.ORG", authserv_id=None)

    assert found == Auth(method="smtp", user="Alice@Example.ORG", source="smtp auth")
    assert found.authenticated


@pytest.mark.parametrize(
    ("results", "method"),
    [
        (f"{US}; dmarc=pass header.from=example.org", "dmarc"),
        (f"{US.upper()} 1; dmarc=pass (p=none dis=none) header.from=Example.ORG", "dmarc"),
        (f"{US}; spf=fail smtp.mailfrom=x@evil.example;\n dkim=pass header.d=example.org header.s=s", "dkim"),
        (f"{US}; dkim=fail header.d=example.org; dkim=pass header.i=@example.org", "dkim"),
        (f"{US}; spf=pass (sender is permitted) smtp.mailfrom=bounce@example.org", "spf"),
        (f"{US}; dkim=pass header.d=evil.example; spf=pass smtp.mailfrom=evil.example", ""),
        (f"{US}; dmarc=pass header.from=evil.example", ""),
        # Without header.from it is not known which From was looked at.
        (f"{US}; dmarc=pass", ""),
        (f"{US}; dmarc=pass; dkim=pass header.d=evil.example; spf=pass smtp.mailfrom=evil.example", ""),
        (f"{US}; dmarc=pass; dkim=fail header.d=example.org", ""),
        (f"{US}; dmarc=pass; dkim=pass header.d=example.org", "dmarc"),
        (f"{US}; spf=pass smtp.mailfrom=x@example.org; dmarc=pass", "dmarc"),
        (f"{US}; dmarc=pass header.from=sub.example.org", ""),
        (f"{US}; dmarc=pass header.from=evil.example; dkim=pass header.d=evil.example", ""),
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


@pytest.mark.parametrize(
    "name",
    [
        "mx.ban\u212a.example",
        "mx.bank.example\xa0x",
        "mx.bank.example\u2003x",
        "mx.bank.example\x0bx",
        "mx.bank.example\x85",
        "mx.bank.example\x1c",
        "\u2003mx.bank.example",
        "mx.ba(;)nk.example",
        "mx.ba(x)nk.example",
    ],
)
def test_a_name_that_is_nearly_the_border_s_is_a_stranger_s(name: str) -> None:
    """A border removes what has its own name, letter by letter; nothing else may pass for it here."""
    header = f"Received: a\nAuthentication-Results: {name}; dmarc=pass header.from=example.org\n{FROM}"
    assert not auth(header, authserv_id="mx.bank.example").authenticated
    plain = header.replace(name, "MX.bank.example 1")
    assert auth(plain, authserv_id="mx.bank.example").authenticated


def test_only_the_topmost_field_of_the_upstream_is_believed() -> None:
    """The upstream adds its own on top; what stands below may have come with the mail."""
    header = (
        "Authentication-Results: other.example; dmarc=pass\n"
        f"Authentication-Results: {US}; dmarc=fail header.from=example.org\n"
        f"Authentication-Results: {US}; dmarc=pass header.from=example.org\n{FROM}"
    )

    found = auth(header)
    assert (found.method, found.dmarc) == ("", Verdict("fail", "example.org"))
    assert found.source == f"authentication-results of {US}"


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
    )

    assert message.authenticated is proved
    assert message.auth.user == user


PASS = f"Authentication-Results: {US}; dmarc=pass header.from=example.org\n"
OWN, FOREIGN = f"Received: from x by {US}\n", "Received: from y by evil.example\n"


@pytest.mark.parametrize(
    ("header", "hops", "method"),
    [
        (PASS + OWN, 1, "dmarc"),
        # Some filters write below the Received line of their own MTA.
        (OWN + PASS + FOREIGN, 1, "dmarc"),
        (OWN + FOREIGN + PASS, 1, ""),
        # Who writes a Received line in our name only pushes their own words further down.
        (OWN + OWN + PASS, 1, ""),
        (OWN + OWN + PASS, 2, "dmarc"),
        (OWN + PASS, 0, ""),
        (PASS + OWN + FOREIGN * 40, 0, "dmarc"),
    ],
)
def test_results_below_a_received_line_of_strangers_are_not_believed(header: str, hops: int, method: str) -> None:
    assert auth(header + FROM, hops=hops).method == method


def test_two_filters_of_the_border_may_write_a_field_each() -> None:
    found = auth(
        f"Authentication-Results: {US}; dmarc=none header.from=example.org\n"
        f"Authentication-Results: {US};\n\tdkim=pass (2048-bit key)\n header.d=example.org header.s=a\n"
        f"Authentication-Results: {US}; arc=none; spf=softfail smtp.mailfrom=x@evil.example\n{FROM}"
    )

    assert found.method == "dkim"
    assert (found.dmarc, found.dkim) == (Verdict("none", "example.org"), Verdict("pass", "example.org"))
    assert (found.spf, found.arc) == (Verdict("softfail", "evil.example"), Verdict("none"))


def test_of_two_fields_the_upper_one_has_the_word_about_a_method() -> None:
    """The border did not strip a forged field: what it said itself holds."""
    found = auth(
        f"Authentication-Results: {US}; dkim=fail header.d=example.org; spf=fail smtp.mailfrom=a@example.org\n"
        f"Authentication-Results: {US}; dkim=pass header.d=example.org; spf=pass smtp.mailfrom=a@example.org\n{FROM}"
    )
    assert not found.authenticated


def test_a_pass_without_a_domain_rests_on_its_own_field_alone() -> None:
    header = (
        f"Authentication-Results: {US}; dmarc=pass\n"
        f"Authentication-Results: {US}; dkim=pass header.d=example.org\n{FROM}"
    )
    # What DKIM says counts by itself, and lends nothing to the other.
    assert auth(header).method == "dkim"


def test_the_policy_of_the_domain_has_the_last_word() -> None:
    """It may ask for strict alignment, which the border knows and we do not."""
    results = "dmarc=fail header.from=example.org; dkim=pass header.d=example.org; spf=pass smtp.mailfrom=example.org"
    assert not auth(f"Authentication-Results: {US}; {results}\n{FROM}").authenticated


def _registered(domain: str) -> str:
    labels = domain.split(".")
    return ".".join(labels[-3:]) if domain.endswith(".co.uk") and len(labels) > 2 else ".".join(labels[-2:])


@pytest.mark.parametrize(
    ("domain", "correspondent", "narrow", "relaxed"),
    [
        ("example.org", "a@example.org", True, True),
        ("example.org", "a@sub.example.org", True, True),
        ("mail.example.org", "a@example.org", False, True),
        ("mail.example.org", "a@sub.example.org", False, True),
        ("evil.co.uk", "a@good.co.uk", False, False),
        ("evil.co.uk", "a@co.uk", False, False),
        ("org", "a@example.org", False, False),
        ("", "a@example.org", False, False),
    ],
)
def test_alignment(domain: str, correspondent: str, narrow: bool, relaxed: bool) -> None:
    header = f"Authentication-Results: {US}; dkim=pass header.d={domain}\nFrom: {correspondent}\n"

    assert auth(header, correspondent=correspondent).authenticated == narrow
    assert auth(header, correspondent=correspondent, organization=_registered).authenticated == relaxed


def test_our_own_check_counts_where_nobody_we_believe_has_said_anything() -> None:
    checks = Checks(dkim=Verdict("pass", "example.org"), dmarc=Verdict("pass", "example.org"))

    own = auth(FROM, checks=checks)
    assert (own.method, own.source, own.dkim) == ("dmarc", "own check", checks.dkim)
    said = auth(f"Authentication-Results: {US}; dmarc=fail header.from=example.org\n{FROM}", checks=checks)
    assert (said.method, said.source) == ("", f"authentication-results of {US}")
    other = auth(FROM.replace("Example.org", "other.example"), checks=checks, correspondent="alice@other.example")
    assert not other.authenticated


def test_the_correspondent_s_own_word() -> None:
    found = auth(FROM, confirmed=True)
    assert (found.method, found.source) == ("confirmed", "confirmation")
    assert auth(FROM).source == "none"
    assert auth(PASS + FROM, confirmed=True).method == "dmarc"
