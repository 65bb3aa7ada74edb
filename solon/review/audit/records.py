"""The audit: what each principle of a run's constitution does, read from the run's own records. It asks nobody.

    told = audit("runs/latest")
    told.principles[0].revising.nothing        how often its critique found nothing to say, with interval and n
    told.remarks                               what is worth a look, in plain words

What the records cannot say, since a run asks one principle about each pair, a sample of ballots can (`ballots.py`,
`agreement.py`); `audit` takes what they say and writes it into the same report.

Rows are prompts that differ, so shares over rows have Wilson's interval; where a row counts more than once (two
rounds by one principle), the interval is over rows.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from solon.complaints import short
from solon.constitution import Constitution, Principle, Role
from solon.dataset import RowStore
from solon.errors import BadInput
from solon.pipelines.plan import Dice
from solon.pipelines.recipe import Recipe
from solon.pipelines.run import RunFolder
from solon.review.audit.agreement import Sample
from solon.review.audit.ballots import duel_of
from solon.review.audit.opinions import Judging, Opinion, judged, opinion, share
from solon.review.intervals import Interval, clustered, wilson
from solon.review.texts import distance, words
from solon.rows import Pair, Row, SetAside

__all__ = ["Audit", "Coverage", "Kept", "OnePrinciple", "Revising", "audit", "finds_nothing", "kept"]

EXAMPLES = 3
VERDICTS = ("tie", "judge_silent", "judge_refused")
"""Reasons of rows that the judge was asked about."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often one step drew a principle.

    drawable: rows of the plan for which it could be drawn at this step
    share:    drawn among these; expected: its share by weight there, None where it could never be drawn
    beyond_chance: the expected share lies outside the interval (as it does for one in twenty by chance)
    """

    step: str
    drawn: int
    drawable: int
    share: Interval
    expected: float | None
    beyond_chance: bool


@dataclass(frozen=True, slots=True)
class Revising:
    """What came of criticising and rewriting by one principle, over its rounds in finished rows.

    rounds, revisions: rounds that were begun, and those that gave a text
    fine:      share of critiques that say that nothing is wrong (`finds_nothing`)
    unchanged: share of revisions with the words of the text before
    nothing:   share where either is so
    distance:  mean share of words that were edited (`texts.distance`), over all revisions
    stripped, trimmed: share of revisions that lost a preamble, or an unfinished last sentence
    aside:     rows that ended in its round, or after it where it was the last, by reason
    better:    share of decisions for the revision, over rows whose last round was by it; p_better: mean P of that,
               ties included
    examples:  (row, beginning of a critique that says that nothing is wrong)
    """

    rounds: int
    revisions: int
    fine: Interval
    unchanged: Interval
    nothing: Interval
    distance: Interval
    stripped: Interval
    trimmed: Interval
    aside: dict[str, int]
    better: Interval
    p_better: Interval
    examples: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class OnePrinciple:
    """What one principle does.

    draws:    over all steps of the plan
    never:    why it was never drawn; "" where it was
    revising: None in a preference run
    """

    id: str
    kind: str
    weight: float
    draws: int
    coverage: tuple[Coverage, ...]
    never: str
    revising: Revising | None
    judging: Judging


@dataclass(frozen=True, slots=True)
class Audit:
    """What each principle of a run does; principles by how often they were drawn.

    finished: rows with an outcome, out of `planned`
    rounds:   of each row, 0 in a preference run
    candidates: of each row, 0 in a revision run
    judge:    who judged
    everyone: judging by all principles together
    sample:   what a sample of ballots says, None where none was taken
    """

    run: str
    story: str
    rounds: int
    candidates: int
    constitution: str
    digest: str
    judge: str
    planned: int
    finished: int
    principles: tuple[OnePrinciple, ...]
    everyone: Judging
    sample: Sample | None


@dataclass(frozen=True)
class Kept:
    """A run with its own recipe and constitution, as they were when it was walked."""

    folder: RunFolder
    recipe: Recipe
    constitution: Constitution


def kept(run: str | Path) -> Kept:
    """Return the run at `run` with what it keeps. Raises StorageError, or BadInput where its copies were edited."""
    folder = RunFolder.open(Path(run))
    file = folder.path / "constitution.yaml"
    constitution = folder.constitution.constitution
    if constitution.digest != folder.facts.get("constitution"):
        raise BadInput(
            f"{file}: not the constitution that the run was made with (its digest in run.json is another); "
            "put it back, or start the run again"
        )
    return Kept(folder, folder.recipe, constitution)


def audit(run: str | Path | Kept, sample: Sample | None = None) -> Audit:
    """Return what each principle of a run does, from its folder alone; `sample` is put in as it is.

    An unfinished run is read as far as it is. Raises StorageError and BadInput as `kept`.
    """
    this = run if isinstance(run, Kept) else kept(run)
    recipe, constitution = this.recipe, this.constitution
    rounds = recipe.story.rounds if recipe.story.kind == "revision" else 0
    candidates = recipe.story.candidates if recipe.story.kind == "preference" else 0
    revised = {each.id: _Revised() for each in constitution.principles}
    opinions: dict[str, list[Opinion]] = {each.id: [] for each in constitution.principles}
    with this.folder.store(read_only=True) as store:
        coverage = _Coverage(recipe, constitution, store)
        for outcome in store.outcomes():
            duel = duel_of(outcome, recipe.story)
            told = opinion(duel, duel.votes, recipe.judging.tie) if duel else _without_texts(outcome)
            if told:
                opinions[outcome.row.drawn("judge").principle].append(told)
            _note_rounds(outcome, rounds, told, revised)
        planned, finished = store.planned, store.finished
    decided = sum(bool(each.side) for told in opinions.values() for each in told)
    principles = []
    for each in constitution.principles:
        steps, never = coverage.told(each)
        principles.append(
            OnePrinciple(
                each.id, each.kind, each.weight, sum(step.drawn for step in steps), steps, never,
                revised[each.id].told() if rounds else None, judged(opinions[each.id], decided),
            )
        )  # fmt: skip
    everyone = judged([each for told in opinions.values() for each in told], decided)
    return Audit(
        str(this.folder.path), recipe.story.kind, rounds, candidates, constitution.name, constitution.digest,
        str(this.folder.facts["cast"].get("judge", {}).get("name", "")), planned, finished,
        tuple(sorted(principles, key=lambda one: -one.draws)), everyone, sample,
    )  # fmt: skip


def _without_texts(outcome: Pair | SetAside) -> Opinion | None:
    """Return the opinion on a row whose two texts are not known, None where the judge was not asked.

    More than two candidates: a tie is a circle of preferences, and a silence one of several duels.
    """
    if isinstance(outcome, Pair) or outcome.reason not in VERDICTS:
        return None
    return Opinion(outcome.row.id, side=0 if outcome.reason == "tie" else None, silent=outcome.reason != "tie")


# how often each is drawn


class _Coverage:
    """Counts the plan's draws, and what weights and tags let expect."""

    def __init__(self, recipe: Recipe, constitution: Constitution, store: RowStore) -> None:
        self.constitution = constitution
        self.dice = Dice(recipe, constitution)
        self.drawn: Counter[tuple[str, str]] = Counter()
        self.drawable: Counter[tuple[str, str]] = Counter()
        self.expected: dict[tuple[str, str], float] = defaultdict(float)
        self.none: dict[str, float] = defaultdict(float)  # the logarithm of the probability of no draw at all
        self._weights: dict[tuple[str, frozenset[str]], dict[str, float]] = {}
        for row in store.rows(unfinished=False):
            if [draw.step for draw in row.draws] != [step for step, _ in self.dice.steps]:
                raise BadInput(
                    f"{store.path.with_name('recipe.yaml')}: not the recipe that the run was made with (its rows have "
                    f"the steps {', '.join(draw.step for draw in row.draws)}); put it back, or start the run again"
                )
            self._note(row)

    def _note(self, row: Row) -> None:
        met: set[str] = set()
        for step, roles in self.dice.steps:
            principle = row.drawn(step).principle
            weights = self._of(step, roles, row)
            if self.dice.distinct and step != "judge":
                weights = {id: weight for id, weight in weights.items() if id not in met}
                met.add(principle)
            total = math.fsum(weights.values())
            self.drawn[step, principle] += 1
            for id, weight in weights.items():
                self.drawable[step, id] += 1
                self.expected[step, id] += weight / total
                self.none[id] += math.log1p(-weight / total) if weight < total else -math.inf

    def _of(self, step: str, roles: tuple[Role, ...], row: Row) -> dict[str, float]:
        key = (step, frozenset(row.prompt.tags))
        if key not in self._weights:
            self._weights[key] = {each.id: each.weight for each in self.constitution.drawable(roles, row.prompt.tags)}
        return self._weights[key]

    def told(self, principle: Principle) -> tuple[tuple[Coverage, ...], str]:
        """Return a principle's coverage by step, and why it was never drawn ("" where it was)."""
        steps = []
        for step, _ in self.dice.steps:
            drawn, drawable = self.drawn[step, principle.id], self.drawable[step, principle.id]
            expected = self.expected[step, principle.id] / drawable if drawable else None
            around = wilson(drawn, drawable)
            beyond = expected is not None and not (around.low or 0.0) <= expected <= (around.high or 1.0)
            steps.append(Coverage(step, drawn, drawable, around, expected, beyond))
        return tuple(steps), "" if any(each.drawn for each in steps) else self._never(principle)

    def _never(self, principle: Principle) -> str:
        if principle.kind == "hard_constraint":
            return "a hard constraint is never drawn: it stands in every wording"
        if not principle.weight:
            return "its weight is 0"
        if not any(all(principle.own(role) for role in roles) for _, roles in self.dice.steps):
            return "it has no words for any step of this story"
        if principle.id not in self.none:
            return f"no prompt has a tag of its applies_to ({', '.join(principle.applies_to)})"
        expected = sum(self.expected[step, principle.id] for step, _ in self.dice.steps)
        chance = math.exp(self.none[principle.id])
        return f"by chance: {expected:.1f} draws were to be expected, and none at all happens with P = {chance:.2g}"


