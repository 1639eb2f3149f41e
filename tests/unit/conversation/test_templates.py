"""Templates: one name, the parts of a mail, and errors that say where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monsal.conversation.templates import Templates, content
from monsal.errors import ConfigError, TemplateError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, **files: str) -> Templates:
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return Templates(folder)


def test_a_text(folder: Path) -> None:
    made = write(folder, confirm__txt="Hello {{ name }}\n").render("confirm.txt", {"name": "Ann & Bob <x>"})

    assert (made.text, made.html, made.subject) == ("Hello Ann & Bob <x>\n", None, None)


def test_html_is_escaped_its_styles_go_into_the_elements_and_a_text_is_made(folder: Path) -> None:
    templates = write(
        folder,
        base__html="<head><style>{% include 'mail.css' %}</style></head><body>{% block b %}{% endblock %}</body>",
        mail__css="p { color: red }",
        confirm__html="{% extends 'base.html' %}{% block b %}<p>Hello {{ name }}</p>{% endblock %}",
    )

    made = templates.render("confirm.html", {"name": "Ann & <b>Bob</b>"})

    assert made.html is not None
    assert '<p style="color: red;">Hello Ann &amp; &lt;b&gt;Bob&lt;/b&gt;</p>' in made.html
    assert made.text == "Hello Ann & <b>Bob</b>"


def test_html_without_styles_stays_as_it_is(folder: Path) -> None:
    assert write(folder, a__html="<p>x</p>\n").render("a.html", {}).html == "<p>x</p>\n"


def test_one_name_for_text_and_html(folder: Path) -> None:
    templates = write(folder, a__txt="text {{ x }}", a__html="<p>html {{ x }}</p>")

    assert templates.render("a", {"x": 1}) == content("text 1", "<p>html 1</p>")


@pytest.mark.parametrize(
    ("endings", "text", "html"),
    [
        (("txt",), "txt", None),
        (("html",), "html", "html"),
        (("md",), "md", "<p>md</p>\n"),
        (("txt", "md"), "txt", "<p>md</p>\n"),
        (("html", "md"), "md", "html"),
        (("txt", "html", "md"), "txt", "html"),
    ],
)
def test_each_part_has_its_best_source(folder: Path, endings: tuple[str, ...], text: str, html: str | None) -> None:
    made = write(folder, **{f"a__{ending}": ending for ending in endings}).render("a", {})

    assert (made.text, made.html) == (text, html)


def test_a_name_without_an_ending_may_be_a_file_itself(folder: Path) -> None:
    assert write(folder, welcome="Hello").render("welcome", {}).text == "Hello"


def test_markdown(folder: Path) -> None:
    templates = write(
        folder,
        a__md="# Order\n\n- {{ item }}\n- **two**\n\n<script>x</script>\n",
        markdown__html="<html><body>{{ content }}</body></html>",
    )

    made = templates.render("a.md", {"item": "pears"})

    assert made.text == "# Order\n\n- pears\n- **two**\n\n<script>x</script>\n"
    assert made.html is not None
    assert made.html.startswith("<html><body><h1>Order</h1>\n<ul>\n<li>pears</li>\n<li><strong>two</strong></li>")
    assert "&lt;script&gt;" in made.html


@pytest.mark.parametrize(
    "value",
    ["[here](http://evil.example)", "<b>x</b> & y", "# one", "1. two", "a_b_c *d* `e`", "![x](y)", "\\*", '"q"'],
)
def test_what_a_stranger_wrote_is_words_in_markdown(folder: Path, value: str) -> None:
    made = write(folder, a__md="{{ value }}").render("a.md", {"value": value})

    assert made.text == value
    escaped = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    assert made.html == f"<p>{escaped}</p>\n"


def test_a_link_in_markdown(folder: Path) -> None:
    made = write(folder, a__md="[pay]({{ url }})").render("a.md", {"url": "https://example.com/a_b?c=1&d=2"})

    assert made.html == '<p><a href="https://example.com/a_b?c=1&amp;d=2">pay</a></p>\n'


@pytest.mark.parametrize("name", ["a.txt", "a.html", "a.md"])
def test_the_subject_may_stand_in_the_template(folder: Path, name: str) -> None:
    templates = write(folder, **{name.replace(".", "__"): "{% subject %}Order for {{ who }}{% endsubject %}\nbody\n"})

    made = templates.render(name, {"who": "Tom & Jerry"})

    assert made.subject == "Order for Tom & Jerry"
    assert made.text is not None
    assert made.text.strip() == "body"
    assert "Order" not in (made.html or "")


def test_the_subject_of_a_parent_and_of_an_included_template(folder: Path) -> None:
    templates = write(
        folder,
        base__txt="{% subject %}[{% block topic %}all{% endblock %}]{% endsubject %}\n{% block body %}{% endblock %}",
        child__txt="{% extends 'base.txt' %}{% block topic %}pears{% endblock %}{% block body %}text{% endblock %}",
        head__txt="{% subject %}for {{ x }}{% endsubject %}",
        other__txt="{% include 'head.txt' %}text",
    )

    assert (templates.render("child.txt", {}).subject, templates.render("child.txt", {}).text) == ("[pears]", "text")
    assert templates.render("other.txt", {"x": 1}).subject == "for 1"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("one\ntwo {{ missing }}\n", "a.txt, line 2: 'missing' is undefined"),
        ("\n\n{{ value.nothing }}", "a.txt, line 3: 'str object' has no attribute 'nothing'"),
        ("one\n{% if %}\n", "a.txt, line 2: "),
        ("{% include 'part.txt' %}", "part.txt, line 2: 'missing' is undefined"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(folder: Path, source: str, said: str) -> None:
    templates = write(folder, a__txt=source, part__txt="\n{{ missing }}")

    with pytest.raises(TemplateError) as caught:
        templates.render("a.txt", {"value": "x"})

    assert str(caught.value).startswith(said)


def test_what_an_expression_raises_keeps_its_type_and_gets_its_place(folder: Path) -> None:
    def broken() -> None:
        raise ConnectionError("the catalogue is away")

    with pytest.raises(ConnectionError, match="the catalogue is away") as caught:
        write(folder, a__txt="x\n{{ broken() }}").render("a.txt", {"broken": broken})

    assert caught.value.__notes__ == ["in the template a.txt, line 2"]


@pytest.mark.parametrize("name", ["gone.txt", "gone", "gone.html", "gone.md", "../a.txt", "/etc/hostname"])
def test_what_is_not_there(folder: Path, name: str) -> None:
    (folder / "inner").mkdir()
    (folder / "a.txt").write_text("outside")

    with pytest.raises(ConfigError, match="there is no template"):
        Templates(folder / "inner").render(name, {})


def test_a_template_that_asks_for_one_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"no template 'gone.txt' in .*; a.txt asks for it"):
        write(folder, a__txt="{% include 'gone.txt' %}").render("a.txt", {})


def test_an_application_without_a_folder() -> None:
    with pytest.raises(ConfigError, match="no folder of templates"):
        Templates(None).render("a.txt", {})


def test_a_changed_template_is_read_again(folder: Path) -> None:
    templates = write(folder, a__txt="old")
    assert templates.render("a.txt", {}).text == "old"

    write(folder, a__txt="new")
    os.utime(folder / "a.txt", (1, 1))  # another time of change, however coarse the clock of the file system is

    assert templates.render("a.txt", {}).text == "new"


def test_all_of_a_folder_are_checked(folder: Path) -> None:
    Templates(None).check()
    Templates(folder / "gone").check()
    templates = write(folder, a__txt="{{ x }}", picture__png="{% no template")
    templates.check()

    (folder / "inner").mkdir()
    (folder / "inner" / "b.html").write_text("<p>\n{% if x %}")

    with pytest.raises(TemplateError, match=r"^inner/b.html, line 2: "):
        templates.check()


def test_a_template_that_is_no_text(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"gr\xfcn")

    with pytest.raises(TemplateError, match=r"a.txt is not in UTF-8"):
        Templates(folder).render("a.txt", {})
