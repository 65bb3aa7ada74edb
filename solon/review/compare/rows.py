"""What an edit did to the data: two runs, row by row.

    done = compare(Path("runs/mine-1f0c"), Path("runs/mine-9ab2"))      # before, after
    done.views[0].flips                                                 # share of labels that flipped, 95 % interval
    done.telling[0]                                                     # the row that tells most

Rows are matched by prompt id. An edit touches few rows, and those that it did not touch must come out the same: they
are checked to the last byte, and whatever differs is counted with its reason. A label may also move because judge,
sampling, story or seed differ; whatever differs beside the constitution is told first. What a label is, and when it
flips, stands in `measures`. Stores are read row by row: a few numbers of each stay, and the most telling rows.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solon.constitution import Constitution
from solon.constitution.diff import Difference, diff, told, word_diff
from solon.dataset import RowStore
from solon.errors import BadInput
from solon.pipelines.recipe import Recipe
from solon.pipelines.run import RunFolder
from solon.review.compare.comparison import (
    KINDS,
    Answered,
    Change,
    Comparison,
    Edit,
    Outcomes,
    Setting,
    Side,
    Telling,
    Untouched,
    Words,
)
from solon.review.compare.effects import Table
from solon.review.compare.measures import (
    chosen_better,
    equal,
    label,
    moved,
    numbers,
    same_texts,
    second_better,
    text_of,
    touched,
    why,
)
from solon.review.texts import distance
from solon.rows import Pair, Row, SetAside

__all__ = ["before", "compare"]

Outcome = Pair | SetAside
SLIGHT = 0.05
"""A change of P below this is told as slight: a label that flips by less was near a tie."""
LONGEST = 4_000
"""Characters of one text that a telling row shows."""


def compare(a: Path, b: Path, *, most: int = 20) -> Comparison:
    """Return what changed in the data from run A to run B.

    Args:
        a, b: run folders of one story, before and after the edit; either may still be unfinished.
        most: how many telling rows to keep.

    Raises StorageError where there is no run, BadInput where the two have no prompt in common or another story.
    """
    one, other = RunFolder.open(a), RunFolder.open(b)
    recipes = one.recipe, other.recipe
    story = recipes[0].story.kind
    if recipes[1].story.kind != story:
        raise BadInput(
            f"{a} is a {story} run and {b} a {recipes[1].story.kind} run, whose labels answer other questions; "
            "compare two runs of one story"
        )
    constitutions = one.constitution.constitution, other.constitution.constitution
    difference = diff(*constitutions)
    with one.store(read_only=True) as left, other.store(read_only=True) as right:
        met = _Met(story, most)
        for pair in _matched(left, right):
            met.add(*pair)
        if not met.both:
            raise BadInput(
                f"{a} and {b} have no prompt in common ({left.planned:,} and {right.planned:,} rows); compare runs "
                "over the same prompts"
            )
        telling = tuple(_telling(left, right, index, story) for index in met.best())
        sides = _side(a, one, left, constitutions[0]), _side(b, other, right, constitutions[1])
    views = met.table.views()
    return Comparison(
        *sides,
        story=story,
        both=met.both,
        only_a=sides[0].planned - met.both,
        only_b=sides[1].planned - met.both,
        compared=len(met.table),
        waiting=met.both - len(met.table),
        edit=difference.summary,
        edits=tuple(_edits(difference)),
        settings=tuple(_settings(one, recipes[0], other, recipes[1])),
        touched=len(met.table) - met.untouched,
        untouched=Untouched(met.untouched, met.equal, dict(met.reasons.most_common())),
        changes=met.changes(),
        outcomes=tuple(Outcomes(*labels, rows) for labels, rows in met.labels.most_common()),
        views=views,
        spread=met.table.spread(touched_only=len(views) > 1),
        left_out=met.table.left_out,
        telling=telling,
    )


def before(run: Path) -> Path:
    """Return the run of the same recipe that was walked last before `run`, among the folders beside it.

    Raises StorageError where `run` is no run, BadInput where none was walked before it.
    """
    this = RunFolder.open(run)
    # beside `runs/latest` stands `runs/<name>`; a run that is linked from elsewhere has its neighbours at home
    home = run.parent if run.resolve().parent == run.parent.resolve() else run.resolve().parent
    others = []
    for facts in sorted(home.glob("*/run.json")):
        if facts.parent.resolve() != run.resolve() and not facts.parent.is_symlink():
            other = RunFolder.open(facts.parent)
            if other.facts["recipe"] == this.facts["recipe"] and other.walked < this.walked:
                others.append(other)
    if not others:
        raise BadInput(
            f"{run}: no run of recipe {this.facts['recipe']!r} was walked before it; give two run folders: "
            "solon compare RUN_A RUN_B"
        )
    return max(others, key=lambda folder: folder.walked).path


def _matched(left: RowStore, right: RowStore) -> Iterator[tuple[Row, Row, Outcome | None, Outcome | None]]:
    """Yield every row that both plans have, with its outcomes, in A's order, one by one from the disk."""
    for a in left.rows(unfinished=False):
        try:
            b = right.row(a.id)
        except BadInput:  # not in that plan
            continue
        yield a, b, left.outcome(a), right.outcome(b)


