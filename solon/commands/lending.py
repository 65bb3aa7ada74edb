"""What several commands need of a workshop: a recipe for one model without any plan, and what questions would cost."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from solon.complaints import complaints
from solon.errors import BadInput
from solon.outlay import Estimate, estimate
from solon.pipelines.recipe import Recipe
from solon.pipelines.survey import StepCount
from solon.workshop import Workshop

__all__ = ["estimates", "free", "judge_recipe"]


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


def estimates(shop: Workshop, counts: Iterable[tuple[str, StepCount]]) -> tuple[Estimate, Estimate, Estimate]:
    """Return what the new calls of (role, count) come to together: certain ones, expected ones, and all at most."""
    certain = expected = at_most = Estimate()
    for role, count in counts:
        sure, about, most = estimate(shop.meter(role), count)
        certain, expected, at_most = certain + sure, expected + about, at_most + most
    return certain, expected, at_most


def free(shop: Workshop, *roles: str) -> bool:
    """Return whether these models run on this machine, or have a price of nothing."""
    prices = [shop.price(role) for role in roles]
    return all(price is not None and not (price.input or price.output) for price in prices)
