"""`solon constitution audit`: what each principle of a run does, and what a sample of further votes says of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from solon.cli.apps import Latest, constitution_app
from solon.cli.screen import agreed, columns, console, counted, money, percents, plain, print_whole, progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from solon.commands.auditing import Quote
    from solon.review.audit.agreement import Sample
    from solon.review.audit.opinions import Judging
    from solon.review.audit.records import Audit, OnePrinciple
    from solon.review.audit.remarks import Remarks
    from solon.review.intervals import Interval

MOST_SHOWN = 10
"""Examples and prompts that are printed; `--format json` has all of them."""


@constitution_app.command("audit")
def audit_command(
    run: Latest = Path("runs/latest"),
    sample: Annotated[
        int,
        typer.Option("--sample", min=0, help="Pairs that every principle is asked about, for agreement and ablation."),
    ] = 0,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask the sample's new calls without asking you first.")
    ] = False,
    form: Annotated[Literal["text", "json"], typer.Option("--format", help="Tables, or everything as JSON.")] = "text",
) -> None:
    """Say what each principle of a run does: drawn, criticising, judging; and which could go."""
    import asyncio
    import json
    from dataclasses import asdict

    from solon.commands.auditing import audit_run
    from solon.review.audit.remarks import worth_a_look

    told = console(stderr=True)
    with progress_bar(told) as bar:
        task = bar.add_task("ballots", total=None, visible=False)

        def agree(quote: Quote) -> bool:
            _print_quote(told, quote)
            bar.stop()  # a question on the terminal is no place for a moving bar
            asking = _agreed(quote, yes=yes)
            bar.update(task, total=quote.questions, visible=asking)
            bar.start()
            return asking

        def tell(done: int) -> None:
            bar.update(task, completed=done)

        audit = asyncio.run(audit_run(run, pairs=sample, agree=agree, tell=tell))
    remarks = worth_a_look(audit)
    if form == "json":
        typer.echo(json.dumps({**asdict(audit), **asdict(remarks)}, indent=1, allow_nan=False))
        return
    _print_audit(console(), audit, remarks)


def _print_quote(out: Console, quote: Quote) -> None:
    out.print(
        f"sample: {quote.pairs:,} of {counted(quote.there, 'pair')}, {counted(quote.questions, 'ballot')} by "
        f"{plain(quote.judge)}: {counted(quote.known, 'call')} known, {quote.new:,} new"
        + (f", at most {quote.at_most:,} new" if quote.at_most > quote.new else "")
    )
    if quote.at_most:
        price = money(quote.cost.dollars)
        most = f", at most about {money(quote.most.dollars)}" if money(quote.most.dollars) != price else ""
        tokens = f"about {quote.cost.input:,.0f} tokens in and {quote.cost.output:,.0f} out"
        out.print(f"{tokens}; price: about {price}{most}" if quote.cost.dollars is not None else f"{tokens}; {price}")


def _agreed(quote: Quote, *, yes: bool) -> bool:
    if yes or not quote.costs:
        return True
    if agreed("the sample costs money and nobody can be asked here; give --yes, or leave --sample out"):
        return True
    typer.echo("no sample was taken; what follows is from the run's records", err=True)
    return False


def _print_audit(out: Console, audit: Audit, remarks: Remarks) -> None:
    out.print(
        plain(
            f"{audit.run}: {audit.finished:,} of {audit.planned:,} rows, {audit.story}; "
            f"constitution {audit.constitution} ({audit.digest[:12]}), judge {audit.judge}"
        )
    )
    _drawn(out, audit)
    if audit.rounds:
        _revising(out, audit)
    judging = {each.id: each.judging for each in audit.principles if each.kind != "hard_constraint"}
    _judging(out, "as the judge's principle", judging, audit.everyone)
    if audit.sample:
        _sampled(out, audit.sample)
    out.print("\nworth a look", style="bold")
    for remark in remarks.worth:
        out.print(plain(f"- {remark.text}"))
    if not remarks.worth:
        out.print("- nothing: no interval excludes what nothing being there would give")
    out.print(
        f"\n{counted(remarks.looked, 'interval')} of 95 % looked at: by chance alone, one in twenty would exclude its "
        "value",
        style="dim",
    )
    out.print("P(better), |P-0.5|, distance and share are means; their intervals are in --format json", style="dim")
    for note in remarks.notes:
        out.print(plain(note), style="dim")


def _table(out: Console, title: str, heads: Iterable[str], lines: Iterable[Iterable[str]]) -> None:
    out.print(f"\n{title}", style="bold")
    shown = columns()
    for place, head in enumerate(heads):
        shown.add_column(head, justify="right" if place else "left", overflow="fold", no_wrap=True)
    for line in lines:
        shown.add_row(*map(plain, line))
    print_whole(out, shown)


def _cell(told: Interval, usual: int | None = None) -> str:
    """Return "52 [38-66]", and behind it n where it is not the line's `usual` one."""
    return percents(told) + ("" if told.value is None or told.n == usual else f" {told.n:,}")


