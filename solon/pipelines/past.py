"""How far rows went before, and so how far rows like them will go: the forecast behind a plan's "expected".

    past = Past(story, cast)
    past.add(row, ["respond", "critique.1", ...])       the calls that a walked row asked
    past.forecast("critique.1", "be-kind", own)         {step: calls that a row asks from critique.1 on}

Nobody knows what follows an answer that is still to come: it may be refused, or leave a text unchanged, so that no
judge is asked. What is known is how often that happened to rows that stood at the same step, by the same principle,
and what became of this very row when it was walked before. Three sources are weighed:

* all rows that reached the step;
* those among them that met the same principle there, by their credibility n / (n + k), where k is the variance within
  principles over the variance between them: a principle that behaves as all others do, or was seldom met, is not
  told from chance (Bühlmann and Straub, "Glaubwürdigkeit für Schadensätze", Mitteilungen der Vereinigung
  schweizerischer Versicherungsmathematiker 70, 1970);
* the row's own last walk, for half (`OWN`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from solon.cast import Cast
from solon.pipelines.story import Story
from solon.rows import Row

__all__ = ["OWN", "Past"]

OWN = 0.5
"""What a row's own last walk weighs. Where two walks of a row correlate by r, a weight w leaves 1 + w² - 2wr times the
variance of one walk as error. Half is a quarter above the best for rows that stop by chance (r = 0, best 1 at w = 0)
and for rows that stop by their nature (r = 1, best 0 at w = 1) alike; w = 1 would double the first."""


@dataclass
class _Tail:
    """What rows asked from one step on: rows, their calls, the squares of these, and calls by step."""

    rows: int = 0
    calls: int = 0
    squares: int = 0
    steps: Counter[str] = field(default_factory=Counter)

    @property
    def mean(self) -> float:
        return self.calls / self.rows


@dataclass(frozen=True)
class _Step:
    """All tails of one step. variance: of one row's calls; k: that within principles over that between them."""

    whole: _Tail
    variance: float
    k: float | None


class Past:
    """What walked rows asked, by step and principle. Grows with steps and principles, never with rows."""

    def __init__(self, story: Story, cast: Cast) -> None:
        self.order = {step: place for place, (step, _) in enumerate(story.steps(cast))}
        self._goes_by = {step: story.goes_by(step) for step in self.order}
        self._tails: dict[str, dict[str, _Tail]] = {}
        self._steps: dict[str, _Step] = {}
        self.rows = 0

    def principle(self, row: Row, step: str) -> str:
        """Return the id of the principle that a row's call of this step speaks, "" where it speaks none."""
        die = self._goes_by[step]
        # a row of another story may have thrown other dice
        return next((draw.principle for draw in row.draws if draw.step == die), "")

    def add(self, row: Row, asked: Iterable[str]) -> None:
        """Take in the steps of every call that a row asked until it was finished."""
        counts = Counter(step for step in asked if step in self.order)
        steps = sorted(counts, key=self.order.__getitem__)
        for place, step in enumerate(steps):
            tail = self._tails.setdefault(step, {}).setdefault(self.principle(row, step), _Tail())
            later = {each: counts[each] for each in steps[place:]}
            calls = sum(later.values())
            tail.rows += 1
            tail.calls += calls
            tail.squares += calls * calls
            tail.steps.update(later)
        self._steps.clear()
        self.rows += 1

    def forecast(self, step: str, principle: str, own: Mapping[str, int] | None = None) -> dict[str, float] | None:
        """Return the calls by step that a row asks which asks `step`, from there on; None where no row ever did.

        own: calls by step of this row's own last walk
        """
        found = self._step(step)
        if found is None:
            return None
        tail = self._tails[step].get(principle)
        trust = 0.0 if tail is None or found.k is None else tail.rows / (tail.rows + found.k)
        mine = OWN if own and own.get(step) else 0.0
        said: dict[str, float] = {}
        for each in list(self.order)[self.order[step] :]:
            # a step that is new in this story follows, as far as anybody can say
            share = found.whole.steps[each] / found.whole.rows if each in self._tails else 1.0
            if tail is not None and each in self._tails:
                share += trust * (tail.steps[each] / tail.rows - share)
            said[each] = share + mine * (own.get(each, 0) - share) if own and each in self._tails else share
        return said

    def variance(self, step: str, alone: int, own: int) -> float:
        """Return the variance of the forecast's error over rows that all stop at `step`, if rows stop by chance.

        alone, own: how many of them were forecast without and with a last walk of their own
        """
        found = self._step(step)
        assert found is not None, step
        # each old row's chance enters once by the mean and, if its row is forecast, once more by its own walk
        mean = (alone + (1 - OWN) * own) / found.whole.rows
        return found.variance * (alone + own + own * (OWN**2 + 2 * OWN * mean) + found.whole.rows * mean**2)

    def _step(self, step: str) -> _Step | None:
        if step not in self._steps and step in self._tails:
            most = len(self.order) - self.order[step]
            self._steps[step] = _weighed(list(self._tails[step].values()), most)
        return self._steps.get(step)


def _weighed(tails: list[_Tail], most: int) -> _Step:
    """Return the tails of one step's principles together, and how much of their spread lies within principles.

    Twenty rows that all went on do not say that every row does: one more that stops at once, and one that goes on to
    the end (`most` calls), are added to the variance (as Agresti and Coull, The American Statistician 52, 1998).
    """
    whole = _Tail()
    for tail in tails:
        whole.rows += tail.rows
        whole.calls += tail.calls
        whole.squares += tail.squares
        whole.steps.update(tail.steps)
    free, groups = whole.rows - len(tails), len(tails)
    alone = whole.squares - whole.calls**2 / whole.rows
    k = None
    if free and groups > 1:
        alone = sum(tail.squares - tail.calls**2 / tail.rows for tail in tails)
        within = alone / free
        spread = sum(tail.rows * (tail.mean - whole.mean) ** 2 for tail in tails)
        between = (spread - (groups - 1) * within) / (whole.rows - sum(tail.rows**2 for tail in tails) / whole.rows)
        k = within / between if between > 0 else None
    added = (1 - whole.mean) ** 2 + (most - whole.mean) ** 2
    return _Step(whole, (alone + added) / (free + 2), k)
