"""What the faces do for people, one function a command: plan, run, export, show, check. No printing here.

    done = await run_recipe("recipe.yaml", limit=10)
    done.folder.dataset            # feeds TRL as it stands

The command line and the service both call these; so may you.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from solon.calls import Message, Sampling
from solon.cast import ROLES
from solon.constitution import load
from solon.dataset import Quality
from solon.errors import BadInput, SolonError
from solon.ledger import Entry, Ledger, Merged
from solon.pipelines.export import export_run
from solon.pipelines.plan import Survey, planning, take_survey
from solon.pipelines.recipe import Recipe, read_recipe
from solon.pipelines.run import Progress, RunFolder, walk
from solon.rows import Pair, Row, SetAside
from solon.workshop import Workshop, dollars_for

__all__ = [
    "Ability",
    "Done",
    "Planned",
    "Shown",
    "check_models",
    "check_page",
    "forget_calls",
    "merge_ledgers",
    "plan_recipe",
    "run_recipe",
    "show_row",
]

GRACE_SECONDS = 20.0
"""How long an interrupted run waits for calls in flight: they are paid for, so they are written down."""

Teller = Callable[[Progress], None]


@dataclass(frozen=True)
class Planned:
    """What `solon plan` knows: the survey, and what the new calls may cost, in tokens and dollars a role."""

    recipe: Recipe
    name: str
    folder: Path
    exists: bool
    duplicates: int
    survey: Survey
    certain_dollars: float | None
    at_most_dollars: float | None
    names: dict[str, str]


@dataclass(frozen=True)
class Done:
    """What `solon run` did."""

    folder: RunFolder
    progress: Progress
    planned: int
    duplicates: int
    pairs: int
    reasons: dict[str, int]
    quality: Quality
    dollars: float | None
    views: dict[str, int]


async def plan_recipe(path: str | Path, *, limit: int | None = None) -> Planned:
    """Return what a run of this recipe would ask, from memory alone; pays for nothing but a judge's first probe."""
    path = Path(path)
    recipe, base = read_recipe(path), path.parent
    async with Workshop(recipe, base) as shop:
        cast = await shop.cast()
        dry = await shop.dry_cast()
        with planning(recipe, base, cast) as plan:
            folder = base / recipe.runs / plan.folder
            exists = (folder / "run.json").is_file()
            survey = await take_survey(plan, dry, limit=limit)
            duplicates = plan.store.duplicates
            plan.store.close()
        if exists:
            with RunFolder.open(folder).store(read_only=True) as store:
                survey.finished = store.finished
        costs = [
            dollars_for(shop.price(survey.roles[step]), count, recipe.sampling(survey.roles[step]).max_tokens)
            for step, count in survey.steps.items()
        ]
    certain = None if any(cost is None for cost in costs) else sum(cost[0] for cost in costs if cost)
    at_most = None if any(cost is None for cost in costs) else sum(cost[1] for cost in costs if cost)
    names = {player.role: player.name for player in cast.players() if player.role in recipe.roles()}
    return Planned(recipe, plan.name, folder, exists, duplicates, survey, certain, at_most, names)


async def run_recipe(
    path: str | Path,
    *,
    limit: int | None = None,
    offline: bool = False,
    refresh: bool = False,
    stop: asyncio.Event | None = None,
    tell: Teller = lambda progress: None,
    ready: Callable[[RunFolder, int], None] = lambda folder, planned: None,
) -> Done:
    """Walk a recipe's plan to its end (or its first `limit` rows, or until `stop`), and export the dataset.

    offline: ask nobody; rows that memory cannot finish stay unfinished
    refresh: ask every call anew once, though memory knows it
    ready:   told of the run folder and the number of planned rows before the first call
    """
    path = Path(path)
    recipe, base = read_recipe(path), path.parent
    shop = Workshop(recipe, base, offline=offline, refresh=refresh)
    async with shop:
        cast = await shop.cast()
        with planning(recipe, base, cast) as plan:
            folder = RunFolder.settle(
                plan,
                base / recipe.runs,
                path.read_text(encoding="utf-8"),
                base=base,
                ledger=shop.ledger_path,
                cast=cast,
            )
        started, noted = time.time(), 0.0
        with folder.locked(), folder.store() as store:
            folder.make_latest()
            ready(folder, store.planned)
            if refresh:
                store.reopen(None)

            def note(progress: Progress) -> None:
                nonlocal noted
                tell(progress)
                if time.monotonic() - noted > 5:
                    noted = time.monotonic()
                    folder.note(progress, started=started, spent=shop.spent())

            progress = Progress()
            try:
                progress = await walk(plan, store, cast, limit=limit, stop=stop, tell=note)
            finally:
                await shop.ledger.close(grace=GRACE_SECONDS if progress.interrupted else 0.0)
                folder.note(progress, started=started, spent=shop.spent())
            views = {} if progress.interrupted else export_run(folder, store)
            return Done(
                folder, progress, store.planned, store.duplicates, store.pairs, store.tally(), store.quality(),
                shop.spent(), views,
            )  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """One row's walk: the row, what became of it (None: nothing yet), and the calls that it asked."""

    row: Row
    outcome: Pair | SetAside | None
    calls: list[tuple[str, str, Entry | None]]
    folder: RunFolder


