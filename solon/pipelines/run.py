"""The run: walk every row of a plan, a window of them at once, and hand each finished one to the dataset.

    runs/<recipe>-<plan>/
        recipe.yaml, constitution.yaml   as they were when it was last walked
        rows.db                          the plan's rows, what is finished and set aside
        run.json                         who plays, where the ledger lies
        walks.jsonl                      times and spend, a line a walk (and one a few seconds while it goes on)
        dataset/                         the export, with its card
        lock                             keeps two runs out of one folder
    runs/latest -> the folder of the last run

No stage waits for its slowest row. Killed anywhere and started again, a run answers its known questions from the
ledger and goes on; what is finished is skipped by an index.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from solon import __version__, yamls
from solon.calls import Call, Reply, Usage
from solon.cast import Cast
from solon.constitution import Resolved, resolve
from solon.dataset import RowStore
from solon.errors import BadInput, Locked, StorageError
from solon.pipelines.plan import Plan
from solon.pipelines.recipe import Recipe
from solon.rows import Asked, Pair, Row, SetAside

__all__ = ["FAILED", "Progress", "RunFolder", "walk"]

FAILED = ("no_answer", "unreadable_answer", "rejected_call", "too_long")
"""Reasons that were failures, not answers: such a row is walked again when its run is started again."""


FLUSH_SECONDS = 0.5


@dataclass
class Progress:
    """Where a walk stands.

    total, done:  rows of the walk, and those among them that are finished, by this walk (`begun_with` not) or before
    pairs, aside: what this walk made of rows
    known, asked: calls of this walk; `usage` counts the tokens of the asked ones
    """

    total: int = 0
    done: int = 0
    begun_with: int = 0
    pairs: int = 0
    aside: Counter[str] = field(default_factory=Counter)
    known: int = 0
    asked: int = 0
    failed: int = 0
    usage: Usage = Usage()
    started: float = field(default_factory=time.monotonic)
    interrupted: bool = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float | None:
        """Return how long the rest will take at the pace so far, or None before a row is done."""
        walked = self.done - self.begun_with
        return self.seconds / walked * (self.total - self.done) if walked else None


class RunFolder:
    """One run's place on disk. `RunFolder.settled(plan, ...)` makes or finds it, `RunFolder.open(path)` reads it."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        self.facts = facts

    @property
    def dataset(self) -> Path:
        return self.path / "dataset"

    @property
    def constitution(self) -> Resolved:
        """Return the constitution that the run was made with. Raises StorageError where its copy here is none."""
        with _own_copy():
            return resolve(self.path / "constitution.yaml")

    @property
    def recipe(self) -> Recipe:
        """Return the recipe that the run was made from, as it was. Raises StorageError where its copy here is none."""
        with _own_copy():
            return yamls.build(Recipe, yamls.read(self.path / "recipe.yaml"))

    @property
    def ledger(self) -> Path:
        return (self.path / self.facts["ledger"]).resolve()

    def store(self, *, read_only: bool = False) -> RowStore:
        return RowStore.open(self.path / "rows.db", read_only=read_only)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return the run at `path`. Raises StorageError where there is none."""
        if not path.is_dir():
            raise StorageError(f"{path}: no such run folder; give runs/<name>, or start one with `solon run`")
        try:
            facts = json.loads((path / "run.json").read_text(encoding="utf-8"))
            missing = {"recipe", "plan", "cast", "ledger"} - set(facts)
        except (OSError, ValueError, TypeError) as problem:
            raise StorageError(
                f"{path}: no run folder (no readable run.json in it); give runs/<name>, or run its recipe again"
            ) from problem
        if missing:
            raise StorageError(f"{path}/run.json: {sorted(missing)[0]!r} is missing; start the run again to mend it")
        return cls(path, facts)

    @classmethod
    @contextmanager
    def settled(cls, plan: Plan, runs: Path, recipe: Path, *, ledger: Path, cast: Cast) -> Iterator[RunFolder]:
        """Hold the plan's folder under `runs` for this process; the plan's rows are moved into a new folder.

        The copies of recipe and constitution and the facts are written anew: what does not decide the data (how it
        is exported, where the ledger lies) may have changed since. Raises Locked where another process walks it.
        """
        path = runs / plan.folder
        with _written(path):
            path.mkdir(parents=True, exist_ok=True)
            lock = _locked(path)
        try:
            with _written(path):
                rows = path / "rows.db"
                # rows that no run.json stands beside were never walked: a kill cut their folder's making short
                if not (rows.is_file() and (path / "run.json").is_file()):
                    for end in ("-wal", "-shm"):
                        rows.with_name(rows.name + end).unlink(missing_ok=True)
                    plan.rows.replace(rows)
                _write(path / "recipe.yaml", recipe.read_text(encoding="utf-8-sig"))
                _write(path / "constitution.yaml", plan.constitution.to_yaml())
                _write(path / "run.json", json.dumps(_facts(plan, path, recipe, ledger, cast), indent=1) + "\n")
            yield cls.open(path)
        finally:
            os.close(lock)

    def make_latest(self) -> None:
        """Let `runs/latest` point here."""
        link = self.path.parent / "latest"
        new = link.with_name(f".latest-{os.getpid()}")
        with suppress(OSError):  # a file system without links has none; the path is printed anyway
            new.unlink(missing_ok=True)
            new.symlink_to(self.path.name)
            new.replace(link)

    def note(self, progress: Progress, *, started: float, spent: float | None) -> None:
        """Write down where this walk stands: one line, the last one of a start time counts."""
        line = {
            "started": round(started, 3),
            "seconds": round(progress.seconds, 3),
            "known": progress.known,
            "asked": progress.asked,
            "usage": asdict(progress.usage),
            "dollars": spent,
        }
        file = self.path / "walks.jsonl"
        with _written(file), file.open("a+b") as lines:
            if lines.tell():
                lines.seek(-1, os.SEEK_END)
                if lines.read(1) != b"\n":  # a kill cut the last line
                    lines.write(b"\n")
            lines.write(json.dumps(line).encode() + b"\n")

    @property
    def walked(self) -> float:
        """Return when the last walk began; seconds since 1970, 0 where none did."""
        return max((walk["started"] for walk in self.walks()), default=0.0)

    def walks(self) -> list[dict[str, Any]]:
        """Return one record a walk of this folder, in order: its last note."""
        try:
            lines = (self.path / "walks.jsonl").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        last: dict[float, dict[str, Any]] = {}
        for line in lines:
            with suppress(ValueError, TypeError, KeyError):  # a kill may cut a line
                record = json.loads(line)
                last[record["started"]] = record
        return list(last.values())


def _facts(plan: Plan, path: Path, recipe: Path, ledger: Path, cast: Cast) -> dict[str, Any]:
    players = [player for player in cast.players() if player.role in plan.recipe.roles()]
    return {
        "recipe": plan.recipe.name,
        "plan": plan.name,
        "story": plan.recipe.story.kind,
        "constitution": plan.constitution.digest,
        "file": os.path.relpath(recipe, path),
        "ledger": os.path.relpath(ledger, path),
        "cast": {player.role: {"name": player.name, "identity": player.model} for player in players},
        "solon": __version__,
    }


def _locked(path: Path) -> int:
    """Return the open lock of a folder, held until it is closed; the kernel lets it go with its process."""
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        holder = os.read(lock, 20).decode("ascii", "replace").strip() or "?"
        os.close(lock)
        raise Locked(f"{path}: process {holder} walks this run; wait for its end, or stop it") from problem
    except OSError:
        os.close(lock)
        raise
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


@contextmanager
def _own_copy() -> Iterator[None]:
    """Say of a page that the folder keeps that nobody was meant to write it."""
    try:
        yield
    except BadInput as problem:
        raise StorageError(f"{problem.problems[0]}; this is the run's own copy: run its recipe again") from problem


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Turn what the file system says into one line with a remedy."""
    try:
        yield
    except OSError as problem:
        raise StorageError(
            f"{problem.filename or path}: {problem.strerror or problem}; check the path, its rights and the disk"
        ) from problem


