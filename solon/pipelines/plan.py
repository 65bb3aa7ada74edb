"""The plan: every row with its dice thrown, and a name that holds all that decides the data. It costs nothing.

    plan = make_plan(recipe, base, cast)
    survey = await take_survey(plan, store, cast)      # known, certainly new, at most new

A plan is named by its rows with the wordings that they drew, the story, and the cast's identities, sampling and
templates. Not in the name: budget, pace, window, where to write. So a changed judge is another plan, and a
finished row of one is never taken for a row of the other, while the calls that both share come from memory.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from solon.calls import Call, Reply, Usage
from solon.cast import Cast
from solon.constitution import Constitution
from solon.dataset import RowStore, read_prompts
from solon.digests import canonical, tagged
from solon.errors import BadInput
from solon.pipelines.recipe import Recipe
from solon.pipelines.story import Story
from solon.rows import Asked, Draw, Prompt, SetAside

__all__ = ["Plan", "StepCount", "Survey", "make_plan", "planning", "take_survey"]


@dataclass(frozen=True)
class Plan:
    """What is to be walked: the rows lie in `store`, and `name` says all that decides the data (12 hex digits)."""

    name: str
    recipe: Recipe
    constitution: Constitution
    story: Story
    store: RowStore

    @property
    def folder(self) -> str:
        """Return the run folder's name: the recipe's name and the plan's."""
        return f"{self.recipe.name}-{self.name}"


@contextmanager
def planning(recipe: Recipe, base: Path, cast: Cast) -> Iterator[Plan]:
    """Make the plan in a file of its own under `runs`; whoever keeps it moves that file, else it is thrown away."""
    constitution = recipe.constitution_object(base)
    folder = base / recipe.runs
    path = folder / f".planning-{os.getpid()}.db"
    path.unlink(missing_ok=True)
    try:
        yield make_plan(recipe, constitution, base, cast, path)
    finally:
        for leftover in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
            leftover.unlink(missing_ok=True)


def make_plan(recipe: Recipe, constitution: Constitution, base: Path, cast: Cast, path: Path) -> Plan:
    """Throw all dice for all prompts, write the rows to a new store at `path`, and name the plan.

    Raises BadInput for prompts that cannot be read, or that no principle applies to.
    """
    story = recipe.story.story(constitution, recipe.judging)
    # bad words about the judge are said now, not when the first row reaches it
    story.steps(cast)
    digest = hashlib.sha256(canonical(["solon.plan/1", _deciding(recipe, story, cast)]).encode())
    dice = _Dice(recipe.seed, constitution, story, distinct=getattr(recipe.story, "distinct", False))
    store = RowStore.create(path)
    with store:
        for prompt in read_prompts(recipe.prompts, base):
            draws = dice.throw(prompt)
            if store.add(prompt, draws):
                digest.update(canonical([prompt.id, [[draw.step, draw.digest] for draw in draws]]).encode())
        if not store.planned:
            raise BadInput(f"{recipe.prompts.source}: no prompts in it; give at least one")
    return Plan(digest.hexdigest()[:12], recipe, constitution, story, RowStore.open(path))


class _Dice:
    """Draws the principle of each step of each row: weighted rendezvous hashing, each step for itself."""

    def __init__(self, seed: int, constitution: Constitution, story: Story, *, distinct: bool) -> None:
        self.seed = seed
        self.constitution = constitution
        self.steps = story.draws()
        self.distinct = distinct
        self._digests: dict[tuple[str, tuple[str, ...]], str] = {}

    def throw(self, prompt: Prompt) -> list[Draw]:
        draws: list[Draw] = []
        for step, roles in self.steps:
            met = {draw.principle for draw in draws} if self.distinct and step != "judge" else set()
            drawn = self.constitution.draw(self.seed, prompt.id, step, roles=roles, tags=prompt.tags, without=met)
            draws.append(Draw(step, drawn.id, self._digest(drawn.id, roles)))
        return draws

    def _digest(self, principle: str, roles: tuple[str, ...]) -> str:
        """Return 16 hex digits over the wordings that the step speaks, and those alone."""
        known = self._digests.get((principle, roles))
        if known is None:
            wordings = [self.constitution.wording(self.constitution.principle(principle), role) for role in roles]
            known = self._digests[principle, roles] = tagged("solon.wordings/1", wordings)[:16]
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


_Walked = dict[Asked, tuple[Call, Reply | None]]


@dataclass
class StepCount:
    """Calls of one step over all rows: known from memory, certainly new, and at most new."""

    known: int = 0
    certain: int = 0
    at_most: int = 0
    known_usage: Usage = Usage()
    certain_chars: int = 0


@dataclass
class Survey:
    """What a walk of the plan would ask. What follows a changed answer cannot be known before it is asked."""

    rows: int = 0
    finished: int = 0
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


async def take_survey(plan: Plan, cast: Cast, *, limit: int | None = None) -> Survey:
    """Walk every row of the plan's first `limit` from memory alone, and count by step.

    `cast` must stand in front of memory with nothing behind it (a Workshop opened `offline`). A row is walked as
    far as it is known; the calls at which it stops are certainly new; the steps after them are new at most, each
    once and again as often as its player's `again` allows.
    """
    steps = plan.story.steps(cast)
    survey = Survey(roles=dict(steps), steps={step: StepCount() for step, _ in steps})
    again = {player.role: player.again for player in cast.players()}
    for row in plan.store.rows(limit, unfinished=False):
        survey.rows += 1
        # one entry a question: its reply, or None where memory has none
        walked: _Walked = {}

        def listen(asked: Asked, call: Call, reply: Reply | None, walked: _Walked = walked) -> None:
            walked[asked] = (call, reply)

        outcome = await plan.story(row, cast.listening(listen))
        reached: Counter[str] = Counter()
        for asked, (call, reply) in walked.items():
            count = survey.steps[asked.step]
            reached[asked.step] += 1
            if reply is not None:
                count.known += 1
                count.known_usage += reply.usage
                continue
            count.certain += 1
            count.certain_chars += sum(len(message.content) for message in call.messages)
            # its answer may be empty or cut, and be asked again
            count.at_most += 1 + max(again[asked.role] + 1 - reached[asked.step], 0)
        if isinstance(outcome, SetAside) and outcome.reason == "not_known":
            for step, role in steps:
                survey.steps[step].at_most += 0 if reached[step] else 1 + again[role]
    return survey
