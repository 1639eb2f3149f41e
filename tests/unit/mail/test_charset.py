"""Text out of bytes that nobody vouches for."""

from __future__ import annotations

import pytest

from monsal.mail.charset import clean, decode_base64, decode_header, decode_text, encode_words


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        (b"plain", None, "plain"),
        ("grün".encode(), "utf-8", "grün"),
        ("grün".encode("cp1252"), "ISO-8859-1", "grün"),
        ("“x”".encode("cp1252"), "iso-8859-1", "“x”"),
        ("grün".encode(), "us-ascii", "grün"),
        ("grün".encode("cp1252"), "us-ascii", "grün"),
        ("日本".encode("iso-2022-jp"), "iso-2022-jp", "日本"),
        ("日本".encode("shift_jis"), '"Shift_JIS"', "日本"),
        ("привет".encode("koi8-r"), "koi8-r", "привет"),
        ("x".encode("utf-16"), "utf-16", "x"),
        (b"\xef\xbb\xbfx", "utf-8", "x"),
        (b"\x81", None, "\ufffd"),
        # Wrong declarations: UTF-8 said to be something in which any byte is a character.
        ("grün".encode(), "iso-8859-1", "grün"),
        ("привет".encode(), "koi8-r", "привет"),
        ("grün".encode(), "windows-1250", "grün"),
        ("日本語".encode("iso-2022-jp"), None, "日本語"),
        ("日本語".encode("iso-2022-jp"), "us-ascii", "日本語"),
        ("中文".encode("gb18030"), "gb2312", "中文"),
        ("联通".encode("gbk"), "gbk", "联通"),
        ("中文".encode("big5"), "CN-Big5", "中文"),
        ("Grüße".encode("utf-7"), "unicode-1-1-utf-7", "Grüße"),
    ],
)
def test_the_declared_set_then_utf8_then_windows_1252(data: bytes, charset: str | None, text: str) -> None:
    assert decode_text(data, charset) == text


@pytest.mark.parametrize(
    "charset",
    [
        "idna",
        "punycode",
        "unknown-8bit",
        "base64",
        "rot13",
        "zlib",
        "undefined",
        "unicode_escape",
        "utf-8\0",
        "",
        "x" * 99,
    ],
)
def test_what_is_no_character_set_is_not_used(charset: str) -> None:
    assert decode_text(b"aGk=\\u0041 \xc3\xa4", charset) == "aGk=\\u0041 ä"


def test_a_codec_that_makes_surrogates_makes_none_here() -> None:
    assert decode_text(b"+2AA-", "utf-7") == "\ufffd"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?gr=C3=BCn?=", "grün"),
        ("=?UTF-8?B?Z3LDvG4=?=", "grün"),
        ("Re: =?utf-8?q?gr=C3=BCn?= und blau", "Re: grün und blau"),
        ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        ("=?utf-8?q?a?=  x =?utf-8?q?b?=", "a  x b"),
        ("=?utf-8?b?w6Q=?= =?iso-8859-1?q?=E4?=", "ää"),
        # A character cut in two by the sender.
        ("=?utf-8?q?=C3?= =?utf-8?q?=A4?=", "ä"),
        # Language of RFC 2231; spaces and missing padding against the rules.
        ("=?utf-8*en?q?a_b?=", "a b"),
        ("=?utf-8?q?a b?=", "a b"),
        ("=?utf-8?b?Z3LDvG4?=", "grün"),
        ("=?idna?q?x=2E?=", "x."),
        ("=?utf-8?b?!?=", ""),
        ("=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
        ("=?utf-8?q?a", "=?utf-8?q?a"),
    ],
)
def test_encoded_words(value: str, text: str) -> None:
    assert decode_header(value) == text


def test_an_encoded_word_cannot_smuggle_a_line_end() -> None:
    assert decode_header("=?utf-8?q?x=0D=0ABcc:_all=00?=") == "x  Bcc: all "


def test_clean_keeps_what_can_be_shown() -> None:
    assert clean("a\tb\x85c\u2028d\u00a0é👍\ud800") == "a b c d\u00a0é👍 "


@pytest.mark.parametrize(
    ("data", "decoded"),
    [
        (b"aGVs\r\nbG8=", b"hello"),
        (b"aGVsbG8", b"hello"),
        (b"aG!Vs*bG8=", b"hello"),
        (b"aGVsb", b"hel"),
        (b"", b""),
    ],
)
def test_base64_with_noise(data: bytes, decoded: bytes) -> None:
    assert decode_base64(data) == decoded


def test_encoded_words_are_short_and_cut_no_character() -> None:
    text = "Grüße an alle 👍 " * 20

    words = encode_words(text, 10)

    assert all(len(word) <= 75 for word in words)
    assert all(decode_header(word).encode() in text.encode() for word in words)
    assert decode_header("\r\n ".join(words).replace("\r\n", "")) == text
