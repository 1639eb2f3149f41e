"""The jinja2 side of templates: loaded with the first template, so that who has none does not pay for it.

The templates are the application's own code and run without a sandbox, as its handlers do; what goes into them may come
from strangers, and is escaped for HTML and for Markdown.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    Template,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
    nodes,
)
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from markupsafe import Markup

from monsal.errors import ConfigError, TemplateError

if TYPE_CHECKING:
    from css_inline import CSSInliner
    from markdown_it import MarkdownIt

__all__ = ["Jinja", "SubjectTag"]

#: The variable that collects what `{% subject %}` says.
_SUBJECTS = "_monsal_subjects"
#: ASCII punctuation that means something in Markdown (CommonMark, section 2.4), but for what HTML escapes.
_PUNCTUATION = re.compile(r"([!#$%()*+,\-./:;=?@\[\\\]^_`{|}~])")
_STYLE = re.compile(r"<style\b", re.IGNORECASE)


class SubjectTag(Extension):
    """`{% subject %}Your order {{ number }}{% endsubject %}`: the Subject of the mail, not a part of its text."""

    tags = {"subject"}  # noqa: RUF012 - the name and kind that jinja2 looks for

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endsubject",), drop_needle=True)
        call = self.call_method("_note", [nodes.ContextReference()])
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _note(self, context: Context, caller: Callable[[], str]) -> str:
        said = caller()
        subjects = context.resolve_or_missing(_SUBJECTS)
        if isinstance(subjects, list):
            # A header is no HTML: what was escaped on the way is taken back.
            subjects.append(html.unescape(said) if isinstance(said, Markup) else said)
        return ""


def _escape_markdown(value: Any) -> Any:
    """What a variable says, as words only: no link, heading or list can come out of it."""
    return value if isinstance(value, Markup) else _PUNCTUATION.sub(r"\\\1", str(value))


class Jinja:
    """The compiled templates of one folder. Safe for several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        loader = FileSystemLoader(folder)
        self._plain = _environment(loader, ("html", "htm"))
        # For the HTML of Markdown: its own environment, because a compiled template knows how it escapes.
        self._marked = _environment(loader, ("html", "htm", "md"), finalize=_escape_markdown)

    @cached_property
    def _markdown(self) -> MarkdownIt:
        from markdown_it import MarkdownIt

        return MarkdownIt("commonmark", {"html": False}).enable("table")

    @cached_property
    def _inliner(self) -> CSSInliner:
        from css_inline import CSSInliner

        # Nothing is fetched because a template names it.
        return CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)

    def exists(self, name: str) -> bool:
        """Whether there is a template of that name; it is compiled then. Raises TemplateError if it is wrong."""
        return self._get(self._plain, name) is not None

    def plain(self, name: str, variables: Mapping[str, Any]) -> tuple[str, str | None]:
        """What template `name` says, and the subject in it, if it has one. Raises ConfigError or TemplateError."""
        return self._render(self._plain, name, variables)

    def markdown(self, name: str, variables: Mapping[str, Any]) -> str:
        """The HTML of a template in Markdown; inside of the template `markdown.html`, if there is one."""
        content = Markup(self._markdown.render(self._render(self._marked, name, variables)[0]))
        if not self.exists("markdown.html"):
            return str(content)
        return self.inlined(self._render(self._plain, "markdown.html", {**variables, "content": content})[0])

    def inlined(self, markup: str) -> str:
        """The HTML with its style sheets moved into the elements, because many readers of mail know no others."""
        return self._inliner.inline(markup) if _STYLE.search(markup) else markup

    def _get(self, environment: Environment, name: str) -> Template | None:
        try:
            return environment.get_template(name)
        except TemplateNotFound as error:
            if error.name != name:
                raise
            return None
        except TemplateSyntaxError as error:
            raise TemplateError(f"{error.name or name}, line {error.lineno}: {error.message}") from error
        except UnicodeDecodeError as error:
            raise TemplateError(f"{name} is not in UTF-8: {error}") from error

    def _render(self, environment: Environment, name: str, variables: Mapping[str, Any]) -> tuple[str, str | None]:
        template = self._get(environment, name)
        if template is None:
            raise ConfigError(f"there is no template {name!r} in {self.folder}")
        subjects: list[str] = []
        try:
            text = template.render({**variables, _SUBJECTS: subjects})
        except TemplateNotFound as error:
            raise ConfigError(f"there is no template {error.name!r} in {self.folder}; {name} asks for it") from error
        except TemplateSyntaxError as error:
            raise TemplateError(f"{error.name or name}, line {error.lineno}: {error.message}") from error
        except UndefinedError as error:
            raise TemplateError(f"{self._place(error) or name}: {error.message}") from error
        except Exception as error:
            # Of its own type, because the policy of failures asks for it.
            place = self._place(error)
            if place:
                error.add_note(f"in the template {place}")
            raise
        if not subjects:
            return text, None
        return text.lstrip("\r\n"), subjects[0].strip()

    def _place(self, error: BaseException) -> str:
        """The template and the line that an error came from; jinja2 puts them into the traceback."""
        found = ""
        trace = error.__traceback__
        while trace is not None:
            file = trace.tb_frame.f_code.co_filename
            if file.startswith(str(self.folder)):
                found = f"{Path(file).relative_to(self.folder)}, line {trace.tb_lineno}"
            trace = trace.tb_next
        return found


def _environment(
    loader: FileSystemLoader, escaped: tuple[str, ...], finalize: Callable[[Any], Any] | None = None
) -> Environment:
    def autoescape(name: str | None) -> bool:
        return name is not None and name.lower().endswith(tuple(f".{ending}" for ending in escaped))

    return Environment(
        loader=loader,
        autoescape=autoescape,
        undefined=StrictUndefined,
        finalize=finalize,
        keep_trailing_newline=True,
        extensions=[SubjectTag],
    )
