"""The plan: every row with its dice thrown, and a name that holds all that decides the data. It costs nothing.

    async with planning(recipe, base, cast) as plan:
        plan.name, plan.rows        # what a run would walk; `survey` says what that asks

A plan is named by its rows with the wordings that they drew, the story, and the cast's identities, sampling and
templates. Not in the name: pace, window, prices, how and where the data is written. So a changed judge is another
plan, and a finished row of one is never taken for a row of the other, while the calls that both share come from
memory.

Dice are thrown once: where a run folder holds the rows of the very same recipe, constitution and prompts file (its
`source`), they are taken from there, so that a run of a million rows goes on within seconds.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from solon.cast import Cast
from solon.constitution import Constitution, Role
from solon.constitution.draw import heaviest
from solon.dataset import RowStore, digest_of, read_prompts
from solon.digests import canonical, tagged
from solon.errors import StorageError
from solon.generators import STRUCTURED
from solon.pipelines.recipe import Recipe
from solon.pipelines.story import Story
from solon.rows import Draw, Prompt

__all__ = ["Dice", "Plan", "make_plan", "planning"]

ABANDONED_SECONDS = 86_400.0
"""A half-made plan that nobody wrote to for a day was left by a killed process."""
TURN = 256
"""Rows after which a long planning lets an interrupt through."""


@dataclass(frozen=True)
class Plan:
    """What is to be walked: the rows lie in the file `rows`, `name` says all that decides the data (12 hex digits).

    source: a digest of what the rows were made from, "" where that is no file
    """

    name: str
    recipe: Recipe
    constitution: Constitution
    story: Story
    rows: Path
    source: str = ""

    @property
    def folder(self) -> str:
        """Return the run folder's name: the recipe's name and the plan's."""
        return f"{self.recipe.name}-{self.name}"


@asynccontextmanager
async def planning(recipe: Recipe, base: Path, cast: Cast) -> AsyncIterator[Plan]:
    """Find the plan's rows in their run folder, or make them in a file of their own under `runs`.

    Whoever keeps a new plan moves that file, else it is thrown away.
    """
    constitution = recipe.constitution_object(base)
    folder = recipe.runs_folder(base)
    with suppress(OSError):  # what cannot be tidied up is in nobody's way
        _throw_away_abandoned(folder)
    source = _source(recipe, constitution, base, cast)
    if known := _drawn_before(folder, recipe.name, source):
        name, rows = known
        yield Plan(name, recipe, constitution, recipe.story.story(constitution, recipe.judging), rows, source)
        return
    path = folder / f".planning-{os.getpid()}.db"
    try:
        _throw_away(path)
        lock = _held(path.with_suffix(".lock"))
    except OSError as problem:
        raise StorageError(f"{folder}: {problem.strerror or problem}; check the path and its rights") from problem
    try:
        yield replace(await make_plan(recipe, constitution, base, cast, path), source=source)
    finally:
        _throw_away(path)
        path.with_suffix(".lock").unlink(missing_ok=True)
        os.close(lock)


