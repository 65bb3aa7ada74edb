"""What a judge says: P(first is better) with the votes behind it, or that it did not say."""

from __future__ import annotations

import json
import math
import re
import unicodedata
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

    p:        P(first is better) in [0, 1], the mean over both orders inside the clamp; None where the judge did not say
    votes:    what it was made of
    refused:  why there is none where the judge declined to compare; "" where it did not
    """

    p: float | None
    votes: tuple[Vote, ...]
    refused: str = ""

    def order(self, first: T, second: T, *, tie: float = 0.0) -> tuple[T, T, float]:
        """Return (chosen, rejected, P(chosen is better)).

        Raises Aside: "judge_refused", "judge_silent" without a probability, "tie" where the votes' mean, before any
        clamp, is within `tie` of 0.5.
        """
        if self.refused:
            raise Aside("judge_refused", self.refused)
        if self.p is None:
            silent = sum(vote.p_first is None for vote in self.votes)
            said = " | ".join(vote.said for vote in self.votes if vote.p_first is None and vote.said)
            raise Aside("judge_silent", f"{silent} of {len(self.votes)} votes{': ' + said[:200] if said else ''}")
        mean = _mean(self.votes)
        mean = self.p if mean is None else mean
        # 1e-9: two orders that cancel exactly must not be decided by rounding
        if abs(mean - 0.5) <= max(tie, 1e-9):
            raise Aside("tie", f"P(first is better) = {mean:.4f}")
        return (first, second, self.p) if self.p > 0.5 else (second, first, 1.0 - self.p)


def aggregate(votes: Sequence[Vote], clamp: tuple[float, float] | None = None) -> Verdict:
    """Return the mean of the votes, held inside `clamp`; silent if any vote is.

    The mean over both orders cancels the judge's liking for a slot to first order (Lee et al. 2023, arXiv
    2309.00267); one order alone would bring it back, so half an answer is no answer.
    """
    p = _mean(votes)
    if p is not None and clamp is not None:
        p = min(max(p, clamp[0]), clamp[1])
    return Verdict(p, tuple(votes))


def _mean(votes: Sequence[Vote]) -> float | None:
    """Return the mean of the votes, None where one is silent or there are none."""
    known = [vote.p_first for vote in votes if vote.p_first is not None]
    return math.fsum(known) / len(known) if votes and len(known) == len(votes) else None


def from_logprobs(logprobs: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return (P(first label), probability of both labels together) from two natural logarithms.

    The normalised probabilities are the soft label (Bai et al. 2022, section 4.1). A label beyond what the provider
    shows counts as 0 beside one that has at least a tenth; beside less, its share cannot be known, and like a pair
    of labels that are both hidden or both impossible it means that the judge did not say: (None, mass).
    """
    a, b = (None if value is None else min(value, 0.0) for value in logprobs)
    if (a is not None and math.isnan(a)) or (b is not None and math.isnan(b)):
        return None, None
    if a is None or b is None:
        shown = math.exp(a if a is not None else b if b is not None else -math.inf)
        return (None if shown < HIDDEN_BESIDE else float(a is not None)), shown
    if math.isinf(a) and math.isinf(b):
        return None, 0.0
    # from the logarithms themselves: both may be so small that exp() is 0
    first = 1.0 / (1.0 + math.exp(max(min(b - a, 700.0), -700.0)))
    return first, min(math.exp(a) + math.exp(b), 1.0)


HIDDEN_BESIDE = 0.1
"""With twenty tokens shown, a hidden one has less than 0.05 then: the vote is right to within a third."""


def last_verdict(text: str) -> str | None:
    """Return "A" or "B" as the text's last stated verdict, or None where it states none.

    A verdict is "Answer: A", "the better response is (B)", "I choose A", or a last line that is only the label. It
    must end there, or go on with a reason: "A or B", "A is worse", "A, B" state nothing, and a later "Answer: neither"
    takes an earlier verdict back. Words that merely mention a label ("response A is rude"), speak of the other end
    ("the worse answer is A") or quote a verdict (the question's own 'reads "Answer: A"') are none.
    """
    text = unicodedata.normalize("NFKC", text)
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and (alone := _ALONE.fullmatch(lines[-1])):
        label = alone.group(1).upper()
        above = _ALONE.fullmatch(lines[-2]) if len(lines) > 1 else None
        # one letter above the other is a list of both
        return label if above is None or above.group(1).upper() == label else None
    verdict: str | None = None
    for match in _STATED.finditer(text):
        label = match["label"] or match["small"] or match["mine"]
        if label or (match["line"] is not None and match["colon"]):
            verdict = label.upper() if label else None
    return verdict


def structured_verdict(text: str) -> str | None:
    """Return "A" or "B" from a JSON answer {"answer": "A"}, or None: half a JSON says nothing."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    label = content.get("answer") if isinstance(content, dict) else None
    return label if label in ("A", "B") else None


# repetitions that could begin anywhere are bounded: a judge that rambles is read in linear time
_OPEN = r"[\s*_\"'“‘`(\[{$]{0,9}(?:\\(?:boxed|text|textbf)\{){0,2}[*_]{0,3}"
_CLOSE = r"[*_\"'”’`)\]}$]{0,9}"
_BEFORE = rf"{_OPEN}(?:(?i:the\s+)?(?i:response|option|answer|candidate)\s+)?{_OPEN}"
# no second label behind the first one, and then an end or a reason
_AFTER = r"""
    (?![ \t]*[,;/|&<>=-]*[ \t]*(?i:and|or|nor|vs\.?|versus)?[ \t]*(?i:response|option|answer)?[ \t]*[*_"'“(\[]*[AB]\b)
    (?=[ \t]*(?:$|[.!;:,—–]|-[ ]|(?i:because|since|as|for|by|over)\b|
        (?i:is[ ](?:clearly[ ])?(?:the[ ])?(?:better|best|preferable))\b))"""
_SUBJECT = r"""(?i:(?:answer|verdict|decision|choice|winner|judge?ment|preference|
    (?:preferred|better|best|chosen|winning)(?:\s+(?:response|answer|option|choice|one|candidate))?))"""
_STATED = re.compile(
    rf"""
    (?:^(?P<line>[ \t*_\#"'“`{{\[-]{{0,12}}) | (?<=[.,;:!?*_(])[ \t]{{1,3}}
      | \b(?i:the|my|final|correct|overall|so|thus|therefore)\s{{1,3}})
    (?:(?i:final|overall|the|my|so|thus|therefore),?\s{{1,3}}){{0,3}}
    {_SUBJECT}[\s*_"'”`]{{0,9}}(?:(?i:is)\b[ \t]*:?|(?P<colon>:)|=|[—–-][ \t])
    (?:{_BEFORE}(?:(?P<label>[AB])\b{_CLOSE}{_AFTER} | (?P<small>[ab])\b{_CLOSE}[ \t]*\.?[ \t]*$))?
    | \bI(?:['’]d|['’]ll|\s+would|\s+will)?\s+(?:(?:therefore|thus)\s+)?(?:choose|pick|select|prefer|go\s+with)\b
    {_BEFORE}(?P<mine>[AB])\b{_CLOSE}{_AFTER}
    """,
    re.VERBOSE | re.MULTILINE,
)
_ALONE = re.compile(
    r"[\s*_\"'`]*(?:response|option|answer)?\s*[(\[{$]*(?:\\boxed\{)?([AB])[)\]}$]*[\s*_\"'`.]*", re.IGNORECASE
)

RULES = (_STATED.pattern, _ALONE.pattern)
"""What words are read by: a changed rule makes other labels, so it is part of every plan's name."""
