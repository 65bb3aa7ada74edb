"""What reports say of a text without asking anybody: its length, whether it refuses, how far a rewriting went."""

from __future__ import annotations

import re

__all__ = ["distance", "refuses", "words"]


def words(text: str) -> list[str]:
    """Return the words of `text`, as blanks part them."""
    return text.split()


def distance(one: str, other: str) -> float:
    """Return how far two texts are apart, in [0, 1]: word edits over the words of the longer one (Levenshtein).

    0 is the same words; 1 has no word in common place.
    """
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_distance(words(one), words(other))


def refuses(text: str) -> bool:
    """Return whether `text` opens like a refusal: a phrase out of REFUSALS within its first 200 characters.

    Phrases see the plain refusals and miss the courteous ones: on XSTest's human labels such rules agree with people
    in 86 to 94 % of answers (Roettger et al. 2024, arXiv 2308.01263, completions and labels of its repository). Good
    for comparing two datasets by one measure, not for judging one answer.
    """
    return _REFUSAL.search(" ".join(text[:400].replace("\u2019", "'").split())[:200]) is not None


REFUSALS = (
    r"\bI(?:'m| am) (?:really |very |so )?sorry,? but\b",
    r"\bI(?:'m| am) (?:not able|unable|not going|not allowed|not permitted|not comfortable)\b",
    r"\bI (?:cannot|can't|can not|could not|couldn't|will not|won't|must|have to) "
    r"(?:in good conscience |ethically |really |also )*"
    r"(?:help|assist|provide|comply|fulfil|fulfill|support|encourage|engage|answer|do that|give|offer|share|write|"
    r"create|generate|discuss|participate|recommend|condone|promote|advise|decline|refuse)\b",
    r"\bI (?:do not|don't) (?:feel comfortable|think (?:it's|it is) (?:appropriate|right|a good idea)|condone|support|"
    r"encourage)\b",
    r"\bI would(?: not|n't) (?:be able|recommend|advise|feel comfortable)\b",
    r"\bI(?:'d| would) (?:rather not|prefer not)\b",
    r"\bas an? (?:AI|artificial intelligence|language model|assistant|responsible)\b[^.]{0,80}"
    r"\b(?:cannot|can't|not able|unable|do not|don't|won't|must not)\b",
    r"\b(?:it is|it's|that is|that's|this is) (?:illegal|unethical|against the law|not (?:ethical|legal|appropriate|"
    r"acceptable|okay|ok))\b",
    r"\b(?:against|violates?) my (?:programming|guidelines|principles|ethical)\b",
    r"^(?:sorry|no|I decline|I refuse|my apologies)\b[,.]",
)
"""Openings of refusals; ours, by reading refusals. Apostrophes are straight, blanks single."""

_REFUSAL = re.compile("|".join(REFUSALS), re.IGNORECASE)
