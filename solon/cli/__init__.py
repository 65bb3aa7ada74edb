"""The command line: thin commands over `solon.commands`, and the only place that prints.

Exit codes: 0 done; 1 done, and the answer is no (mistakes found, not a single pair); 2 bad input or a missing
extra; 3 the provider stopped us (key, model, credit, nobody listens); 4 ledger or run folder cannot be read or
written; 5 another run walks this folder; 130 interrupted.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from solon.errors import SolonError

__all__ = ["app", "main"]


class _Commands(TyperGroup):
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
    "4 ledger or run folder unusable, 5 another run walks this folder, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(help="Look at the models of a recipe.", no_args_is_help=True)
ledger_app = typer.Typer(help="Look after the ledger: what was asked and answered.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(ledger_app, name="ledger")

RecipeFile = Annotated[Path, typer.Argument(help="The recipe (YAML).", show_default=False)]
Latest = Annotated[Path, typer.Argument(help="A run folder.")]
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


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to write; made if it is not there.")] = Path(),
) -> None:
    """Write a constitution, prompts and a recipe to start from, each commented."""
    from solon.cli.starter import write_starter

    for path in write_starter(folder):
        typer.echo(f"wrote {path}")
    typer.echo(f"next: solon plan {folder / 'recipe.yaml'}")


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


@app.command()
def plan(recipe: RecipeFile, limit: Limit = None) -> None:
    """Say what a run would ask, and what that costs, before it is paid."""
    import asyncio

    from solon.cli.tables import print_plan
    from solon.commands import plan_recipe

    print_plan(asyncio.run(plan_recipe(recipe, limit=limit)))


@app.command()
def run(
    recipe: RecipeFile,
    limit: Limit = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody: answer from the ledger alone.")] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask every call anew, and pay for it again.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress line.")] = False,
) -> None:
    """Walk a recipe's plan: answers, critiques, revisions, verdicts; then write the dataset."""
    from solon.cli.walking import walk_recipe

    raise typer.Exit(walk_recipe(recipe, limit=limit, offline=offline, refresh=refresh, quiet=quiet))


@app.command()
def show(
    row: Annotated[str, typer.Argument(help="A row's number in the plan, or the beginning of its id.")],
    run: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/latest"),
    calls: Annotated[bool, typer.Option("--calls", help="Print every question and answer whole.")] = False,
) -> None:
    """Print the walk of one row: its texts, its principles, its votes, its calls."""
    import asyncio

    from solon.cli.tables import print_row
    from solon.commands import show_row

    print_row(asyncio.run(show_row(run, row)), calls=calls)


@app.command()
def pairs(
    run: Latest = Path("runs/latest"),
    count: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 3,
) -> None:
    """Print a few pairs, chosen beside rejected."""
    from solon.cli.pairs import print_pairs

    raise typer.Exit(print_pairs(run, count))


@app.command()
def export(
    run: Latest = Path("runs/latest"),
    to: Annotated[
        Path | None, typer.Option(help="Where to; default: the run's own dataset/.", show_default=False)
    ] = None,
) -> None:
    """Write the dataset of a run again: what is finished by now, with its card."""
    from solon.cli.tables import print_views
    from solon.pipelines.export import export_run
    from solon.pipelines.run import RunFolder

    folder = RunFolder.open(run)
    with folder.store(read_only=True) as store:
        views = export_run(folder, store, to=to)
    print_views(to or folder.dataset, views)


@app.command()
def train(
    kind: Annotated[str, typer.Argument(help="sft, reward or dpo.", show_default=False)],
    runs: Annotated[list[Path] | None, typer.Argument(help="Run or dataset folders; default: runs/latest.")] = None,
    model: Annotated[str, typer.Option(help="A hub id, a folder, or smollm2.")] = "smollm2",
    output: Annotated[
        Path | None, typer.Option(help="Where to save; default: beside the runs.", show_default=False)
    ] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train a LoRA adapter, not the whole model.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="An option of TRL's own: NAME=VALUE; may be repeated.")
    ] = None,
    options: Annotated[Path | None, typer.Option(help="A YAML file of TRL's options.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N rows.", show_default=False)] = None,
) -> None:
    """Train a model on runs with TRL: from the dataset to a saved model, with its curves beside it."""
    from solon.cli.training import train_runs

    train_runs(
        kind, runs or [Path("runs/latest")], model=model, output=output, lora=lora, sets=set_ or [], options=options,
        limit=limit,
    )  # fmt: skip


@models_app.command("check")
def models_check(recipe: RecipeFile) -> None:
    """Ask each role's model one tiny question, and say what it can do."""
    import asyncio

    from solon.cli.tables import print_abilities
    from solon.commands import check_models

    raise typer.Exit(print_abilities(asyncio.run(check_models(recipe))))


LedgerFile = Annotated[Path, typer.Argument(help="A ledger.db.")]


@ledger_app.command("merge")
def ledger_merge(
    into: Annotated[Path, typer.Argument(help="The ledger that grows.", show_default=False)],
    other: Annotated[Path, typer.Argument(help="The ledger that is read.", show_default=False)],
) -> None:
    """Take over what another ledger knows; where both know a call, the earlier reply stays."""
    import asyncio

    from solon.commands import merge_ledgers

    done = asyncio.run(merge_ledgers(into, other))
    typer.echo(
        f"{done.added} taken over, {done.same} known already, {done.differed} differed (the earlier reply stays)"
    )


@ledger_app.command("forget")
def ledger_forget(
    ledger: LedgerFile = Path(".solon/ledger.db"),
    model: Annotated[str | None, typer.Option(help="Calls to this model identity.", show_default=False)] = None,
    before: Annotated[str | None, typer.Option(help="Calls before this day (2026-01-31).", show_default=False)] = None,
    text: Annotated[str | None, typer.Option(help="Calls that hold this text.", show_default=False)] = None,
) -> None:
    """Remove calls from memory: all that match every option given."""
    import asyncio

    from solon.commands import forget_calls

    count = asyncio.run(forget_calls(ledger, model=model, before=before, text=text))
    typer.echo(f"{count} {'call' if count == 1 else 'calls'} forgotten")


def main() -> None:
    """Run the command line. Mistakes end in a clear line on standard error and a non-zero exit, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a log that holds ASCII alone is no reason to lose a line
            stream.reconfigure(errors="replace")
    try:
        app(prog_name="solon")
    except SolonError as problem:
        for line in str(problem).splitlines():
            typer.echo(f"solon: {line}", err=True)
        sys.exit(problem.exit_code)
    except BrokenPipeError:
        # the reader of our output went away (`| head`): nothing is wrong, and nobody is left to tell
        sys.stderr.close()
        sys.exit(0)
    except OSError as problem:
        place = f"{problem.filename}: " if problem.filename else ""
        typer.echo(
            f"solon: {place}{problem.strerror or problem}; check the path, its permissions and the disk", err=True
        )
        sys.exit(4)
