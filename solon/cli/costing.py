"""`solon cost`: what a run's rows cost, by step, role, principle and model, what it paid, and what the ledger saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solon.cli.apps import Latest, app
from solon.cli.screen import columns, console, counted, money, plain, print_whole

if TYPE_CHECKING:
    from solon.commands.costs import Cost, Costs
    from solon.spend import Spend

__all__ = ["print_costs"]

MOST_PRINCIPLES = 20


@app.command()
def cost(
    run: Latest = Path("runs/latest"),
    json: Annotated[bool, typer.Option("--json", help="All figures, for machines.")] = False,
) -> None:
    """Say what a run's rows cost and where it went: by step, role, principle and model; and what the ledger saved."""
    import asyncio
    import json as writer

    from solon.commands.costs import cost_of

    costs = asyncio.run(cost_of(run))
    if json:
        typer.echo(writer.dumps(costs.figures(), indent=1))
    else:
        print_costs(costs)


def print_costs(costs: Costs) -> None:
    """Print a table of what the finished rows used, and lines of who paid it."""
    out = console()
    table = columns("by", "", "calls>", "tokens in>", "cached>", "out>", "cost>", "paid by it>")
    parts = (("step", costs.steps), ("role", costs.roles), ("principle", costs.principles), ("model", costs.models))
    for name, kinds in parts:
        told = list(kinds.items())
        if name == "principle":
            told.sort(key=lambda one: (one[0] == "", -(one[1].nano or 0), -one[1].calls, one[0]))
            more, told = told[MOST_PRINCIPLES:], told[:MOST_PRINCIPLES]
        for place, (kind, each) in enumerate(told):
            table.add_row(name if place == 0 else "", plain(kind) or "(none)", *_figures(each))
        if name == "principle" and more:
            table.add_row("", f"and {len(more):,} more: see --json", *[""] * 6)
    table.add_row("all", "", *_figures(costs.whole), style="bold")
    print_whole(out, table)
    out.print()
    for line in _lines(costs):
        out.print(plain(line))


def _figures(cost: Cost) -> tuple[str, ...]:
    usage, paid = cost.usage, cost.paid.dollars if cost.nano is not None else None
    counts = (f"{cost.calls:,}", f"{usage.input:,}", f"{usage.cached:,}", f"{usage.output:,}")
    return (*counts, _short(cost.dollars), _short(paid))


def _short(dollars: float | None) -> str:
    return "?" if dollars is None else money(dollars)


def _lines(costs: Costs) -> list[str]:
    """Return what became of the money, a line each."""

    def said(spend: Spend) -> str:
        price = money(spend.dollars) if costs.known else "an unknown price"
        return f"{price} and {counted(spend.calls, 'call')}"

    lines = [f"{costs.folder}: {costs.rows:,} of {counted(costs.planned, 'row')} finished"]
    if not costs.known:
        unknown = ", ".join(name for name, by in costs.priced.items() if not by)
        lines.append(f"price unknown: {unknown}; give `price:` with the model, or list it in a file under `prices:`")
    lines.append(f"paid by this run: {said(costs.spent)}")
    if costs.unfinished.calls:
        lines.append(f"of it for rows that are not finished, or calls that were asked anew: {said(costs.unfinished)}")
    lines.append(f"the ledger saved {said(costs.saved)}")
    if costs.lost.calls:
        lines.append(f"may have been billed in vain, at most: {said(costs.lost)}")
    if costs.reserved.calls:
        lines.append(f"in flight, at most: {said(costs.reserved)}")
    if costs.forgotten:
        lines.append(f"not in the ledger any more: {counted(costs.forgotten, 'call')}; not counted above")
    if costs.budget:
        lines.append(f"budget {costs.budget}: {costs.left} left")
    told = dict.fromkeys(by for by in costs.priced.values() if by)
    lines += [f"prices: {', '.join(told)}"] if told else []
    return lines
