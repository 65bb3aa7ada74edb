"""What anybody can say of a pair without reading it: the baselines that inferred principles have to beat.

Each takes the two answers and returns 1 where it prefers the first, -1 the second, 0 where it does not say.
On hh-rlhf's harmless-base "shorter wins" is right in about 56 % of pairs.
"""

from __future__ import annotations

from collections.abc import Callable

from solon.review.texts import refuses

__all__ = ["BASELINES"]


def _longer(first: str, second: str) -> int:
    return (len(first) > len(second)) - (len(first) < len(second))


def _refusing(first: str, second: str) -> int:
    return refuses(first) - refuses(second)


BASELINES: dict[str, Callable[[str, str], int]] = {
    "longer wins": _longer,
    "shorter wins": lambda first, second: -_longer(first, second),
    "refusing wins": _refusing,
    "non-refusing wins": lambda first, second: -_refusing(first, second),
}
"""By characters, and by the refusal phrases of `texts.refuses`."""
