"""The editing loop: on every save check, say what the edit did and what a run would ask; run a few rows on wish.

    stop = asyncio.Event()
    await watch("recipe.yaml", go=5, stop=stop, tell=print)

The kernel says when something in the folders moved; whether it was one of our files, and what became of it, their
stat says. That is looked at every second anyway: network disks and folders of containers tell nobody, and an editor
that saves by renaming leaves no file to listen to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from watchfiles import awatch

from solon import yamls
from solon.commands.checks import Checked, check_files
from solon.commands.plans import Planned, plan_recipe
from solon.commands.runs import Done, run_recipe
from solon.constitution import Constitution, load
from solon.constitution.diff import Difference, diff
from solon.constitution.load import resolve
from solon.errors import BadInput, SolonError
from solon.pipelines.recipe import Recipe, find_recipe, read_recipe
from solon.rows import Pair, Row, SetAside

__all__ = ["Looked", "RowChange", "Went", "watch"]

SETTLE_SECONDS = 0.2
"""A save is over when the files lie still for so long."""
PATIENCE = 10
"""For how many times as long a file may be away in the middle of a save."""
POLL_SECONDS = 1.0

Outcome = Pair | SetAside
Given = TypeVar("Given")


@dataclass(frozen=True)
class RowChange:
    """One row that came out otherwise. An outcome is None where the row was not there, or was not finished."""

    row: Row
    before: Outcome | None
    after: Outcome | None


@dataclass(frozen=True)
class Went:
    """What became of the first rows.

    compared: whether there was an earlier go to compare with
    same:     rows that came out as they did then: label, P and both texts
    gone:     rows of then that are not among the first any more
    """

    done: Done
    rows: int
    compared: bool
    same: int
    gone: int
    changes: tuple[RowChange, ...]


@dataclass(frozen=True)
class Looked:
    """What one look found. It is told in up to two parts: the check, edit and plan, and then the rows (`went`).

    saved:      the files that were saved since the look before; none at the start
    problems:   why it ends here, each "file:line: what; remedy"
    checked:    one line about a good recipe
    advice:     what the check advises, and did not at the look before
    advised:    how much else it advises, as before
    difference: from the constitution of the last good look; None at the first
    settings:   top keys of the recipe whose value is another than at the last good look
    """

    saved: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()
    checked: str = ""
    advice: tuple[str, ...] = ()
    advised: int = 0
    difference: Difference | None = None
    settings: tuple[str, ...] = ()
    planned: Planned | None = None
    went: Went | None = None


async def watch(
    recipe: str | Path,
    *,
    go: int | None = None,
    stop: asyncio.Event,
    tell: Callable[[Looked], None],
    settle: float = SETTLE_SECONDS,
) -> None:
    """Look at a recipe now and after every save of it, its constitution (with what that extends) or its prompts.

    Args:
        go: run the plan's first `go` rows at every look without mistakes; the run folders stay.
        stop: ends it; calls in flight are waited for as `run_recipe` does.
        tell: told of every look.
        settle: seconds for which files must lie still after a save.

    What is wrong with a file, or with the run, is told, and watching goes on; a save during a run is looked at after
    it. Raises BadInput where there is no recipe to begin with.
    """
    path = find_recipe(recipe)
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give a recipe")
    watcher = _Watcher(path, go, stop, tell, settle)
    before = await watcher.settled()
    saved: list[Path] = []
    while not stop.is_set():
        with suppress(_Stopped):
            await watcher.look(tuple(saved))
        saved = []
        while not stop.is_set() and not saved:
            await watcher.moved(before)
            now = await watcher.settled()
            saved, before = _changed(before, now), now


class _Stopped(Exception):
    """The watch was ended in the middle of a look."""


class _Watcher:
    def __init__(
        self, path: Path, go: int | None, stop: asyncio.Event, tell: Callable[[Looked], None], settle: float
    ) -> None:
        self.path, self.go, self.stop, self.tell, self.settle = path, go, stop, tell, settle
        self.files: tuple[Path, ...] = (path,)
        self.good: tuple[Recipe, Constitution] | None = None
        self.advised: set[tuple[str, str | None, str]] = set()
        self.came: dict[str, Outcome] | None = None

    async def look(self, saved: tuple[Path, ...]) -> None:
        """Check, compare, plan, and walk the first rows; tell what was found."""
        try:
            checked, recipe, constitution = await self._unless_stopped(asyncio.to_thread(_check, self.path))
        except SolonError as problem:
            self.tell(Looked(saved, problems=problem.problems))
            return
        advice = {(each.file, each.rule, each.text): str(each) for each in checked.problems}
        new, self.advised = [advice[key] for key in advice if key not in self.advised], set(advice)
        looked = Looked(saved, (), checked.pages[0].summary or "", tuple(new), len(advice) - len(new))
        before, self.good = self.good, (recipe, constitution)
        if before:
            settings = tuple(each for each in Recipe.model_fields if getattr(before[0], each) != getattr(recipe, each))
            looked = replace(looked, difference=diff(before[1], constitution), settings=settings)
        try:
            looked = replace(looked, planned=await self._unless_stopped(plan_recipe(self.path)))
        except SolonError as problem:
            self.tell(replace(looked, problems=problem.problems))
            return
        self.tell(looked)
        if self.go:
            try:
                done = await run_recipe(self.path, limit=self.go, stop=self.stop)
            except SolonError as problem:
                self.tell(Looked(problems=problem.problems))
                return
            if not done.progress.interrupted:
                self.tell(Looked(went=self._went(done, self.go)))

    def _went(self, done: Done, most: int) -> Went:
        """Return what became of the first rows, beside what had become of them at the go before."""
        before, now = self.came, dict[str, Outcome]()
        changes, rows, gone = [], 0, set(before or ())
        with done.folder.store(read_only=True) as store:
            for row in store.rows(most, unfinished=False):
                rows += 1
                gone.discard(row.id)
                outcome = store.outcome(row)
                if outcome is not None:
                    now[row.id] = outcome
                if before is not None and _label(before.get(row.id)) != _label(outcome):
                    changes.append(RowChange(row, before.get(row.id), outcome))
        self.came = now
        return Went(done, rows, before is not None, rows - len(changes), len(gone), tuple(changes))

    async def _unless_stopped(self, work: Awaitable[Given]) -> Given:
        """Return what `work` gives. Raises _Stopped where the watch ends first."""
        task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise _Stopped
        finally:
            task.cancel()
            stopped.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    async def moved(self, before: _State) -> None:
        """Wait until a file is not as it was before."""
        poll = int(POLL_SECONDS * 1000)
        # which files these are can only change with one of them
        while not self.stop.is_set() and not _changed(before, _state(self.files)):
            woken = awatch(
                *_folders(self.files), watch_filter=None, recursive=False, stop_event=self.stop, rust_timeout=poll,
                yield_on_timeout=True,
            )  # fmt: skip
            try:
                async with aclosing(woken):
                    async for _ in woken:
                        if _changed(before, _state(self.files)):
                            return
            except (OSError, RuntimeError, ExceptionGroup):
                # a folder that went away, or more of them than the kernel watches
                await asyncio.sleep(POLL_SECONDS)

    async def settled(self) -> _State:
        """Wait until nothing moves any more; return how the files lie then. A file may be away for a moment."""
        state, waited = self._found(), 0.0
        while not self.stop.is_set():
            await asyncio.sleep(self.settle)
            waited += self.settle
            now = self._found()
            if now == state and (None not in now.values() or waited >= PATIENCE * self.settle):
                break
            state = now
        return state

    def _found(self) -> _State:
        """Return how the files to watch lie; while the recipe cannot be read, those that were watched before."""
        self.files = _files(self.path) or self.files
        return _state(self.files)


_State = dict[Path, tuple[int, int, int] | None]


def _state(files: Iterable[Path]) -> _State:
    return {file: _stat(file) for file in files}


def _stat(file: Path) -> tuple[int, int, int] | None:
    """Return what a save changes, None where there is no file."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _changed(before: _State, now: _State) -> list[Path]:
    return [file for file, stat in now.items() if file not in before or before[file] != stat]


