"""`solon constitution infer`: principles out of preference data, beside what baselines make of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solon.cli.apps import constitution_app
from solon.cli.screen import (
    agreed,
    columns,
    console,
    counted,
    money,
    percents,
    plain,
    print_whole,
    progress_bar,
    spending,
)

if TYPE_CHECKING:
    from rich.console import Console

    from solon.commands.inferring import Estimated, Inference
    from solon.review.infer.inferred import Inferred
    from solon.review.infer.preferences import Preferences
    from solon.review.intervals import Interval


@constitution_app.command("infer")
def infer_command(
    pairs: Annotated[
        str,
        typer.Argument(
            help="A run folder, a dataset folder, a .jsonl, .csv or .parquet file with chosen and rejected, or the "
            "name of a dataset on the hub.",
            show_default=False,
        ),
    ],
    recipe: Annotated[
        Path | None, typer.Option(help="Whose critic proposes and whose judge judges.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Instead of a recipe: one model for both.", show_default=False)
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Where to write the constitution; default: print it.", show_default=False)
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write every number as JSON.", show_default=False)] = None,
    keep: Annotated[int, typer.Option(min=1, help="Most principles in the constitution.")] = 8,
    limit: Annotated[int, typer.Option(min=1, help="Read the first N pairs.")] = 400,
    proposals: Annotated[int, typer.Option(min=1, max=1000, help="Most pairs that rules are proposed from.")] = 60,
    candidates: Annotated[int, typer.Option(min=1, max=200, help="Most rules that are voted by.")] = 20,
    votes: Annotated[int, typer.Option(min=1, help="Most pairs that each of them judges.")] = 120,
    test_fraction: Annotated[float, typer.Option(help="Share of prompts that is held out.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Decides the split and the order of the pairs.")] = 0,
    split: Annotated[str | None, typer.Option(help="Which split of a dataset.", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask the models without asking you first.")] = False,
) -> None:
    """Infer a constitution from preference data: the principles that reconstruct held-out labels best.

    Exit code 1 where they are not shown to beat the trivial baselines.
    """
    import asyncio

    from solon.commands.inferring import estimate_inference, infer_constitution
    from solon.review.infer.inferred import InferSpec
    from solon.review.infer.inferred import report as report_text
    from solon.review.infer.preferences import read_preferences

    spec = InferSpec(keep, candidates, proposals, votes, test_fraction, seed)
    _check_places(to, report)
    told = console(stderr=True)
    given = read_preferences(pairs, limit=limit, split=split)
    _print_pairs(told, given)
    price = asyncio.run(estimate_inference(given, spec, recipe=recipe, model=model))
    _print_price(told, price)
    nobody = "this costs money and nobody can be asked here; give --yes to go on"
    if price.costs and not yes and not agreed(nobody):
        raise typer.Exit(1)
    with _Bar(told) as bar:
        done = asyncio.run(infer_constitution(given, spec, recipe=recipe, model=model, tell=bar.tell))
    inferred = done.inferred
    _print_inferred(console() if to else told, done)
    if report:
        _write(report, report_text(inferred))
    if inferred.constitution and to:
        _write(to, inferred.constitution.to_yaml())
        typer.echo(f"wrote {to}")
    elif inferred.constitution:
        typer.echo(inferred.constitution.to_yaml(), nl=False)
    raise typer.Exit(0 if inferred.explains else 1)


def _check_places(to: Path | None, report: Path | None) -> None:
    """Raise BadInput before anything is paid for, where the results could not be written."""
    from solon.errors import BadInput

    if to and to.exists():
        raise BadInput(f"{to}: is there already, and may have been edited; give --to another name, or move it away")
    for path in (to, report):
        if path and not path.parent.is_dir():
            raise BadInput(f"{path.parent}: no such folder; make it, or write somewhere else")
        if path and path.is_dir():
            raise BadInput(f"{path}: is a folder; give the name of a file in it")


def _write(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _print_pairs(out: Console, given: Preferences) -> None:
    out.print(plain(f"{given.source}: {counted(len(given.pairs), 'pair')} out of {counted(given.read, 'record')}"))
    for reason, count in sorted(given.set_aside.items()):
        out.print(plain(f"  set aside: {count:,} {reason}, first {given.examples[reason]}"))


def _print_price(out: Console, price: Estimated) -> None:
    new = f"{price.certain:,} certainly new, at most {price.at_most:,} new" if price.at_most else "nothing new to ask"
    out.print(plain(f"{price.proposer} proposes, {price.judge} judges: {counted(price.known, 'call')} known, {new}"))
    for phase, count in price.phases.items():
        out.print(f"  {phase}: {count.known:,} known, {count.certain:,} certainly new, at most {count.at_most:,} new")
    if price.at_most:
        tokens = f"at most about {price.most.input:,.0f} tokens in and {price.most.output:,.0f} out"
        dollars = price.most.dollars
        out.print(f"{tokens}; {money(dollars) if dollars is None else 'at most about ' + money(dollars)}")


class _Bar:
    """Where the inference stands: a live bar on a terminal, a line a phase elsewhere."""

    def __init__(self, out: Console) -> None:
        self.out = out
        self.bar = progress_bar(out)
        self.task = self.bar.add_task("", total=None)

    def __enter__(self) -> _Bar:
        self.bar.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.bar.stop()

    def tell(self, phase: str, done: int, of: int) -> None:
        if not done:
            self.bar.reset(self.task, description=phase)
            if not self.out.is_terminal:
                self.out.print(f"{phase}: {of:,} to ask")
        self.bar.update(self.task, completed=done, total=of)


def _print_inferred(out: Console, done: Inference) -> None:
    inferred = done.inferred
    counts = inferred.counts
    out.print(", ".join(f"{name} {count:,}" for name, count in counts.items()))
    without = ", ".join(f"{reason} {count:,}" for reason, count in inferred.proposals["without"].items())
    unusable = sum(inferred.proposals["unusable"].values())
    out.print(
        f"proposed: {counted(inferred.proposals['rules'], 'rule')}, {counted(len(inferred.rules), 'candidate')}"
        + (f"; pairs without one: {without}" if without else "")
        + (f"; {counted(unusable, 'line')} that are no rule" if unusable else "")
    )
    if inferred.rules:
        _print_rules(out, inferred)
    _print_measures(out, inferred)
    if inferred.silent:
        said = ", ".join(f"{reason} {count:,}" for reason, count in inferred.silent.items())
        out.print(f"held-out comparisons that said nothing: {said}")
    out.print(plain(inferred.verdict), style="bold")
    if inferred.failed:
        out.print(f"{counted(inferred.failed, 'question')} got no answer; start again to ask them anew", style="yellow")
    out.print(spending(done.asked, done.known, done.dollars))


def _print_rules(out: Console, inferred: Inferred) -> None:
    judged = counted(inferred.counts["voted on"], "pair")
    table = columns("weight>", "from>", "decides %>", "right %>", f"candidate, by the {judged} it judged")
    for rule in inferred.rules:
        weight = rule.fate if rule.weight is None else f"{rule.weight:.2f}"
        right = f"{percents(rule.right)} {rule.right.n:,}"
        table.add_row(weight, f"{rule.candidate.support:,}", _share(rule.speaks), right, plain(rule.candidate.text))
    out.print()
    out.print(table, soft_wrap=False)
    out.print(
        "[95 % interval] n; these pairs chose what is kept, so its figures flatter: held-out ones do not",
        style="dim",
    )


def _print_measures(out: Console, inferred: Inferred) -> None:
    held_out = counted(inferred.counts["held out"], "held-out pair")
    table = columns(held_out, "score %>", "decides %>", "right %>", "over baseline>")
    for each in inferred.measures:
        gap = "" if each.against is None else percents(each.against, "+", " to ")
        cells = percents(each.score), _share(each.speaks), f"{percents(each.right)} {each.right.n:,}", gap
        table.add_row(each.name, *cells, style="dim" if each.kind == "baseline" else "")
    out.print()
    print_whole(out, table)
    notes = "[95 % interval] n; right: of what it decides; score: of all, silence counted as half"
    out.print(f"{notes}; over the best baseline, in points\n", style="dim")


def _share(told: Interval) -> str:
    return "-" if told.value is None else f"{100 * told.value:.0f}"
