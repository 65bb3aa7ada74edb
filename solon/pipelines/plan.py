"""The plan: every row with its dice thrown, and a name that holds all that decides the data. It costs nothing.

    async with planning(recipe, base, cast) as plan:
        survey = await take_survey(plan, dry_cast)      # known, certainly new, at most new

A plan is named by its rows with the wordings that they drew, the story, and the cast's identities, sampling and
templates. Not in the name: pace, window, prices, how and where the data is written. So a changed judge is another
plan, and a finished row of one is never taken for a row of the other, while the calls that both share come from
memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from solon.calls import Call, Reply, Usage
from solon.cast import Cast
from solon.constitution import Constitution, Role
from solon.dataset import RowStore, read_prompts
from solon.digests import canonical
from solon.errors import StorageError
from solon.pipelines.recipe import Recipe
from solon.pipelines.story import Story
from solon.rows import Asked, Draw, Prompt, Row, SetAside

__all__ = ["Dice", "Plan", "StepCount", "Survey", "make_plan", "planning", "take_survey"]

ABANDONED_SECONDS = 86_400.0
"""A half-made plan that nobody wrote to for a day was left by a killed process."""
TURN = 256
"""Rows after which a long planning lets an interrupt through."""


@dataclass(frozen=True)
class Plan:
    """What is to be walked: the rows lie in the file `rows`, `name` says all that decides the data (12 hex digits)."""

    name: str
    recipe: Recipe
    constitution: Constitution
    story: Story
    rows: Path

    @property
    def folder(self) -> str:
        """Return the run folder's name: the recipe's name and the plan's."""
        return f"{self.recipe.name}-{self.name}"


@asynccontextmanager
async def planning(recipe: Recipe, base: Path, cast: Cast) -> AsyncIterator[Plan]:
    """Make the plan in a file of its own under `runs`; whoever keeps it moves that file, else it is thrown away."""
    constitution = recipe.constitution_object(base)
    folder = recipe.runs_folder(base)
    path = folder / f".planning-{os.getpid()}.db"
    try:
        _throw_away(path)
        for left in folder.glob(".planning-*.db"):
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                _throw_away(left)
    except OSError as problem:
        raise StorageError(f"{folder}: {problem.strerror or problem}; check the path and its rights") from problem
    try:
        yield await make_plan(recipe, constitution, base, cast, path)
    finally:
        _throw_away(path)


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

    def throw(self, prompt: Prompt) -> list[Draw]:
        """Return what a row of this prompt meets. Raises BadInput where no principle applies."""
        draws: list[Draw] = []
        for step, roles in self.steps:
            met = {draw.principle for draw in draws} if self.distinct and step != "judge" else set()
            drawn = self.constitution.draw(self.seed, prompt.id, step, roles=roles, tags=prompt.tags, without=met)
            draws.append(Draw(step, drawn.id, self._digest(drawn.id, roles)))
        return draws

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
            [player.role, player.model, asdict(player.sampling), player.system, player.options, player.again,
             player.cut, player.form]
            for player in players
        ],
    }  # fmt: skip


@dataclass
class StepCount:
    """Calls of one step over all rows: known from memory, certainly new, and at most new.

    most: tokens that one answer of this step may have
    """

    most: int = 1024
    known: int = 0
    certain: int = 0
    at_most: int = 0
    known_usage: Usage = Usage()
    certain_chars: int = 0


@dataclass
class Survey:
    """What a walk of the plan would ask. What follows a changed answer cannot be known before it is asked.

    rows:     rows of the plan, or of its first `limit`
    finished: rows among them that a run would not walk again
    duplicates: prompts that the plan had already
    roles:    the role of each step
    """

    rows: int = 0
    finished: int = 0
    duplicates: int = 0
    steps: dict[str, StepCount] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)

    @property
    def known(self) -> int:
        return sum(step.known for step in self.steps.values())

    @property
    def certain(self) -> int:
        return sum(step.certain for step in self.steps.values())

    @property
    def at_most(self) -> int:
        return sum(step.at_most for step in self.steps.values())


async def take_survey(
    plan: Plan, cast: Cast, *, limit: int | None = None, walked: RowStore | None = None, failed: Iterable[str] = ()
) -> Survey:
    """Walk every row of the plan's first `limit` from memory alone, and count by step.

    `cast` must stand in front of memory with nothing behind it. A row is walked as far as it is known; the calls at
    which it stops are certainly new, each key once; the steps after them are new at most, each once and again as
    often as its player's `again` allows. Of rows that are finished in `walked`, the store of an earlier run, only
    what is known is counted; rows set aside for one of `failed` are walked again, and are not finished.
    """
    steps = plan.story.steps(cast)
    survey = Survey(roles=dict(steps), steps={step: StepCount(_most(plan, cast, step, role)) for step, role in steps})
    failed, new = frozenset(failed), set[int]()
    with RowStore.open(plan.rows, read_only=True) as store:
        survey.duplicates = store.duplicates
        for row in store.rows(limit, unfinished=False):
            before = walked.outcome(row) if walked else None
            finished = before is not None and not (isinstance(before, SetAside) and before.reason in failed)
            survey.rows += 1
            survey.finished += finished
            await _survey_row(plan, row, cast, survey, new, finished=finished)
            if survey.rows % TURN == 0:
                await asyncio.sleep(0)
    return survey


def _most(plan: Plan, cast: Cast, step: str, role: str) -> int:
    """Return the tokens that one answer of a step may have: a judge that is read by log-probabilities says one."""
    judge = cast.judge
    weighed = plan.recipe.judging.source(judge.can, judge.form, judge.name) == "logprobs"
    if role == "judge" and weighed and not step.endswith(".reason"):
        return 1
    return next(player.sampling.max_tokens for player in cast.players() if player.role == role)


async def _survey_row(plan: Plan, row: Row, cast: Cast, survey: Survey, new: set[int], *, finished: bool) -> None:
    """Walk one row from memory and count its calls; `new` holds the new calls of the rows before."""
    # one entry a question: its reply, or None where memory has none
    questions: dict[Asked, tuple[Call, Reply | None]] = {}

    def listen(asked: Asked, call: Call, reply: Reply | None) -> None:
        questions[asked] = (call, reply)

    outcome = await plan.story(row, cast.listening(listen))
    again = {player.role: player.again for player in cast.players()}
    reached: Counter[str] = Counter()
    for asked, (call, reply) in questions.items():
        count = survey.steps[asked.step]
        reached[asked.step] += 1
        if reply is not None:
            count.known += 1
            count.known_usage += reply.usage
        elif not finished:
            _count_new(count, call, new, again=max(again[asked.role] + 1 - reached[asked.step], 0))
    if not finished and isinstance(outcome, SetAside) and outcome.reason == "not_known":
        for step, role in survey.roles.items():
            survey.steps[step].at_most += 0 if reached[step] else 1 + again[role]


def _count_new(count: StepCount, call: Call, new: set[int], *, again: int) -> None:
    """Count a call that memory does not know; its answer may be empty or cut, and be asked `again` times more."""
    short_key = int(call.key[3:19], 16)  # 8 bytes a call, so that a large plan fits into memory
    if short_key in new:
        return  # two rows put the same question: it is asked once
    new.add(short_key)
    count.certain += 1
    count.certain_chars += sum(len(message.content) for message in call.messages)
    count.at_most += 1 + again