def _check(path: Path) -> tuple[Checked, Recipe, Constitution]:
    """Return what the check of a good recipe says, and the recipe. Raises BadInput with every mistake."""
    checked = check_files([path])
    if mistakes := [str(each) for each in checked.problems if each.severity == "error"]:
        raise BadInput(mistakes)
    recipe = read_recipe(path)
    return checked, recipe, load(recipe.constitution, path.parent)


def _files(path: Path) -> tuple[Path, ...]:
    """Return the recipe's file and those that it names; none while it cannot be read."""
    try:
        recipe = read_recipe(path)
    except SolonError:
        return ()
    noted = _Noted()
    with suppress(SolonError):
        resolve(recipe.constitution, path.parent, noted)
    prompts = [yamls.located(recipe.prompts.path, path.parent)] if recipe.prompts.path else []
    return tuple(dict.fromkeys([path, *noted.files, *prompts]))


class _Noted:
    """The disk, as a Reader that notes which files are asked for: those that cannot be read are watched, too."""

    def __init__(self) -> None:
        self.files: list[Path] = []

    def read(self, path: Path, /) -> yamls.Document:
        self.files.append(path)
        return yamls.read(path)


def _folders(files: Iterable[Path]) -> set[Path]:
    """Return the folders that these files lie in, or would."""
    return {next(folder for folder in file.absolute().parents if folder.is_dir()) for file in files}


def _label(outcome: Outcome | None) -> tuple[object, ...]:
    """Return what makes two outcomes of a row the same to a reader of the dataset."""
    if isinstance(outcome, Pair):
        return outcome.chosen_draft, outcome.p_chosen, outcome.chosen, outcome.rejected
    return (outcome.reason,) if outcome else ()
