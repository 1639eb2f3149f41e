"""`monsal new`: a small working application, with its tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from monsal.cli.called import interpreter, program, typed
from monsal.cli.exits import CANNOT_CREATE, OK

__all__ = ["command", "package_name"]

TEMPLATE = Path(__file__).with_name("template")
SUFFIX = ".tmpl"
#: The package of handlers is called so if the directory's name cannot be a module's.
FALLBACK = "orders"
#: Names in the application's directory that mean something else.
TAKEN = {"app", "monsal", "run", "templates", "tests", "test"}


@click.command("new")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def command(directory: Path) -> int:
    """Make a small working application in the new directory DIR.

    Exit code 73: there is something in DIR already, or it cannot be made.

    \b
    monsal new desk
    cd desk
    monsal run
    """
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            click.echo(f"monsal: {directory} exists and is not empty; choose another name", err=True)
            return CANNOT_CREATE
        package = package_name(directory.resolve().name)
        here = program(directory)
        for source, target in _files(package):
            path = directory / target
            path.parent.mkdir(parents=True, exist_ok=True)
            text = source.read_text(encoding="utf-8")
            text = (
                text.replace("@@package@@", package)
                .replace("@@name@@", directory.resolve().name)
                .replace("@@monsal@@", here)
                .replace("@@python@@", interpreter(directory))
            )
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        click.echo(f"monsal: cannot make {directory}: {error.strerror or error}", err=True)
        return CANNOT_CREATE
    click.echo(f"{directory} has an application now. Next:")
    click.echo(f"  {typed('run', directory=directory)}")
    click.echo(f'  {typed("say", "order@example.com", directory=directory)} "Hello"     (from another terminal)')
    return OK


def package_name(name: str) -> str:
    """The name of the package of handlers: that of the directory if a module can be called so."""
    module = name.lower().replace("-", "_")
    fits = module.isidentifier() and module.isascii() and module not in TAKEN and module not in sys.stdlib_module_names
    return module if fits and not _is_keyword(module) else FALLBACK


def _is_keyword(name: str) -> bool:
    import keyword

    return keyword.iskeyword(name) or keyword.issoftkeyword(name)


def _files(package: str) -> Iterator[tuple[Path, Path]]:
    """Each file of the template and where it goes."""
    for source in sorted(TEMPLATE.rglob(f"*{SUFFIX}")):
        target = source.relative_to(TEMPLATE).with_name(source.name.removesuffix(SUFFIX))
        if target.name == "gitignore":
            target = target.with_name(".gitignore")  # with its dot it would hide files of monsal's own tree
        if target.parts[0] == "package":
            target = Path(package, *target.parts[1:])
        yield source, target
