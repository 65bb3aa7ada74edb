"""Every reported rate has an interval: Wilson's where rows are independent, a bootstrap over clusters where not."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

__all__ = ["Interval", "clustered", "wilson"]

RESAMPLES = 2000
SEED = 20220812  # of the bootstrap alone: it decides no datum, and the same data gives the same interval


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean or share, and the 95 % interval around it. n counts what it is over; n = 0 has no value.

    value: None where there was nothing to take it over
    low, high: None where the data cannot say
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


def wilson(successes: int, n: int) -> Interval:
    """Return the share of `n` independent tries that succeeded, with Wilson's interval (Wilson 1927)."""
    if not n:
        return Interval(None, None, None, 0)
    from scipy.stats import binomtest

    bounds = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    return Interval(successes / n, float(bounds.low), float(bounds.high), n)


def clustered(values: Iterable[tuple[Hashable, float]]) -> Interval:
    """Return the mean of values that come in clusters (cluster, value), with a bootstrap interval over clusters.

    What one prompt or one group of prompts gives is no independent evidence, so whole clusters are drawn (percentile
    bootstrap, 2,000 resamples). Of few clusters its plain percentiles cover too seldom, 91 % for ten; they are taken
    further out, as far as Student's t is wider than z and n - 1 smaller than n ("expanded percentile",
    Hesterberg 2015, arXiv 1411.5279). One cluster alone has no interval.
    """
    sums: dict[Hashable, list[float]] = {}
    for cluster, value in values:
        total = sums.setdefault(cluster, [0.0, 0.0])
        total[0] += value
        total[1] += 1
    n = int(sum(total[1] for total in sums.values()))
    if not n:
        return Interval(None, None, None, 0)
    mean = sum(total[0] for total in sums.values()) / n
    if len(sums) < 2:
        return Interval(mean, None, None, n)
    import numpy as np
    from scipy.stats import bootstrap, norm, t

    count = len(sums)
    outside = norm.cdf(-np.sqrt(count / (count - 1)) * t.ppf(0.975, count - 1))
    done = bootstrap(
        tuple(np.array(list(sums.values())).T),
        lambda total, count, axis: total.sum(axis=axis) / count.sum(axis=axis),
        paired=True, vectorized=True, n_resamples=RESAMPLES, batch=100, method="percentile",
        confidence_level=1 - 2 * outside, rng=np.random.default_rng(SEED),
    )  # fmt: skip
    low, high = done.confidence_interval
    return Interval(mean, float(low), float(high), n)
