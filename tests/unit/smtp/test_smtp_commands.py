"""Command lines: what is understood, what is tolerated, what is refused."""

from __future__ import annotations

import time

import pytest

from monsal.smtp.commands import decode_line, parse_hello, parse_mail, parse_rcpt
from monsal.smtp.events import MailFrom, RcptTo
from monsal.smtp.replies import Reply


@pytest.mark.parametrize(
    ("argument", "address"),
    [
        (b"FROM:<ann@example.com>", "ann@example.com"),
        (b"from:<Ann@Example.COM>", "Ann@Example.COM"),
        (b"FROM: <ann@example.com>", "ann@example.com"),
        (b"FROM:<ann@example.com>   ", "ann@example.com"),
        (b"FROM:<>", ""),
        (b"FROM:<@relay.example,@other.example:ann@example.com>", "ann@example.com"),
        (b'FROM:<"a b"@example.com>', '"a b"@example.com'),
        (b'FROM:<"a\\"b>c@d"@example.com>', '"a\\"b>c@d"@example.com'),
        (b"FROM:<ann@[192.0.2.1]>", "ann@[192.0.2.1]"),
        (b"FROM:<ann@[IPv6:2001:db8::1]>", "ann@[IPv6:2001:db8::1]"),
        (b"FROM:<o'neil+tag!x#y@example.com>", "o'neil+tag!x#y@example.com"),
        (b"FROM:<" + b"l" * 64 + b"@" + b"d" * 60 + b".example>", "l" * 64 + "@" + "d" * 60 + ".example"),
    ],
)
def test_reverse_paths(argument: bytes, address: str) -> None:
    assert parse_mail(argument, True) == MailFrom(address)


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (b"", 501),
        (b"FROM", 501),
        (b"FROM:", 501),
        (b"FROM:ann@example.com", 501),
        (b"FROM:<ann@example.com", 501),
        (b"FROM:ann@example.com>", 501),
        (b"FROM:<ann@example.com>x", 501),
        (b"FROM:<ann@example.com>SIZE=1", 501),
        (b"FROM:<<ann@example.com>>", 501),
        (b"FROM:<ann@example.com> <bob@example.com>", 501),
        (b"TO:<ann@example.com>", 501),
        (b"FROM:<a b@example.com>", 501),
        (b'FROM:<"ann@example.com>', 501),
        (b"FROM:<ann>", 553),
        (b"FROM:<postmaster>", 553),
        (b"FROM:<@example.com>", 553),
        (b"FROM:<ann@>", 553),
        (b"FROM:<ann@example..com>", 553),
        (b"FROM:<ann@-example.com>", 553),
        (b"FROM:<a@b@example.com>", 553),
        (b"FROM:<" + b"l" * 400 + b"@example.com>", 553),
        ("FROM:<jürgen@example.com>".encode(), 553),
        (b"FROM:<ann\x00@example.com>", 500),
        (b"FROM:<ann@example.com>\nRCPT TO:<bob@example.com>", 500),
        (b"FROM:<ann@example.com>\rRCPT TO:<bob@example.com>", 500),
        (b"FROM:<ann\xff@example.com>", 500),
    ],
)
def test_refused_reverse_paths(argument: bytes, code: int) -> None:
    refusal = parse_mail(argument, True)

    assert isinstance(refusal, Reply)
    assert refusal.code == code
    assert refusal.enhanced is not None


def test_parameters() -> None:
    mail = parse_mail("FROM:<jürgen@example.com> size=123  BODY=8bitmime SMTPUTF8".encode(), True)

    assert mail == MailFrom(
        "jürgen@example.com", 123, "8BITMIME", True, (("SIZE", "123"), ("BODY", "8bitmime"), ("SMTPUTF8", ""))
    )


