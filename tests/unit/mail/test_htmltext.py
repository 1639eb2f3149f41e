"""HTML as people read it."""

from __future__ import annotations

import pytest

from monsal.mail.htmltext import html_to_text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("plain", "plain"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("a<br><br>b", "a\n\nb"),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<div>one</div><div>two</div>", "one\ntwo"),
        ("<div><div>one</div></div>", "one"),
        ("a\n  b\t&nbsp;c", "a b c"),
        ("&lt;b&gt; &amp; &#228;&#xe4; &bogus;", "<b> & ää &bogus;"),
        ("<ul><li>one<li>two</ul>end", "- one\n- two\n\nend"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a\tb\nc"),
        ("<pre>  x\n    y</pre>", "  x\n    y"),
        ("<head><title>no</title></head><body>yes", "yes"),
        ("<head><style>no<body>yes</body>", "yes"),
        ("a<script>if (a < b) alert('</p>')</script>b", "ab"),
        ("a<!-- <b>no</b> -->b", "ab"),
        ("a<!-- never closed", "a"),
        ("<!DOCTYPE html><?xml x?>a", "a"),
        ('<a title="x > y">link</a>', "link"),
        ('<a title="never closed>link</a>', "link"),
        ("1 < 2 and 3 <4", "1 < 2 and 3 <4"),
        ("a <b", "a"),
        ("<blockquote>old<blockquote>older</blockquote></blockquote>new", "> old\n>\n>> older\n\nnew"),
        ("", ""),
    ],
)
def test_what_a_person_would_read(markup: str, text: str) -> None:
    assert html_to_text(markup) == text


def test_a_reference_of_very_many_digits() -> None:
    assert html_to_text("&#" + "9" * 900_000 + ";") == "\ufffd;"