@dataclass
class _Met:
    """Counts over the rows met so far; what they show one by one is kept for the most telling rows alone."""

    story: str
    most: int
    both: int = 0
    untouched: int = 0
    equal: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    counts: Counter[tuple[str, bool, bool, bool]] = field(default_factory=Counter)
    heap: list[tuple[tuple[int, float, float, int], int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.table = Table(self.story)

    def add(self, a: Row, b: Row, before: Outcome | None, after: Outcome | None) -> None:
        """Count one row that both plans have."""
        self.both += 1
        if before is None or after is None:
            self.labels[label(before, self.story), label(after, self.story)] += 1
            return
        kind, met_other = moved(before, after, self.story), touched(a, b)
        other_texts = kind == "other_texts"
        self.labels["pair" if other_texts else label(before, self.story),
                    "pair" if other_texts else label(after, self.story)] += 1  # fmt: skip
        same = equal(before, after)
        if not met_other:
            self.untouched += 1
            self.equal += same
            if not same:
                self.reasons[why(before, after)] += 1
        p, q = _p(before, before, self.story), _p(before, after, self.story)
        shift = None if p is None or q is None else abs(q - p)
        slight = shift is not None and shift < SLIGHT
        self.counts[kind, not same_texts(before, after), met_other, slight] += 1
        then = numbers(before, self.story)
        now = then if same else numbers(after, self.story)
        paired = isinstance(before, Pair) and isinstance(after, Pair)
        self.table.add(a, b, kind, met_other, then, now, paired=paired)
        if not same:
            self._rank(a, kind, shift or 0.0, before, after)

    def _rank(self, a: Row, kind: str, shift: float, before: Outcome, after: Outcome) -> None:
        """Keep the row if it is among the most telling: flipped first, then other labels, by |shift|, by distance."""
        far = distance(text_of(before)[1], text_of(after)[1])
        if kind == "same" and not shift and not far:
            return
        rank = 2 if kind == "flipped" else 0 if kind in ("same", "other_texts") else 1
        one = (rank, shift, far, -a.index), a.index
        if len(self.heap) < self.most:
            heapq.heappush(self.heap, one)
        elif self.heap:
            heapq.heappushpop(self.heap, one)

    def best(self) -> list[int]:
        """Return the places in A's plan of the most telling rows, the best first."""
        return [index for _, index in sorted(self.heap, reverse=True)]

    def changes(self) -> tuple[Change, ...]:
        """Return the counts by kind of change, in the order of KINDS."""
        made = []
        for kind in KINDS:
            mine = [(parts, rows) for (each, *parts), rows in self.counts.items() if each == kind]
            if mine:
                sums = (sum(rows for parts, rows in mine if parts[part]) for part in range(3))
                made.append(Change(kind, sum(rows for _, rows in mine), *sums))
        return tuple(made)


def _p(before: Outcome, outcome: Outcome, story: str) -> float | None:
    """Return P(revision is better), or P(A's chosen answer is better) where the same two answers were judged."""
    if story == "revision":
        return second_better(outcome)
    if not isinstance(before, Pair) or not isinstance(outcome, Pair) or not same_texts(before, outcome):
        return None
    sure = chosen_better(outcome)
    return sure if outcome.chosen == before.chosen else 1.0 - sure


# the most telling rows


def _telling(left: RowStore, right: RowStore, index: int, story: str) -> Telling:
    """Return one row as people read it, read once more from both stores."""
    a = left.row(index)
    b = right.row(a.id)
    before, after = left.outcome(a), right.outcome(b)
    assert before is not None and after is not None  # it was compared
    one, other = _answered(a, before, before, story), _answered(b, before, after, story)
    then, now = text_of(before)[1], text_of(after)[1]
    return Telling(
        index=index,
        id=a.id,
        tags=a.prompt.tags,
        prompt=tuple((message.role, _cut(message.content)) for message in a.prompt.messages),
        kind=moved(before, after, story),
        touched=touched(a, b),
        shift=None if one.p is None or other.p is None else other.p - one.p,
        distance=distance(then, now),
        a=one,
        b=other,
        words=tuple(word_diff(one.text, other.text)),
        critiques=tuple(_critiques(before, after)),
    )


def _answered(row: Row, before: Outcome, outcome: Outcome, story: str) -> Answered:
    draft, text = text_of(outcome)
    return Answered(
        label=label(outcome, story),
        detail="" if isinstance(outcome, Pair) else _cut(outcome.detail),
        p=_p(before, outcome, story),
        draft=draft,
        text=_cut(text),
        rejected=_cut(outcome.rejected) if isinstance(outcome, Pair) else "",
        met=tuple((draw.step, draw.principle) for draw in row.draws),
    )


def _critiques(before: Outcome, after: Outcome) -> Iterator[tuple[str, Words]]:
    then = {draft.name: draft.critique for draft in before.drafts}
    now = {draft.name: draft.critique for draft in after.drafts}
    for name in dict.fromkeys((*then, *now)):
        one, other = then.get(name, ""), now.get(name, "")
        if one != other:
            yield name, tuple(word_diff(_cut(one), _cut(other)))


def _cut(text: str) -> str:
    """Return `text`, or its beginning and how much there is more of it."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} [... {len(text) - LONGEST:,} more characters]"


# what differs between the runs themselves


def _side(path: Path, folder: RunFolder, store: RowStore, constitution: Constitution) -> Side:
    return Side(
        path=str(path),
        name=folder.path.resolve().name,
        constitution=constitution.name,
        planned=store.planned,
        pairs=store.pairs,
        set_aside=store.set_aside,
        unfinished=store.planned - store.finished,
        reasons=store.tally(),
    )


def _edits(difference: Difference) -> Iterator[Edit]:
    """Yield what was edited, each part with its word diff."""
    facts = [(fact.name, _words(fact.old, fact.new)) for fact in difference.facts]
    if facts:
        yield Edit("", ("reworded",), tuple(facts))
    for edit in difference.edits:
        if edit.kinds:
            parts = [(change.name, _words(change.old, change.new)) for change in (*edit.written, *edit.settings)]
            if edit.old is None or edit.new is None:
                whole = edit.new or edit.old
                assert whole is not None
                told = [text for text in (whole.text, whole.critique, whole.revision, whole.preference) if text]
                parts = [("text", (("insert" if edit.new else "delete", "\n".join(told)),))]
            yield Edit(edit.id, edit.kinds, tuple(parts))


def _words(old: Any, new: Any) -> Words:
    """Return the word diff of two values; what is no text is told as it is written."""
    one, other = ("" if value is None else told(value) for value in (old, new))
    return tuple(word_diff(_cut(one), _cut(other)))


def _settings(a: RunFolder, one: Recipe, b: RunFolder, other: Recipe) -> Iterator[Setting]:
    """Yield what else decides the data and is not the same in both runs."""
    left, right = _deciding(a, one), _deciding(b, other)
    for what in dict.fromkeys((*left, *right)):
        if left.get(what) != right.get(what):
            yield Setting(what, str(left.get(what, "-")), str(right.get(what, "-")))


def _deciding(folder: RunFolder, recipe: Recipe) -> dict[str, Any]:
    """Return all that decides the data beside constitution and prompts, by the names that people read."""
    facts: dict[str, Any] = {f"story: {key}": value for key, value in recipe.story.model_dump().items()}
    facts["seed"] = recipe.seed
    facts |= {f"judging: {key}": value for key, value in recipe.judging.model_dump().items()}
    for role in recipe.roles():
        who = folder.facts["cast"].get(role, {})
        spec = recipe.role(role)
        facts[f"{role}: model"] = f"{who.get('name', '-')} ({who.get('identity', '-')})"
        facts[f"{role}: options"] = spec.model.options if spec.model else None
        facts |= {f"{role}: {key}": value for key, value in spec.model_dump(exclude={"model"}).items()}
    facts["version of Solon"] = folder.facts.get("solon", "-")
    return facts
