"""How everything is printed: texts as they are, whatever stands in them.

A model's text may hold square brackets (rich would take them for markup), `:smile:` (for a picture), escape
sequences (the terminal would obey them) and half characters (no stream can hold them). None of these gets through.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from solon.complaints import counted, visible
from solon.digests import whole
from solon.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table
    from rich.text import Text

    from solon.review.intervals import Interval

__all__ = [
    "agreed",
    "columns",
    "console",
    "counted",
    "money",
    "percents",
    "plain",
    "print_whole",
    "progress_bar",
    "spending",
    "styled",
]


def console(**given: Any) -> Console:
    """Return a console that prints texts as they are and leaves the wrapping of long lines to the terminal."""
    from rich.console import Console  # here: `solon --help` prints without it

    return Console(markup=False, emoji=False, highlight=False, **{"soft_wrap": True, **given})


def columns(*names: str, **given: Any) -> Table:
    """Return a table without lines; a column's name ends in ">" where its values stand at the right."""
    from rich.table import Table

    made = Table(**{"box": None, "pad_edge": False, "header_style": "bold", **given})
    for column in names:
        right = column.endswith(">")
        made.add_column(column.rstrip(">"), justify="right" if right else "left", overflow="fold", no_wrap=right)
    return made


def print_whole(out: Console, table: Table) -> None:
    """Print a table at its own width, wider than the screen where it must be: half a figure is none."""
    screen = out.width
    out.width = max(screen, out.measure(table, options=out.options.update(width=1000)).maximum)
    out.print(table, soft_wrap=False)
    out.width = screen


def progress_bar(out: Console) -> Progress:
    """Return a progress bar that is gone when it is done, and is none where `out` is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("eta"),
        TimeRemainingColumn(), console=out, transient=True, disable=not out.is_terminal,
    )  # fmt: skip


def styled(*parts: str | tuple[str, str] | Text) -> Text:
    """Return one text of several parts, each plain or (words, style)."""
    from rich.text import Text

    return Text.assemble(*parts)


def plain(text: object) -> str:
    """Return `text` with control characters made visible and half characters replaced."""
    return visible(whole(str(text)))


def agreed(nobody: str) -> bool:
    """Return whether somebody agrees to what was told. Raises BadInput, in these words, where nobody can be asked."""
    if not sys.stdin.isatty():
        raise BadInput(nobody)
    return typer.confirm("ask them?", err=True)


def percents(told: Interval, sign: str = "", to: str = "-") -> str:
    """Return "52 [38-66]": per cent and its 95 % interval; `sign` "+" for changes."""
    if told.value is None:
        return "-"
    around = "?"
    if told.low is not None and told.high is not None:
        around = f"{100 * told.low:{sign}.0f}{to}{100 * told.high:{sign}.0f}"
    return f"{100 * told.value:{sign}.0f} [{around}]"


def spending(asked: int, known: int, dollars: float | None) -> str:
    """Return "3 calls asked, 40 known; $0.12"."""
    return f"{counted(asked, 'call')} asked, {known:,} known; {money(dollars)}"


def money(dollars: float | None) -> str:
    """Return "$1.20", or that the price is unknown: never zero for what nobody said."""
    if dollars is None:
        return "price unknown (give `price:` with the model)"
    if dollars and dollars < 0.01:
        return f"${dollars:.4f}" if dollars >= 0.0001 else "under $0.0001"
    return f"${dollars:,.2f}"
