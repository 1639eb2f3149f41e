"""`salmon.mail` and `salmon.encoding`: what is read is what was written; no stranger's mail is an error."""

from __future__ import annotations

import email
import importlib
from email import encoders
from pathlib import Path
from typing import Any

import pytest

WORDS = "Hévy Métål"
SIGNED = (
    b"Received: from c\r\nReceived: from b\r\nReceived: from a\r\nDKIM-Signature: v=1;\r\n\tb=abc\r\n"
    b"From: Ann <ann@example.net>\r\nTo: desk@example.com\r\nSubject: =?utf-8?q?P=C3=B6stal?=\r\n\r\nHi\r\n"
)


@pytest.fixture
def mail() -> Any:
    return importlib.import_module("salmon.mail")


@pytest.fixture
def encoding() -> Any:
    return importlib.import_module("salmon.encoding")


def test_the_envelope_says_who(mail: Any) -> None:
    found = mail.MailRequest("peer", '"Ann A" <Ann@Example.NET>', ["<To@x.org>", "b@x.org"], "Hi.")
    assert (found.Peer, found.From, found.To) == ("peer", "Ann@Example.NET", "To@x.org")
    assert (found["from"], found["TO"], found.body()) == ("Ann@Example.NET", "To@x.org", "Hi.")
    assert (found.original, found.Data) == ("Hi.", "Hi.")
    for _ in range(5):
        assert mail.MailRequest(None, None, ["c@x", "a@x", "b@x"], "").To == "c@x", "the first, not any"


