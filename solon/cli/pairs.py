"""`solon pairs`: a few pairs as a person wants to read them, chosen beside rejected."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from solon.pipelines.run import RunFolder
from solon.rows import Pair

__all__ = ["print_pairs"]


def print_pairs(run: Path, count: int) -> int:
    """Print the first `count` pairs of a run in the plan's order; return 1 where there are none."""
    console = Console(highlight=False)
    with RunFolder.open(run).store(read_only=True) as store:
        pairs = list(islice((outcome for outcome in store.outcomes() if isinstance(outcome, Pair)), count))
    for pair in pairs:
        console.print(_panel(pair))
    if not pairs:
        console.print(f"{run}: no pairs yet", markup=False)
    return 0 if pairs else 1


def _panel(pair: Pair) -> Panel:
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text(f"chosen ({pair.chosen_draft})", style="bold green"), ratio=1)
    table.add_column(Text(f"rejected ({pair.rejected_draft})", style="bold red"), ratio=1)
    table.add_row(Text(pair.chosen), Text(pair.rejected))
    prompt = "\n".join(f"{message.role}: {message.content}" for message in pair.row.prompt.messages)
    return Panel(
        table,
        title=Text(prompt if len(pair.row.prompt.messages) > 1 else pair.row.prompt.messages[-1].content, style="bold"),
        title_align="left",
        subtitle=Text(f"P(chosen is better) {pair.p_chosen:.2f} by {pair.judge}, principle {pair.principle}"),
        subtitle_align="left",
        padding=(1, 2),
    )
