"""What the commands print: rows, closing tables. Figures that are not known are said to be unknown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from solon.cli.panel import by_count
from solon.cli.screen import console, counted, money, plain
from solon.commands import Ability, Done, Shown
from solon.errors import REASONS
from solon.ledger import Entry
from solon.rows import Draw, Pair, SetAside

__all__ = ["print_abilities", "print_done", "print_row", "print_views"]


def print_done(done: Done) -> None:
    """Print the one closing table of a run."""
    out = console()
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for line in (*_rows_told(done), *_calls_told(done), *_quality_told(done)):
        table.add_row(*line)
    table.add_row("time", _duration(done.progress.seconds), "")
    out.print(table, soft_wrap=False)
    if not done.progress.interrupted:
        print_views(done.folder.dataset, done.views)


def _rows_told(done: Done) -> list[tuple[str, str, str]]:
    quality = done.quality
    same = f"{counted(done.duplicates, 'duplicate prompt')} fell together" if done.duplicates else ""
    share = f"mean P(chosen is better) {quality.mean_p:.3f}" if quality.mean_p is not None else ""
    lines = [("rows", f"{done.planned:,}", same), ("pairs", f"{done.pairs:,}", share)]
    for reason, count in sorted(done.reasons.items(), key=lambda item: (-item[1], item[0])):
        lines.append(("set aside", f"{count:,}", f"{reason}: {REASONS.get(reason, 'a reason of another version')}"))
    left = done.planned - done.pairs - sum(done.reasons.values())
    unknown = done.progress.aside["not_known"]
    if unknown:
        lines.append(("not known", f"{unknown:,}", "to the ledger; start again without --offline"))
    if left > unknown:
        lines.append(("unfinished", f"{left - unknown:,}", "start again to go on"))
    return lines


def _calls_told(done: Done) -> list[tuple[str, str, str]]:
    progress, tokens = done.progress, done.progress.usage
    thinking = f" ({tokens.thinking:,} of them thinking)" if tokens.thinking else ""
    lines = [("calls asked", f"{progress.asked:,}", f"{progress.known:,} more answered from the ledger")]
    if progress.failed:
        lines.append(("calls failed", f"{progress.failed:,}", "their rows are walked again at the next start"))
    useless = {kind: count for kind, count in progress.answers.items() if kind != "good" and count}
    if useless:
        told = ", ".join(f"{kind} {count:,}" for kind, count in by_count(useless))
        lines.append(("of no use", f"{sum(useless.values()):,}", f"answers: {told}"))
    lines.append(
        ("tokens", f"{tokens.input + tokens.output:,}", f"{tokens.input:,} in, {tokens.output:,} out{thinking}")
    )
    known = done.dollars is not None
    lines.append(("spent", money(done.dollars) if known else "?", "" if known else money(None)))
    return lines


def _quality_told(done: Done) -> list[tuple[str, str, str]]:
    quality, lines = done.quality, []
    if quality.revisions:
        share = f"{quality.stripped / quality.revisions:.0%}"
        lines.append(("stripped", share, "of revisions lost a meta-preamble"))
    if quality.trimmed:
        share = f"{quality.trimmed / quality.drafts:.0%}"
        lines.append(("trimmed", share, "of texts lost an unfinished last sentence"))
    if quality.original_chosen:
        times = "time" if quality.original_chosen == 1 else "times"
        lines.append(
            ("original won", f"{quality.original_chosen:,}", f"{times} the judge preferred it to the revision")
        )
    if quality.judged:
        share = f"{quality.same_slot / quality.judged:.0%}"
        lines.append(("same slot", share, "of comparisons won by a place, not a text"))
    return lines


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s" if seconds >= 10 else f"{seconds:.1f} s"


def print_views(folder: Path, views: Mapping[str, int]) -> None:
    """Print where a dataset lies, and how many rows each view has."""
    out = console()
    out.print(f"dataset {folder}", style="bold")
    out.print("  " + (", ".join(f"{view} {count:,}" for view, count in views.items()) or "no rows to write yet"))


def print_row(shown: Shown, *, calls: bool) -> None:
    """Print one row's walk as a person would want to read it."""
    out, row, outcome = console(), shown.row, shown.outcome
    tags = f"  tags {', '.join(row.prompt.tags)}" if row.prompt.tags else ""
    out.print(plain(f"row {row.index}  {row.id}{tags}"), style="bold")
    for message in row.prompt.messages:
        _say(out, message.role, message.content)
    if outcome is None:
        out.print("nothing has become of it yet: it is unfinished", style="yellow")
        _print_draws(out, row.draws)
        return
    for draft in outcome.drafts:
        if draft.principle:
            _say(out, f"critique by {draft.principle}", draft.critique)
        marks = [name for name, on in (("preamble stripped", draft.stripped), ("trimmed", draft.trimmed)) if on]
        _say(out, f"{draft.name}{' (' + ', '.join(marks) + ')' if marks else ''}", draft.text)
    for vote in outcome.votes:
        p = "did not say" if vote.p_first is None else f"P(first is better) = {vote.p_first:.4f}"
        mass = "" if vote.mass is None else f", the labels held {vote.mass:.2%} of the probability"
        out.print(f"vote {vote.order} by {vote.source}: {p}{mass}")
        if vote.said:
            out.print(plain(f"  {vote.said}"), style="dim")
    _print_end(out, outcome)
    if isinstance(outcome, SetAside):
        _print_draws(out, row.draws)
    _print_calls(out, shown, whole=calls)


