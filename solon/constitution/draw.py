"""Which principle a row meets: weighted rendezvous hashing.

Every principle scores -weight / ln(u), where u in (0, 1) is decided by (seed, row, step, principle id) alone; the
greatest score wins. So each principle wins its share of rows by weight, and

    rewording a principle       moves no row
    adding a principle          moves rows to it alone, its share of them
    removing a principle        moves its own rows alone
    adding prompts              moves nothing

Source: D. Thaler and C. Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM Transactions on
Networking 6 (1998); the weights as in C. Schindelhauer and G. Schomaker, "Weighted distributed hash tables" (2005).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from solon.digests import uniform, uniforms

__all__ = ["heaviest", "score"]


def score(weight: float, seed: int, row: str, step: str, principle: str) -> float:
    """Return what `principle` (an id) of this weight (> 0) bids for this step of this row; positive."""
    return -weight / math.log(uniform("solon.draw/1", seed, row, step, principle))


def heaviest(weights: Iterable[tuple[str, float]], *, seed: int, row: str, step: str) -> str:
    """Return the id that wins among (id, weight) pairs, whatever their order. Raises ValueError if there are none."""
    # every principle's `score`; equal ones are decided by id, never by the order of the file
    of = uniforms("solon.draw/1", seed, row, step)
    return max((-weight / math.log(of(principle)), principle) for principle, weight in weights)[1]
