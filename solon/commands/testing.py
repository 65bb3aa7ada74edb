"""Judge a constitution's cases by a model, through the ledger: what was judged before is not asked again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from solon.commands.lending import judge_recipe
from solon.constitution import Resolved, resolve
from solon.errors import BadInput
from solon.models.spec import ModelSpec
from solon.pipelines.recipe import find_recipe, is_recipe, read_recipe
from solon.review.cases import Tried, try_cases
from solon.workshop import Workshop

__all__ = ["Tested", "test_constitution"]


@dataclass(frozen=True)
class Tested:
    """A constitution's cases, tried.

    asked, known: calls asked of the judge, and answered from the ledger
    dollars:      what the asked ones cost; None where the price is unknown
    """

    resolved: Resolved
    judge: str
    tried: list[Tried]
    asked: int
    known: int
    dollars: float | None


async def test_constitution(
    target: str | Path,
    *,
    model: str | None = None,
    principles: Collection[str] = (),
    tell: Callable[[Tried], None] = lambda tried: None,
) -> Tested:
    """Judge every case of a constitution in both orders, under its own principle and under all of them.

    target: a recipe, whose constitution and judge are taken, or a constitution (a name or a file)
    model:  who judges; needed for a constitution, and another judge than the recipe's for a recipe
    principles: only the cases of these ids

    Raises BadInput for what cannot be read or has no cases, Halt where the judge cannot be asked.
    """
    if is_recipe(target):
        path = find_recipe(target)
        recipe, base = read_recipe(path), path.parent
        resolved = resolve(recipe.constitution, base)
        if model is not None:
            judge = recipe.cast.judge.model_copy(update={"model": ModelSpec(use=model)})
            recipe = recipe.model_copy(update={"cast": recipe.cast.model_copy(update={"judge": judge})})
    elif model is None:
        raise BadInput(f"{target}: a constitution alone names no judge; give --model, or give a recipe that names it")
    else:
        base = Path()
        resolved, recipe = resolve(target, base), judge_recipe(model)
    async with Workshop(recipe, base) as shop:
        shop.check_usable("judge")
        judge_player = await shop.judge()
        tried = await try_cases(
            resolved.constitution, judge_player, recipe.judging, principles=principles, window=recipe.places, tell=tell
        )
        tally = shop.tally
        return Tested(resolved, judge_player.name, tried, tally.asked, tally.known + tally.shared, shop.spent())
