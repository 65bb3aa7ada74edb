"""What a judge says: P(first is better) with the votes behind it, or that it did not say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from solon.errors import Aside
from solon.rows import Vote

__all__ = ["Verdict", "aggregate", "from_logprobs", "last_verdict", "structured_verdict"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison of two texts.

    p:      P(first is better) in [0, 1], the mean over both orders; None where the judge did not say
    votes:  what it was made of
    """

    p: float | None
    votes: tuple[Vote, ...]

    def order(self, first: T, second: T, *, tie: float = 0.0) -> tuple[T, T, float]:
        """Return (chosen, rejected, P(chosen is better)).

        Raises Aside: "judge_silent" without a probability, "tie" where |p - 0.5| <= `tie`.
        """
        if self.p is None:
            silent = sum(vote.p_first is None for vote in self.votes)
            said = " | ".join(vote.said for vote in self.votes if vote.p_first is None and vote.said)
            raise Aside("judge_silent", f"{silent} of {len(self.votes)} votes{': ' + said[:200] if said else ''}")
        # 1e-9: two orders that cancel exactly must not be decided by rounding
        if abs(self.p - 0.5) <= max(tie, 1e-9):
            raise Aside("tie", f"P(first is better) = {self.p:.4f}")
        return (first, second, self.p) if self.p > 0.5 else (second, first, 1.0 - self.p)


def aggregate(votes: Sequence[Vote], clamp: tuple[float, float] | None = None) -> Verdict:
    """Return the mean of the votes, held inside `clamp`; silent if any vote is.

    The mean over both orders cancels the judge's liking for a slot to first order (Lee et al. 2023, arXiv
    2309.00267); one order alone would bring it back, so half an answer is no answer.
    """
    ps = [vote.p_first for vote in votes]
    known = [p for p in ps if p is not None]
    if not votes or len(known) < len(ps):
        return Verdict(None, tuple(votes))
    p = math.fsum(known) / len(known)
    if clamp is not None:
        p = min(max(p, clamp[0]), clamp[1])
    return Verdict(p, tuple(votes))


def from_logprobs(logprobs: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return (P(first label), probability of both labels together) from two natural logarithms.

    A label beyond what the provider shows counts as 0 beside one that is shown; if neither is shown the judge did
    not say: (None, 0.0). Bai et al. 2022, section 4.1: the normalised probabilities are the soft label.
    """
    first, second = (0.0 if value is None else math.exp(min(value, 0.0)) for value in logprobs)
    mass = first + second
    if mass == 0.0:
        # both may be so small that exp() is 0: compare the logarithms themselves
        a, b = logprobs
        if a is None or b is None or (math.isinf(a) and math.isinf(b)):
            return None, 0.0
        return 1.0 / (1.0 + math.exp(max(min(b - a, 700.0), -700.0))), 0.0
    if math.isnan(mass):
        return None, None
    return first / mass, min(mass, 1.0)


_STATED = re.compile(
    r"\b(?:answer|verdict|choice|winner|preferred(?:\s+response)?|better(?:\s+(?:response|answer|one))?)\b"
    r"[\s*_]*(?:is|:|=|-|—)[\s*_:]*(?:the\s+)?(?:response|option|answer)?\s*"
    r"(?P<label>[(\[]?\b[AB]\b[)\]]?)(?!\s*(?:/|or\b|and\b|&))",
    re.IGNORECASE,
)
_ALONE = re.compile(r"[\s*_\"'`]*(?:response|option|answer)?\s*[(\[]?([AB])[)\]]?[\s*_\"'`.]*", re.IGNORECASE)


def last_verdict(text: str) -> str | None:
    """Return "A" or "B" as the text's last stated verdict, or None where it states none.

    A verdict is "Answer: A", "the better response is (B)", or a last line that is only the label. Words that
    merely mention a label ("response A is rude") are no verdict, and neither is "A or B".
    """
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if lines and (alone := _ALONE.fullmatch(lines[-1])):
        return alone.group(1).upper()
    stated = [match.group("label").strip("()[]") for match in _STATED.finditer(text)]
    # lower case "a" is an article: "the better response is a refusal"
    stated = [label for label in stated if label in ("A", "B")]
    return stated[-1] if stated else None


def structured_verdict(text: str) -> str | None:
    """Return "A" or "B" from a JSON answer {"answer": "A"}, or None: half a JSON says nothing."""
    try:
        content = json.loads(text)
    except ValueError:
        return None
    label = content.get("answer") if isinstance(content, dict) else None
    return label if label in ("A", "B") else None
