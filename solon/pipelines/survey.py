"""The survey: what a run of a plan would ask, by step and by principle, from memory alone. It costs nothing.

    survey = await take_survey(plan, dry_cast, earlier=[store])
    survey.known, survey.certain, survey.expected, survey.at_most

Every row is walked as far as the ledger knows it. The calls at which it stops are certainly new. What follows a new
answer cannot be known before it is there: all the steps to come are new at most, and what is expected of them is
what rows did before (see `past`). Always certain <= expected <= at most.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from solon.calls import Call, Reply, Usage
from solon.cast import Cast, Player
from solon.dataset import RowStore
from solon.judges import Pairwise
from solon.pipelines.past import Past
from solon.pipelines.plan import TURN, Plan
from solon.pipelines.spread import Cost, Spread
from solon.rows import Asked, Pair, Row, SetAside

__all__ = ["Count", "StepCount", "Survey", "most_judging", "take_survey"]

Recall = Callable[[str], Reply | None]

SAMPLE = 256
"""Replies of each step that are looked up in the ledger for what a call of an earlier run took."""
SAMPLED_ROWS = 512
"""Rows of the plan itself whose known calls are measured for how much calls vary."""


@dataclass
class Count:
    """Calls: known from memory, certainly new, those that are expected to follow, and at most new."""

    known: int = 0
    certain: int = 0
    following: float = 0.0
    at_most: int = 0

    @property
    def expected(self) -> float:
        """Return how many calls a run is expected to ask."""
        return min(self.certain + self.following, float(self.at_most))


@dataclass
class StepCount(Count):
    """Calls of one step over all rows.

    most: tokens that one answer of this step may have
    seen, seen_usage: calls of this step in earlier runs that were looked up, and what they took
    certain_chars: characters of the questions that are certainly new
    """

    most: int = 1024
    known_usage: Usage = Usage()
    seen: int = 0
    seen_usage: Usage = Usage()
    certain_chars: int = 0


@dataclass
class Survey:
    """What a walk of the plan would ask.

    rows:       rows of the plan, or of its first `limit`
    finished:   rows among them that a run would not walk again
    duplicates: prompts that the plan had already
    steps, roles: counts and role of each step
    principles: counts by the id of the principle that a call speaks, "" for calls that speak none
    evidence:   walked rows that `expected` goes by
    variance:   of the number of calls that a run asks around `expected`; None where nothing was there to go by
    spread:     how much the measured calls vary in tokens and money; None where nobody asked for it
    """

    rows: int = 0
    finished: int = 0
    duplicates: int = 0
    steps: dict[str, StepCount] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    principles: dict[str, Count] = field(default_factory=dict)
    evidence: int = 0
    variance: float | None = 0.0
    spread: Spread | None = None

    @property
    def known(self) -> int:
        return sum(step.known for step in self.steps.values())

    @property
    def certain(self) -> int:
        return sum(step.certain for step in self.steps.values())

    @property
    def expected(self) -> float:
        return sum(step.expected for step in self.steps.values())

    @property
    def at_most(self) -> int:
        return sum(step.at_most for step in self.steps.values())

    @property
    def likely(self) -> tuple[float, float] | None:
        """Return between what numbers of calls 95 of 100 runs are, if rows stop by chance; None where unknown."""
        if self.variance is None:
            return None
        wide = 1.96 * math.sqrt(self.variance)
        return max(self.expected - wide, float(self.certain)), min(self.expected + wide, float(self.at_most))


async def take_survey(
    plan: Plan,
    cast: Cast,
    *,
    limit: int | None = None,
    walked: RowStore | None = None,
    failed: Iterable[str] = (),
    earlier: Sequence[RowStore] = (),
    recall: Recall = lambda key: None,
    cost: Cost | None = None,
) -> Survey:
    """Walk every row of the plan's first `limit` from memory alone, and count by step and by principle.

    cast:    must stand in front of memory with nothing behind it
    walked:  the store of a run of this very plan: of its finished rows only what is known is counted; rows set aside
             for one of `failed` are walked again, and are not finished
    earlier: stores of runs before, newest first, whose rows say how far a row goes; where they have none, the rows
             that memory knows to their end do
    recall:  returns the remembered reply of a key: what a call of an earlier run took
    cost:    what an answered call of a step cost, where it shall be known how much that varies

    Each new key is counted once, though two rows put the same question. Steps that no earlier row reached are
    expected once each.
    """
    steps, failed = plan.story.steps(cast), frozenset(failed)
    survey = Survey(
        roles=dict(steps),
        steps={step: StepCount(most=_most(plan, cast, step, role)) for step, role in steps},
        spread=Spread(cost) if cost else None,
    )
    past = Past(plan.story, cast)
    await _look_back(past, survey, earlier, failed, recall)
    with RowStore.open(plan.rows, read_only=True) as store:
        survey.duplicates = store.duplicates
        if not past.rows:
            async for row, outcome, questions in _from_memory(plan, store, cast, limit):
                if not _open(outcome):
                    past.add(row, [asked.step for asked in questions])
        counter = _Counter(survey, past, cast, earlier, failed)
        apart = min(store.planned, limit or store.planned) // SAMPLED_ROWS + 1
        async for row, outcome, questions in _from_memory(plan, store, cast, limit):
            before = walked.outcome(row) if walked else None
            finished = before is not None and not _failed(before, failed)
            if survey.spread is not None and survey.rows % apart == 0:
                known = [(asked.step, reply.usage) for asked, (_, reply) in questions.items() if reply is not None]
                survey.spread.add(row.id, known)
            survey.rows += 1
            survey.finished += finished
            counter.count(row, outcome, questions, finished=finished)
    survey.evidence, survey.variance = past.rows, counter.variance()
    return survey


Questions = dict[Asked, tuple[Call, Reply | None]]
"""What one row asks, in the order of asking: each with its reply, or None where memory has none."""


async def _from_memory(
    plan: Plan, store: RowStore, cast: Cast, limit: int | None
) -> AsyncIterator[tuple[Row, Pair | SetAside, Questions]]:
    """Yield each row of the plan with what becomes of it from memory alone, and its questions."""
    for place, row in enumerate(store.rows(limit, unfinished=False), start=1):
        questions: Questions = {}

        def listen(asked: Asked, call: Call, reply: Reply | None, questions: Questions = questions) -> None:
            questions[asked] = (call, reply)

        yield row, await plan.story(row, cast.listening(listen)), questions
        if place % TURN == 0:
            await asyncio.sleep(0)


def _open(outcome: Pair | SetAside) -> bool:
    """Return whether a row stopped at a call that memory does not know."""
    return isinstance(outcome, SetAside) and outcome.reason == "not_known"


def _failed(outcome: Pair | SetAside, failed: frozenset[str]) -> bool:
    return isinstance(outcome, SetAside) and outcome.reason in failed


def _most(plan: Plan, cast: Cast, step: str, role: str) -> int:
    """Return the tokens that one answer of a step may have."""
    if role == "judge":
        return most_judging(plan.recipe.judging, cast.judge, step)
    return next(player.sampling.max_tokens for player in cast.players() if player.role == role)


def most_judging(judging: Pairwise, judge: Player, step: str) -> int:
    """Return the tokens that one answer of a judge's step may have: read by log-probabilities, it says one."""
    weighed = judging.source(judge.can, judge.form, judge.name) == "logprobs"
    return 1 if weighed and not step.endswith(".reason") else judge.sampling.max_tokens