def _held(file: Path) -> int:
    """Return the open lock that says that a process is planning; the kernel lets it go with its process."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with suppress(OSError):  # a file system without locks: after a day it counts as abandoned
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _throw_away_abandoned(folder: Path) -> None:
    """Remove the half-made plans of processes that were killed."""
    for left in folder.glob(".planning-*.db"):
        if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
            _throw_away(left)
    for file in folder.glob(".planning-*.lock"):
        lock = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # somebody plans
        finally:
            os.close(lock)
        _throw_away(file.with_suffix(".db"))
        file.unlink(missing_ok=True)


def _source(recipe: Recipe, constitution: Constitution, base: Path, cast: Cast) -> str:
    """Return a digest of everything that the rows and their name are made from, "" where the prompts are no file."""
    prompts = digest_of(recipe.prompts, base)
    if prompts is None:
        return ""
    story = recipe.story.story(constitution, recipe.judging)
    told = recipe.prompts.model_dump(mode="json", exclude={"path"})
    made_from = [
        # the ending decides how the file is read
        _deciding(recipe, story, cast), recipe.story.model_dump(mode="json"), recipe.seed, constitution.digest,
        told, "".join(Path(recipe.prompts.source).suffixes), prompts,
    ]  # fmt: skip
    return tagged("solon.source/1", made_from)


def _drawn_before(folder: Path, recipe: str, source: str) -> tuple[str, Path] | None:
    """Return the name and the rows of a plan that was made from `source`, None where no run of this recipe holds it."""
    for file in folder.glob(f"{recipe}-*/run.json") if source else ():
        rows = file.with_name("rows.db")
        with suppress(OSError, ValueError, KeyError, TypeError, StorageError):  # what cannot be read is drawn anew
            facts = json.loads(file.read_text(encoding="utf-8"))
            # by another recipe's name it would be another folder's rows
            if (facts["source"], facts["recipe"]) == (source, recipe) and not file.parent.is_symlink():
                RowStore.open(rows, read_only=True).close()
                return facts["plan"], rows
    return None


def _throw_away(path: Path) -> None:
    for end in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + end).unlink(missing_ok=True)


async def make_plan(recipe: Recipe, constitution: Constitution, base: Path, cast: Cast, path: Path) -> Plan:
    """Throw all dice for all prompts, write the rows to a new store at `path`, and name the plan.

    Raises BadInput for prompts that cannot be read, or that no principle applies to.
    """
    dice = Dice(recipe, constitution)
    # bad words about the judge are said now, not when the first row reaches it
    deciding = _deciding(recipe, dice.story, cast)
    digest = hashlib.sha256(_bytes(["solon.plan/1", deciding]))
    with RowStore.create(path) as store:
        for place, prompt in enumerate(read_prompts(recipe.prompts, base)):
            draws = dice.throw(prompt)
            if store.add(prompt, draws):
                drawn = [[draw.step, draw.principle, draw.digest] for draw in draws]
                digest.update(_bytes([prompt.id, list(prompt.tags), drawn]))
            if place % TURN == 0:
                await asyncio.sleep(0)
    return Plan(digest.hexdigest()[:12], recipe, constitution, dice.story, path)


def _bytes(value: object) -> bytes:
    # surrogatepass: a tag may hold half a character
    return canonical(value).encode("utf-8", "surrogatepass")


class Dice:
    """Draws the principle of each step of each row: weighted rendezvous hashing, each step for itself."""

    def __init__(self, recipe: Recipe, constitution: Constitution) -> None:
        self.seed = recipe.seed
        self.constitution = constitution
        self.story = recipe.story.story(constitution, recipe.judging)
        self.steps = self.story.draws()
        self.distinct = getattr(recipe.story, "distinct", False)
        self._digests: dict[tuple[str, tuple[Role, ...]], str] = {}
        self._weights: dict[tuple[tuple[Role, ...], tuple[str, ...]], list[tuple[str, float]]] = {}

    def throw(self, prompt: Prompt) -> list[Draw]:
        """Return what a row of this prompt meets. Raises BadInput where no principle applies."""
        draws: list[Draw] = []
        for step, roles in self.steps:
            met = {draw.principle for draw in draws} if self.distinct and step != "judge" else set()
            weights = self._drawable(roles, prompt.tags)
            left = [each for each in weights if each[0] not in met] if met else weights
            if left:
                drawn = heaviest(left, seed=self.seed, row=prompt.id, step=step)
            else:  # says in one line what is missing
                drawn = self.constitution.draw(
                    self.seed, prompt.id, step, roles=roles, tags=prompt.tags, without=met
                ).id
            draws.append(Draw(step, drawn, self._digest(drawn, roles)))
        return draws

    def _drawable(self, roles: tuple[Role, ...], tags: tuple[str, ...]) -> list[tuple[str, float]]:
        """Return (id, weight) of what may be drawn; a plan of a million rows asks for the same few lists."""
        known = self._weights.get((roles, tags))
        if known is None:
            known = [(each.id, each.weight) for each in self.constitution.drawable(roles, tags)]
            self._weights[roles, tags] = known
        return known

    def _digest(self, principle: str, roles: tuple[Role, ...]) -> str:
        """Return the digest of the wordings that the step speaks; a plan of a million rows asks for the same few."""
        known = self._digests.get((principle, roles))
        if known is None:
            known = self.constitution.wording_digest(self.constitution.principle(principle), roles)
            self._digests[principle, roles] = known
        return known


def _deciding(recipe: Recipe, story: Story, cast: Cast) -> dict[str, object]:
    """Return what decides the data beside the rows."""
    players = [player for player in cast.players() if player.role in recipe.roles()]
    return {
        "story": story.digest(),
        "judged_by": [step for step, _ in story.steps(cast)],
        "verdict": recipe.judging.source(cast.judge.can, cast.judge.form, cast.judge.name),
        "cast": [
            [player.role, player.model, asdict(player.sampling), player.system, player.options,
             player.anew or player.again, player.cut, player.form, *([STRUCTURED] if player.structured else [])]
            for player in players
        ],
    }  # fmt: skip
