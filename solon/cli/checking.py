"""`solon check`: every mistake in recipes and constitutions at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solon.cli.apps import app


@app.command()
def check(files: Annotated[list[Path], typer.Argument(help="Recipes and constitutions.", show_default=False)]) -> None:
    """Read recipes and constitutions, and report every mistake in them at once."""
    from solon.commands import check_page
    from solon.errors import BadInput

    bad = 0
    for file in files:
        try:
            typer.echo(check_page(file))
        except BadInput as problem:
            bad += len(problem.problems)
            typer.echo("\n".join(problem.problems), err=True)
    if bad:
        typer.echo(f"{bad} {'mistake' if bad == 1 else 'mistakes'}", err=True)
        raise typer.Exit(1)
