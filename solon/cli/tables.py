"""What the commands print: plans, rows, closing tables. Figures that are not known are said to be unknown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from solon.commands import Ability, Done, Planned, Shown
from solon.errors import REASONS
from solon.ledger import Entry
from solon.rows import Pair

__all__ = ["print_abilities", "print_done", "print_plan", "print_row", "print_views"]


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _money(dollars: float | None) -> str:
    if dollars is None:
        return "price unknown (give `price:` with the model)"
    return f"${dollars:,.2f}" if dollars >= 0.01 or dollars == 0 else f"${dollars:.4f}"


def print_plan(planned: Planned) -> None:
    """Print what a run would ask, by step, with one closing sentence."""
    console, survey = _console(), planned.survey
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, align in (
        ("step", "left"),
        ("model", "left"),
        ("known", "right"),
        ("new", "right"),
        ("at most", "right"),
    ):
        table.add_column(name, justify=align)  # type: ignore[arg-type]
    for step, count in survey.steps.items():
        name = planned.names.get(survey.roles[step], "")
        table.add_row(step, name, f"{count.known:,}", f"{count.certain:,}", f"{count.at_most:,}")
    table.add_row("all", "", f"{survey.known:,}", f"{survey.certain:,}", f"{survey.at_most:,}", style="bold")
    console.print(table)
    console.print()
    same = f", {planned.duplicates} duplicate prompts fell together" if planned.duplicates else ""
    console.print(f"plan {planned.name}: {survey.rows:,} rows{same}; {survey.finished:,} finished in {planned.folder}")
    console.print(
        f"{survey.known:,} calls known, {survey.certain:,} certainly new, at most {survey.at_most:,} new "
        "(what follows a new answer is known when it is there)"
    )
    certain, most = planned.certain_dollars, planned.at_most_dollars
    console.print(
        f"price: {_money(most)}" if most is None else f"price: about {_money(certain)}, at most about {_money(most)}"
    )


def print_done(done: Done) -> None:
    """Print the one closing table of a run."""
    console, progress, quality = _console(), done.progress, done.quality
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    same = f"{done.duplicates} duplicates fell together" if done.duplicates else ""
    table.add_row("rows", f"{done.planned:,}", same)
    share = f"mean P(chosen is better) {quality.mean_p:.3f}" if quality.mean_p is not None else ""
    table.add_row("pairs", f"{done.pairs:,}", share)
    for reason, count in sorted(done.reasons.items(), key=lambda item: (-item[1], item[0])):
        table.add_row("set aside", f"{count:,}", f"{reason}: {REASONS[reason]}")
    left = done.planned - done.pairs - sum(done.reasons.values())
    if left:
        table.add_row("unfinished", f"{left:,}", "start again to go on")
    table.add_row("calls asked", f"{progress.asked:,}", f"{progress.known:,} more answered from the ledger")
    tokens = progress.usage
    table.add_row("tokens", f"{tokens.input + tokens.output:,}", f"{tokens.input:,} in, {tokens.output:,} out"
                  + (f" ({tokens.thinking:,} thinking)" if tokens.thinking else ""))  # fmt: skip
    table.add_row("spent", _money(done.dollars), "")
    if quality.revisions:
        table.add_row("stripped", f"{quality.stripped / quality.revisions:.0%}", "of revisions lost a meta-preamble")
    if quality.trimmed:
        table.add_row("trimmed", f"{quality.trimmed / quality.drafts:.0%}", "of texts lost an unfinished last sentence")
    if quality.original_chosen:
        table.add_row("original won", f"{quality.original_chosen:,}", "times the judge preferred it to the revision")
    if quality.judged:
        table.add_row(
            "same slot", f"{quality.same_slot / quality.judged:.0%}", "of comparisons won by a place, not a text"
        )
    table.add_row("time", f"{progress.seconds:.0f} s", "")
    console.print(table)
    if done.views:
        print_views(done.folder.dataset, done.views)


def print_views(folder: Path, views: Mapping[str, int]) -> None:
    """Print where a dataset lies, and how many rows each view has."""
    console = _console()
    console.print("dataset", folder, style="bold", markup=False)
    console.print("  " + ", ".join(f"{view} {count:,}" for view, count in views.items()), markup=False)


def print_row(shown: Shown, *, calls: bool) -> None:
    """Print one row's walk as a person would want to read it."""
    console, row, outcome = _console(), shown.row, shown.outcome
    console.print(f"row {row.index}  {row.id}", style="bold")
    for message in row.prompt.messages:
        _say(console, message.role, message.content)
    if outcome is None:
        console.print("nothing has become of it yet: it is unfinished", style="yellow")
        return
    for draft in outcome.drafts:
        if draft.principle:
            _say(console, f"critique by {draft.principle}", draft.critique)
        marks = [name for name, on in (("preamble stripped", draft.stripped), ("trimmed", draft.trimmed)) if on]
        _say(console, f"{draft.name}{' (' + ', '.join(marks) + ')' if marks else ''}", draft.text)
    for vote in outcome.votes:
        p = "did not say" if vote.p_first is None else f"P(first is better) = {vote.p_first:.4f}"
        mass = "" if vote.mass is None else f", the labels held {vote.mass:.2%} of the probability"
        console.print(f"vote {vote.order} by {vote.source}: {p}{mass}", markup=False)
        if vote.said:
            console.print(f"  {vote.said}", markup=False, style="dim")
    if isinstance(outcome, Pair):
        console.print(
            f"chosen {outcome.chosen_draft}, rejected {outcome.rejected_draft}: P(chosen is better) = "
            f"{outcome.p_chosen:.4f} by {outcome.judge}, principle {outcome.principle} ({outcome.digest})",
            style="bold green",
            markup=False,
        )
    else:
        detail = f" ({outcome.detail})" if outcome.detail else ""
        console.print(
            f"set aside: {outcome.reason}, {REASONS[outcome.reason]}{detail}", style="bold yellow", markup=False
        )
    for step, role, entry in shown.calls:
        console.print(_call_line(step, role, entry), markup=False, style="dim")
        if calls and entry:
            for message in entry.call.messages:
                _say(console, f"  {message.role}", message.content)
            _say(console, "  reply", entry.reply.text or str(entry.reply.logprobs))


def _call_line(step: str, role: str, entry: Entry | None) -> str:
    if entry is None:
        return f"call {step} ({role}): not in the ledger any more"
    usage = entry.reply.usage
    return f"call {step} ({role}): {entry.key}, {usage.input} tokens in, {usage.output} out, {entry.seconds:.2f} s"


def _say(console: Console, name: str, words: str) -> None:
    console.print(Text(name, style="bold cyan"))
    console.print(words, markup=False)
    console.print()


def print_abilities(abilities: list[Ability]) -> int:
    """Print what each role's model can do; return 0 if all answered, else 3."""
    console = _console()
    words = {True: "yes", False: "no", None: "not asked"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("role", "model", "answers", "log-probabilities", "schema", "tokens/s", "known as"):
        table.add_column(name)
    for one in abilities:
        speed = f"{one.tokens_per_second:.1f}" if one.tokens_per_second else "-"
        answers = f"in {one.seconds:.2f} s" if one.answered else "no"
        table.add_row(one.role, one.name, answers, words[one.logprobs], words[one.schema], speed, one.identity)
    console.print(table)
    for one in abilities:
        if one.problem:
            console.print(f"{one.role}: {one.problem}", style="red", markup=False)
    return 0 if all(one.answered for one in abilities) else 3
