"""`solon ledger`: what is in a ledger, whether it is whole, and making it smaller, larger, or forgetful."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solon.cli.apps import ledger_app

if TYPE_CHECKING:
    from solon.ledger import Statistics

LedgerFile = Annotated[Path, typer.Argument(help="A ledger.db.")]
HERE = Path(".solon/ledger.db")
SHOWN = 5  # damaged entries that are named one by one


@ledger_app.command("stats")
def ledger_stats(ledger: LedgerFile = HERE) -> None:
    """Count calls, bytes and tokens, by model and by who paid."""
    import asyncio

    from solon.commands import ledger_statistics

    _print_statistics(ledger, asyncio.run(ledger_statistics(ledger)))


@ledger_app.command("verify")
def ledger_verify(
    ledger: LedgerFile = HERE,
    drop: Annotated[bool, typer.Option("--drop", help="Remove damaged entries, so that they are asked again.")] = False,
) -> None:
    """Check every entry, shared text and page; exit 1 if one is bad."""
    import asyncio

    from solon.commands import verify_ledger

    found = asyncio.run(verify_ledger(ledger, drop=drop))
    typer.echo(f"{found.calls:,} {_calls(found.calls)} and {found.texts:,} shared texts looked at")
    if found.whole:
        typer.echo("all are whole")
        return
    for line in found.trouble:
        typer.echo(line)
    for number, what in list(found.damaged.items())[:SHOWN]:
        typer.echo(f"entry {number}: {what}")
    if len(found.damaged) > SHOWN:
        typer.echo(f"... and {len(found.damaged) - SHOWN:,} more")
    damaged = f"{len(found.damaged):,} damaged {_calls(len(found.damaged))}"
    if not found.damaged:
        typer.echo("nothing can be dropped: move the file away, or take over what can be read with solon ledger merge")
    elif drop:
        typer.echo(f"{damaged} dropped: they will be asked again")
    else:
        typer.echo(f"{damaged}; --drop removes them, and they are asked again")
    raise typer.Exit(1)


@ledger_app.command("compact")
def ledger_compact(ledger: LedgerFile = HERE) -> None:
    """Write the file anew, without what no call needs."""
    import asyncio

    from solon.commands import compact_ledger

    before, after = asyncio.run(compact_ledger(ledger))
    typer.echo(f"{before:,} bytes before, {after:,} after")


@ledger_app.command("merge")
def ledger_merge(
    into: Annotated[Path, typer.Argument(help="The ledger that grows.", show_default=False)],
    other: Annotated[Path, typer.Argument(help="The ledger that is read.", show_default=False)],
) -> None:
    """Take over what another ledger knows; earlier replies stay."""
    import asyncio

    from solon.commands import merge_ledgers

    done = asyncio.run(merge_ledgers(into, other))
    typer.echo(
        f"{done.added} taken over, {done.same} known already, {done.differed} differed (the earlier reply stays)"
    )


@ledger_app.command("forget")
def ledger_forget(
    ledger: LedgerFile = HERE,
    model: Annotated[str | None, typer.Option(help="Calls to this model identity.", show_default=False)] = None,
    before: Annotated[str | None, typer.Option(help="Calls before this day (2026-01-31).", show_default=False)] = None,
    text: Annotated[str | None, typer.Option(help="Calls that hold this text.", show_default=False)] = None,
) -> None:
    """Remove calls from memory: all that match every option given."""
    import asyncio

    from solon.commands import forget_calls

    count = asyncio.run(forget_calls(ledger, model=model, before=before, text=text))
    typer.echo(f"{count} {_calls(count)} forgotten")


def _print_statistics(path: Path, found: Statistics) -> None:
    from solon.cli.screen import columns, console, plain, print_whole

    out = console()
    each = f", {found.bytes / found.calls:,.0f} a call" if found.calls else ""
    out.print(plain(f"{path}: {found.calls:,} {_calls(found.calls)}, {found.bytes:,} bytes{each}"))
    out.print(f"{found.texts:,} texts that calls share save {found.saved:,} bytes")
    if found.models:
        table = columns("model", "calls>", "tokens in>", "tokens out>", "first asked", "last asked")
        for model in found.models:
            table.add_row(
                plain(model.model), f"{model.calls:,}", f"{model.usage.input:,}", f"{model.usage.output:,}",
                _moment(model.first), _moment(model.last),
            )  # fmt: skip
        print_whole(out, table)
    if found.runs:
        table = columns("paid by", "calls>", "tokens in>", "tokens out>", "USD spent>", "USD perhaps lost>")
        for run in found.runs:
            purse = run.account
            table.add_row(
                plain(run.run or "(no run named)"), f"{run.calls:,}", f"{run.usage.input:,}", f"{run.usage.output:,}",
                f"{purse.spent.dollars:,.4f}", f"{purse.lost.dollars:,.4f}",
            )  # fmt: skip
        print_whole(out, table)


def _moment(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M") if seconds else "-"


def _calls(count: int) -> str:
    return "call" if count == 1 else "calls"
