"""`solon status`, `solon pause`, `solon resume`, `solon tune`: look at a run from another shell, and steer it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solon.cli.apps import app

if TYPE_CHECKING:
    from rich.console import Group

    from solon.commands.status import Status

RunPlace = Annotated[Path, typer.Argument(help="A run folder, or a recipe: its last run.")]
LATEST = Path("runs/latest")
LOOK_SECONDS = 1.0
WIDE = 1000


@app.command()
def status(
    run: RunPlace = LATEST,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on looking until the run ends.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="All facts as one JSON object; a line each to follow.")
    ] = False,
) -> None:
    """Say where a run stands, from any shell, while it walks and afterwards; Ctrl-C ends the looking, not the run."""
    if follow:
        _follow(run, as_json=as_json)
    else:
        from solon.commands.status import status_of

        _print(status_of(run), as_json=as_json)


@app.command()
def pause(run: RunPlace = LATEST) -> None:
    """Let a run finish its calls in flight and ask nothing new, until `solon resume`."""
    _steer(run, paused=True)


@app.command()
def resume(run: RunPlace = LATEST) -> None:
    """Let a paused run go on."""
    _steer(run, paused=False)


@app.command()
def tune(
    run: RunPlace = LATEST,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Most calls in flight at once.", show_default=False)
    ] = None,
    rpm: Annotated[
        int | None, typer.Option(min=0, help="Most requests a minute; 0: no stated limit.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="For this one alone, named as `solon status` does.", show_default=False)
    ] = None,
) -> None:
    """Change how hard a run that walks asks its models; the recipe stays as it is."""
    from solon.errors import BadInput

    if concurrency is None and rpm is None:
        raise BadInput("nothing to change: give --concurrency or --rpm")
    _steer(run, concurrency=concurrency, rpm=rpm, model=model)


def _steer(
    run: Path,
    *,
    paused: bool | None = None,
    concurrency: int | None = None,
    rpm: int | None = None,
    model: str | None = None,
) -> None:
    import asyncio

    from solon.cli.screen import plain
    from solon.commands.status import steer_run

    said = asyncio.run(steer_run(run, paused=paused, concurrency=concurrency, rpm=rpm, model=model))
    for line in said:
        typer.echo(plain(line))
    if not said:
        typer.echo("written down, and the run has not answered yet; look again with  solon status", err=True)


def _follow(run: Path, *, as_json: bool) -> None:
    import time

    from rich.live import Live

    from solon.cli.panel import one_line
    from solon.cli.screen import console
    from solon.commands.status import status_of

    out, told = console(soft_wrap=False), 0.0
    with Live(console=out, auto_refresh=False, transient=True) as live:
        while (seen := status_of(run)).standing is not None and seen.alive is not False:
            if seen.standing.updated > told or seen.silent:
                told = seen.standing.updated
                if out.is_terminal and not as_json:
                    live.update(_block(seen), refresh=True)
                else:
                    typer.echo(seen.to_json() if as_json else one_line(seen.standing))
            time.sleep(LOOK_SECONDS)
    _print(seen, as_json=as_json)


def _print(seen: Status, *, as_json: bool) -> None:
    if as_json:
        typer.echo(seen.to_json())
    else:
        from solon.cli.screen import console

        out = console(soft_wrap=False)
        if out.is_terminal:
            out.print(_block(seen))
        else:  # no line is folded, nor filled up, for whoever reads it through a pipe
            out.width = WIDE
            with out.capture() as told:
                out.print(_block(seen))
            typer.echo("\n".join(line.rstrip() for line in told.get().rstrip().split("\n")))


def _block(seen: Status) -> Group:
    """Return a run as a person looks at it: which, how it fares, its figures, what happened, what may be done."""
    import time

    from rich.console import Group

    from solon.cli.panel import labelled, panel
    from solon.cli.screen import plain

    run = labelled(("run", plain(seen.folder.path)), ("state", plain(_how(seen))))
    standing = seen.standing
    if standing is None:
        figures = labelled(("pairs", f"{seen.rows.pairs:,} of {seen.rows.planned:,} rows"))
    else:
        figures = panel(standing)
    last = [
        ("" if place else "events", f"{time.strftime('%H:%M:%S', time.localtime(event.at))} {plain(event.line)}")
        for place, event in enumerate(standing.events[-5:] if standing else ())
    ]
    todo = [("go on", seen.go_on)] if seen.go_on else []
    return Group(run, figures, labelled(*last, *todo))


def _how(seen: Status) -> str:
    """Say in words whether the run walks, or how it ended and what that left."""
    import time

    from solon.cli.panel import STATES, duration
    from solon.cli.screen import counted

    standing = seen.standing
    if standing is None:
        return "no process has written where it stands: it was walked by an older Solon, or never begun"
    if seen.alive is not False:
        told = f"{STATES[standing.state] or 'walking'}, process {standing.pid}"
        told += ("" if seen.alive else f" on {standing.host}") + f", begun {_moment(standing.started)}"
        return told + (f"; it wrote nothing for {duration(seen.silent)}: does it hang?" if seen.silent else "")
    told = f"{STATES[standing.state]} {_moment(standing.updated)}, {duration(time.time() - standing.updated)} ago"
    if standing.state == "killed":
        told = f"killed: process {standing.pid} is gone, and was last heard of {told.removeprefix('killed ')}"
    if standing.line:
        told += f": {standing.line}"
    if seen.failed:
        told += f"; {counted(seen.failed, 'row')} failed"
    return told


def _moment(at: float) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
