"""What a run of a recipe would ask, and what that costs, before it is paid."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from solon.calls import Usage
from solon.pipelines.plan import Survey, planning, take_survey
from solon.pipelines.recipe import Recipe, find_recipe, read_recipe
from solon.pipelines.run import FAILED, RunFolder
from solon.workshop import Estimate, Workshop, estimate

__all__ = ["Planned", "plan_recipe"]


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
