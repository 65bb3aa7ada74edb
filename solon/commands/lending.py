"""A recipe in memory for what asks one model and walks no plan: testing a constitution, inferring one."""

from __future__ import annotations

from pydantic import ValidationError

from solon.complaints import complaints
from solon.errors import BadInput
from solon.pipelines.recipe import Recipe

__all__ = ["judge_recipe"]


def judge_recipe(model: str) -> Recipe:
    """Return a recipe whose every role is `model` (a short name, as in a recipe) and whose ledger is the usual one.

    Its constitution and prompts are placeholders: nothing may walk it. Raises BadInput for a model that no recipe
    would take either.
    """
    page = {"constitution": "first-steps", "prompts": "none", "model": model, "story": {"kind": "preference"}}
    try:
        return Recipe.model_validate(page)
    except ValidationError as problem:
        told = complaints(Recipe, page, problem.errors(include_url=False), {})
        raise BadInput([f"--model {model}: {text}" for _, text in told]) from None
