"""`solon compare`: what an edit did to the data, on one screen, as JSON, or as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from solon.cli.apps import app
from solon.cli.screen import columns, console, counted, plain, print_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.table import Table

    from solon.review.compare.comparison import Comparison, Side, View
    from solon.review.intervals import Interval

SHOWN_ROWS = 5
SHOWN_EFFECTS = 5
SHOWN_SETTINGS = 6


@app.command()
def compare(
    a: Annotated[Path | None, typer.Argument(help="The run before the edit.", show_default=False)] = None,
    b: Annotated[Path | None, typer.Argument(help="The run after it.", show_default=False)] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the whole comparison to this file, as one page.", show_default=False)
    ] = None,
    format: Annotated[Literal["text", "json"], typer.Option(help="How it is printed.")] = "text",
    count: Annotated[int, typer.Option("-n", min=1, help="How many of the most telling rows to keep.")] = 20,
) -> None:
    """Say what an edit did to the data: labels that flipped, by principle and group, and the most telling rows.

    One run (or none: runs/latest) is compared with the run of the same recipe before it.
    """
    from solon.review.compare.rows import before
    from solon.review.compare.rows import compare as compared

    if a is None or b is None:
        b = a or Path("runs/latest")
        a = before(b)
    done = compared(a, b, most=count)
    if html:
        from solon.review.compare.page import page

        html.write_text(page(done), encoding="utf-8")
    if format == "json":
        import json
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(done), indent=1))
    else:
        _print(console(), done)
    if html:
        typer.echo(f"page: {html}", err=format == "json")


def _print(out: Console, done: Comparison) -> None:
    """Print the summary: where a page tells all, one screen tells whether to look at it."""
    for line in (*_sides(done), *_differing(done)):
        out.print(plain(line))
    out.print()
    if not done.compared:
        out.print("no row is finished in both runs yet")
        return
    print_whole(out, _labels(done))
    for view in done.views:
        flips = view.flips
        out.print(f"flipped among {view.name}: {_share(flips)}, n {flips.n:,}")
    out.print(f"untouched: {_untouched(done)}")
    for view in done.views:
        out.print()
        _print_effects(out, view)
    for line in (*_beyond(done.views[-1]), *_rows(done)):
        out.print(plain(line))


def _sides(done: Comparison) -> Iterator[str]:
    for name, side in (("A", done.a), ("B", done.b)):
        yield f"{name}  {side.path}: {_side(side)}"
    alone = f"; {done.only_a:,} only in A, {done.only_b:,} only in B" if done.only_a or done.only_b else ""
    waiting = f", {done.waiting:,} unfinished in one of them" if done.waiting else ""
    yield f"{counted(done.both, 'prompt')} in both{alone}: {counted(done.compared, 'row')} compared{waiting}"


def _side(side: Side) -> str:
    unfinished = f", {side.unfinished:,} unfinished" if side.unfinished else ""
    reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in side.reasons.items())
    aside = f"{side.set_aside:,} set aside" + (f" ({reasons})" if reasons else "")
    return f"{counted(side.planned, 'row')}, {counted(side.pairs, 'pair')}, {aside}{unfinished}"


def _differing(done: Comparison) -> Iterator[str]:
    edited = ", ".join(edit.principle or "around the principles" for edit in done.edits)
    yield f"constitution: {done.edit}" + (f" ({edited})" if edited else "")
    if not done.settings:
        return
    yield "other differences, for which labels may move as well:"
    for setting in done.settings[:SHOWN_SETTINGS]:
        yield f"  {setting.what}: {setting.a} -> {setting.b}"
    if len(done.settings) > SHOWN_SETTINGS:
        yield f"  and {len(done.settings) - SHOWN_SETTINGS} more"


def _labels(done: Comparison) -> Table:
    from solon.review.compare.comparison import KINDS

    table = columns("", "rows>", f"touched ({done.touched:,})>", "other texts>", "P moved little>")
    for change in done.changes:
        figures = (f"{each:,}" for each in (change.rows, change.touched, change.texts, change.slight))
        table.add_row(KINDS[change.kind], *figures, style="bold" if change.kind == "flipped" else "")
    return table


def _share(told: Interval) -> str:
    if told.value is None or told.low is None or told.high is None:
        return "-"
    return f"{told.value:.1%} [{told.low:.1%}, {told.high:.1%}]"


def _untouched(done: Comparison) -> str:
    rows = done.untouched
    if rows.rows == rows.equal:
        return f"{counted(rows.rows, 'row')}, all equal to the last byte" if rows.rows else "no rows"
    why = "; ".join(f"{count:,} {reason}" for reason, count in rows.reasons.items())
    return f"{counted(rows.rows, 'row')}, {rows.rows - rows.equal:,} of them not equal: {why}"


def _print_effects(out: Console, view: View) -> None:
    """Print what moved, by how much; what did not move at all is named."""
    from solon.review.compare.measures import MEASURES

    table = columns(view.name, "A>", "B>", "B - A [95 %]>", "n>")
    still = []
    for effect in view.effects:
        change = effect.change
        if not change.n or change.value == change.low == change.high == 0:
            still.append(MEASURES[effect.measure] + ("" if change.n else " (in no row)"))
            continue
        figures = (_figure(effect.a), _figure(effect.b), _change(change), f"{change.n:,}")
        table.add_row(MEASURES[effect.measure], *figures, style="bold" if effect.beyond else "")
    if table.row_count:
        print_whole(out, table)
    if still:
        out.print(f"unmoved over {view.name}: {', '.join(still)}")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _change(told: Interval) -> str:
    if told.value is None:
        return "-"
    bounds = "" if told.low is None or told.high is None else f" [{told.low:+.3f}, {told.high:+.3f}]"
    return f"{told.value:+.3f}{bounds}"


def _beyond(view: View) -> Iterator[str]:
    """Yield the groups with the largest effects, and how many intervals were looked at to find them."""
    from solon.review.compare.effects import LEAST
    from solon.review.compare.measures import MEASURES

    yield (
        f"{view.name}, groups and all: {view.marked:,} of {counted(view.looked_at, 'interval')} (95 %, over at least "
        f"{LEAST} rows) show an effect; without any, about {view.looked_at * 0.05:.1f} would by chance"
        + ("; the largest of groups:" if view.found else "")
        if view.looked_at
        else f"{view.name}, groups and all: no interval over at least {LEAST} rows moved"
    )
    for group, effect in view.found[:SHOWN_EFFECTS]:
        moved = f"{_change(effect.change)}, n {effect.change.n:,}"
        yield f"  {group.family} {group.name}: {MEASURES[effect.measure]} {moved}"


def _rows(done: Comparison) -> Iterator[str]:
    from solon.complaints import short

    if done.telling:
        yield ""
        yield f"most telling, {min(len(done.telling), SHOWN_ROWS)} of {len(done.telling)} kept, with P in A and in B:"
    for row in done.telling[:SHOWN_ROWS]:
        prompt = short(row.prompt[-1][1], 48) if row.prompt else ""
        moved = f"{row.a.label} {_figure(row.a.p)} -> {row.b.label} {_figure(row.b.p)}"
        yield f"  row {row.index:<5} {moved:<34} {prompt}"