def _print_end(out: Console, outcome: Pair | SetAside) -> None:
    if isinstance(outcome, Pair):
        out.print(
            plain(
                f"chosen {outcome.chosen_draft}, rejected {outcome.rejected_draft}: P(chosen is better) = "
                f"{outcome.p_chosen:.4f} by {outcome.judge}, principle {outcome.principle} ({outcome.digest})"
            ),
            style="bold green",
        )
        return
    detail = f" ({outcome.detail})" if outcome.detail else ""
    why = REASONS.get(outcome.reason, "a reason of another version")
    out.print(plain(f"set aside: {outcome.reason}, {why}{detail}"), style="bold yellow")


def _print_draws(out: Console, draws: tuple[Draw, ...]) -> None:
    for draw in draws:
        out.print(plain(f"drawn for {draw.step}: {draw.principle} ({draw.digest})"), style="dim")


def _print_calls(out: Console, shown: Shown, *, whole: bool) -> None:
    if shown.problem:
        out.print(plain(shown.problem), style="yellow")
    keys = [asked.key for asked in shown.outcome.asked] if shown.outcome else []
    for (step, role, entry), key in zip(shown.calls, keys, strict=True):
        gone = "" if shown.problem else ", not in the ledger any more"
        out.print(f"call {step} ({role}): {key}{_spent(entry) if entry else gone}", style="dim")
        if whole and entry:
            for message in entry.call.messages:
                _say(out, f"  {message.role}", message.content)
            if entry.reply.thinking:
                _say(out, "  thinking", entry.reply.thinking)
            _say(out, "  reply", entry.reply.text or str(entry.reply.logprobs))


def _spent(entry: Entry) -> str:
    usage = entry.reply.usage
    return f", {usage.input} tokens in, {usage.output} out, {entry.seconds:.2f} s"


def _say(out: Console, name: str, words: str) -> None:
    out.print(Text(plain(name), style="bold cyan"))
    out.print(plain(words))
    out.print()


def print_abilities(abilities: list[Ability]) -> int:
    """Print what each role's model can do; return 0 if all answered, else 3."""
    out = console()
    words = {True: "yes", False: "no", None: "-"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("role", "model", "answers", "logprobs", "schema", "tokens/s"):
        table.add_column(name, overflow="fold", no_wrap=name != "model")
    for one in abilities:
        speed = f"{one.tokens_per_second:,.0f}" if one.tokens_per_second else "-"
        answers = f"in {one.seconds:.2f} s" if one.answered else "no"
        table.add_row(*map(plain, (one.role, one.name, answers, words[one.logprobs], words[one.schema], speed)))
    out.print(table, soft_wrap=False)
    for identity in dict.fromkeys(one.identity for one in abilities if one.identity):
        roles = ", ".join(one.role for one in abilities if one.identity == identity)
        out.print(plain(f"the ledger knows {roles} as {identity}"))
    for problem in dict.fromkeys(one.problem for one in abilities if one.problem):
        roles = ", ".join(one.role for one in abilities if one.problem == problem)
        out.print(plain(f"{roles}: {problem}"), style="red")
    return 0 if all(one.answered and not one.problem for one in abilities) else 3
