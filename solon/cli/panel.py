"""How a run's standing looks: a few lines that stay in place on a terminal, one line elsewhere, and what ended it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from solon.cli.screen import counted, money, plain, styled

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from solon.pipelines.standing import Batches, Money, Server, Standing

__all__ = ["STATES", "by_count", "duration", "labelled", "money_told", "one_line", "panel", "tokens_told"]

SERVERS_SHOWN = 8
"""Servers shown at most; the others are counted."""
BAR_WIDTH = 40
LABEL_WIDTH = 6

STATES = {
    "walking": "", "paused": "paused", "waiting": "waiting for batch jobs", "stopping": "stopping",
    "exporting": "writing the dataset", "done": "done", "interrupted": "interrupted", "over_budget": "budget used up",
    "halted": "halted", "failed": "failed", "killed": "killed",
}  # fmt: skip
STYLES = {"paused": "yellow", "waiting": "cyan", "stopping": "yellow", "exporting": "cyan", "done": "green"}


def panel(standing: Standing) -> Table:
    """Return the standing as a block: rows, what became of them, calls, servers, tokens, money; a label each."""
    servers: list[tuple[str, RenderableType]] = []
    if not standing.ended:
        servers = [("server", _server(server)) for server in standing.servers[:SERVERS_SHOWN]]
        if (more := len(standing.servers) - SERVERS_SHOWN) > 0:
            servers.append(("", f"and {counted(more, 'more server')}"))
    return labelled(
        ("rows", _bar(standing)),
        ("pairs", _became(standing)),
        ("calls", _calls(standing)),
        *servers,
        *([("batch", _batches(standing.batches))] if standing.batches else []),
        ("tokens", tokens_told(standing)),
        ("spent", money_told(standing.money)),
    )


def labelled(*lines: tuple[str, RenderableType]) -> Table:
    """Return lines with a label each, in two columns."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True, min_width=LABEL_WIDTH)
    grid.add_column(overflow="fold")
    for label, told in lines:
        grid.add_row(label, told)
    return grid


