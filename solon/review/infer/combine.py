"""Which rules together reconstruct labels, and with what weight: a small logistic combiner of their votes.

    y = 1 where the first answer was chosen, else -1
    x = 2 P(first is better) - 1 in units of the rule's typical vote, 0 where it is silent
    P(y) = 1 / (1 + exp(-y w·x)),  w >= 0,  with a ridge penalty |w|^2 / 2

Without an intercept the combiner is antisymmetric: it cannot learn a liking for a place. Without negative weights it
stays a constitution: a rule whose reverse predicts the labels is told, not used. Such order-symmetric combiners with
an L2 penalty did best among the ways to pool judges on LLMBar's recorded verdicts, from 50 labels on.

Rules are added one by one while the cross-validated log loss falls by more than half a standard error of its fall:
with twenty candidates, some seem to help by luck alone. The bar was set on simulated votes (twelve candidates, 120
pairs): without one, random labels get two rules on average; at a whole standard error (the rule of Breiman et al.
1984, section 3.4.3) half of three real rules, right in 62 to 70 %, are missed; at half of one, a quarter of them.
Random labels then still get a rule by luck: one time in seven out of four candidates, two in five out of twelve, every
second time out of twenty. So what is kept proves nothing; the held-out pairs do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

__all__ = ["Chosen", "choose", "fit"]

RIDGE = 1.0
BAR = 0.5
LEAST_FALL = 0.001  # nats a pair: a copy of a rule helps by the optimiser's rounding, without any error
FOLDS = 5

Array = Any


@dataclass(frozen=True)
class Chosen:
    """The rules that were chosen, in the order of choosing.

    rules:    places among the candidates
    weights:  the log odds that a rule's typical vote adds, each above 0
    log_loss: cross-validated, nats a pair: of no rule, of the first, of the first two, ...
    """

    rules: tuple[int, ...]
    weights: tuple[float, ...]
    log_loss: tuple[float, ...]


def fit(x: Array, y: Array, *, least: float | None = 0.0) -> Array:
    """Return the weights (m,) of votes x (n, m) that predict labels y (n,) of -1 and 1.

    least: the smallest weight that is allowed; None for any
    """

    def loss(weights: Array) -> tuple[float, Array]:
        margin = y * (x @ weights)
        wrong = np.exp(-np.logaddexp(0.0, margin))
        value = np.logaddexp(0.0, -margin).sum() + 0.5 * RIDGE * (weights @ weights)
        return float(value), RIDGE * weights - x.T @ (y * wrong)

    start = np.zeros(x.shape[1])
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(least, None)] * len(start)).x


def choose(x: Array, y: Array, prompts: Sequence[str], keep: int) -> Chosen:
    """Return at most `keep` of the m rules whose votes x (n, m) reconstruct y (n,) best, greedily.

    prompts: the prompt of each pair, in an order that says nothing: folds and standard errors go by prompts
    """
    names = list(dict.fromkeys(prompts))
    groups = np.array([names.index(prompt) for prompt in prompts])
    folds = groups % min(FOLDS, len(names))
    losses = np.full(len(y), np.log(2.0))
    rules: list[int] = []
    path = [float(losses.mean())]
    open_ = [rule for rule in range(x.shape[1]) if np.any(x[:, rule])]
    while open_ and len(rules) < keep and len(names) > 1:
        tried = {rule: _held_out_losses(x[:, [*rules, rule]], y, folds) for rule in open_}
        best = min(open_, key=lambda rule: (round(float(tried[rule].mean()), 9), rule))
        fall = losses - tried[best]
        if fall.mean() <= max(BAR * _standard_error(fall, groups), LEAST_FALL):
            break
        rules.append(best)
        open_.remove(best)
        losses = tried[best]
        path.append(float(losses.mean()))
    weights = fit(x[:, rules], y) if rules else ()
    # with all pairs in it the fit may let go of a rule that every fold wanted; it is then no rule of the set
    kept = [(rule, round(float(weight), 4)) for rule, weight in zip(rules, weights, strict=True) if weight >= 0.01]
    return Chosen(tuple(rule for rule, _ in kept), tuple(weight for _, weight in kept), tuple(path))


def _held_out_losses(x: Array, y: Array, folds: Array) -> Array:
    losses = np.empty(len(y))
    for fold in np.unique(folds):
        out = folds == fold
        weights = fit(x[~out], y[~out])
        losses[out] = np.logaddexp(0.0, -y[out] * (x[out] @ weights))
    return losses


def _standard_error(values: Array, groups: Array) -> float:
    """Return the standard error of a mean over values that come in groups."""
    off = np.bincount(groups, values - values.mean())
    return float(np.sqrt(len(off) / max(len(off) - 1, 1) * (off @ off)) / len(values))
