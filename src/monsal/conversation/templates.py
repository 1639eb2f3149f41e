"""Templates of mails: jinja2 over the folder `templates` of the application (docs/content.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec

from monsal.errors import ConfigError
from monsal.forks import FIRST_USE

if TYPE_CHECKING:
    from monsal.conversation.jinja import Jinja

__all__ = ["Content", "Templates", "content"]


class Content(msgspec.Struct, frozen=True):
    """What a mail says: `text`, `html` or both; `subject` if its template has one."""

    text: str | None
    html: str | None
    subject: str | None = None


class Templates:
    """Renders the templates below one folder.

    What ends in `.html` is escaped and its style sheets are put into its elements; a missing variable is an error. A
    template that changed is read again. Compiled ones are kept; the first use costs the import of jinja2.
    """

    __slots__ = ("_jinja", "_lock", "folder")

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._jinja: Jinja | None = None
        self._lock = Lock()

    def render(self, name: str, variables: Mapping[str, Any]) -> Content:
        """What the template `name` makes of `variables`.

        `confirm.txt` is a text; `confirm.html` HTML, and a text made of it; `confirm.md` Markdown: a text as it is, and
        HTML. `confirm` is all of them that are there.

        Raises ConfigError if there is no such template, TemplateError naming template and line for one that is wrong or
        lacks a variable; what an expression in a template raises is raised with a note of the place.
        """
        jinja = self._loaded(name)
        ending = name.rpartition(".")[2].lower() if "." in name.rpartition("/")[2] else ""
        if ending in ("html", "htm"):
            return _html(jinja, name, variables)
        if ending == "md":
            return _markdown(jinja, name, variables)
        if not ending:
            found = [end for end in (".txt", ".html", ".md") if jinja.exists(f"{name}{end}")]
            if found:
                return _together(jinja, name, found, variables)
        text, subject = jinja.plain(name, variables)
        return Content(text, None, subject)

    def check(self) -> None:
        """Compile what is in the folder, if there is one. Raises TemplateError for the first that is wrong."""
        if self.folder is None or not self.folder.is_dir():
            return
        for path in sorted(self.folder.rglob("*")):
            if path.suffix.lower() in (".txt", ".html", ".htm", ".md") and path.is_file():
                name = path.relative_to(self.folder).as_posix()
                self._loaded(name).exists(name)

    def _loaded(self, name: str) -> Jinja:
        if self.folder is None:
            raise ConfigError(f"template {name!r} was asked for, but this application has no folder of templates")
        with self._lock:
            if self._jinja is None:
                from monsal.conversation.jinja import Jinja

                self._jinja = Jinja(self.folder)
            return self._jinja


def content(text: str | None, html: str | None) -> Content:
    """What a handler gave, with a text made of the HTML if it gave none."""
    return Content(_as_text(html) if text is None and html is not None else text, html)


def _as_text(html: str) -> str:
    # Not before: many applications write no HTML.
    with FIRST_USE:
        from monsal.mail import html_to_text

    return html_to_text(html)


def _html(jinja: Jinja, name: str, variables: Mapping[str, Any], *, with_text: bool = True) -> Content:
    markup, subject = jinja.plain(name, variables)
    # The text is made before the styles are inlined: less to read, the same words.
    return Content(_as_text(markup) if with_text else None, jinja.inlined(markup), subject)


def _markdown(jinja: Jinja, name: str, variables: Mapping[str, Any]) -> Content:
    text, subject = jinja.plain(name, variables)
    return Content(text, jinja.markdown(name, variables), subject)


def _together(jinja: Jinja, name: str, endings: list[str], variables: Mapping[str, Any]) -> Content:
    """One mail out of the templates of one name: the text of the first that has one, the HTML as well."""
    parts: list[Content] = []
    if ".txt" in endings:
        text, subject = jinja.plain(f"{name}.txt", variables)
        parts.append(Content(text, None, subject))
    if ".html" in endings:
        # A text of it is made only if none was written.
        parts.append(_html(jinja, f"{name}.html", variables, with_text=len(endings) == 1))
    if ".md" in endings and len(parts) < 2:
        parts.append(_markdown(jinja, f"{name}.md", variables))
    return Content(
        next((part.text for part in parts if part.text is not None), None),
        next((part.html for part in parts if part.html is not None), None),
        next((part.subject for part in parts if part.subject is not None), None),
    )