def _bar(standing: Standing) -> RenderableType:
    """Return the bar with its figures beside it, in one row that shares the width that is left."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    rows = standing.rows
    line = Table.grid(padding=(0, 2))
    line.add_column(max_width=BAR_WIDTH)
    line.add_column(no_wrap=True)
    line.add_column(no_wrap=True, overflow="fold")
    bar = ProgressBar(total=max(1, rows.total), completed=rows.done, complete_style="green", finished_style="green")
    share = f"{100 * rows.done / rows.total:.0f} %" if rows.total else ""
    if share == "100 %" and rows.left:
        share = "99 %"
    told = styled((f"{rows.done:,}", "bold"), f"/{rows.total:,}", f"  {share}")
    when = styled((f"{clock(standing.seconds)}  ", "dim"), (_when(standing), STYLES.get(standing.state, "bold")))
    line.add_row(bar, told, when)
    return line


def _when(standing: Standing) -> str:
    """Return when it will be done, or why nobody can say."""
    if told := STATES[standing.state]:
        return told
    return f"eta {duration(standing.eta)}" if standing.eta is not None else "eta ?"


def _became(standing: Standing) -> Text:
    rows = standing.rows
    parts: list[str | tuple[str, str]] = [f"{rows.pairs:,}"]
    if rows.aside:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in by_count(rows.aside))
        parts += [", ", (f"set aside {rows.set_aside:,}", "yellow"), f": {plain(reasons)}"]
    if rows.not_known:
        parts.append(f", not known {rows.not_known:,}")
    return styled(*parts)


def _calls(standing: Standing) -> Text:
    calls = standing.calls
    parts: list[str | tuple[str, str]] = [f"{calls.asked:,} asked ({calls.mean_rate:,.1f}/s)"]
    if not standing.ended:
        parts = [(f"{calls.rate:,.1f}/s", "bold"), f" ({calls.mean_rate:,.1f}/s in all), {calls.asked:,} asked"]
    if calls.known:
        parts.append(f", {calls.known:,} known")
    if calls.failed:
        parts += [", ", (f"{calls.failed:,} failed", "red")]
    useless = ", ".join(f"{kind} {count:,}" for kind, count in by_count(calls.answers) if kind != "good" and count)
    if useless:
        parts.append(f"; of no use: {useless}")
    return styled(*parts)


def _server(server: Server) -> Text:
    parts: list[str | tuple[str, str]] = [plain(server.model), f"  {server.in_flight:,} of {server.limit:,} in flight"]
    if server.share is not None and server.share_of:
        parts += [", ", (f"{100 * server.share:.0f} %", "bold"), f" of {server.share_of}"]
    elif server.share is not None:
        parts += [", ", (f"{100 * server.share:.0f} %", "bold"), " of what it takes at once"]
    if server.throttled:
        parts += [", ", (f"{server.throttled:,} x 429", "yellow")]
    if server.state != "open":
        told = f"{plain(server.state)} for {duration(server.since)}"
        parts += [", ", (told, "red" if server.state == "outage" else "yellow")]
    return styled(*parts)


def _batches(batches: Batches) -> str:
    told = f"{batches.in_jobs:,} calls in {counted(batches.jobs, 'job')}, {counted(batches.parked, 'row')} waiting"
    return told if batches.next_poll is None else f"{told}; looked at again in {duration(batches.next_poll)}"


def tokens_told(standing: Standing) -> str:
    tokens = standing.tokens
    cached = f" ({shortened(tokens.cached)} cached)" if tokens.cached else ""
    thinking = f" ({shortened(tokens.thinking)} thinking)" if tokens.thinking else ""
    return f"{shortened(tokens.input)} in{cached}, {shortened(tokens.output)} out{thinking}"


def money_told(known: Money) -> str:
    """Return what was paid, of what budget, and what it will come to."""
    told = money(known.spent)
    if known.budget:
        told += f" of {known.budget}"
    if known.projected is not None and known.spent != known.projected:
        told += f", about {money(known.projected)} when done"
    if known.left and "USD" not in known.budget:
        told += f", {known.left} left"
    if known.lost:
        told += f"; {money(known.lost)} perhaps lost"
    if known.saved:
        told += f"; memory saved {money(known.saved)}"
    return told


def one_line(standing: Standing) -> str:
    """Return the standing on one line, for a log."""
    rows, calls, tokens = standing.rows, standing.calls, standing.tokens
    told = [
        f"{rows.done:,}/{rows.total:,} rows",
        f"{counted(calls.asked, 'call')} asked ({calls.rate:.1f}/s)",
        f"{calls.known:,} known",
        *([f"{calls.failed:,} failed"] if calls.failed else []),
        f"{tokens.input + tokens.output:,} tokens",
        f"{rows.set_aside:,} set aside",
    ]
    told += [_in_flight(server) for server in standing.servers[:SERVERS_SHOWN]]
    if standing.money.spent or standing.money.budget:
        told.append(money_told(standing.money))
    told.append(_when(standing))
    return ", ".join(told)


def shortened(count: int) -> str:
    """Return "1,234", "12.3M" or "1.23B": what a person can read at a glance."""
    if count >= 1_000_000_000:
        return f"{count / 1e9:.2f}B"
    return f"{count / 1e6:.1f}M" if count >= 1_000_000 else f"{count:,}"


def _in_flight(server: Server) -> str:
    of = "" if server.share is None or not server.share_of else f" ({100 * server.share:.0f} % of {server.share_of})"
    told = f"{plain(server.model)} {server.in_flight:,} of {server.limit:,} in flight{of}"
    return told if server.state == "open" else f"{told}, {server.state} for {duration(server.since)}"


def by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return {name: count} as pairs, most first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def clock(seconds: float) -> str:
    """Return "0:12" or "1:02:03"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """Return "3 h 05 min", "4 min 10 s" or "12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
