"""Audit a run: what each principle does, from the run's records, and from a small sample of further votes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from solon.commands.lending import estimates, free
from solon.commands.process import GRACE_SECONDS
from solon.errors import BadInput
from solon.outlay import Estimate
from solon.pipelines.recipe import CastSpec, Recipe, read_recipe
from solon.pipelines.survey import StepCount
from solon.review.audit.agreement import Sample, read
from solon.review.audit.ballots import ballots, questions, sample, survey
from solon.review.audit.records import Audit, Kept, audit, kept
from solon.workshop import Workshop

__all__ = ["Quote", "audit_run"]


@dataclass(frozen=True)
class Quote:
    """What a sample would ask, told before it is asked.

    pairs, there: pairs that are sampled, out of those that could be
    questions:    principles times pairs; each is asked in both orders, or as the recipe judges
    known, new, at_most: calls that the ledger knows, certainly new ones, and all that may be new
    cost, most:   tokens and dollars of the certain ones, and of all that may be new
    free:         the judge runs on this machine, or its price is given as nothing
    """

    judge: str
    pairs: int
    there: int
    questions: int
    known: int
    new: int
    at_most: int
    cost: Estimate
    most: Estimate
    free: bool

    @property
    def costs(self) -> bool:
        """Return whether somebody should be asked before this is paid; an unknown price counts as one."""
        return bool(self.at_most) and not self.free


async def audit_run(
    run: str | Path,
    *,
    pairs: int = 0,
    agree: Callable[[Quote], bool] = lambda quote: not quote.costs,
    tell: Callable[[int], None] = lambda done: None,
) -> Audit:
    """Return the audit of a run, with a sample of `pairs` pairs judged by every principle where `pairs` is not 0.

    agree: asked with the price before anything is; where it says no, the audit has no sample. By default it agrees
        to what is free or known.
    tell:  told how many ballots are there

    The judge is the run's own, with the run's own wordings; how it is reached (server, key, price) is read from the
    recipe that the run was made from. Raises BadInput where that judge is another model by now.
    """
    this = kept(run)
    return audit(this, await _sampled(this, pairs, agree, tell) if pairs else None)


async def _sampled(
    this: Kept, pairs: int, agree: Callable[[Quote], bool], tell: Callable[[int], None]
) -> Sample | None:
    duels, there = sample(this.folder, this.recipe.story, pairs)
    recipe, base = _judge_alone(this)
    judging, constitution = recipe.judging, this.constitution
    async with Workshop(recipe, base) as shop:
        _same_judge(this, shop.model("judge").identity)
        dry = (await shop.dry_cast()).judge
        asked = sum(1 for _ in questions(duels, constitution))
        quote = _quote(shop, len(duels), there, asked, await survey(duels, constitution, judging, dry))
        if not agree(quote):
            return None
        if quote.at_most:
            shop.check_usable()
        judge = (await shop.cast()).judge
        try:
            votes = await ballots(duels, constitution, judging, judge, window=recipe.places, tell=tell)
        finally:  # what is in flight is paid for, so it is written down
            await shop.close(grace=GRACE_SECONDS)
    return read(votes, duels, constitution, seed=recipe.seed, tie=judging.tie, there=there)


def _judge_alone(this: Kept) -> tuple[Recipe, Path]:
    """Return the run's recipe with nobody but its judge, reached as today's recipe says, and the folder it starts in.

    What decides an answer (sampling, system prompt, options, form) is the run's; where the recipe is gone, all is.
    """
    file = (this.folder.path / this.folder.facts.get("file", "recipe.yaml")).resolve()
    role = this.recipe.role("judge")
    spec = role.model or this.recipe.model
    if file.is_file() and file.parent != this.folder.path.resolve():
        today = read_recipe(file)
        reached = today.role("judge").model or today.model
        spec = reached.model_copy(update={"options": spec.options, "form": spec.form})
    judge = role.model_copy(update={"model": spec})
    alone = {"model": spec, "cast": CastSpec(judge=judge), "ledger": str(this.folder.ledger)}
    return this.recipe.model_copy(update=alone), file.parent


def _same_judge(this: Kept, identity: str) -> None:
    then = this.folder.facts["cast"].get("judge", {}).get("identity")
    if identity != then:
        raise BadInput(
            f"{this.folder.path}: its judge was {then}, and the recipe's is {identity} today; put the run's model "
            "back into the recipe, or run the recipe and audit that run (the audit without --sample needs no judge)"
        )


def _quote(shop: Workshop, pairs: int, there: int, questions: int, counts: dict[str, StepCount]) -> Quote:
    cost, _, most = estimates(shop, (("judge", count) for count in counts.values()))
    return Quote(
        shop.model("judge").name, pairs, there, questions,
        sum(count.known for count in counts.values()),
        sum(count.certain for count in counts.values()),
        sum(count.at_most for count in counts.values()),
        cost, most,
        free=free(shop, "judge"),
    )  # fmt: skip
