"""What a comparison reads off one row: its label, what became of it between two runs, and a few numbers.

A *label* says which text won. In a revision run the question is the same in every run, "is the last revision better
than the first answer?", so the label is "revision" or "original", and it flips when the winner changes, whether or
not the texts changed as well (both are counted). In a preference run the candidates have no roles: a label can flip
only where both runs paired the same two texts; where the answers themselves differ, only numbers can be compared.
A row without a pair has its reason as label ("tie", "judge_silent", ...): a judge that said nothing is no vote.

P is the mean of the judge's votes, before any clamp.
"""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import NamedTuple

from solon.pipelines.walk import FAILED
from solon.review.texts import distance, refuses, words
from solon.rows import Pair, Row, SetAside

__all__ = [
    "MEASURES",
    "SHARES",
    "Numbers",
    "chosen_better",
    "equal",
    "label",
    "moved",
    "numbers",
    "same_texts",
    "second_better",
    "text_of",
    "touched",
    "why",
]

MEASURES: dict[str, str] = {
    "p": "P(revision is better)",
    "sure": "P(chosen is better)",
    "chosen_words": "words of the chosen answer",
    "rejected_words": "words of the rejected answer",
    "revision_words": "words of the last revision",
    "refuses": "chosen answers that refuse",
    "distance": "revision distance",
    "set_aside": "rows set aside",
}
"""What is measured of a row in one run, with the words that people read. A revision run has no `sure`: how sure the
judge is shows in `p`; a preference run has no `p`, `revision_words` and `distance`, since nothing is revised."""

SHARES = frozenset({"refuses", "set_aside"})
"""Measures that are 0 or 1 in each row."""


class Numbers(NamedTuple):
    """The measures of one row in one run; NaN where it has none. `set_aside` counts ties and failures too."""

    p: float
    sure: float
    chosen_words: float
    rejected_words: float
    revision_words: float
    refuses: float
    distance: float
    set_aside: float


def numbers(outcome: Pair | SetAside, story: str) -> Numbers:
    """Return the measures of one outcome."""
    pair = outcome if isinstance(outcome, Pair) else None
    p, sure, revised, far = math.nan, math.nan, math.nan, math.nan
    if story == "revision":
        p = _number(second_better(outcome))
        if len(outcome.drafts) > 1:
            revised = float(len(words(outcome.drafts[-1].text)))
            far = distance(outcome.drafts[0].text, outcome.drafts[-1].text)
    elif pair:
        sure = chosen_better(pair)
    return Numbers(
        p=p,
        sure=sure,
        chosen_words=float(len(words(pair.chosen))) if pair else math.nan,
        rejected_words=float(len(words(pair.rejected))) if pair else math.nan,
        revision_words=revised,
        refuses=float(refuses(pair.chosen)) if pair else math.nan,
        distance=far,
        set_aside=float(pair is None),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def second_better(outcome: Pair | SetAside) -> float | None:
    """Return P(the story's second text is better), None where the judge did not say or was not asked.

    The story's first text is the first answer, or the candidate of the lower number.
    """
    said = [vote.p_first for vote in outcome.votes if vote.p_first is not None]
    if said and len(said) == len(outcome.votes):
        return 1.0 - math.fsum(said) / len(said)
    if isinstance(outcome, Pair):  # a pair of another tool's, without its votes
        return 1.0 - outcome.p_chosen if _chose_first(outcome) else outcome.p_chosen
    return None


def chosen_better(pair: Pair) -> float:
    """Return P(the chosen answer is better)."""
    second = second_better(pair)
    assert second is not None  # a pair has a judge's word
    return 1.0 - second if _chose_first(pair) else second


def _chose_first(pair: Pair) -> bool:
    names = [draft.name for draft in pair.drafts]
    if {pair.chosen_draft, pair.rejected_draft} <= set(names):
        return names.index(pair.chosen_draft) < names.index(pair.rejected_draft)
    return pair.chosen_draft < pair.rejected_draft


def label(outcome: Pair | SetAside | None, story: str) -> str:
    """Return "revision" or "original", the chosen candidate's name, the reason of a row without a pair, or
    "unfinished".
    """
    if outcome is None:
        return "unfinished"
    if isinstance(outcome, SetAside):
        return outcome.reason
    if story == "revision":
        return "original" if outcome.chosen_draft == "response" else "revision"
    return outcome.chosen_draft


def moved(a: Pair | SetAside, b: Pair | SetAside, story: str) -> str:
    """Return what became of a row's label from run A to run B: one of `comparison.KINDS`."""
    if isinstance(a, Pair) and isinstance(b, Pair):
        if story == "revision":
            return "same" if label(a, story) == label(b, story) else "flipped"
        if {a.chosen, a.rejected} == {b.chosen, b.rejected}:
            return "same" if a.chosen == b.chosen else "flipped"
        return "other_pair" if _texts(a) == _texts(b) else "other_texts"
    if isinstance(a, Pair):
        return "became_tie" if b.reason == "tie" else "set_aside"  # type: ignore[union-attr]
    if isinstance(b, Pair):
        return "came_back"
    return "same" if a.reason == b.reason else "other_reason"


def text_of(outcome: Pair | SetAside) -> tuple[str, str]:
    """Return (draft, text) of the chosen answer, or of the last draft of a row without a pair; ("", "") without."""
    if isinstance(outcome, Pair):
        return outcome.chosen_draft, outcome.chosen
    return (outcome.drafts[-1].name, outcome.drafts[-1].text) if outcome.drafts else ("", "")


def touched(a: Row, b: Row) -> bool:
    """Return whether the row met a changed wording, or another principle, at any step."""
    return set(a.draws) != set(b.draws)


def same_texts(a: Pair | SetAside, b: Pair | SetAside) -> bool:
    """Return whether the judge had the same texts before it: what was paired, or else every draft."""
    if isinstance(a, Pair) and isinstance(b, Pair):
        return {a.chosen, a.rejected} == {b.chosen, b.rejected}
    return _texts(a) == _texts(b)


def _texts(outcome: Pair | SetAside) -> list[str]:
    return [draft.text for draft in outcome.drafts]


def equal(a: Pair | SetAside, b: Pair | SetAside) -> bool:
    """Return whether two outcomes of a row are the same to the last byte: texts, votes, draws and calls."""
    if type(a) is not type(b):
        return False
    return all(getattr(a, name) == getattr(b, name) for name in type(a).__dataclass_fields__ if name != "row")


def why(a: Pair | SetAside, b: Pair | SetAside) -> str:
    """Return why an untouched row came out otherwise: from the first call that was another one, or answered so."""
    if any(isinstance(each, SetAside) and each.reason in FAILED for each in (a, b)):
        return "a call failed in one of the runs"
    said_a, said_b = _said(a), _said(b)
    for one, other in zip_longest(a.asked, b.asked):
        if one is None or other is None or one.key != other.key:
            return f"another call at {(one or other).step}: model, sampling, judging, template or examples differ"
        if said_a.get(one.step) != said_b.get(one.step):
            break
    else:
        if a.votes == b.votes:
            return "the same answers were read otherwise: judging or story differ"
    return "the same call was answered otherwise: another ledger, or asked anew"


def _said(outcome: Pair | SetAside) -> dict[str, str]:
    """Return what each writing step said."""
    said: dict[str, str] = {}
    for draft in outcome.drafts:
        kind, _, number = draft.name.partition(".")
        if kind == "revision":
            said[f"critique.{number}"], said[f"revise.{number}"] = draft.critique, draft.text
        else:
            said["respond" if kind == "response" else f"respond.{number}"] = draft.text
    return said
