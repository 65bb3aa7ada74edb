"""`solon constitution show`: a constitution with all that it extends, and where each line was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solon.cli.apps import constitution_app

if TYPE_CHECKING:
    from solon.constitution import Resolved

WIDEST = 80


@constitution_app.command()
def show(
    ref: Annotated[
        str, typer.Argument(help="A name, a file, a recipe or a run folder.", metavar="REF", show_default=False)
    ],
    plain: Annotated[bool, typer.Option("--plain", help="The YAML alone, as a run keeps it.")] = False,
) -> None:
    """Print a constitution with all that it extends, and where each line was written."""
    resolved = _resolved(ref)
    if plain:
        typer.echo(resolved.constitution.to_yaml(), nl=False)
    else:
        _print(resolved)


def _resolved(ref: str) -> Resolved:
    """Return the constitution of a run folder or a recipe, or the one that `ref` names."""
    from solon.constitution import resolve, shipped
    from solon.constitution.load import installed
    from solon.pipelines.recipe import find_recipe, is_recipe, read_recipe

    path = Path(ref)
    if ref in (*shipped(), *installed()) or not path.exists():
        return resolve(ref)
    folder = path if path.is_dir() else path.parent
    if (folder / "run.json").is_file():
        return resolve(folder / "constitution.yaml")
    if is_recipe(path):
        return resolve(read_recipe(path).constitution, find_recipe(path).parent)
    return resolve(path)


def _print(resolved: Resolved) -> None:
    from rich.text import Text

    from solon.cli.screen import console, plain
    from solon.constitution.inherit import show

    out, lines = console(), show(resolved)
    column = min(WIDEST, max(len(line) for line, place in lines if place)) + 2
    for line, place in lines:
        text = Text(plain(line))
        if place:
            file, number = place
            # (a file's name may hold a line break, which would end the comment)
            text.append(f"{'':{max(2, column - len(line))}}# {' '.join(plain(file).split())}:{number}", style="dim")
        out.print(text)
