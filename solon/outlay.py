"""What new calls may come to, in tokens and money: the certain ones, the expected ones and all at most; and how sure.

estimate(meter, count)      of one step: (certain, expected, at most)
outlay(meters, survey)      of a plan, with the interval in which 95 of 100 runs end
outlook(limit, used, ...)   whether a budget will hold
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from solon.calls import Usage
from solon.pipelines.spread import Measure
from solon.pipelines.survey import StepCount, Survey
from solon.prices import PriceMeter
from solon.spend import DOLLAR, Limit, Spend

__all__ = ["Estimate", "Outlay", "Outlook", "estimate", "outlay", "outlook"]

CHARS_UNSEEN = 2000  # of a question that cannot be written yet, since it quotes answers that are still to come


@dataclass(frozen=True)
class Estimate:
    """What new calls may come to: tokens in and out, and dollars (None where the price is unknown)."""

    input: float = 0.0
    output: float = 0.0
    dollars: float | None = 0.0

    def __add__(self, other: Estimate) -> Estimate:
        both = None if self.dollars is None or other.dollars is None else self.dollars + other.dollars
        return Estimate(self.input + other.input, self.output + other.output, both)


@dataclass(frozen=True)
class Outlay:
    """What a plan's new calls may come to.

    tokens, dollars: the interval around the expected ones in which 95 of 100 runs end (`solon.pipelines.spread`); None
                     before calls of every step were measured, or where a price is unknown
    """

    certain: Estimate = Estimate()
    expected: Estimate = Estimate()
    at_most: Estimate = Estimate()
    tokens: tuple[float, float] | None = None
    dollars: tuple[float, float] | None = None


def estimate(meter: PriceMeter, count: StepCount) -> tuple[Estimate, Estimate, Estimate]:
    """Return what the new calls of one step come to: the certain ones, the expected ones, and all at most.

    What a known answer of this step took on average, in this plan and in earlier runs, is the estimate for a new one;
    where none is known, a token a four characters of question, and as many tokens of answer as the step may have.
    """
    if known := count.known + count.seen:
        usage = count.known_usage + count.seen_usage
        each = Estimate(usage.input / known, usage.output / known)
        total = meter.dollars(usage, known)
        dollars = None if total is None else total / known
    else:
        chars = count.certain_chars / count.certain if count.certain else CHARS_UNSEEN
        each = Estimate(chars / 4, float(count.most))
        # a thousand of them, so that no part of a token is lost
        total = meter.dollars(Usage(input=round(1000 * each.input), output=round(1000 * each.output)), 1000)
        dollars = None if total is None else total / 1000

    def of(calls: float) -> Estimate:
        if not calls:
            return Estimate()
        return Estimate(calls * each.input, calls * each.output, None if dollars is None else calls * dollars)

    return of(count.certain), of(count.expected), of(count.at_most)


def outlay(meters: Mapping[str, PriceMeter], survey: Survey) -> Outlay:
    """Return what the new calls of a surveyed plan come to; `meters` by role."""
    certain = expected = at_most = Estimate()
    for step, count in survey.steps.items():
        sure, about, most = estimate(meters[survey.roles[step]], count)
        certain, expected, at_most = certain + sure, expected + about, at_most + most
    tokens = _around(survey, "tokens", expected.input + expected.output)
    dollars = None
    if expected.dollars is not None and (bounds := _around(survey, "nano", expected.dollars * DOLLAR)):
        dollars = bounds[0] / DOLLAR, bounds[1] / DOLLAR
    return Outlay(certain, expected, at_most, tokens, dollars)


def _around(survey: Survey, measure: Measure, expected: float) -> tuple[float, float] | None:
    """Return the 95 % interval around what is expected, None where the measured calls do not say."""
    if survey.spread is None or not expected:
        return None
    half = survey.spread.halfwidth(
        measure,
        new={step: count.expected for step, count in survey.steps.items()},
        measured={step: max(count.known, count.seen) for step, count in survey.steps.items()},
        following={step: max(count.expected - count.certain, 0.0) for step, count in survey.steps.items()},
        calls_variance=survey.variance,
    )
    return None if half is None else (max(expected - half, 0.0), expected + half)


@dataclass(frozen=True)
class Outlook:
    """Whether a budget will hold: what is used of it, and what a plan's new calls may add.

    used:  what the run's purse holds: paid, in flight, and perhaps lost
    about, most: what is expected to be added, and at most; None in money where a price is unknown
    high:  the upper end of the interval around `about`; `about` where there is none
    """

    limit: Limit
    used: Spend
    about: Spend
    high: Spend
    most: Spend

    @property
    def verdict(self) -> Literal["holds", "should hold", "may not hold", "will not hold"]:
        """Return how sure it is: all that may be asked fits, or the interval, or what is expected alone, or nothing."""
        if self.limit.holds(self.used + self.most):
            return "holds"
        if self.limit.holds(self.used + self.high):
            return "should hold"
        return "may not hold" if self.limit.holds(self.used + self.about) else "will not hold"

    def figures(self) -> dict[str, Any]:
        """Return every figure, ready for JSON."""
        parts = {name: asdict(getattr(self, name)) for name in ("limit", "used", "about", "high", "most")}
        return {**parts, "verdict": self.verdict}


def outlook(limit: Limit, used: Spend, survey: Survey, cost: Outlay) -> Outlook | None:
    """Return whether a budget will hold; None where there is none, or it is in money and a price is unknown."""
    if limit == Limit() or (limit.nano is not None and cost.at_most.dollars is None):
        return None

    def spend(calls: float, tokens: float, dollars: float | None) -> Spend:
        return Spend(round(calls), round(tokens), round((dollars or 0.0) * DOLLAR))

    about = spend(survey.expected, cost.expected.input + cost.expected.output, cost.expected.dollars)
    most = spend(survey.at_most, cost.at_most.input + cost.at_most.output, cost.at_most.dollars)
    calls = survey.likely[1] if survey.likely else survey.expected
    tokens = cost.tokens[1] if cost.tokens else cost.expected.input + cost.expected.output
    high = spend(calls, tokens, cost.dollars[1] if cost.dollars else cost.expected.dollars)
    return Outlook(limit, used, about, high, most)
