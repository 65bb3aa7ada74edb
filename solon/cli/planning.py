"""`solon plan`: what a run would ask and cost, and what an edit since the last run made new, before it is paid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from solon.cli.apps import Limit, RecipeFile, app
from solon.cli.screen import columns, console, counted, money, plain

if TYPE_CHECKING:
    from solon.commands import Planned
    from solon.outlay import Estimate, Outlook
    from solon.pipelines.survey import Count, Survey
    from solon.spend import Spend

__all__ = ["closing", "print_plan"]

COUNTS = ("known>", "new>", "about>", "at most>")
MOST_PRINCIPLES = 20


@app.command()
def plan(
    recipe: RecipeFile,
    limit: Limit = None,
    against: Annotated[
        Path | None,
        typer.Option(help="The run to compare with; default: the recipe's last one.", show_default=False),
    ] = None,
    format: Annotated[Literal["text", "json"], typer.Option(help="json: all figures, for machines.")] = "text",
) -> None:
    """Say what a run would ask, and what that costs, before it is paid; after an edit, what of it is new."""
    import asyncio
    import json

    from solon.commands import plan_recipe

    planned = asyncio.run(plan_recipe(recipe, limit=limit, against=against))
    if format == "json":
        typer.echo(json.dumps(planned.figures(), indent=1))
    else:
        print_plan(planned)


def print_plan(planned: Planned) -> None:
    """Print what a run would ask, by step and by principle, with closing lines that say it all."""
    out, survey = console(), planned.survey
    steps = columns("step", "model", *COUNTS)
    for step, count in survey.steps.items():
        steps.add_row(step, plain(planned.names.get(survey.roles[step], "")), *_counts(count))
    steps.add_row("all", "", *_counts(survey), style="bold")
    out.print(steps, soft_wrap=False)
    out.print()
    if planned.difference is not None and any(count.at_most for count in survey.principles.values()):
        _print_principles(planned)
    for problem in planned.problems:
        out.print(plain(f"not looked at: {problem}"), style="yellow")
    same = f", {counted(survey.duplicates, 'duplicate prompt')} fell together" if survey.duplicates else ""
    done = f"{survey.finished:,} finished in {planned.folder}" if planned.exists else "no run of it yet"
    out.print(plain(f"{counted(survey.rows, 'row')}{same}; {done}"))
    out.print(f"tokens: {_tokens(planned)}")
    if survey.at_most > survey.certain:
        out.print(_grounds(survey))
    if planned.difference is not None:
        out.print(plain(f"against {planned.against}: {planned.difference.summary}"))
    for line in planned.upgrade:
        out.print(plain(line), style="yellow")
    if planned.waves:
        from solon.pipelines.waves import WAVE_HOURS

        told = counted(planned.waves, "wave")
        out.print(f"batch jobs: at most {told} of up to {WAVE_HOURS} hours, each after the one before")
    if planned.refused:
        out.print(plain(f"no run would start: {planned.refused}"), style="yellow")
    if planned.budget is not None:
        out.print(_budget(planned.budget))
    out.print(closing(planned), style="bold")


def _counts(count: Count | Survey) -> tuple[str, str, str, str]:
    return f"{count.known:,}", f"{count.certain:,}", f"{count.expected:,.0f}", f"{count.at_most:,}"


def _print_principles(planned: Planned) -> None:
    """Print the principles whose calls are new, most calls first, with what became of each."""
    assert planned.difference is not None
    edited = {edit.id: ", ".join(edit.kinds) for edit in planned.difference.edits}
    principles, out = columns("principle", "edit", *COUNTS), console()
    new = [(id, count) for id, count in planned.survey.principles.items() if count.at_most]
    new.sort(key=lambda one: (-one[1].expected, one[0]))
    for id, count in new[:MOST_PRINCIPLES]:
        principles.add_row(plain(id) or "(none)", edited.get(id, ""), *_counts(count))
    out.print(principles, soft_wrap=False)
    if len(new) > MOST_PRINCIPLES:
        out.print(f"and {counted(len(new) - MOST_PRINCIPLES, 'more principle')}: see --format json", style="dim")
    out.print()


def _tokens(planned: Planned) -> str:
    def both(estimate: Estimate) -> str:
        return f"{estimate.input:,.0f} in and {estimate.output:,.0f} out"

    told, known = [], planned.known_usage
    if planned.survey.known or not planned.survey.at_most:
        told.append(f"{known.input:,} in and {known.output:,} out are known")
    if planned.survey.at_most:
        about, most = both(planned.expected), both(planned.at_most)
        told.append(f"new ones about {about}" + (f", at most about {most}" if about != most else ""))
    return "; ".join(told)


def _grounds(survey: Survey) -> str:
    """Say what the expected number of calls stands on."""
    if survey.variance is None:
        return "about: every later step once, since no row that was walked stood there yet"
    return f"about: what follows a new answer goes as far as it did for {counted(survey.evidence, 'row')} before"


def closing(planned: Planned) -> str:
    """Return the line that says it all: what of the calls is new, between what numbers, for how much and how long."""
    survey = planned.survey
    told = f"plan {planned.name}: {survey.expected:,.0f} of {counted(round(survey.known + survey.expected), 'call')}"
    told += f" {'is' if survey.known + survey.expected == 1 else 'are'} new"
    if not survey.at_most:
        return f"{told}, nothing to pay for"
    if survey.at_most > survey.certain:
        likely = "likely {:,.0f} to {:,.0f}, ".format(*survey.likely) if survey.likely else ""
        told += f" (certain {survey.certain:,}, {likely}at most {survey.at_most:,})"
    told += f", {_price(planned)}"
    seconds = planned.seconds
    return told + (
        f", about {_roughly(seconds)}" if seconds is not None else ", time unknown until something was asked"
    )


def _price(planned: Planned) -> str:
    if planned.expected.dollars is None or planned.at_most.dollars is None:
        return money(None)
    about, most = money(planned.expected.dollars), money(planned.at_most.dollars)
    told = []
    if planned.outlay.dollars is not None:
        low, high = (money(dollars) for dollars in planned.outlay.dollars)
        told += [f"likely {low} to {high}"] if low != high else []
    if planned.survey.at_most > planned.survey.certain and about != most:
        told.append(f"at most about {most}")
    return f"about {about}" + (f" ({', '.join(told)})" if told else "")


def _budget(outlook: Outlook) -> str:
    """Say whether the budget will hold, in the measures that it is stated in."""
    from solon.budget import limit_told

    def said(spend: Spend) -> str:
        limit = outlook.limit
        parts = [money(spend.dollars)] if limit.nano is not None else []
        parts += [counted(spend.tokens, "token")] if limit.tokens is not None else []
        parts += [counted(spend.calls, "call")] if limit.calls is not None else []
        return " and ".join(parts)

    used = f", {said(outlook.used)} of it used" if outlook.used.calls else ""
    about, most = said(outlook.about), said(outlook.most)
    more = f"about {about}" + (f", at most {most}" if about != most else "")
    stops = "; the run stops there, and goes on when it is raised" if outlook.verdict == "will not hold" else ""
    return f"budget {limit_told(outlook.limit)}{used}: {outlook.verdict}, to come {more}{stops}"


def _roughly(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
