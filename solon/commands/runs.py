"""Walk a recipe's plan, write down what is spent on the way, and export the dataset."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from solon.commands.process import GRACE_SECONDS, HALT_GRACE_SECONDS
from solon.commands.shards import Errand, walk_in_processes
from solon.commands.standing import Desk, Watch
from solon.dataset import Quality
from solon.errors import BadInput
from solon.pipelines.export import export_run
from solon.pipelines.plan import planning
from solon.pipelines.recipe import find_recipe, read_recipe
from solon.pipelines.run import RunFolder
from solon.pipelines.walk import FAILED, Progress, walk
from solon.workshop import Workshop

__all__ = ["Done", "Teller", "run_recipe"]


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
    processes: int = 1,
    stop: asyncio.Event | None = None,
    tell: Teller = lambda progress: None,
    ready: Callable[[RunFolder, int], None] = lambda folder, planned: None,
    watch: Watch | None = None,
    texts: bool = False,
) -> Done:
    """Walk a recipe's plan to its end (or its first `limit` rows, or until `stop`), and export the dataset.

    offline:   ask nobody; rows that memory cannot finish stay as they are
    refresh:   ask every call anew once, though memory knows it
    processes: how many walk the rows together
    tell:      told of every call and every row
    ready:     told of the run folder and the number of planned rows before the first call
    watch:     told where the run stands, four times a second and when it ends
    texts:     questions and answers stand in the OpenTelemetry spans, where there are any
    """
    if offline and refresh:
        raise BadInput("offline asks nobody and refresh asks everything anew; give one of them")
    path = find_recipe(path)
    recipe, base = read_recipe(path), path.parent
    async with Workshop(recipe, base, offline=offline, refresh=refresh) as shop:
        if not offline:
            shop.check_usable()
        _check_processes(processes, shop)
        cast = await shop.cast()
        async with planning(recipe, base, cast) as plan:
            settled = RunFolder.settled(plan, recipe.runs_folder(base), path, ledger=shop.ledger_path, cast=cast)
            with settled as folder, folder.store() as store:
                folder.make_latest()
                if refresh:
                    store.reopen(None, limit=limit)
                ready(folder, store.planned)
                progress, stop = Progress(), stop or asyncio.Event()
                desk = Desk(folder, shop, store, progress, started=time.time(), stop=stop, watch=watch, texts=texts)

                async def through(again: tuple[str, ...]) -> None:
                    if processes == 1:
                        await walk(
                            plan, store, desk.gated(cast), progress=progress, limit=limit, again=again, stop=stop,
                            tell=tell, appetite=shop.appetite, spans=desk.telemetry,
                        )  # fmt: skip
                        return
                    errands = [
                        Errand(str(folder.path), str(base), number, processes, limit, again, offline, refresh, texts)
                        for number in range(processes)
                    ]
                    await walk_in_processes(errands, progress=progress, stop=stop, tell=tell, stands=desk.parts())
                    store.count_anew()

                async with desk:
                    await _walked(shop, desk, through, stop, alone=processes == 1)
                    desk.exporting()
                    views = {} if progress.interrupted else export_run(folder, store)
                return Done(
                    folder, progress, store.planned, store.duplicates, store.pairs, store.tally(), store.quality(),
                    desk.spent, views,
                )  # fmt: skip


async def _walked(
    shop: Workshop,
    desk: Desk,
    through: Callable[[tuple[str, ...]], Awaitable[None]],
    stop: asyncio.Event,
    *,
    alone: bool,
) -> None:
    """Walk through all rows, and again as long as batch jobs answer what is parked; then give everything back."""
    progress, grace = desk.progress, HALT_GRACE_SECONDS
    try:
        await shop.begin(desk.folder.path.name, stop)
        await through(() if shop.offline else FAILED)
        while progress.aside["parked"] and not progress.interrupted and await shop.collect(stop, progress):
            await through(())  # what failed in this run is walked again at its next start
        grace = GRACE_SECONDS
    finally:
        await shop.close(grace=0.0 if desk.idle else grace)
        if alone:
            shop.settle(progress)
        desk.folder.note(progress, started=desk.started, spent=desk.spent)


def _check_processes(processes: int, shop: Workshop) -> None:
    """Raise BadInput where the recipe's models cannot be asked from several processes."""
    if processes < 1:
        raise BadInput(f"{processes} processes cannot walk anything; give 1 or more")
    if processes > 1 and shop.refresh and any(shop.recipe.role(role).batch for role in shop.recipe.roles()):
        raise BadInput(
            "refresh asks each call anew once a process, and rows that wait for batch jobs are walked by new processes "
            "each time; leave out --processes or --refresh"
        )
    alone = [shop.spec(role).use for role in shop.recipe.roles() if shop.spec(role).provider == "local"]
    if processes > 1 and alone:
        raise BadInput(
            f"{alone[0]} computes on this machine, and each of {processes} processes would load it; "
            "leave out --processes"
        )
