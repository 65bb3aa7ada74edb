"""`solon constitution show`: a constitution with all that it extends, and where each line was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from solon.cli.apps import Reference, constitution_app

if TYPE_CHECKING:
    from solon.constitution import Resolved

WIDEST = 80


@constitution_app.command()
def show(
    ref: Reference,
    plain: Annotated[bool, typer.Option("--plain", help="The YAML alone, as a run keeps it.")] = False,
) -> None:
    """Print a constitution with all that it extends, and where each line was written."""
    from solon.review.sources import constitution_at

    resolved = constitution_at(ref).resolved
    if plain:
        typer.echo(resolved.constitution.to_yaml(), nl=False)
    else:
        _print(resolved)


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
