"""`solon batch`: which batch jobs there are, and giving up one that cannot be waited for any longer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solon.cli.apps import batch_app

RunOrLedger = Annotated[Path, typer.Argument(help="A run folder, or a ledger.db.")]
LATEST = Path("runs/latest")


@batch_app.command("list")
def batch_list(place: RunOrLedger = LATEST) -> None:
    """Show batch jobs: how they stand, how many of their calls were answered."""
    from datetime import UTC, datetime

    from solon.commands import list_jobs
    from solon.complaints import counted

    found = list_jobs(place)
    for job in found.jobs:
        made = datetime.fromtimestamp(job.intended_at, UTC).strftime("%Y-%m-%d %H:%M")
        said = f", {job.failed:,} failed" if job.failed else ""
        said += f", {job.unknown:,} results of no call of it" if job.unknown else ""
        stands = job.state if job.status in ("", job.state) else f"{job.state} ({job.status})"
        typer.echo(
            f"{job.id:>4}  {made}  {job.name}  {stands}  {counted(job.calls, 'call')}, {job.answered:,} answered{said}"
            f"  {job.provider or '-'}{': ' + job.words if job.words else ''}"
        )
    for run, model, calls in found.parked:
        typer.echo(f"      {counted(calls, 'call')} of {model} for {run or 'no run'} in no job yet")
    if not found.jobs and not found.parked:
        typer.echo("no batch jobs")


@batch_app.command("give-up")
def batch_give_up(
    place: RunOrLedger = LATEST,
    job: Annotated[
        int | None, typer.Argument(help="Its number; left out, those that are looked for.", show_default=False)
    ] = None,
) -> None:
    """Wait for a job no longer: the next run asks its calls again. What it answers all the same is billed."""
    import asyncio

    from solon.commands import give_up_jobs
    from solon.complaints import counted

    for one in asyncio.run(give_up_jobs(place, job)):
        where = f"; cancel {one.provider} at the provider, if it still runs" if one.provider else ""
        typer.echo(f"job {one.id} given up: {counted(one.calls, 'call')} will be asked again{where}")