async def _look_back(
    past: Past, survey: Survey, stores: Sequence[RowStore], failed: frozenset[str], recall: Recall
) -> None:
    """Take in what the rows of earlier runs asked, and what some of their calls took. A failure says nothing.

    A row that stands in several runs counts once, by the newest: most of its calls are the same.
    """
    for newer, store in enumerate(stores):
        # every so many rows, not the first ones alone: prompts may be sorted
        apart = store.finished // SAMPLE + 1
        for place, outcome in enumerate(store.outcomes()):
            if not _failed(outcome, failed) and not any(each.outcome_of(outcome.row.id) for each in stores[:newer]):
                past.add(outcome.row, [asked.step for asked in outcome.asked])
            used: list[tuple[str, Usage]] = []
            for asked in outcome.asked if place % apart == 0 else ():
                count = survey.steps.get(asked.step)
                if count is not None and (reply := recall(asked.key)) is not None:
                    count.seen += 1
                    count.seen_usage += reply.usage
                    used.append((asked.step, reply.usage))
            if survey.spread is not None:
                survey.spread.add(outcome.row.id, used)
            if place % TURN == 0:
                await asyncio.sleep(0)


class _Counter:
    """Counts the questions of one row after the other into the survey."""

    def __init__(
        self, survey: Survey, past: Past, cast: Cast, earlier: Sequence[RowStore], failed: frozenset[str]
    ) -> None:
        self._survey = survey
        self._past = past
        self._again = {player.role: player.again for player in cast.players()}
        self._earlier = earlier
        self._failed = failed
        self._new: set[int] = set()
        # rows that stop at a step, by whether their own last walk is known; None: no earlier row reached that step
        self._stops: Counter[tuple[str, bool] | None] = Counter()

    def count(self, row: Row, outcome: Pair | SetAside, questions: Questions, *, finished: bool) -> None:
        reached: Counter[str] = Counter()
        following: dict[str, int] = {}  # most further calls at each step that is open
        for asked, (call, reply) in questions.items():
            reached[asked.step] += 1
            if reply is not None:
                self._add(row, asked.step, known=1)
                self._survey.steps[asked.step].known_usage += reply.usage
            elif not finished:
                again = max(self._again[asked.role] + 1 - reached[asked.step], 0)
                following[asked.step] = again if self._certain(row, asked.step, call, again) else 0
        if not following:
            return
        stop = min(following, key=self._past.order.__getitem__)
        for step, role in self._survey.roles.items():
            if _open(outcome) and not reached[step]:
                following[step] = 1 + self._again[role]
                self._add(row, step, at_most=following[step])
        said = self._forecast(row, stop) if any(following.values()) else {}
        for step, most in following.items():
            more = 1.0 if said is None else said.get(step, 0.0)
            self._add(row, step, following=min(max(more - reached[step], 0.0), most))

    def variance(self) -> float | None:
        """Return the variance around what was forecast, None where any row's rest had to be guessed."""
        if self._stops[None]:
            return None
        steps = {stop[0] for stop in self._stops if stop}
        return sum(self._past.variance(step, self._stops[step, False], self._stops[step, True]) for step in steps)

    def _certain(self, row: Row, step: str, call: Call, again: int) -> bool:
        """Count a call that memory does not know, unless an earlier row puts it; return whether it was counted."""
        short_key = int(call.key[3:19], 16)  # 8 bytes a call, so that a large plan fits into memory
        if short_key in self._new:
            return False  # two rows put the same question: it is asked once
        self._new.add(short_key)
        self._add(row, step, certain=1, at_most=1 + again)
        self._survey.steps[step].certain_chars += sum(len(message.content) for message in call.messages)
        return True

    def _forecast(self, row: Row, stop: str) -> dict[str, float] | None:
        own = self._own(row)
        said = self._past.forecast(stop, self._past.principle(row, stop), own)
        self._stops[None if said is None else (stop, own[stop] > 0)] += 1
        return said

    def _own(self, row: Row) -> Counter[str]:
        """Return the calls by step that this row asked when it was last walked; none where it never was."""
        for store in self._earlier:
            outcome = store.outcome_of(row.id)
            if outcome is not None and not _failed(outcome, self._failed):
                return Counter(asked.step for asked in outcome.asked)
        return Counter()

    def _add(
        self, row: Row, step: str, *, known: int = 0, certain: int = 0, following: float = 0.0, at_most: int = 0
    ) -> None:
        by_principle = self._survey.principles.setdefault(self._past.principle(row, step), Count())
        for count in (self._survey.steps[step], by_principle):
            count.known += known
            count.certain += certain
            count.following += following
            count.at_most += at_most
