"""`solon pairs`: a few pairs as a person wants to read them, chosen beside rejected."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from solon.cli.screen import console, plain
from solon.pipelines.run import RunFolder
from solon.rows import Pair

__all__ = ["print_pairs"]


def print_pairs(run: Path, count: int) -> int:
    """Print the first `count` pairs of a run in the plan's order; return 1 where there are none."""
    out = console(soft_wrap=False)
    with RunFolder.open(run).store(read_only=True) as store:
        pairs = list(islice((outcome for outcome in store.outcomes() if isinstance(outcome, Pair)), count))
    for pair in pairs:
        out.print(_panel(pair))
    if not pairs:
        out.print(f"{run}: no pairs yet")
    return 0 if pairs else 1


def _panel(pair: Pair) -> Panel:
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text(f"chosen ({pair.chosen_draft})", style="bold green"), ratio=1)
    table.add_column(Text(f"rejected ({pair.rejected_draft})", style="bold red"), ratio=1)
    table.add_row(Text(plain(pair.chosen)), Text(plain(pair.rejected)))
    turns = pair.row.prompt.messages
    prompt = "\n".join(f"{turn.role}: {turn.content}" for turn in turns) if len(turns) > 1 else turns[0].content
    verdict = f"P(chosen is better) {pair.p_chosen:.3f} by {pair.judge}, principle {pair.principle}"
    # in the body, not in the frame: a frame cuts off what is too long for it
    body = Group(Text(plain(prompt), style="bold"), "", table, "", Text(plain(verdict), style="dim"))
    return Panel(body, title=f"row {pair.row.index}", title_align="left", padding=(0, 2))