# what critics and revisers made of it


@dataclass
class _Revised:
    """Collects the rounds of one principle: (row id, value) of each."""

    begun: int = 0
    fine: list[tuple[str, bool]] = field(default_factory=list)
    unchanged: list[tuple[str, bool]] = field(default_factory=list)
    distance: list[tuple[str, float]] = field(default_factory=list)
    stripped: list[tuple[str, bool]] = field(default_factory=list)
    trimmed: list[tuple[str, bool]] = field(default_factory=list)
    aside: Counter[str] = field(default_factory=Counter)
    better: list[tuple[str, bool]] = field(default_factory=list)
    p_better: list[tuple[str, float]] = field(default_factory=list)
    examples: list[tuple[int, str]] = field(default_factory=list)

    def told(self) -> Revising:
        nothing = [(row, fine or same) for (row, fine), (_, same) in zip(self.fine, self.unchanged, strict=True)]
        return Revising(
            self.begun, len(self.distance), share(self.fine), share(self.unchanged), share(nothing),
            clustered(self.distance), share(self.stripped), share(self.trimmed), dict(self.aside.most_common()),
            share(self.better), clustered(self.p_better), tuple(self.examples),
        )  # fmt: skip


def _note_rounds(outcome: Pair | SetAside, rounds: int, told: Opinion | None, revised: dict[str, _Revised]) -> None:
    """Note every round of one row under the principle that it drew."""
    row, drafts = outcome.row, outcome.drafts
    for number in range(1, min(rounds, len(drafts)) + 1):  # a round begins where the text before it is there
        of = revised[row.drawn(f"revision.{number}").principle]
        of.begun += 1
        last = number == rounds and len(drafts) > rounds
        if isinstance(outcome, SetAside) and (last or len(drafts) == number):
            of.aside[outcome.reason] += 1
        if len(drafts) == number:
            break
        before, after = drafts[number - 1], drafts[number]
        fine = finds_nothing(after.critique)
        of.fine.append((row.id, fine))
        of.unchanged.append((row.id, words(before.text) == words(after.text)))
        of.distance.append((row.id, distance(before.text, after.text)))
        of.stripped.append((row.id, after.stripped))
        of.trimmed.append((row.id, after.trimmed))
        if fine and len(of.examples) < EXAMPLES:
            of.examples.append((row.index, short(after.critique, 200)))
        if last and told and told.p is not None:
            of.p_better.append((row.id, 1.0 - told.p))
            of.better += [(row.id, told.side < 0)] if told.side else []


