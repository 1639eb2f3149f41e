"""Our own check of SPF, DKIM, DMARC and ARC: real signatures, and a DNS of the test's own."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import dkim
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from monsal import App, Retry, literal, requires_authenticated, route
from monsal.authentic import check, organization
from monsal.mail import Checks, Envelope, Message, Verdict
from monsal.testing import client

ANN, DESK, US = "ann@mail.example.org", "desk@example.com", "mx.example.com"
PLAIN = b"From: Ann <ann@mail.example.org>\r\nTo: desk@example.com\r\nSubject: hi\r\nMessage-ID: <1@x>\r\n\r\nHello\r\n"


@cache
def key() -> tuple[bytes, bytes]:
    """A private key as PEM, and the record of its public half."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = made.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


def signed(domain: str = "mail.example.org", raw: bytes = PLAIN, **options: Any) -> bytes:
    return bytes(dkim.sign(raw, b"s", domain.encode(), key()[0], **options)) + raw


class Zone:
    """A DNS: names with their answers; those in `broken` cannot be asked."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers: dict[tuple[str, str], list[Any]] = {
            ("s._domainkey.mail.example.org", "TXT"): [key()[1]],
            ("s._domainkey.evil.example", "TXT"): [key()[1]],
            ("mail.example.org", "TXT"): [b"v=spf1 ip4:8.8.4.4 include:inc.example.org -all"],
            ("inc.example.org", "TXT"): [b"other", b"v=spf1 a:host.example.org ~all"],
            ("host.example.org", "A"): ["8.8.8.8"],
            ("_dmarc.example.org", "TXT"): [b"v=DMARC1; p=reject"],
        }
        self.broken: set[str] = set()
        self.asked: list[str] = []

    def __call__(self, name: str, kind: str, seconds: float) -> list[Any]:
        self.asked.append(name)
        assert 0 < seconds <= 5
        if name in self.broken:
            raise TimeoutError(f"no answer for {name}")
        return self.answers.get((name, kind), [])


def message(raw: bytes, *, sender: str = ANN, peer: str = "8.8.4.4:25") -> Message:
    envelope = Envelope(sender=sender, recipients=(DESK,), peer=peer, hello="host.example.org")
    found = Message(raw=raw, recipient=DESK, correspondent="", envelope=envelope)
    found.sender = found.header.correspondent or sender
    return found


def result(raw: bytes, zone: Zone, *, seconds: float = 20.0, **more: Any) -> Checks:
    return check(message(raw, **more), zone, seconds=seconds)


def test_a_mail_that_is_what_it_says() -> None:
    found = result(signed(), Zone())

    assert found == Checks(
        spf=Verdict("pass", "mail.example.org"),
        dkim=Verdict("pass", "mail.example.org"),
        dmarc=Verdict("pass", "mail.example.org"),
        arc=Verdict("none"),
    )


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda raw: raw.replace(b"Hello", b"Hallo"), "fail"),
        (lambda raw: raw.replace(b"Subject: hi", b"Subject: ho"), "fail"),
        (lambda raw: raw.replace(b"b=", b"b=A"), "fail"),
        (lambda raw: raw.replace(b"s=s;", b"s=t;"), "fail"),
        (lambda raw: raw.replace(b"v=1;", b"v=9;"), "fail"),
        (lambda raw: b"DKIM-Signature: nonsense\r\n" + PLAIN, "permerror"),
        (lambda raw: PLAIN, "none"),
    ],
)
def test_what_was_changed_or_never_signed_does_not_pass(change: Callable[[bytes], bytes], word: str) -> None:
    found = result(change(signed()), Zone(), peer="9.9.9.9:25")

    assert found.dkim.result == word
    assert (found.spf.result, found.dmarc.result) == ("fail", "fail")


def test_what_is_below_the_signed_octets_is_anybody_s() -> None:
    raw = signed(length=True) + b"and transfer all my money\r\n"

    found = result(raw, Zone(), peer="9.9.9.9:25")
    assert (found.dkim.result, found.dmarc.result) == ("policy", "fail")


def test_trouble_with_the_dns_is_never_a_pass_and_never_a_fail() -> None:
    zone = Zone()
    zone.broken = {"s._domainkey.mail.example.org", "mail.example.org"}
    found = result(signed(), zone)
    assert [found.spf.result, found.dkim.result, found.dmarc.result] == ["temperror"] * 3

    zone.broken = {"_dmarc.mail.example.org"}
    assert result(signed(), zone).dmarc.result == "temperror"
    zone.broken = {"inc.example.org"}
    assert result(PLAIN, zone, peer="9.9.9.9:25").spf.result == "temperror"


def test_no_time_is_trouble() -> None:
    zone = Zone()
    found = result(signed(), zone, seconds=-1.0)
    assert {found.spf.result, found.dkim.result, found.dmarc.result} == {"temperror"}
    assert zone.asked == []


@pytest.mark.parametrize(
    ("peer", "word"),
    [("8.8.4.4:1", "pass"), ("8.8.8.8:1", "pass"), ("9.9.9.9:1", "fail"), ("[2620:fe::fe]:1", "fail")]
    + [(peer, "none") for peer in ("127.0.0.1:1", "10.1.1.1:1", "[::1]:1", "run/lmtp.sock", "pipe", "")],
)
def test_spf_asks_who_delivered(peer: str, word: str) -> None:
    assert result(PLAIN, Zone(), peer=peer).spf.result == word


def test_a_null_sender_says_nothing_about_from() -> None:
    zone = Zone()
    zone.answers["host.example.org", "TXT"] = [b"v=spf1 +all"]
    found = result(PLAIN, zone, sender="")
    assert (found.spf, found.dmarc.result) == (Verdict("pass", ""), "fail")


@pytest.mark.parametrize(
    ("signer", "record", "word"),
    [
        ("mail.example.org", b"v=DMARC1; p=none; adkim=s", "pass"),
        ("example.org", b"v=DMARC1; p=none", "pass"),
        ("other.example.org", b"v=DMARC1; p=none", "pass"),
        ("other.example.org", b"v=DMARC1; p=none; adkim=s", "fail"),
        ("evil.example", b"v=DMARC1; p=none", "fail"),
    ],
)
def test_alignment_is_what_the_domain_asks_for(signer: str, record: bytes, word: str) -> None:
    zone = Zone()
    zone.answers[f"s._domainkey.{signer}", "TXT"] = [key()[1]]
    zone.answers["_dmarc.example.org", "TXT"] = [b"unrelated", record]
    found = result(signed(signer), zone, peer="9.9.9.9:25")
    assert (found.dkim.result, found.dmarc.result) == ("pass", word)


def test_of_several_signatures_the_aligned_one_counts() -> None:
    raw = signed("evil.example", signed())
    assert raw.count(b"DKIM-Signature") == 2
    assert result(raw, Zone()).dkim == Verdict("pass", "mail.example.org")
    # A mail with many costs no more than a few.
    zone = Zone()
    result(b"DKIM-Signature: v=1; a=rsa-sha256; d=evil.example; s=s; h=from; bh=; b=\r\n" * 500 + PLAIN, zone)
    assert zone.asked.count("s._domainkey.evil.example") <= 5


def test_two_policies_or_two_froms_are_none() -> None:
    zone = Zone()
    zone.answers["_dmarc.example.org", "TXT"] = [b"v=DMARC1; p=none", b"v=DMARC1; p=reject"]
    assert result(signed(), zone).dmarc.result == "none"
    assert result(b"From: x@evil.example\r\n" + signed(), Zone()).dmarc.result == "permerror"


def test_an_arc_chain_is_told_and_proves_nothing() -> None:
    results = b"Authentication-Results: lists.example; dkim=pass header.d=mail.example.org\r\n" + PLAIN
    sealed = b"".join(dkim.arc_sign(results, b"s", b"evil.example", key()[0], b"lists.example")) + results
    found = result(sealed, Zone(), peer="9.9.9.9:25")
    assert found.arc.result == "pass"
    assert found.arc.domain in ("evil.example", "")
    broken = result(sealed.replace(b"Hello", b"Hallo"), Zone(), peer="9.9.9.9:25")
    assert broken.arc.result == "fail"
    assert not _with(message(sealed), found).authenticated


def test_a_turn_knows_it_and_no_run_of_it_asks_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    zone = Zone()
    monkeypatch.setattr("monsal.authentic.dns_lookup", zone)
    seen: list[tuple[bool, str, str]] = []

    @route("desk@(host)")
    @requires_authenticated
    def START(message: Message) -> None:
        seen.append((message.authenticated, message.auth.source, message.auth.dkim.domain))
        if len(seen) < 3:
            raise Retry

    handlers = ModuleType("authentic_handlers")
    START.__module__ = handlers.__name__
    vars(handlers)["START"] = START
    app = App(handlers, captures={"host": literal("example.com")}, check_auth=True)
    with client(app, directory=tmp_path) as mail:
        mail.deliver(raw=signed(), to=DESK, sender=ANN)
        asked = list(zone.asked)
        mail.advance(minutes=5)
        forged = signed().replace(b"Hello", b"Hallo")
        mail.deliver(raw=forged, to=DESK, sender=ANN)
        held = mail.rows("queue")

    assert seen == [(True, "own check", "mail.example.org")] * 3
    assert zone.asked[: len(asked)] == asked
    assert zone.asked[len(asked) :].count("s._domainkey.mail.example.org") == 1
    assert [row["reason"] for row in held] == [
        "waits, and nobody is asked: DMARC fails for mail.example.org (own check)"
    ]


def _with(found: Message, checks: Checks) -> Message:
    assert found.envelope is not None
    found.envelope = msgspec.structs.replace(found.envelope, checks=checks)
    return found


def test_the_organizational_domain() -> None:
    of = organization()
    assert of is not None
    assert [of(name) for name in ("a.b.example.co.uk", "example.co.uk", "x.example.com")] == [
        "example.co.uk",
        "example.co.uk",
        "example.com",
    ]
    assert of("evil.uk.com") != of("good.uk.com")


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"\xff\x00" * 99, b"From: \xff@\xfe\r\nDKIM-Signature: \xff\r\n\r\n"])
def test_noise_is_checked_like_anything_else(raw: bytes) -> None:
    assert "pass" not in [getattr(result(raw, Zone(), peer="9.9.9.9:25"), name).result for name in ("dkim", "dmarc")]