def show_row(run: str | Path, wanted: str) -> Shown:
    """Return the walk of one row, from the run folder and the ledger, with no model behind it.

    wanted: the row's index in the plan, or the beginning of its id
    """
    folder = RunFolder.open(Path(run))
    with folder.store(read_only=True) as store:
        row = store.row(int(wanted) if wanted.isdigit() and len(wanted) < 10 else wanted)
        outcome = store.outcome(row)
    calls: list[tuple[str, str, Entry | None]] = []
    if outcome is not None:
        ledger = Ledger.open(folder.ledger)
        try:
            calls = [(asked.step, asked.role, ledger.entry(asked.key)) for asked in outcome.asked]
        finally:
            asyncio.run(ledger.close())
    return Shown(row, outcome, calls, folder)


def check_page(path: str | Path) -> str:
    """Return one line about a good recipe or constitution; raise BadInput with every mistake of a bad one."""
    from solon import yamls

    path = Path(path)
    page = yamls.read(path)
    if "principles" in page.tree and "story" not in page.tree:
        constitution = load(path)
        return f"{path}: a constitution of {len(constitution.principles)} principles, digest {constitution.digest[:12]}"
    recipe = read_recipe(path)
    constitution = recipe.constitution_object(path.parent)
    prompts = 0
    from solon.dataset import read_prompts

    for prompt in read_prompts(recipe.prompts, path.parent):
        prompts += 1
        for step, roles in recipe.story.story(constitution, recipe.judging).draws():
            if not constitution.drawable(roles, prompt.tags):
                raise BadInput(
                    f"{recipe.prompts.source}: no principle applies to prompt {prompts} (tags {list(prompt.tags)}) at "
                    f"step {step!r}; give a principle without `applies_to`, or tag the prompt"
                )
    return f"{path}: a {recipe.story.kind} recipe, {prompts} prompts, {len(constitution.principles)} principles"


@dataclass(frozen=True)
class Ability:
    """What one role's model said when asked one tiny question. `problem` is empty where it answered."""

    role: str
    name: str
    identity: str
    answered: bool
    seconds: float
    tokens_per_second: float | None
    logprobs: bool | None
    schema: bool | None
    problem: str = ""


async def check_models(path: str | Path) -> list[Ability]:
    """Ask each role of a recipe one tiny question with its own sampling, and say what its model can do.

    The answers are not kept: a check that came from memory would check nothing.
    """
    path = Path(path)
    recipe = read_recipe(path)
    abilities = []
    async with Workshop(recipe, path.parent, refresh=True) as shop:
        for role in (role for role in ROLES if role in recipe.roles()):
            abilities.append(await _checked(shop, role))
    return abilities


async def _checked(shop: Workshop, role: str) -> Ability:
    spec = shop.spec(role)
    try:
        model = shop.model(role)
        sampling = shop.recipe.sampling(role)
        tiny = Sampling(sampling.temperature, sampling.top_p, min(sampling.max_tokens, 32))
        message = Message("user", QUESTION) if model.form == "chat" else Message("text", QUESTION)
        call = shop.call(role, (message,), tiny)
        await model(call)  # the first answer also loads the model: it says nothing about speed
        started = time.monotonic()
        reply = await model(call)
        seconds = time.monotonic() - started
        can = await shop.abilities(model)
    except SolonError as problem:
        return Ability(role, spec.use, "", False, 0.0, None, None, None, str(problem))
    speed = reply.usage.output / seconds if seconds > 0 and reply.usage.output else None
    return Ability(role, model.name, model.identity, True, seconds, speed, can.logprobs, can.schema)


QUESTION = "Say hello in one short sentence."


def merge_ledgers(into: Path, other: Path) -> Merged:
    """Take over what `other` knows into the ledger at `into`."""
    ledger = Ledger.open(into)
    try:
        return ledger.merge(other)
    finally:
        asyncio.run(ledger.close())


def forget_calls(path: Path, *, model: str | None, before: str | None, text: str | None) -> int:
    """Remove the calls that match every condition given; `before` is a day such as 2026-01-31, in UTC."""
    if model is None and before is None and text is None:
        raise BadInput("nothing to forget: give --model, --before or --text")
    if not path.is_file():
        raise BadInput(f"{path}: no ledger there; give its path")
    try:
        moment = None if before is None else datetime.fromisoformat(before).replace(tzinfo=UTC).timestamp()
    except ValueError as problem:
        raise BadInput(f"--before {before!r} is no day; write it as 2026-01-31") from problem
    ledger = Ledger.open(path)
    try:
        return ledger.forget(model=model, before=moment, text=text)
    finally:
        asyncio.run(ledger.close())
