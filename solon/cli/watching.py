"""`solon watch`: on every save check, say what the edit did and what a run would ask; run a few rows on wish."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solon.cli.apps import RecipeFile, app
from solon.cli.planning import closing
from solon.cli.screen import console, counted, plain, spending, styled

if TYPE_CHECKING:
    from rich.console import Console

    from solon.commands.watching import Looked, RowChange, Went
    from solon.rows import Pair, SetAside

MOST_CHANGES = 20


@app.command()
def watch(
    recipe: RecipeFile,
    go: Annotated[
        int | None,
        typer.Option(min=1, help="Run the first N rows after each save, and show what changed.", show_default=False),
    ] = None,
) -> None:
    """Look at a recipe, its constitution and its prompts after every save: check, edit, plan.

    Ctrl-C ends it; since that is how a watch ends, the exit code is 0.
    """
    import asyncio

    asyncio.run(_watch(recipe, go))


async def _watch(recipe: Path, go: int | None) -> None:
    import asyncio
    import signal

    from solon.commands import watching

    out = console()
    stop = asyncio.Event()

    def end() -> None:
        if stop.is_set():  # asked twice: no waiting for calls in flight
            os._exit(130)
        out.print("\nwatching ends (Ctrl-C again to leave at once, whatever is in flight)", style="dim")
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)
    await watching.watch(recipe, go=go, stop=stop, tell=lambda looked: _print(looked, out, go))


def _print(looked: Looked, out: Console, go: int | None) -> None:
    if looked.went:
        _print_went(looked.went, out)
        return
    if looked.checked or looked.saved:
        _print_head(looked, out)
    for advice in looked.advice:
        out.print(plain(advice), style="yellow")
    if looked.advised:
        out.print(f"and {counted(looked.advised, 'piece')} of advice as before: solon check", style="dim")
    if looked.problems:
        for problem in looked.problems:
            out.print(plain(problem), style="red")
        out.print("watching goes on", style="dim")
    elif looked.planned:
        for problem in looked.planned.problems:
            out.print(plain(f"not looked at: {problem}"), style="yellow")
        out.print(closing(looked.planned))
        if go:
            out.print(f"running the first {counted(go, 'row')} ...", style="dim")


def _print_head(looked: Looked, out: Console) -> None:
    from datetime import datetime

    from solon.cli.diffing import print_edits

    out.rule(styled(f"{datetime.now():%H:%M:%S}"), align="left", characters="-")
    if looked.saved:
        out.print(plain(f"saved: {', '.join(str(each) for each in looked.saved)}"))
    if looked.checked:
        out.print(plain(looked.checked))
    if looked.settings:
        out.print(f"recipe: another {', '.join(looked.settings)}")
    if looked.difference:
        out.print()
        print_edits(looked.difference, out)
    if looked.difference is not None:
        out.print(f"constitution: {looked.difference.summary}", style="bold")


def _print_went(went: Went, out: Console) -> None:
    done = went.done
    for change in went.changes[:MOST_CHANGES] if went.compared else ():
        _print_change(change, out)
    if len(went.changes) > MOST_CHANGES:
        out.print(f"... and {counted(len(went.changes) - MOST_CHANGES, 'more row')}: solon pairs {done.folder.path}")
    asked = spending(done.progress.asked, done.progress.known, done.dollars)
    if went.compared:
        moved = f"{counted(len(went.changes), 'row')} came out otherwise, {went.same:,} as before"
        moved += f", {went.gone:,} not among them any more" if went.gone else ""
    else:
        moved = f"{counted(went.rows, 'row')} to compare with from now on"
    out.print(f"{moved}; {asked}", style="bold")


def _print_change(change: RowChange, out: Console) -> None:
    from solon.cli.diffing import worded
    from solon.complaints import short
    from solon.constitution.diff import word_diff
    from solon.rows import Pair

    was, now = change.before, change.after
    prompt = short(change.row.prompt.messages[-1].content)
    out.print(styled((f"row {change.row.index}", "bold"), f"  {plain(prompt)}"))
    out.print(f"    {_side(was)}  ->  {_side(now)}")
    if isinstance(was, Pair) and isinstance(now, Pair):
        # by draft, not by side: where only the label flipped, no word changed
        texts = {was.chosen_draft: was.chosen, was.rejected_draft: was.rejected}
        for name, text in ((now.chosen_draft, now.chosen), (now.rejected_draft, now.rejected)):
            if texts.get(name) != text:
                out.print(styled(f"    {plain(name):<11} ") + worded(word_diff(texts.get(name, ""), text), out))


def _side(outcome: Pair | SetAside | None) -> str:
    from solon.rows import Pair

    if outcome is None:
        return "not there"
    if isinstance(outcome, Pair):
        return plain(
            f"{outcome.chosen_draft} over {outcome.rejected_draft}, P {outcome.p_chosen:.3f} ({outcome.principle})"
        )
    return f"set aside: {outcome.reason}"
