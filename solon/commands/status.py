"""Look at a run from outside, and steer it: whether its process walks, how it ended, what is left and what goes on.

    status_of(Path("runs/latest")).standing
    await steer_run(Path("recipe.yaml"), paused=True)

It reads `status.json` and `rows.db` in the run folder, and writes nothing but `control.json`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from solon.complaints import one_of
from solon.errors import BadInput, StorageError
from solon.pipelines.control import steer
from solon.pipelines.recipe import read_recipe
from solon.pipelines.run import RunFolder
from solon.pipelines.standing import Rows, Standing, read_standing
from solon.pipelines.walk import FAILED

__all__ = ["Status", "find_run", "status_of", "steer_run"]

SILENT_SECONDS = 15.0
"""A process that wrote nothing for so long hangs, sleeps, or is another one by the same number."""
HEARD_SECONDS = 5.0
"""How long a run is given to answer."""


@dataclass(frozen=True)
class Status:
    """A run as it is seen from outside.

    standing: what its process wrote last; rows of one that is over are read from its rows; None where an older Solon
              walked it
    rows:     the whole run's rows, from `rows.db`
    alive:    whether its process lives; None where it runs on another machine, so that nobody here can tell
    silent:   seconds since its process last wrote, where that is too long
    failed:   rows that were set aside because a call failed
    go_on:    the command that goes on with it, "" where nothing is left to do or its process goes on itself
    """

    folder: RunFolder
    standing: Standing | None
    rows: Rows
    alive: bool | None
    silent: float | None
    failed: int
    go_on: str

    def to_json(self) -> str:
        """Return the standing's own names, and those of this object, in one JSON object on one line."""
        known = {"alive": self.alive, "silent": self.silent, "failed": self.failed, "go_on": self.go_on}
        told = self.standing.to_dict() if self.standing else {"run": self.folder.path.name, "rows": asdict(self.rows)}
        return json.dumps({**told, "folder": str(self.folder.path), **known}, ensure_ascii=False)


def find_run(path: Path) -> RunFolder:
    """Return the run at `path`: a run folder, or a recipe, whose last run is meant.

    Raises StorageError where there is none, BadInput where the recipe cannot be read.
    """
    if not path.is_file():
        folder = RunFolder.open(path)
        return RunFolder(folder.path.resolve(), folder.facts)
    recipe = read_recipe(path)
    runs = recipe.runs_folder(path.parent)
    found = []
    for facts in sorted(runs.glob("*/run.json")):
        with suppress(StorageError):  # one folder that cannot be read is not the end of the others
            folder = RunFolder.open(facts.parent.resolve())
            if folder.facts["recipe"] == recipe.name:
                found.append(folder)
    if not found:
        raise StorageError(f"{path}: no run of it in {runs} yet; start one with  solon run {shlex.quote(str(path))}")
    return max(found, key=_last_heard)


def _last_heard(folder: RunFolder) -> float:
    with suppress(StorageError):
        if standing := read_standing(folder.path):
            return standing.started
    return folder.walked


def status_of(path: Path) -> Status:
    """Return where the run at `path` stands, whether its process walks, ended, or was killed."""
    folder = find_run(path)
    standing = read_standing(folder.path)
    alive, silent = (False, None) if standing is None or standing.ended else _lives(standing)
    with folder.store(read_only=True) as store:
        rows = Rows(store.planned, store.planned, store.finished, 0, store.pairs, store.tally())
    if standing is not None and alive is False:
        state = standing.state if standing.ended else "killed"
        total = standing.rows.total or rows.planned
        done = rows.done if total >= rows.planned else min(total, max(standing.rows.done, 0))
        now = replace(rows, total=total, done=done, begun_with=standing.rows.begun_with)
        standing = replace(standing, state=state, rows=replace(now, not_known=standing.rows.not_known), eta=None)
    failed = sum(count for reason, count in rows.aside.items() if reason in FAILED)
    go_on = "" if alive is not False or not (rows.left or failed) else _go_on(folder, standing)
    return Status(folder, standing, rows, alive, silent, failed, go_on)


def _lives(standing: Standing) -> tuple[bool | None, float | None]:
    """Return whether the process of a standing lives, and for how long it has been silent, where that is long."""
    ago = max(0.0, time.time() - standing.updated)
    silent = ago if ago > SILENT_SECONDS else None
    if standing.host != socket.gethostname():
        return None, silent
    try:
        os.kill(standing.pid, 0)
    except ProcessLookupError:
        return False, None
    except PermissionError:  # it is there, and somebody else's
        return True, silent
    return True, silent


def _go_on(folder: RunFolder, standing: Standing | None) -> str:
    recipe = (folder.path / folder.facts.get("file", "recipe.yaml")).resolve()
    with suppress(ValueError):
        recipe = recipe.relative_to(Path.cwd())
    limited = standing is not None and 0 < standing.rows.total < standing.rows.planned and standing.rows.left
    return f"solon run {shlex.quote(str(recipe))}" + (f" --limit {standing.rows.total}" if standing and limited else "")


async def steer_run(
    path: Path,
    *,
    paused: bool | None = None,
    concurrency: int | None = None,
    rpm: int | None = None,
    model: str | None = None,
) -> tuple[str, ...]:
    """Tell a run that walks how it should go, and return what it said about it: () where it did not answer in time.

    Raises BadInput where no process walks it, or it asks no such model, or no server at all.
    """
    status = status_of(path)
    standing = status.standing
    if standing is None or status.alive is False:
        how = standing.state if standing else "over"
        raise BadInput(
            f"{status.folder.path}: nobody walks this run ({how}); start it with  {_go_on(status.folder, standing)}"
        )
    names = sorted({server.model for server in standing.servers})
    if paused is None and not names:
        raise BadInput(f"{status.folder.path}: this run asks no server, so there is no pace to change")
    if model is not None and model not in names:
        raise BadInput(f"--model {model}: this run asks no such model; {one_of(model, names)}")
    heard = standing.events[-1].number if standing.events else 0
    if paused is not None and paused == (standing.state == "paused"):
        return ("paused already" if paused else "not paused",)
    steer(status.folder.path, paused=paused, concurrency=concurrency, rpm=rpm, model=model)
    until = time.monotonic() + HEARD_SECONDS
    while time.monotonic() < until:
        await asyncio.sleep(0.1)
        now = read_standing(status.folder.path)
        if now and now.events and now.events[-1].number > heard:
            return tuple(event.line for event in now.events if event.number > heard)
    return ()
