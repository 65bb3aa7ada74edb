"""Infer a constitution from preference data by a model, through the ledger: nothing is asked twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from solon.cast import Player
from solon.commands.lending import estimates, free, judge_recipe
from solon.commands.process import GRACE_SECONDS
from solon.errors import BadInput
from solon.outlay import Estimate
from solon.pipelines.recipe import Recipe, RevisionSpec, find_recipe, read_recipe
from solon.pipelines.survey import StepCount
from solon.review.infer.inferred import Inferred, InferSpec
from solon.review.infer.preferences import Preferences
from solon.workshop import Workshop

__all__ = ["Estimated", "Inference", "estimate_inference", "infer_constitution"]


@dataclass(frozen=True)
class Estimated:
    """What an inference would ask, told before it is paid.

    phases:       calls of each phase: "propose", "vote", "held-out"
    known, certain, at_most: calls that the ledger knows, that are certainly new, and that may be new
    cost, most:   tokens and dollars of the certain ones, and of all that may be new
    free:         both models run on this machine, or their price is given as nothing
    """

    proposer: str
    judge: str
    phases: dict[str, StepCount]
    cost: Estimate
    most: Estimate
    free: bool

    @property
    def costs(self) -> bool:
        """Return whether somebody should be asked before this is paid; an unknown price counts as one."""
        return bool(self.at_most) and not self.free

    @property
    def known(self) -> int:
        return sum(count.known for count in self.phases.values())

    @property
    def certain(self) -> int:
        return sum(count.certain for count in self.phases.values())

    @property
    def at_most(self) -> int:
        return sum(count.at_most for count in self.phases.values())


@dataclass(frozen=True)
class Inference:
    """What an inference came to, and what it took.

    asked, known: calls asked of the models, and answered from the ledger
    dollars:      what the asked ones cost; None where the price is unknown
    """

    inferred: Inferred
    asked: int
    known: int
    dollars: float | None


async def estimate_inference(
    pairs: Preferences, spec: InferSpec, *, recipe: str | Path | None = None, model: str | None = None
) -> Estimated:
    """Return what `infer_constitution` would ask, from memory alone; asks nothing but a judge's first probe.

    Raises as `infer_constitution` does.
    """
    from solon.review.infer.inference import survey

    page, base = _lent(recipe, model)
    async with Workshop(page, base) as shop:
        proposer, judge = await _players(shop)
        nobody = shop.ledger.door(None)
        dry = replace(proposer, ask=nobody), replace(judge, ask=nobody)
        phases = await survey(pairs, *dry, page.judging, spec)
        roles = ("critic" if phase == "propose" else "judge" for phase in phases)
        cost, _, most = estimates(shop, zip(roles, phases.values(), strict=True))
        return Estimated(proposer.name, judge.name, phases, cost, most, free(shop, "critic", "judge"))


async def infer_constitution(
    pairs: Preferences,
    spec: InferSpec,
    *,
    recipe: str | Path | None = None,
    model: str | None = None,
    tell: Callable[[str, int, int], None] = lambda phase, done, of: None,
) -> Inference:
    """Return the principles that reconstruct the labels of `pairs` best.

    recipe: whose critic proposes rules and whose judge judges by them, through its ledger
    model:  instead of a recipe: who does both, through the ledger of the current folder
    tell:   told of a phase, how many of its questions are answered, and of how many

    Raises BadInput for a recipe or model that cannot be used and for too few pairs, Halt where a model cannot be asked.
    """
    from solon.review.infer.inference import infer

    page, base = _lent(recipe, model)
    async with Workshop(page, base) as shop:
        shop.check_usable("critic", "judge")
        proposer, judge = await _players(shop)
        try:
            inferred = await infer(pairs, proposer, judge, page.judging, spec, window=page.places, tell=tell)
        finally:  # what is in flight is paid for, so it is written down
            await shop.close(grace=GRACE_SECONDS)
        return Inference(inferred, shop.tally.asked, shop.tally.known + shop.tally.shared, shop.spent())


def _lent(recipe: str | Path | None, model: str | None) -> tuple[Recipe, Path]:
    """Return the page that names the models, and the folder that its paths start from."""
    if (recipe is None) == (model is None):
        raise BadInput("who proposes and judges? give --recipe or --model" + (", not both" if recipe else ""))
    if model is not None:
        page, base = judge_recipe(model), Path()
    else:
        assert recipe is not None
        path = find_recipe(recipe)
        page, base = read_recipe(path), path.parent
    # a preference story has no critic of its own
    return page.model_copy(update={"story": RevisionSpec(kind="revision")}), base


async def _players(shop: Workshop) -> tuple[Player, Player]:
    return shop.player("critic"), await shop.judge()
