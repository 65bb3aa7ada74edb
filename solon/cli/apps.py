"""The commands' common root: the app, its groups, and the arguments that several commands share.

A module of this room imports what it prints with and what it calls inside its commands: `solon --help` loads none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

__all__ = [
    "Latest", "Limit", "RecipeFile", "Reference", "app", "batch_app", "constitution_app", "ledger_app", "models_app",
]  # fmt: skip


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order in which a person meets them; they come from modules in another order."""
        known = super().list_commands(ctx)
        return sorted(known, key=lambda name: STORY.index(name) if name in STORY else len(STORY))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # said here: Typer itself would leave without a word
            typer.echo("solon: interrupted; what is finished is kept, start again to go on", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="solon",
    cls=_Commands,
    help="A constitution and prompts in, AI-judged preference data out, a trained model at the end.",
    epilog="Exit codes: 0 done, 1 done and the answer is no, 2 bad input, 3 the provider stopped us, "
    "4 ledger or run folder unusable, 5 another run walks this folder, 6 the budget is used up, "
    "7 done but rows failed, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
constitution_app = typer.Typer(
    cls=_Commands, help="Look at, compare, test and convert constitutions.", no_args_is_help=True
)
models_app = typer.Typer(help="Look at the models of a recipe.", no_args_is_help=True)
batch_app = typer.Typer(help="Look after provider batch jobs.", no_args_is_help=True)
ledger_app = typer.Typer(help="Look after the ledger: what was asked and answered.", no_args_is_help=True)

STORY = (
    "init", "check", "plan", "run", "status", "pause", "resume", "tune", "cost", "show", "pairs", "compare", "watch",
    "export", "train", "constitution", "schema", "models", "ledger", "batch",
    # of `constitution`
    "diff", "test", "audit", "infer", "import",
)  # fmt: skip

RecipeFile = Annotated[Path, typer.Argument(help="The recipe (YAML).", show_default=False)]
Latest = Annotated[Path, typer.Argument(help="A run folder.")]
Reference = Annotated[
    str, typer.Argument(help="A file, a shipped name, a recipe, a run folder, or REV:path as git writes it.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N rows of the plan.", show_default=False)]


def _version(wanted: bool) -> None:
    if wanted:
        from solon import __version__

        typer.echo(f"solon {__version__}")
        raise typer.Exit


@app.callback()
def _solon(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
