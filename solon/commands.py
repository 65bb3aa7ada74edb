"""What the faces do for people, one function a command: plan, run, export, show, check. No printing here.

    done = await run_recipe("recipe.yaml", limit=10)
    done.folder.dataset            # feeds TRL as it stands

The command line and the service both call these; so may you.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from solon import yamls
from solon.calls import Message, Usage
from solon.cast import ROLES
from solon.constitution import Constitution, load
from solon.dataset import Quality, read_prompts
from solon.errors import BadInput, SolonError, StorageError
from solon.ledger import Entry, Ledger, Merged
from solon.pipelines.export import export_run
from solon.pipelines.plan import Dice, Survey, planning, take_survey
from solon.pipelines.recipe import Recipe, find_recipe, read_recipe
from solon.pipelines.run import FAILED, Progress, RunFolder, walk
from solon.rows import Pair, Prompt, Row, SetAside
from solon.workshop import Estimate, Workshop, estimate

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
HALT_GRACE_SECONDS = 5.0
"""The same where a model said that no later call can fare better: others may still be answering."""
NOTE_SECONDS = 5.0
"""How often a run writes down what it asked and spent."""
MOST_PROBLEMS = 20
NO_LEDGER = "the ledger is not there; calls are shown where it is, or once it is put back"

Teller = Callable[[Progress], None]


@dataclass(frozen=True)
class Planned:
    """What `solon plan` knows: the survey, and what the new calls may come to.

    exists:     a run folder of this plan is there
    known_usage: tokens of the known calls
    certain, at_most: tokens and dollars of the calls that are certainly new, and of all that may be
    names:      what people call each role's model
    """

    recipe: Recipe
    name: str
    folder: Path
    exists: bool
    survey: Survey
    known_usage: Usage
    certain: Estimate
    at_most: Estimate
    names: dict[str, str]


@dataclass(frozen=True)
class Done:
    """What `solon run` did. `reasons` and `pairs` count over all walks, `progress` and `dollars` over this one."""

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
    """Return what a run of this recipe would ask, from memory alone; asks nothing but a judge's first probe."""
    path = find_recipe(path)
    recipe, base = read_recipe(path), path.parent
    async with Workshop(recipe, base) as shop:
        dry = await shop.dry_cast()
        async with planning(recipe, base, dry) as plan:
            folder = recipe.runs_folder(base) / plan.folder
            exists = (folder / "run.json").is_file()
            with RunFolder.open(folder).store(read_only=True) if exists else nullcontext() as walked:
                survey = await take_survey(plan, dry, limit=limit, walked=walked, failed=FAILED)
        certain, at_most, known_usage = Estimate(), Estimate(), Usage()
        for step, count in survey.steps.items():
            sure, most = estimate(shop.price(survey.roles[step]), count)
            certain, at_most, known_usage = certain + sure, at_most + most, known_usage + count.known_usage
    names = {player.role: player.name for player in dry.players() if player.role in recipe.roles()}
    return Planned(recipe, plan.name, folder, exists, survey, known_usage, certain, at_most, names)


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

    offline: ask nobody; rows that memory cannot finish stay as they are
    refresh: ask every call anew once, though memory knows it
    ready:   told of the run folder and the number of planned rows before the first call
    """
    if offline and refresh:
        raise BadInput("offline asks nobody and refresh asks everything anew; give one of them")
    path = find_recipe(path)
    recipe, base = read_recipe(path), path.parent
    async with Workshop(recipe, base, offline=offline, refresh=refresh) as shop:
        if not offline:
            shop.check_usable()
        cast = await shop.cast()
        async with planning(recipe, base, cast) as plan:
            settled = RunFolder.settled(plan, recipe.runs_folder(base), path, ledger=shop.ledger_path, cast=cast)
            with settled as folder, folder.store() as store:
                folder.make_latest()
                if refresh:
                    store.reopen(None, limit=limit)
                ready(folder, store.planned)
                started = time.time()
                progress = Progress()
                teller = _noting(folder, shop, started, tell)
                again = () if offline else FAILED
                grace = HALT_GRACE_SECONDS
                try:
                    await walk(plan, store, cast, progress=progress, limit=limit, again=again, stop=stop, tell=teller)
                    grace = GRACE_SECONDS
                finally:
                    await shop.close(grace=grace)
                    _settle_counts(progress, shop)
                    folder.note(progress, started=started, spent=shop.spent())
                views = {} if progress.interrupted else export_run(folder, store)
                return Done(
                    folder, progress, store.planned, store.duplicates, store.pairs, store.tally(), store.quality(),
                    shop.spent(), views,
                )  # fmt: skip


def _noting(folder: RunFolder, shop: Workshop, started: float, tell: Teller) -> Teller:
    """Return `tell`, which also writes down every few seconds what was spent: a kill leaves no time for it."""
    noted = time.monotonic()

    def note(progress: Progress) -> None:
        nonlocal noted
        tell(progress)
        if time.monotonic() - noted > NOTE_SECONDS:
            noted = time.monotonic()
            folder.note(progress, started=started, spent=shop.spent())

    return note


def _settle_counts(progress: Progress, shop: Workshop) -> None:
    """Count what the doors saw: calls in flight at an interrupt are paid for though their rows were dropped."""
    tally = shop.tally
    progress.known, progress.asked, progress.failed = tally.known + tally.shared, tally.asked, tally.failed
    progress.usage = tally.asked_usage


@dataclass(frozen=True)
class Shown:
    """One row's walk.

    outcome: what became of it, None while it is unfinished
    calls:   (step, role, what the ledger remembers of the call or None)
    problem: why the ledger could not be read, or ""
    """

    row: Row
    outcome: Pair | SetAside | None
    calls: list[tuple[str, str, Entry | None]]
    folder: RunFolder
    problem: str = ""


async def show_row(run: str | Path, wanted: str) -> Shown:
    """Return the walk of one row, from the run folder and the ledger, with no model behind it.

    wanted: the row's index in the plan, or the beginning of its id (of digits alone: at least 8 of them)
    """
    folder = RunFolder.open(Path(run))
    with folder.store(read_only=True) as store:
        row = store.row(int(wanted) if wanted.isdecimal() and len(wanted) < 8 else wanted)
        outcome = store.outcome(row)
    shown = Shown(row, outcome, [], folder)
    if outcome is None:
        return shown
    unknown: list[tuple[str, str, Entry | None]] = [(asked.step, asked.role, None) for asked in outcome.asked]
    if not folder.ledger.is_file():
        return replace(shown, calls=unknown, problem=f"{folder.ledger}: {NO_LEDGER}")
    try:
        ledger = Ledger.open(folder.ledger)
    except StorageError as problem:
        return replace(shown, calls=unknown, problem=str(problem))
    try:
        return replace(shown, calls=[(asked.step, asked.role, ledger.entry(asked.key)) for asked in outcome.asked])
    finally:
        await ledger.close()


def check_page(path: str | Path) -> str:
    """Return one line about a good recipe or constitution; raise BadInput with every mistake of a bad one."""
    path = find_recipe(path)
    keys = set(yamls.read(path).tree)
    if len(keys & set(Constitution.model_fields)) > len(keys & set(Recipe.model_fields)):
        constitution = load(path)
        count = len(constitution.principles)
        return f"{path}: a constitution of {_counted(count, 'principle')}, digest {constitution.digest[:12]}"
    recipe = read_recipe(path)
    problems: list[str] = []
    prompts, dice = 0, None
    try:
        dice = Dice(recipe, recipe.constitution_object(path.parent))
    except BadInput as problem:
        problems += problem.problems
    try:
        for prompts, prompt in enumerate(read_prompts(recipe.prompts, path.parent), start=1):
            if dice and len(problems) < MOST_PROBLEMS:
                problems += [f"{recipe.prompts.source}: prompt {prompts}: {line}" for line in _undrawable(dice, prompt)]
    except BadInput as problem:
        problems += problem.problems
    if problems or dice is None:
        raise BadInput(problems)
    count = len(dice.constitution.principles)
    return f"{path}: a {recipe.story.kind} recipe, {_counted(prompts, 'prompt')}, {_counted(count, 'principle')}"


def _undrawable(dice: Dice, prompt: Prompt) -> tuple[str, ...]:
    """Return why the row of this prompt cannot be planned; empty where it can."""
    try:
        dice.throw(prompt)
    except BadInput as problem:
        return problem.problems
    return ()


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


@dataclass(frozen=True)
class Ability:
    """What one role's model said when asked one tiny question. `problem` is empty where it answered.

    logprobs, schema: None where it answered, but not the question whether it gives them
    """

    role: str
    name: str
    identity: str
    answered: bool
    seconds: float = 0.0
    tokens_per_second: float | None = None
    logprobs: bool | None = None
    schema: bool | None = None
    problem: str = ""


async def check_models(path: str | Path) -> list[Ability]:
    """Ask each role of a recipe one tiny question as the run would ask it, and say what its model can do.

    The answers are not kept: a check that came from memory would check nothing.
    """
    path = find_recipe(path)
    recipe = read_recipe(path)
    async with Workshop(recipe, path.parent, refresh=True) as shop:
        return [await _checked(shop, role) for role in ROLES if role in recipe.roles()]


async def _checked(shop: Workshop, role: str) -> Ability:
    use = shop.spec(role).use
    try:
        player, model = shop.player(role), shop.model(role)
    except SolonError as problem:
        return Ability(role, use, "", answered=False, problem=str(problem))
    call = player.call([Message("user" if model.form == "chat" else "text", QUESTION)])
    call = replace(call, sampling=replace(call.sampling, max_tokens=min(call.sampling.max_tokens, 32)))
    try:
        await model(call)  # the first answer also loads the model: it says nothing about speed
        started = time.monotonic()
        reply = await model(call)
        seconds = time.monotonic() - started
    except SolonError as problem:
        return Ability(role, model.name, model.identity, answered=False, problem=str(problem))
    speed = reply.usage.output / seconds if seconds > 0 and reply.usage.output else None
    shown = Ability(role, model.name, model.identity, True, seconds, speed)
    try:
        can = await shop.abilities(role, whole=True)
    except SolonError as problem:
        return replace(shown, problem=str(problem))
    return replace(shown, logprobs=can.logprobs, schema=can.schema)


QUESTION = "Say hello in one short sentence."


async def merge_ledgers(into: Path, other: Path) -> Merged:
    """Take over what `other` knows into the ledger at `into`, which is made if it is not there."""
    if not other.is_file():
        raise BadInput(f"{other}: no such ledger; give the path of a ledger.db")
    ledger = Ledger.open(into)
    try:
        return ledger.merge(other)
    finally:
        await ledger.close()


async def forget_calls(path: Path, *, model: str | None, before: str | None, text: str | None) -> int:
    """Remove the calls that match every condition given; `before` is a day such as 2026-01-31, in UTC."""
    if model is None and before is None and text is None:
        raise BadInput("nothing to forget: give --model, --before or --text")
    if "" in (model, text):
        raise BadInput("an empty --model or --text would match any call; write what to forget")
    if not path.is_file():
        raise BadInput(f"{path}: no ledger there; give its path")
    try:
        day = None if before is None else datetime.fromisoformat(before)
        moment = None if day is None else (day if day.tzinfo else day.replace(tzinfo=UTC)).timestamp()
    except ValueError as problem:
        raise BadInput(f"--before {before!r} is no day; write it as 2026-01-31") from problem
    ledger = Ledger.open(path)
    try:
        return ledger.forget(model=model, before=moment, text=text)
    finally:
        await ledger.close()