@pytest.mark.parametrize(
    ("params", "code"),
    [
        (b"SIZE=", 501),
        (b"SIZE", 501),
        (b"SIZE=-1", 501),
        (b"SIZE=1e3", 501),
        (b"SIZE=123456789012345678901", 501),
        (b"SIZE=1 SIZE=2", 501),
        (b"=1", 501),
        (b"BODY=9BIT", 555),
        (b"BODY", 555),
        (b"SMTPUTF8=yes", 555),
        (b"AUTH", 555),
        (b"RET=HDRS", 555),
        (b"X-UNKNOWN", 555),
    ],
)
def test_refused_parameters(params: bytes, code: int) -> None:
    refusal = parse_mail(b"FROM:<ann@example.com> " + params, True)

    assert isinstance(refusal, Reply)
    assert refusal.code == code


def test_parameters_need_ehlo() -> None:
    """RFC 5321, section 4.1.1.11: parameters belong to negotiated extensions."""
    refusal = parse_mail(b"FROM:<ann@example.com> SIZE=1", False)

    assert isinstance(refusal, Reply)
    assert refusal.code == 555
    assert parse_mail(b"FROM:<ann@example.com>", False) == MailFrom("ann@example.com")


@pytest.mark.parametrize(
    ("argument", "address"),
    [
        (b"TO:<order@example.org>", "order@example.org"),
        (b"to: <order@example.org>", "order@example.org"),
        (b"TO:<postmaster>", "postmaster"),
        (b"TO:<PostMaster>", "PostMaster"),
        (b"TO:<@a.example:order@example.org>", "order@example.org"),
    ],
)
def test_forward_paths(argument: bytes, address: str) -> None:
    assert parse_rcpt(argument, False) == RcptTo(address)


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (b"TO:<>", 553),
        (b"TO:<order>", 553),
        (b"TO:<order@example.org> NOTIFY=NEVER", 555),
        (b"TO:<order@example.org> ==", 501),
        (b"FROM:<order@example.org>", 501),
        (b"TO:<order@example.org>\r\r", 500),
        ("TO:<jürgen@example.org>".encode(), 553),
    ],
)
def test_refused_forward_paths(argument: bytes, code: int) -> None:
    refusal = parse_rcpt(argument, False)

    assert isinstance(refusal, Reply)
    assert refusal.code == code


def test_addresses_beyond_ascii_need_smtputf8() -> None:
    """RFC 6531, section 3.5."""
    without = parse_rcpt("TO:<jürgen@example.org>".encode(), False)

    assert isinstance(without, Reply)
    assert without.enhanced == "5.6.7"
    assert parse_rcpt("TO:<jürgen@example.org>".encode(), True) == RcptTo("jürgen@example.org")


@pytest.mark.parametrize("name", ["client.example", "[192.0.2.1]", "[IPv6:::1]", "x", "_under_score", "-"])
def test_names_of_clients(name: str) -> None:
    assert parse_hello(name) == name


@pytest.mark.parametrize("name", ["", "two words", "x" * 256, "münchen.example"])
def test_refused_names_of_clients(name: str) -> None:
    assert isinstance(parse_hello(name), Reply)


@pytest.mark.parametrize(("line", "text"), [(b"", ""), (b"x  ", "x"), (b"x\t ", "x"), ("é".encode(), "é")])
def test_lines(line: bytes, text: str) -> None:
    assert decode_line(line) == text


@pytest.mark.parametrize(
    "line", [b"\x00", b"a\tb", b"a\x7f", b"\xff", b"a\rb", b"a\nb", "a\u2028b".encode(), b"\x1b[2J"]
)
def test_lines_that_hide_something(line: bytes) -> None:
    refusal = decode_line(line)

    assert isinstance(refusal, Reply)
    assert refusal.code == 500


@pytest.mark.quiet
@pytest.mark.parametrize(
    "hostile",
    [
        b"FROM:<" + b"a" * 1000,
        b"FROM:<" + b'"a"' * 300,
        b'FROM:<"' + b"\\a" * 450,
        b"FROM:" + b" " * 1000,
        b"FROM:<@a:" * 100,
        b"FROM:<a@b> " + b"A=" * 450,
        b"FROM:<" + b"a." * 160 + b"@",
        b"FROM:<a@" + b"a-" * 160 + b">",
    ],
)
def test_a_hostile_line_costs_linear_time(hostile: bytes) -> None:
    started = time.process_time()
    assert isinstance(parse_mail(hostile, True), Reply)
    assert time.process_time() - started < 0.1
