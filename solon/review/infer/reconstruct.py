"""How well something reconstructs held-out labels, beside what needs no reading at all.

A predictor says of each pair which answer was preferred, or nothing. Two rates are told of it: how often it is right
where it speaks, with the share of pairs of which it speaks; and its score over all pairs, where silence counts half,
as a coin would fare, so that a predictor that speaks seldom can be laid beside one that always does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from solon.review.infer.baselines import BASELINES
from solon.review.infer.preferences import Preference
from solon.review.intervals import Interval, clustered, wilson

__all__ = ["Measure", "best_baseline", "measure", "percent", "rate", "verdict"]

LEAST = 6
"""Held-out prompts below which nothing is shown: a coin is right in all of five more often than one time in forty."""


@dataclass(frozen=True)
class Measure:
    """What one predictor made of the held-out pairs.

    kind:    "inferred" or "baseline"
    right:   share of right predictions where it speaks
    speaks:  share of pairs of which it says anything
    score:   mean over all pairs of 1 for right, 0 for wrong, 0.5 for silence
    against: its score less the best baseline's, pair by pair, without an interval below LEAST prompts; None for
             baselines
    """

    name: str
    kind: str
    right: Interval
    speaks: Interval
    score: Interval
    against: Interval | None = None


def measure(pairs: Sequence[Preference], predictors: Mapping[str, Sequence[float]]) -> list[Measure]:
    """Return one Measure a predictor, then one a baseline.

    predictors: for each pair a number: above 0 for the first answer, below for the second, 0 for silence
    """
    kinds = dict.fromkeys(predictors, "inferred") | dict.fromkeys(BASELINES, "baseline")
    said: dict[str, Sequence[float]] = dict(predictors)
    said |= {name: [rule(pair.first, pair.second) for pair in pairs] for name, rule in BASELINES.items()}
    clusters = [pair.prompt.id for pair in pairs]
    scores = {name: list(map(_score, pairs, signs)) for name, signs in said.items()}
    best = max(BASELINES, key=lambda name: sum(scores[name]))
    measures = []
    for name, signs in said.items():
        spoken = [(each, score) for each, score, sign in zip(clusters, scores[name], signs, strict=True) if sign]
        against = None
        if kinds[name] == "inferred":
            both = zip(clusters, scores[name], scores[best], strict=True)
            against = clustered((each, ours - theirs) for each, ours, theirs in both)
            if len(set(clusters)) < LEAST:
                against = replace(against, low=None, high=None)
        measures.append(
            Measure(
                name,
                kinds[name],
                right=rate([each for each, _ in spoken], [score for _, score in spoken]),
                speaks=rate(clusters, [float(sign != 0) for sign in signs]),
                score=rate(clusters, scores[name]),
                against=against,
            )
        )
    return measures


def _score(pair: Preference, sign: float) -> float:
    return 0.5 if sign == 0 else float((sign > 0) == pair.first_wins)


def rate(clusters: Sequence[str], values: Sequence[float]) -> Interval:
    """Return a mean with Wilson's interval where every pair has a prompt of its own, else a bootstrap over prompts.

    Where all values are 0, or all 1, a bootstrap has no width: there it is Wilson's, over prompts.
    """
    plain = set(values) <= {0.0, 1.0}
    if plain and (len(set(clusters)) == len(clusters) or len(set(values)) == 1):
        prompts = len(set(clusters))
        return replace(wilson(round(sum(values) / len(values) * prompts) if values else 0, prompts), n=len(values))
    return clustered(zip(clusters, values, strict=True))


def best_baseline(measures: Sequence[Measure]) -> Measure:
    """Return the baseline of the greatest score on these very pairs: the hardest one to beat."""
    return max((each for each in measures if each.kind == "baseline"), key=lambda each: each.score.value or 0.0)


def verdict(measures: Sequence[Measure], name: str) -> tuple[bool, str]:
    """Return whether the predictor `name` is shown to beat every baseline, and the sentence that says so."""
    ours = next(each for each in measures if each.name == name)
    best = best_baseline(measures)
    assert ours.against is not None
    gap = ours.against
    assert gap.value is not None
    told = f"{percent(ours.score)} of {gap.n:,} held-out labels against {percent(best.score)} by {best.name!r}"
    told += f", a difference of {100 * gap.value:+.1f} points"
    if gap.low is None or gap.high is None:
        return (
            False,
            f"Fewer than {LEAST} held-out prompts cannot tell whether these principles explain the labels ({told}).",
        )
    told += f" ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
    if gap.value <= 0:
        return False, f"These principles do not explain the labels: {told}."
    if ours.score.low is None or ours.score.low <= 0.5:
        return False, f"These principles are not shown to explain the labels better than a coin would: {told}."
    if gap.low <= 0:
        return False, f"These principles are not shown to explain the labels better than a baseline does: {told}."
    return True, f"These principles explain the labels better than every baseline: {told}."


def percent(interval: Interval) -> str:
    """Return e.g. "71.0 % (62.1 to 78.5)"; "?" where there is no value."""
    if interval.value is None:
        return "?"
    told = f"{interval.value:.1%}".replace("%", " %")
    if interval.low is None or interval.high is None:
        return told
    return f"{told} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
