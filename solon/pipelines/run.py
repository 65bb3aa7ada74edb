"""The run folder: one run's place on disk, from its plan to its dataset.

    runs/<recipe>-<plan>/
        recipe.yaml, constitution.yaml   as they were when it was last walked
        rows.db                          the plan's rows, what is finished and set aside
        run.json                         who plays, where the ledger lies
        status.json                      where it stands, as `solon status` tells it
        walks.jsonl                      times and spend, a line a walk (and one a few seconds while it goes on)
        dataset/                         the export, with its card
        lock                             keeps two runs out of one folder
    runs/latest -> the folder of the last run

Killed anywhere and started again, a run answers its known questions from the ledger and goes on; what is finished is
skipped by an index, and a plan whose recipe, constitution and prompts are unchanged is not drawn again (`source`).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from solon import __version__, yamls
from solon.cast import Cast
from solon.constitution import Resolved, resolve
from solon.dataset import RowStore
from solon.errors import BadInput, Locked, StorageError
from solon.pipelines.plan import Plan
from solon.pipelines.recipe import Recipe
from solon.pipelines.walk import Progress
from solon.pipelines.wordings import own_wordings

__all__ = ["RunFolder"]


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
        "source": plan.source,
        "story": plan.recipe.story.kind,
        "constitution": plan.constitution.digest,
        "file": os.path.relpath(recipe, path),
        "ledger": os.path.relpath(ledger, path),
        "cast": {player.role: {"name": player.name, "identity": player.model} for player in players},
        "solon": __version__,
        "wordings": own_wordings(),
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
