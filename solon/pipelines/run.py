"""The run: walk every row of a plan, a window of them at once, and hand each finished one to the dataset.

    runs/<recipe>-<plan>/
        recipe.yaml, constitution.yaml   as they were
        rows.db                          the plan's rows, what is finished and set aside
        run.json                         who played, where the ledger lies
        walks.jsonl                      times and spend, a line a walk (and one a few seconds while it goes on)
        dataset/                         the export, with its card
        lock                             keeps two runs out of one folder
    runs/latest -> the folder of the last run

No stage waits for its slowest row. Killed anywhere and started again, a run answers its known questions from the
ledger and goes on; what is finished is skipped by an index.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from solon import __version__
from solon.calls import Call, Reply, Usage
from solon.cast import Cast
from solon.dataset import RowStore
from solon.errors import Locked, StorageError
from solon.pipelines.plan import Plan
from solon.rows import Asked, Pair, Row, SetAside

__all__ = ["FAILED", "Progress", "RunFolder", "walk"]

FAILED = ("no_answer", "unreadable_answer", "rejected_call", "too_long")
"""Reasons that were failures, not answers: such a row is walked again when its run is started again."""

NOTE_SECONDS = 5.0


@dataclass
class Progress:
    """Where a walk stands. `known` and `asked` count calls of this walk, `usage` the tokens of the asked ones."""

    total: int = 0
    done: int = 0
    pairs: int = 0
    aside: Counter[str] = field(default_factory=Counter)
    known: int = 0
    asked: int = 0
    usage: Usage = Usage()
    started: float = field(default_factory=time.monotonic)
    interrupted: bool = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


class RunFolder:
    """One run's place on disk. `RunFolder.settle(plan, ...)` makes or finds it, `RunFolder.open(path)` reads it."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        self.facts = facts

    @property
    def dataset(self) -> Path:
        return self.path / "dataset"

    @property
    def ledger(self) -> Path:
        return (self.path / self.facts["ledger"]).resolve()

    def store(self, *, read_only: bool = False) -> RowStore:
        return RowStore.open(self.path / "rows.db", read_only=read_only)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return the run at `path`. Raises StorageError where there is none."""
        try:
            facts = json.loads((path / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise StorageError(
                f"{path}: no run folder (no readable run.json in it); give runs/latest or runs/<name>"
            ) from problem
        return cls(path, facts)

    @classmethod
    def settle(cls, plan: Plan, runs: Path, recipe_text: str, *, base: Path, ledger: Path, cast: Cast) -> RunFolder:
        """Return the plan's folder under `runs`, made if it is not there yet; the plan's store is moved into it."""
        path = runs / plan.folder
        plan.store.close()
        try:
            if not (path / "run.json").is_file():
                path.mkdir(parents=True, exist_ok=True)
                (path / "recipe.yaml").write_text(recipe_text, encoding="utf-8")
                (path / "constitution.yaml").write_text(plan.constitution.to_yaml(), encoding="utf-8")
                if not (path / "rows.db").is_file():
                    shutil.move(plan.store.path, path / "rows.db")
                # written last: a folder with run.json is whole
                _write(path / "run.json", json.dumps(_facts(plan, path, base, ledger, cast), indent=1) + "\n")
        except OSError as problem:
            raise StorageError(
                f"{path}: {problem.strerror or problem}; check the path, its permissions and the disk"
            ) from problem
        return cls.open(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process. Raises Locked where another process walks it."""
        import fcntl

        with (self.path / "lock").open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as problem:
                lock.seek(0)
                raise Locked(
                    f"{self.path}: process {lock.read().strip() or '?'} walks this run; wait for it, or stop it"
                ) from problem
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

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
        with (self.path / "walks.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def walks(self) -> list[dict[str, Any]]:
        """Return one record a walk of this folder, in order: its last note."""
        try:
            lines = (self.path / "walks.jsonl").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        last: dict[float, dict[str, Any]] = {}
        for line in lines:
            with suppress(ValueError):  # a kill may cut the last line
                record = json.loads(line)
                last[record["started"]] = record
        return list(last.values())


def _facts(plan: Plan, path: Path, base: Path, ledger: Path, cast: Cast) -> dict[str, Any]:
    return {
        "recipe": plan.recipe.name,
        "plan": plan.name,
        "story": plan.recipe.story.kind,
        "constitution": plan.constitution.digest,
        "base": os.path.relpath(base, path),
        "ledger": os.path.relpath(ledger, path),
        "cast": {
            player.role: {"name": player.name, "identity": player.model}
            for player in cast.players()
            if player.role in plan.recipe.roles()
        },
        "solon": __version__,
    }


def _write(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


async def walk(
    plan: Plan,
    store: RowStore,
    cast: Cast,
    *,
    limit: int | None = None,
    stop: asyncio.Event | None = None,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Walk the unfinished rows among the plan's first `limit`, `window` at once, and return where it ended.

    `stop` ends it early: no further row is begun, rows under way are dropped (their finished calls are in the
    ledger). Raises Halt and StorageError as soon as one row does; what is finished is kept.
    """
    progress = Progress(total=min(store.planned, limit) if limit is not None else store.planned)
    store.reopen(FAILED)
    unfinished = iter(store.rows(limit))
    order = {step: place for place, (step, _) in enumerate(plan.story.steps(cast))}
    progress.done = _finished_of(store, progress.total)
    rows: set[asyncio.Task[None]] = set()
    stopped = asyncio.create_task((stop or asyncio.Event()).wait())
    more = True
    try:
        while (rows or more) and not stopped.done():
            while more and len(rows) < plan.recipe.window:
                row = next(unfinished, None)
                more = row is not None
                if row is not None:
                    rows.add(asyncio.create_task(_walk_row(plan, row, cast, store, order, progress, tell)))
            if rows:
                done, _ = await asyncio.wait({*rows, stopped}, return_when=asyncio.FIRST_COMPLETED)
                rows -= done
                for task in done - {stopped}:
                    task.result()
        progress.interrupted = stopped.done()
    finally:
        for task in (*rows, stopped):
            task.cancel()
        await asyncio.gather(*rows, stopped, return_exceptions=True)
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
        elif reply.known:
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
    outcome = replace(outcome, asked=tuple(sorted(asked, key=lambda question: order[question.step])))
    store.finish(outcome)
    progress.done += 1
    if isinstance(outcome, Pair):
        progress.pairs += 1
    else:
        progress.aside[outcome.reason] += 1
    tell(progress)


def _finished_of(store: RowStore, total: int) -> int:
    """Return how many of the plan's first `total` rows have an outcome."""
    return store.finished if total >= store.planned else total - sum(1 for _ in store.rows(total))
