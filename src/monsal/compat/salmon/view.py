"""`salmon.view`: mails from templates. `LOADER` is a jinja2 environment, or anything with its `get_template`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monsal.compat.salmon.mail import MailResponse

__all__ = ["LOADER", "attach", "load", "render", "respond"]

#: Set it before anything else is done here.
LOADER: Any = None


def load(template: str) -> Any:
    """The template of that name. Raises TypeError if LOADER is not set."""
    if LOADER is None:
        raise TypeError("view.LOADER is not set; give it a jinja2.Environment")
    return LOADER.get_template(template)


def render(variables: Mapping[str, Any], template: str) -> str:
    """The text of a template with these variables."""
    return str(load(template).render(variables))


def respond(
    variables: Mapping[str, Any],
    Body: str | None = None,
    Html: str | None = None,
    **headers: str,
) -> MailResponse:
    """A mail whose body, markup or both come from templates.

    `%(name)s` in a header stands for a variable; any other percent sign stands for itself. Raises TypeError if no
    template is named.
    """
    if not Body and not Html:
        raise TypeError("name a template for Body, for Html, or for both")
    filled = {name: _filled(value, variables) for name, value in headers.items()}
    response = MailResponse(**{name: filled.pop(name) for name in ("To", "From", "Subject") if name in filled})
    for name, value in filled.items():
        response[name.replace("_", "-")] = value
    response.Body = render(variables, Body) if Body else None
    response.Html = render(variables, Html) if Html else None
    response.multipart = bool(Body and Html)
    return response


def attach(
    msg: MailResponse,
    variables: Mapping[str, Any],
    template: str,
    filename: str | None = None,
    content_type: str | None = None,
    *,
    disposition: str | None = None,
) -> None:
    """Attach what a template gives to a mail."""
    data = render(variables, template)
    msg.attach(filename=filename, content_type=content_type, data=data, disposition=disposition)


def _filled(value: str, variables: Mapping[str, Any]) -> str:
    try:
        return value % variables
    except (KeyError, TypeError, ValueError):
        # "100% of it" is no format.
        for name, text in variables.items():
            value = value.replace(f"%({name})s", str(text))
        return value
