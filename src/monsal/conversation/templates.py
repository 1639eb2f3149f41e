"""Templates for replies: jinja2 over the folder `templates` of the application.

The environment is built when the first template is asked for, so that an application without templates does not
pay for the import of jinja2.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monsal.errors import ConfigError

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["Templates"]


class Templates:
    """Renders templates below one folder. Names ending in `.html` are escaped; a missing variable is an error."""

    __slots__ = ("_environment", "folder")

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._environment: Environment | None = None

    def render(self, name: str, variables: Mapping[str, Any]) -> str:
        """The text of template `name` with `variables`.

        Raises ConfigError if there is no such template, and what jinja2 raises for a template that is wrong.
        """
        from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateNotFound, select_autoescape

        if self.folder is None:
            raise ConfigError(f"template {name!r} was asked for, but this application has no folder of templates")
        if self._environment is None:
            self._environment = Environment(
                loader=FileSystemLoader(self.folder),
                autoescape=select_autoescape(("html", "htm")),
                undefined=StrictUndefined,
                keep_trailing_newline=True,
            )
        try:
            return self._environment.get_template(name).render(variables)
        except TemplateNotFound as error:
            raise ConfigError(f"there is no template {error.name!r} in {self.folder}") from error
