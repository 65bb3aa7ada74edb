"""How much calls vary in tokens and money, and so between what bounds the price of new ones lies.

    spread = Spread(cost)                                     cost: (step, usage of one answer) -> Spend
    spread.add(row.id, [("respond", usage), ("judge.ab", usage)])
    spread.halfwidth("nano", new={"respond": 90.0}, measured={"respond": 10}, following={}, calls_variance=0.0)

The unit is the row: a long answer makes a long critique of it, so the calls of one row vary together, and a sum over
rows varies more than its calls would by themselves. With N_s new calls of step s, n_s measured ones, and K the
covariance between the steps' costs within a row, three errors add up:

* what the new rows draw:              sum over s, t of K_st min(N_s, N_t)
* that the mean is a mean of n rows:   sum over s, t of K_st N_s N_t / max(n_s, n_t)
* how many calls follow at all:        the variance of that number (see `past`), times the square of what one costs

The interval is Student's, with the degrees of freedom of the step that was measured least. It takes the new rows to be
drawn as the measured ones were: rows of a trial on the first hundred of sorted prompts say little about the others.
Lengths are skewed, so that below some thirty measured rows it covers less than the 95 % that it aims at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from solon.calls import Usage
from solon.spend import Spend

__all__ = ["Cost", "Measure", "Spread"]

Cost = Callable[[str, Usage], Spend]
Measure = Literal["tokens", "nano"]
MEASURES: tuple[Measure, ...] = ("tokens", "nano")


class _Moments:
    """Sums over rows of two steps' costs and of their product, for one measure."""

    __slots__ = ("first", "product", "rows", "second")

    def __init__(self) -> None:
        self.rows = 0
        self.first = self.second = self.product = 0.0

    def add(self, first: float, second: float) -> None:
        self.rows += 1
        self.first += first
        self.second += second
        self.product += first * second

    @property
    def covariance(self) -> float:
        if self.rows < 2:
            return 0.0
        return (self.product - self.first * self.second / self.rows) / (self.rows - 1)


class Spread:
    """Means and covariances of what each step of a row costs. Grows with steps, and with the rows that are sampled."""

    def __init__(self, cost: Cost) -> None:
        self._cost = cost
        self._rows: set[str] = set()
        self._moments: dict[tuple[Measure, str, str], _Moments] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: str, used: Iterable[tuple[str, Usage]]) -> None:
        """Take in what the calls of one row took; a row that is there already says nothing new."""
        if row in self._rows:
            return
        totals: dict[str, Spend] = {}
        for step, usage in used:
            totals[step] = totals.get(step, Spend()) + self._cost(step, usage)
        if not totals:
            return
        self._rows.add(row)
        steps = list(totals)
        for place, one in enumerate(steps):
            for other in steps[place:]:
                for measure in MEASURES:
                    moments = self._moments.setdefault((measure, one, other), _Moments())
                    moments.add(getattr(totals[one], measure), getattr(totals[other], measure))

    def mean(self, measure: Measure, step: str) -> float | None:
        """Return what a row's calls of one step cost on average; None where none was measured."""
        found = self._moments.get((measure, step, step))
        return found.first / found.rows if found else None

    def halfwidth(
        self,
        measure: Measure,
        *,
        new: Mapping[str, float],
        measured: Mapping[str, int],
        following: Mapping[str, float],
        calls_variance: float | None,
    ) -> float | None:
        """Return half the width of the 95 % interval around the cost of `new` calls by step.

        measured:       calls by step that the means rest on
        following:      those among the new ones that follow answers which are still to come
        calls_variance: of how many these are; None where nobody knows

        None where a step was measured less than twice, or nobody knows how many calls follow.
        """
        steps = [step for step, calls in new.items() if calls]
        least = min((min(measured.get(step, 0), self._measured(step)) for step in steps), default=2)
        if calls_variance is None or least < 2:
            return None
        variance = 0.0
        for one in steps:
            for other in steps:
                together = self._covariance(measure, one, other)
                drawn = min(new[one], new[other])
                mean = new[one] * new[other] / max(measured[one], measured[other])
                variance += together * (drawn + mean)
        calls = sum(following.values())
        if calls:
            each = sum(many * (self.mean(measure, step) or 0.0) for step, many in following.items()) / calls
            variance += calls_variance * each * each
        from scipy.special import stdtrit

        return float(stdtrit(least - 1, 0.975)) * math.sqrt(max(variance, 0.0))

    def _measured(self, step: str) -> int:
        found = self._moments.get(("tokens", step, step))
        return found.rows if found else 0

    def _covariance(self, measure: Measure, one: str, other: str) -> float:
        found = self._moments.get((measure, one, other)) or self._moments.get((measure, other, one))
        return found.covariance if found else 0.0