def _mean(told: Interval) -> str:
    return "-" if told.value is None else f"{told.value:.3f}"


def _drawn(out: Console, audit: Audit) -> None:
    steps = [step.step for step in audit.principles[0].coverage]

    def line(each: OnePrinciple) -> Iterable[str]:
        yield each.id
        yield f"{each.weight:g}"
        yield f"{each.draws:,}"
        for step in each.coverage:
            mark = "*" if step.beyond_chance else ""
            told = _cell(step.share, audit.planned)
            yield "-" if step.expected is None else f"{told}, {100 * step.expected:.0f}{mark}"

    _table(
        out, f"drawn by % of the {audit.planned:,} rows [95 %], expected % (* outside, as one in 20 is by chance)",
        ["principle", "weight", "draws", *steps],
        [line(each) for each in audit.principles if each.kind != "hard_constraint"],
    )  # fmt: skip


def _revising(out: Console, audit: Audit) -> None:
    _table(
        out, "as critic and reviser: % of its rounds [95 %] (n where it is another)",
        ("principle", "rounds", "finds nothing", "unchanged", "distance", "better", "P(better)", "set aside"),
        [
            (
                each.id, f"{told.rounds:,}", _cell(told.nothing, told.rounds), _cell(told.unchanged, told.rounds),
                _mean(told.distance), _cell(told.better, told.rounds), _mean(told.p_better),
                ", ".join(f"{reason} {count:,}" for reason, count in told.aside.items()) or "-",
            )
            for each in audit.principles
            if (told := each.revising) and told.rounds
        ],
    )  # fmt: skip


def _judging(out: Console, title: str, principles: dict[str, Judging], everyone: Judging) -> None:
    lines = [
        (
            id, f"{told.decided:,}", _mean(told.of_all) if id != "all" else "-", f"{told.ties:,}",
            f"{told.silent + told.failed:,}", _mean(told.decisive), _cell(told.same_slot, told.decided),
            _cell(told.refusing, told.decided), _cell(told.longer, told.decided),
        )
        for id, told in [*principles.items(), ("all", everyone)]
    ]  # fmt: skip
    heads = ("principle", "decides", "share", "ties", "silent", "|P-0.5|", "same slot", "refusing wins", "longer wins")
    _table(out, f"{title}: % of its decisions [95 %] (n where it is another)", heads, lines)


def _sampled(out: Console, sample: Sample) -> None:
    from solon.complaints import short

    ids = list(sample.principles)
    _judging(out, f"on {counted(sample.pairs, 'sampled pair')}", sample.principles, sample.everyone)
    equal = {frozenset((each.one, each.other)): each for each in sample.agreements}
    numbered = {id: str(place) for place, id in enumerate(ids, start=1)}

    def shared(one: str, other: str) -> str:
        value = equal[frozenset((one, other))].equal.value if one != other else None
        return "." if value is None else f"{100 * value:.0f}"

    grid = [(f"{numbered[one]} {one}", *(shared(one, other) for other in ids)) for one in ids]
    both = [each.equal.n for each in sample.agreements]
    over = f" ({min(both):,} to {max(both):,})" if both else ""
    _table(out, f"decide alike, % of the sampled pairs that both decide{over}", ["principle", *numbered.values()], grid)
    dropped = [
        (
            each.principle, f"{each.drew:,}", f"{each.flipped:,}", f"{each.tied:,}",
            f"{each.unknown + each.stranded:,}", _cell(each.changed), "yes" if each.droppable else "",
        )
        for each in sample.ablations
    ]  # fmt: skip
    heads = ("dropped", "drew it", "flip", "tie", "unknown", "changed %", "could go")
    _table(out, "labels without it: rows that drew it draw again", heads, dropped)
    for apart in sample.contradictions[:MOST_SHOWN]:
        two = apart.agreement
        for one in apart.worst:
            out.print(plain(f"\n{two.one} against {two.other}, row {one.row}: {short(one.prompt, 100)}"), style="bold")
            out.print(plain(f"  P(first) {one.p_one:.2f} by {two.one}, {one.p_other:.2f} by {two.other}"))
            out.print(plain(f"  first:  {short(one.first, 160)}\n  second: {short(one.second, 160)}"))
    divided = [each for each in sample.ambiguous if each.minority.value]
    out.print(
        f"\nprinciples disagree on {len(divided):,} of {counted(sample.pairs, 'sampled pair')}; most on these, where "
        "the constitution may be ambiguous",
        style="bold",
    )
    for each in divided[:MOST_SHOWN]:
        against = f"{_cell(each.minority)} % against the majority"
        orders = "" if each.between_orders is None else f", {each.between_orders:.2f} between the orders"
        prompt = short(each.prompt, 80)
        out.print(plain(f"row {each.row}: {against}, variance of P {each.variance:.4f}{orders}: {prompt}"))