def _write(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all."""
    if path.is_file() and path.read_bytes() == text.encode():
        return
    new = path.with_name(path.name + ".new")
    new.write_bytes(text.encode())
    new.replace(path)


async def walk(
    plan: Plan,
    store: RowStore,
    cast: Cast,
    *,
    progress: Progress | None = None,
    limit: int | None = None,
    again: tuple[str, ...] = FAILED,
    stop: asyncio.Event | None = None,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Walk the unfinished rows among the plan's first `limit`, `window` at once, and return where it ended.

    progress: written to while it goes on, and there when it fails
    again:    rows that were set aside for one of these reasons count as unfinished
    stop:     ends it early: no further row is begun, rows under way are dropped (their finished calls are in the
              ledger)

    Raises Halt and StorageError as soon as one row does; what is finished is kept.
    """
    progress = progress or Progress()
    stop = stop or asyncio.Event()
    if again:
        store.reopen(again, limit=limit)
    progress.total = min(store.planned, limit) if limit is not None else store.planned
    progress.done = progress.begun_with = _finished_of(store, progress.total)
    tell(progress)
    rows = store.rows(limit)
    order = {step: place for place, (step, _) in enumerate(plan.story.steps(cast))}

    async def walker() -> None:
        for row in rows:  # all walkers share this generator: each row is taken once
            if stop.is_set():
                return
            await _walk_row(plan, row, cast, store, order, progress, tell)
            await asyncio.sleep(0)  # a row that memory knows whole never waits, and Ctrl-C must still be heard

    async def writer() -> None:
        while True:  # a row that is finished must not wait on disk for the next one to finish
            await asyncio.sleep(FLUSH_SECONDS)
            store.flush()

    walkers = [asyncio.create_task(walker()) for _ in range(min(plan.recipe.window, progress.total - progress.done))]
    walking = asyncio.gather(*walkers)
    stopped, writing = asyncio.create_task(stop.wait()), asyncio.create_task(writer())
    try:
        either: set[asyncio.Future[Any]] = {walking, stopped, writing}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        for ended in (walking, writing):
            if ended.done():
                ended.result()
        progress.interrupted = stop.is_set() and progress.done < progress.total
    finally:
        for task in (*walkers, stopped, writing):
            task.cancel()
        await asyncio.gather(*walkers, stopped, writing, walking, return_exceptions=True)
        store.flush()
    return progress


async def _walk_row(
    plan: Plan,
    row: Row,
    cast: Cast,
    store: RowStore,
    order: dict[str, int],
    progress: Progress,
    tell: Callable[[Progress], None],
) -> None:
    """Walk one row with a cast that listens, and write down what became of it."""
    asked: list[Asked] = []

    def listen(question: Asked, call: Call, reply: Reply | None) -> None:
        if reply is None:
            asked.append(question)
            return
        if reply.known:
            progress.known += 1
        else:
            progress.asked += 1
            progress.usage += reply.usage
        tell(progress)

    outcome = await plan.story(row, cast.listening(listen))
    if isinstance(outcome, SetAside) and outcome.reason == "not_known":
        progress.aside["not_known"] += 1  # nothing was asked, so nothing has become of this row
        return
    # by the story's order, not by whose answer came first: the same row is the same bytes
    outcome = store.finish(replace(outcome, asked=tuple(sorted(asked, key=lambda question: order[question.step]))))
    progress.done += 1
    if isinstance(outcome, Pair):
        progress.pairs += 1
    else:
        progress.aside[outcome.reason] += 1
    tell(progress)


def _finished_of(store: RowStore, total: int) -> int:
    """Return how many of the plan's first `total` rows have an outcome."""
    return store.finished if total >= store.planned else total - sum(1 for _ in store.rows(total))