def finds_nothing(critique: str) -> bool:
    """Return whether `critique` says that nothing is wrong: a phrase out of NOTHING, and no word out of OBJECTIONS.

    Phrases see the plain cases and miss others: a rate for comparing principles, not a reading of one critique.
    """
    said = " ".join(critique.replace("\u2019", "'").split())
    return _NOTHING.search(said) is not None and _OBJECTIONS.search(said) is None


_BAD = (
    r"(?:harm(?:s|ful)?|issues?|problems?|problematic|objections?|objectionable|violations?|faults?|flaws?|"
    r"inappropriate|offensive|unethical|racist|sexist|toxic|dangerous|illegal|immoral|untrue|misleading|wrong)"
)
NOTHING: tuple[str, ...] = (
    r"\bno (?:\w+ ){0,2}(?:changes?|revisions?|edits?|corrections?|improvements?)(?: \w+){0,2} "
    r"(?:needed|necessary|required|called for)\b",
    r"\bno need (?:to|for) (?:\w+ ){0,2}(?:chang|revis|edit|rewrit|improv|correct)",
    r"\b(?:does not|did not|do not|doesn't|didn't|don't) (?:\w+ ){0,4}(?:violate|break|breach|go against)\b",
    rf"\b(?:does not|did not|doesn't|didn't) (?:\w+ ){{0,4}}{_BAD}\b",
    rf"\bnothing (?:\w+ ){{0,3}}{_BAD}\b",
    r"\bnothing (?:\w+ ){0,2}to (?:change|criticise|criticize|improve|fix|correct|object to|point out|point to)\b",
    rf"\bno (?:\w+,? ){{0,3}}{_BAD}\b",
    rf"\b(?:is|was|are|were|seems|looks) not (?:\w+ ){{0,2}}{_BAD}\b",
    rf"\b(?:isn't|wasn't|aren't|free of|free from|avoids|avoided) (?:\w+ ){{0,3}}{_BAD}\b",
    r"\b(?:already |fully |clearly |closely )?(?:follows|complies with|adheres to|is in line with|satisfies) "
    r"(?:the|this) principle\b",
    r"\b(?:is|was|seems|looks) (?:\w+ ){0,2}(?:fine|harmless|perfect|already good|good as it is)\b",
    r"\b(?:leave|keep) (?:it|the response|the answer) as it is\b",
    r"\b(?:good|great|excellent|perfect|fantastic|(?:very|entirely|fully|quite) (?:appropriate|good|correct)) "
    r"(?:job|response|answer|reply)\b",
    r"\b(?:response|answer|reply) (?:is|was) (?:\w+ )?(?:appropriate|good|great|excellent|correct)\b",
    r"\b(?:responded|answered|replied) (?:perfectly|appropriately|well|correctly|in an? (?:\w+ )?appropriate way)\b",
)
"""Phrases by which a critique says that nothing is wrong; ours, by reading critiques. Straight apostrophes.

Of 212 critiques of a 52B model, released with Bai et al. 2022, they find 43; most others are objections, some praise
in other words.
"""

OBJECTIONS: tuple[str, ...] = (
    r"\b(?:however|but|although|though|nevertheless|instead|except|unfortunately|only)\b",
    r"\b(?:should|could|might|needs? to|ought to|would (?:\w+ )?(?:suggest|recommend|add|be (?:better|good)|avoid))\b",
    r"\b(?:fails?|failed|lacks?|missing|did not mention|not explicitly|slight|bit|somewhat|not only)\b",
)
"""Words by which a critique objects all the same."""

_NOTHING = re.compile("|".join(NOTHING), re.IGNORECASE)
_OBJECTIONS = re.compile("|".join(OBJECTIONS), re.IGNORECASE)