def test_without_an_envelope_the_header_says_who(mail: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = 'From: "A" <a@x.org>\nTo: "B" <b@x.org>, c@x.org\nDelivered-To: d@x.org\n\nHi\n'
    found = mail.MailRequest(None, None, None, data)
    assert (found.From, found.To, found["to"]) == ("a@x.org", "b@x.org", '"B" <b@x.org>, c@x.org')
    monkeypatch.setattr(mail, "ROUTABLE_TO_HEADER", "delivered-to")
    assert mail.MailRequest(None, None, None, data).To == "d@x.org"
    nobody = mail.MailRequest(None, None, None, "")
    assert (nobody.From, nobody.To, nobody.keys()) == ("", "", [])


def test_headers_by_name(mail: Any) -> None:
    found = mail.MailRequest("p", "a@x", "b@x", SIGNED)
    assert (found["SUBJECT"], found.get_all("received")) == ("Pöstal", ["from c", "from b", "from a"])
    found["x-new"] = WORDS
    found["x-other"] = None
    del found["received"]
    assert "Received" not in found
    assert found.keys() == ["Dkim-Signature", "From", "To", "Subject", "X-New"]
    assert found.items()[-2:] == [("Subject", "Pöstal"), ("X-New", WORDS)]
    assert [*found] == found.keys()
    assert found["nothing"] is None


def test_what_nobody_changed_stays_as_it_came(mail: Any) -> None:
    """Given a signed mail with repeated fields, it is written byte for byte, until something is set."""
    found = mail.MailRequest("p", "a@x", "b@x", SIGNED)
    assert bytes(found) == SIGNED
    assert str(found) == SIGNED.decode()
    found["X-Tag"] = "1"
    again = email.message_from_bytes(bytes(found))
    assert again.get_all("Received") == ["from c", "from b", "from a"]
    assert again["X-Tag"] == "1"


def test_addresses_in_all_kinds_of_lists(mail: Any, encoding: Any) -> None:
    assert mail._decode_header_randomness(None) == set()
    assert mail._decode_header_randomness([b"Z@x", '"Z A" <z@x>']) == {"z@x"}
    with pytest.raises(encoding.EncodingError):
        mail._decode_header_randomness([1])


@pytest.mark.parametrize(
    ("parts", "types"),
    [
        ({"Body": "text"}, ["text/plain"]),
        ({"Html": "<p>"}, ["text/html"]),
        ({}, ["text/plain"]),
        ({"Body": "text", "Html": "<p>"}, ["multipart/alternative", "text/plain", "text/html"]),
    ],
)
def test_a_response(mail: Any, parts: dict[str, str], types: list[str]) -> None:
    made = mail.MailResponse(To="a@x.org", From="b@x.org", Subject=WORDS, **parts)
    parsed = email.message_from_string(str(made))
    assert [part.get_content_type() for part in parsed.walk()] == types
    assert mail.MailRequest(None, None, None, bytes(made))["subject"] == WORDS
    assert str(made).isascii()


def test_attachments(mail: Any, ancestor: Path) -> None:
    (ancestor / "a.png").write_bytes(b"\x89PNG\r\n\xff")
    (ancestor / "n.txt").write_text(WORDS, encoding="utf-8")
    made = mail.MailResponse(To="a@x.org", From="b@x.org", Subject="s", Body="text", Html="<p>")
    made.attach(filename="a.png")
    made.attach(filename="n.txt", disposition="inline")
    made.attach(data="x", content_type="text/csv")
    with pytest.raises(TypeError):
        made.attach()
    with pytest.raises(TypeError):
        made.attach(filename="nothing.png")
    with pytest.raises(ValueError, match="content type"):
        made.attach(data="x")
    parsed = [part for part in email.message_from_bytes(bytes(made)).walk() if not part.is_multipart()]
    assert [part.get_content_type() for part in parsed] == [
        "text/plain",
        "text/html",
        "image/png",
        "text/plain",
        "text/csv",
    ]
    assert parsed[2].get_payload(decode=True) == b"\x89PNG\r\n\xff"
    assert (parsed[2].get_filename(), parsed[2].get_content_disposition()) == ("a.png", "attachment")
    assert parsed[3].get_payload(decode=True).decode("utf-8") == WORDS
    assert parsed[3].get_content_disposition() == "inline"
    read = mail.MailRequest(None, None, None, bytes(made))
    assert [part.body for part in read.walk() if not part.parts][3] == WORDS
    copy = mail.MailResponse(To="c@x.org", From="b@x.org", Subject="s")
    copy.attach_all_parts(read)
    assert len([*copy.to_message().walk()]) == len([*read.to_message().walk()])
    made.clear()
    assert made.attachments == []
    assert made.to_message().get_content_type() == "multipart/alternative"


def test_headers_of_many(mail: Any) -> None:
    made = mail.MailResponse(To=["a@x.org", "b@x.org"][0], From="c@x.org", Body="b")
    made.update({"Test": "1", "List-Id": "<l.x.org>"})
    assert (made["test"], "list-id" in made, made.keys()) == ("1", True, ["To", "From", "Test", "List-Id"])


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("=?iso-8859-1?B?SOlhdnkgTel05WwgVW7uY/hk?=\n\t=?iso-8859-1?Q?=E9?=", "Héavy Métål Unîcødé"),
        ('"=?koi8-r?B?5MXMz9DSz8na18/E09TXzw==?=" <d@x.org>', '"Делопроизводство" <d@x.org>'),
        ("I am just normal.", "I am just normal."),
        ("=?nothing?q?a=FFb?=", None),
    ],
)
def test_words_in_headers(encoding: Any, written: str, text: str | None) -> None:
    found = encoding.header_from_mime_encoding(written)
    assert text is None or found == text
    again = encoding.header_to_mime_encoding(found)
    assert again.isascii()
    assert encoding.header_from_mime_encoding(again) == found
    assert ("<" in again) == ("<" in found), "an address stays readable"
    assert encoding.header_from_mime_encoding(None) is None
    assert encoding.header_from_mime_encoding([written, written]) == [found, found]


