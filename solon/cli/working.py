"""The loop's own commands, from `init` to `train`, and what looks after models and ledgers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from solon.cli.apps import Latest, Limit, RecipeFile, app, models_app


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
def schema(
    page: Annotated[str, typer.Argument(help="constitution or recipe.", show_default=False)],
    to: Annotated[Path | None, typer.Option(help="Write it there; default: print it.", show_default=False)] = None,
) -> None:
    """Give an editor the JSON Schema of a page: name the file in `# yaml-language-server: $schema=FILE`."""
    from solon.cli.starter import write_schema
    from solon.schemas import schema_text

    if to is None:
        typer.echo(schema_text(page), nl=False)
    else:
        write_schema(page, to)
        typer.echo(f"wrote {to}")


@app.command()
def run(
    recipe: RecipeFile,
    limit: Limit = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody: answer from the ledger alone.")] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask every call anew, and pay for it again.")] = False,
    processes: Annotated[
        int, typer.Option("--processes", "-p", min=1, help="How many processes walk the rows together.")
    ] = 1,
    progress: Annotated[
        Literal["auto", "bar", "plain", "json", "none"],
        typer.Option(
            help="How it shows where it stands; auto: bar on a terminal, else plain lines. On standard error."
        ),
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress: --progress none.")] = False,
    otel_texts: Annotated[
        bool, typer.Option("--otel-texts", help="Questions and answers stand in the OpenTelemetry spans.")
    ] = False,
) -> None:
    """Walk a recipe's plan: answers, critiques, revisions, verdicts; then write the dataset."""
    from solon.cli.walking import walk_recipe

    shown = "none" if quiet else progress
    raise typer.Exit(
        walk_recipe(
            recipe, limit=limit, offline=offline, refresh=refresh, processes=processes, shown=shown, texts=otel_texts
        )
    )  # fmt: skip


@app.command()
def show(
    row: Annotated[str, typer.Argument(help="A row's number in the plan, or the beginning of its id.")],
    run: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/latest"),
    calls: Annotated[bool, typer.Option("--calls", help="Print every question and answer whole.")] = False,
    as_case: Annotated[
        bool, typer.Option("--as-case", help="Print its pair as a case, to paste under a principle.")
    ] = False,
) -> None:
    """Print the walk of one row: its texts, its principles, its votes, its calls."""
    import asyncio

    from solon import commands
    from solon.cli.tables import print_row

    shown = asyncio.run(commands.show_row(run, row))
    if as_case:
        typer.echo(commands.as_case(shown), nl=False)
    else:
        print_row(shown, calls=calls)


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
