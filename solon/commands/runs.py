"""Walk a recipe's plan, write down what is spent on the way, and export the dataset."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from solon.dataset import Quality
from solon.errors import BadInput
from solon.pipelines.export import export_run
from solon.pipelines.plan import planning
from solon.pipelines.recipe import find_recipe, read_recipe
from solon.pipelines.run import RunFolder
from solon.pipelines.walk import FAILED, Progress, walk
from solon.workshop import Workshop

__all__ = ["Done", "Teller", "run_recipe"]


GRACE_SECONDS = 20.0
"""How long an interrupted run waits for calls in flight: they are paid for, so they are written down."""
HALT_GRACE_SECONDS = 5.0
"""The same where a model said that no later call can fare better: others may still be answering."""
NOTE_SECONDS = 5.0
"""How often a run writes down what it asked and spent."""

Teller = Callable[[Progress], None]


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