def test_a_mail_base(encoding: Any) -> None:
    base = encoding.MailBase()
    base["subJect"] = "p\xf6stal"
    base["Content-Type"] = "text/plain; charset=iso-8859-1"
    base["MIME-Version"] = "1.0"
    assert base.keys() == ["Subject", "Mime-Version", "Content-Type"]
    assert base["content-type"] == 'text/plain; charset="iso-8859-1"'
    assert base.content_encoding["Content-Type"] == ("text/plain", {"charset": "iso-8859-1"})
    base.append_header("subject", "second")
    assert (base["subject"], base.get_all("Subject")) == ("p\xf6stal", ["p\xf6stal", "second"])
    base.body = "p\xf6stal"
    again = encoding.from_message(encoding.to_message(base))
    assert (again.body, again.items()) == (base.body, base.items())
    assert encoding.from_string(encoding.to_string(base)).body.strip() == "p\xf6stal"
    base.attach_text("more", "text/plain")
    with pytest.raises(encoding.EncodingError):
        encoding.to_message(base)


def test_types_are_checked_and_parts_are_kept(encoding: Any) -> None:
    base = encoding.MailBase()
    for attempt in (lambda: base.attach_text("x", "text/pLAIn"), lambda: base.attach_file("n", "x", "IMAGE/png")):
        with pytest.raises(encoding.EncodingError):
            attempt()
    picture = encoding.MIMEPart("image/png")
    picture.set_payload(b"\x00\xff")
    encoders.encode_base64(picture)
    multi = encoding.MIMEPart("multipart/mixed")
    multi.attach(picture)
    assert encoding.from_message(multi).parts[0].body == b"\x00\xff"
    with pytest.raises(TypeError):
        encoding.MIMEPart("nothing")


@pytest.mark.parametrize(
    "data",
    [
        b"Content-Type: text/plain; charset=nothing\n\n\xff\xfe",
        b"Content-Type: text/plain; charset=utf-8\n\n\xff\xfe\x00",
        b"Content-Type: multipart/mixed\n\nno boundary",
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n",
        b"Content-Transfer-Encoding: base64\n\n=)(&%",
        b"Content-Type: x\nSubject: =?utf-8?b?////?= \xff\n\n\x80",
        b"\x00\xff",
        b"",
    ],
)
def test_no_mail_is_an_error(mail: Any, encoding: Any, data: bytes) -> None:
    """Given mails that no program should write, they can be read, shown, answered with and written again."""
    found = mail.MailRequest("p", "a@x", "b@x", data)
    found["X-Tag"] = "1"
    assert repr(found)
    assert found.is_bounce() in (True, False)
    assert encoding.from_string(bytes(found))["x-tag"] == "1"
    assert [*found.items(), *found.walk(), found.body()]


def test_guesses(encoding: Any) -> None:
    assert encoding.attempt_decoding("nothing", "text") == "text"
    assert encoding.attempt_decoding("latin-1", b"\xe9") == "é"
    assert encoding.attempt_decoding("ascii", WORDS.encode()) == WORDS
    with pytest.raises(encoding.EncodingError):
        encoding.guess_encoding_and_decode("ascii", "no bytes")
    with pytest.raises(encoding.EncodingError):
        encoding.apply_charset_to_header("ascii", "X", "bad")
    assert encoding.chardet is None or encoding.chardet.detect


def test_a_detector_of_the_applications_own_is_asked(encoding: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Detector:
        answer: dict[str, Any] = {"encoding": "koi8-r", "confidence": 0.9}

        def detect(self, data: bytes) -> dict[str, Any]:
            return self.answer

    charsets = importlib.import_module("monsal.compat.salmon.charsets")
    monkeypatch.setattr(charsets, "chardet", Detector())
    assert encoding.guess_encoding_and_decode("ascii", "Дело".encode("koi8-r")) == "Дело"
    for answer in ({"encoding": None, "confidence": 0.0}, {"encoding": "utf-8", "confidence": 0.9}):
        Detector.answer = answer
        with pytest.raises(encoding.EncodingError):
            encoding.guess_encoding_and_decode("ascii", b"\xff")
