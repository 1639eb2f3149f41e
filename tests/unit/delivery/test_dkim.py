"""DKIM signatures, judged by dkimpy: both algorithms, any mail, changed white space; and the keys of them."""

from __future__ import annotations

import os
from pathlib import Path

import dkim
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.cli.root import cli
from monsal.delivery.dkim import Algorithm, dns_record, key_files, make_key, open_signer
from monsal.errors import ConfigError
from monsal.mail.dkim import canonical_body, canonical_field

MAIL = (
    b"From: Desk <desk@example.com>\r\nTo: ann@example.net\r\nSubject: a long\r\n  folded\tsubject \r\n"
    b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.com>\r\nX-Other: not signed\r\n"
    b"\r\nHello  world \r\n\r\n.dot\r\n\r\n\r\n"
)
NOW = 1_767_225_600.0


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a key of each algorithm."""
    directory = tmp_path_factory.mktemp("dkim")
    make_key(directory, "rsa1", "rsa")
    make_key(directory, "ed1", "ed25519")
    return directory


def verify(raw: bytes, keys: Path, *, index: int = 0) -> bool:
    """Whether dkimpy finds the signature in order, with the records that we print."""
    records = {f"{path.stem}._domainkey.example.com.": dns_record(path).encode() for path in keys.glob("*.pem")}
    try:
        return bool(dkim.DKIM(raw).verify(index, dnsfunc=lambda name, timeout=5: records.get(name.decode())))
    except dkim.ValidationError:
        return False


def test_both_signatures_are_in_order(keys: Path) -> None:
    signed = open_signer(keys)(MAIL, "desk@example.com", NOW)
    assert signed.endswith(MAIL)
    assert signed.count(b"DKIM-Signature:") == 2
    assert verify(signed, keys, index=0)
    assert verify(signed, keys, index=1)
    assert all(len(line) < 100 for line in signed.removesuffix(MAIL).split(b"\r\n"))


def test_the_same_mail_gets_the_same_signature(keys: Path) -> None:
    """P2: what is sent again is the same to the byte, whoever rendered it."""
    assert open_signer(keys)(MAIL, "desk@example.com", NOW) == open_signer(keys)(MAIL, "desk@example.com", NOW)


@pytest.mark.parametrize(
    "change",
    [
        (b"Hello  world", b"Hello worlds"),
        (b"ann@example.net", b"eve@example.net"),
        (b"From: Desk", b"From: Eve <eve@example.com>\r\nFrom: Desk"),
        (b"Subject: a", b"Subject: another\r\nSubject: a"),
    ],
)
def test_a_changed_mail_is_found_out(keys: Path, change: tuple[bytes, bytes]) -> None:
    signed = open_signer(keys)(MAIL, "desk@example.com", NOW)
    assert not verify(signed.replace(*change), keys)


def test_what_mail_servers_do_to_white_space_does_not_matter(keys: Path) -> None:
    signed = open_signer(keys)(MAIL, "desk@example.com", NOW)
    relayed = signed.replace(b"a long\r\n  folded\tsubject ", b"a long folded subject").replace(b"world ", b"world")
    assert verify(b"Received: from here\r\n" + relayed.rstrip(b"\r\n") + b"\r\n", keys)


@settings(max_examples=60, deadline=None)
@given(
    body=st.lists(st.text(alphabet="ab \t.\r\n", max_size=12), max_size=6).map("\r\n".join).map(str.encode),
    subject=st.text(alphabet="ab \t", max_size=20).map(str.encode),
)
def test_any_body_and_field(keys: Path, body: bytes, subject: bytes) -> None:
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n"
    raw = b"From: desk@example.com\r\nSubject: " + subject + b"\r\n\r\n" + lines
    assert verify(open_signer(keys)(raw, "desk@example.com", NOW), keys)


def test_the_examples_of_the_standard() -> None:
    """RFC 6376, section 3.4.6, example 1."""
    assert canonical_field(b"A: X") == b"a:X"
    assert canonical_field(b"B : Y\t\r\n\tZ  ") == b"b:Y Z"
    assert canonical_body(b" C \r\nD \t E\r\n\r\n\r\n") == b" C\r\nD E\r\n"
    assert canonical_body(b"") == canonical_body(b"\r\n\r\n") == b""
    assert canonical_body(b"x") == b"x\r\n"


def test_only_the_domain_that_signs(keys: Path) -> None:
    signer = open_signer(keys, domain="Example.com")
    assert b"d=example.com;" in signer(MAIL, "a@example.com", NOW)
    assert b"d=example.com;" in signer(MAIL, "a@Sub.Example.com", NOW)
    assert signer(MAIL, "a@notexample.com", NOW) == signer(MAIL, "a@example.com.evil", NOW) == MAIL
    assert b"d=xn--bcher-kva.example;" in open_signer(keys)(MAIL, "a@bücher.example", NOW)


class TestKeys:
    def test_the_newest_of_each_algorithm_signs(self, tmp_path: Path) -> None:
        kinds: list[tuple[str, Algorithm]] = [("old", "ed25519"), ("new", "ed25519"), ("other", "rsa")]
        for age, (selector, algorithm) in enumerate(kinds):
            os.utime(make_key(tmp_path / "keys", selector, algorithm), (age, age))
        assert [key.selector for key in open_signer(tmp_path / "keys").keys] == ["other", "new"]
        assert [path.stem for path in key_files(tmp_path / "keys")] == ["other", "new", "old"]
        alone = open_signer(tmp_path / "keys" / "old.pem", selector="named")
        assert [key.selector for key in alone.keys] == ["named"]

    @pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
    def test_a_key_that_others_may_read_is_refused(self, tmp_path: Path, mode: int) -> None:
        path = make_key(tmp_path, "a", "ed25519")
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(mode)
        with pytest.raises(ConfigError, match="others may read it"):
            open_signer(tmp_path)
        path.chmod(0o640)
        assert open_signer(tmp_path).keys

    def test_what_is_no_key(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            open_signer(tmp_path / "none.pem")
        with pytest.raises(ConfigError, match="has no key"):
            open_signer(tmp_path)
        (tmp_path / "a.pem").touch(0o600)
        with pytest.raises(ConfigError, match="no private key"):
            open_signer(tmp_path)
        with pytest.raises(ConfigError, match="no selector"):
            make_key(tmp_path, "a b", "rsa")
        make_key(tmp_path, "b", "ed25519")
        with pytest.raises(ConfigError, match="there already"):
            make_key(tmp_path, "b", "ed25519")


def test_the_command_makes_a_key_and_prints_its_record(tmp_path: Path) -> None:
    (tmp_path / "monsal.toml").write_text('dkim_key = "keys"\ndkim_domain = "example.com"\n', encoding="utf-8")
    made = CliRunner().invoke(cli, ["dkim", "new", "rsa1", "--dir", str(tmp_path)])
    assert made.exit_code == 0, made.output
    assert made.stdout.startswith('rsa1._domainkey.example.com. IN TXT "v=DKIM1; k=rsa; p=')
    text = "".join(made.stdout.split("TXT ")[1].strip().strip('"').split('" "'))
    assert text == dns_record(tmp_path / "keys" / "rsa1.pem")
    listed = CliRunner().invoke(cli, ["dkim", "--dir", str(tmp_path)])
    assert listed.stdout == made.stdout
    signed = open_signer(tmp_path / "keys", domain="example.com")(MAIL, "desk@example.com", NOW)
    assert verify(signed, tmp_path / "keys")
