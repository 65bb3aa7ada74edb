"""From a run folder to its dataset: the rows as data files, and a card that tells where they come from."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from solon import __version__
from solon.dataset import CardFacts, CardModel, RowStore, Spend, export
from solon.pipelines.recipe import Recipe
from solon.pipelines.run import RunFolder

__all__ = ["export_run"]


def export_run(folder: RunFolder, store: RowStore, *, to: Path | None = None) -> dict[str, int]:
    """Write what is finished of a run to `to` (default: its own dataset/); return the rows of each view.

    Reads the recipe and constitution as they were, from the run folder alone. Raises StorageError, BadInput.
    """
    recipe = folder.recipe
    done = export(store, to or folder.dataset, recipe.export, card_facts(folder, recipe))
    return {view: sum(splits.values()) for view, splits in done.counts.items()}


def card_facts(folder: RunFolder, recipe: Recipe) -> CardFacts:
    """Return what the card tells beyond the rows."""
    facts = folder.facts
    constitution = folder.constitution.constitution
    options = recipe.story.model_dump(exclude={"kind"}, exclude_none=True)
    story = ", ".join([recipe.story.kind, *(f"{name} {value}" for name, value in options.items())])
    return CardFacts(
        name=facts["recipe"],
        plan=facts["plan"],
        story=story,
        constitution=constitution.name,
        version=constitution.version or "",
        digest=constitution.digest,
        licence=constitution.licence or "",
        source=constitution.source or "",
        seed=recipe.seed,
        models=tuple(CardModel(role, who["name"], who["identity"]) for role, who in facts["cast"].items()),
        prompts=recipe.prompts.source,
        reproduce=f"solon run {Path(facts.get('file', 'recipe.yaml')).name}",
        solon=__version__,
        spend=_spend(folder.walks()),
        made=time.strftime("%Y-%m-%d", time.gmtime()),
    )


def _spend(walks: Iterable[dict[str, Any]]) -> Spend:
    """Return what all walks of this folder asked together; dollars only where every walk knew its price."""
    walks = list(walks)
    prices = [walk["dollars"] for walk in walks]
    return Spend(
        calls=sum(walk["asked"] for walk in walks),
        remembered=sum(walk["known"] for walk in walks),
        input_tokens=sum(walk["usage"]["input"] for walk in walks),
        output_tokens=sum(walk["usage"]["output"] for walk in walks),
        dollars=None if None in prices else sum(prices),
        seconds=sum(walk["seconds"] for walk in walks),
    )
