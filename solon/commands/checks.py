"""Look at files and models before anything depends on them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from solon import yamls
from solon.calls import Message
from solon.cast import ROLES
from solon.constitution import Constitution, load
from solon.dataset import read_prompts
from solon.errors import BadInput, SolonError
from solon.pipelines.plan import Dice
from solon.pipelines.recipe import Recipe, find_recipe, read_recipe
from solon.rows import Prompt
from solon.workshop import Workshop

__all__ = ["Ability", "check_models", "check_page"]


MOST_PROBLEMS = 20


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
