"""What a run of a recipe would ask, and what that costs, before it is paid: all of it, or what an edit touched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from solon import __version__
from solon.calls import Usage
from solon.complaints import counted
from solon.constitution import Constitution
from solon.constitution.diff import Difference, diff
from solon.dataset import RowStore
from solon.errors import StorageError
from solon.outlay import Estimate, Outlay, Outlook, outlay, outlook
from solon.pipelines.plan import planning
from solon.pipelines.recipe import Recipe, find_recipe, read_recipe
from solon.pipelines.run import RunFolder
from solon.pipelines.survey import Count, Survey, take_survey
from solon.pipelines.walk import FAILED
from solon.pipelines.waves import waves
from solon.pipelines.wordings import asked_anew, reworded, told
from solon.workshop import Workshop

__all__ = ["Planned", "plan_recipe"]

ENOUGH_ROWS = 1000
MOST_RUNS = 8
"""Runs are looked at, newest first, until so many rows say how far rows go: the newest may be a trial of ten."""


@dataclass(frozen=True)
class Planned:
    """What `solon plan` knows: the survey, what the new calls may come to, and what was edited since the last run.

    exists:      a run folder of this plan is there
    known_usage: tokens of the known calls
    outlay:      tokens and dollars of the calls that are certainly new, that are expected to be, and of all that may
                 be, with an interval once calls of every step were measured
    names:       what people call each role's model
    against:     the last run of this recipe, or the one that was named; None where there is none
    difference:  from the constitution of that run to the one on disk
    rate:        calls a second that the last run which asked any had; None where nothing was measured
    problems:    earlier runs that could not be read, one line each
    upgrade:     what an upgrade of Solon since that run makes new, one line each wording of its own that changed
    budget:      the recipe's budget against what is expected; None where it has none
    refused:     why a run would not start, since its budget is in money and a price is unknown; "" where it would
    waves:       of provider batch jobs, of up to 24 hours each, until the last new call is answered at most; 0 where
                 none is asked by batch jobs
    """

    recipe: Recipe
    name: str
    folder: Path
    exists: bool
    survey: Survey
    known_usage: Usage
    outlay: Outlay
    names: dict[str, str]
    against: Path | None = None
    difference: Difference | None = None
    rate: float | None = None
    problems: tuple[str, ...] = ()
    upgrade: tuple[str, ...] = ()
    budget: Outlook | None = None
    refused: str = ""
    waves: int = 0

    @property
    def certain(self) -> Estimate:
        return self.outlay.certain

    @property
    def expected(self) -> Estimate:
        return self.outlay.expected

    @property
    def at_most(self) -> Estimate:
        return self.outlay.at_most

    @property
    def seconds(self) -> float | None:
        """Return how long the expected calls will take at the rate of before, None where that is unknown."""
        if not self.survey.expected:
            return 0.0
        return self.survey.expected / self.rate if self.rate else None

    def figures(self) -> dict[str, Any]:
        """Return every figure, ready for JSON."""
        survey = self.survey

        def counts(count: Count | Survey) -> dict[str, Any]:
            return {name: getattr(count, name) for name in ("known", "certain", "expected", "at_most")}

        return {
            "recipe": self.recipe.name,
            "plan": self.name,
            "folder": str(self.folder),
            "exists": self.exists,
            "rows": survey.rows,
            "finished": survey.finished,
            "duplicates": survey.duplicates,
            **counts(survey),
            "likely": survey.likely,
            "evidence_rows": survey.evidence,
            "steps": [
                {"step": step, "role": survey.roles[step], "model": self.names.get(survey.roles[step]), **counts(count)}
                for step, count in survey.steps.items()
            ],
            "principles": [{"principle": id or None, **counts(count)} for id, count in survey.principles.items()],
            "tokens_known": asdict(self.known_usage),
            "spend": {name: asdict(getattr(self, name)) for name in ("certain", "expected", "at_most")},
            "likely_tokens": self.outlay.tokens,
            "likely_dollars": self.outlay.dollars,
            "budget": self.budget.figures() if self.budget else None,
            "seconds": self.seconds,
            "against": str(self.against) if self.against else None,
            "difference": self.difference.summary if self.difference is not None else None,
            "refused": self.refused or None,
            "waves": self.waves,
            "upgrade": list(self.upgrade),
            "problems": list(self.problems),
        }


async def plan_recipe(path: str | Path, *, limit: int | None = None, against: str | Path | None = None) -> Planned:
    """Return what a run of this recipe would ask, from memory alone; asks nothing but a judge's first probe.

    against: the run folder to compare with; left out, the newest one of this recipe. Runs are only read, and may be
             walked by another process meanwhile. Raises StorageError where the run that was named cannot be read.
    """
    path = find_recipe(path)
    recipe, base = read_recipe(path), path.parent
    with ExitStack() as opened:
        earlier, problems = _earlier(recipe, base, against, opened)
        async with Workshop(recipe, base) as shop:
            dry = await shop.dry_cast()
            meters = {role: shop.meter(role) for role in recipe.roles()}
            async with planning(recipe, base, dry) as plan:
                folder = recipe.runs_folder(base) / plan.folder
                # without one of the two a run begins anew (`RunFolder.settled`)
                exists = all((folder / name).is_file() for name in ("run.json", "rows.db"))
                walked = opened.enter_context(RunFolder.open(folder).store(read_only=True)) if exists else None
                roles = dict(plan.story.steps(dry))
                survey = await take_survey(
                    plan, dry, limit=limit, walked=walked, failed=FAILED, earlier=[each.store for each in earlier],
                    recall=shop.ledger.get, cost=lambda step, usage: meters[roles[step]].paid(usage),
                )  # fmt: skip
                batching = {role for role in recipe.roles() if recipe.role(role).batch}
                new = {survey.roles[step] for step, count in survey.steps.items() if count.at_most}
                days = waves(plan.story, dry, batching & new)
            spending = outlay(meters, survey)
            refused = shop.unpriced()
            budget = outlook(shop.limit, shop.account(plan.folder).total, survey, spending)
    known = sum((count.known_usage for count in survey.steps.values()), Usage())
    names = {player.role: player.name for player in dry.players() if player.role in recipe.roles()}
    return Planned(
        recipe, plan.name, folder, exists, survey, known, spending, names,
        against=earlier[0].folder.path if earlier else None,
        difference=diff(earlier[0].constitution, plan.constitution) if earlier else None,
        rate=_rate(each.folder for each in earlier),
        problems=tuple(problems),
        upgrade=tuple(_upgrade(earlier[0].folder, survey)) if earlier else (),
        budget=budget,
        refused=refused,
        waves=days,
    )  # fmt: skip


def _upgrade(folder: RunFolder, survey: Survey) -> Iterator[str]:
    """Yield what an upgrade of Solon since a run makes new, as far as the survey knows."""
    names = reworded(folder.facts.get("wordings"))
    before = folder.facts.get("solon", "?")
    for name in names:
        calls = counted(asked_anew(survey, [name]), "call")
        since = f"Solon's own wording of {told(name)} changed since that run ({before} -> {__version__})"
        yield f"{since}; among what is new are {calls} from there on"


@dataclass(frozen=True)
class _Run:
    """A run before this plan, open for reading."""

    folder: RunFolder
    store: RowStore
    constitution: Constitution


def _earlier(recipe: Recipe, base: Path, against: str | Path | None, opened: ExitStack) -> tuple[list[_Run], list[str]]:
    """Return the run that was named, or the recipe's runs, newest first, and why some of them cannot be read."""
    if against is not None:
        return [_opened(RunFolder.open(Path(against)), opened)], []
    runs: list[_Run] = []
    problems: list[str] = []
    folders: list[tuple[float, str, RunFolder]] = []
    for file in recipe.runs_folder(base).glob("*/run.json"):
        if file.parent.is_symlink():
            continue  # runs/latest
        try:
            folder = RunFolder.open(file.parent)
        except StorageError as problem:
            problems.append(str(problem))
            continue
        if folder.facts["recipe"] == recipe.name:
            folders.append((folder.walked, file.parent.name, folder))
    for _, _, folder in sorted(folders, key=lambda one: one[:2], reverse=True)[:MOST_RUNS]:
        if sum(run.store.finished for run in runs) >= ENOUGH_ROWS:
            break
        try:
            runs.append(_opened(folder, opened))
        except StorageError as problem:
            problems.append(str(problem))
    return runs, problems


def _opened(folder: RunFolder, opened: ExitStack) -> _Run:
    """Open a run for reading. Raises StorageError."""
    constitution = folder.constitution.constitution
    return _Run(folder, opened.enter_context(folder.store(read_only=True)), constitution)


def _rate(folders: Iterable[RunFolder]) -> float | None:
    """Return the calls a second of the newest run that asked any: all of them over the time of those walks."""
    for folder in folders:
        asking = [walk for walk in folder.walks() if walk.get("asked") and walk.get("seconds")]
        if asking:
            return float(sum(walk["asked"] for walk in asking) / sum(walk["seconds"] for walk in asking))
    return None
