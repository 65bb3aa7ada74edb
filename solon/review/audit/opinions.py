"""Opinions: what is counted of verdicts, whether they came from a run or from a sample of ballots.

told = opinion(duel, votes, tie=0.0)         who won, and whether by its place, its length or its refusing
judged([told, ...], all_decided=48)          counts and shares, each with its interval
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from solon.judges.verdict import aggregate
from solon.review.intervals import Interval, clustered, wilson
from solon.review.texts import refuses, words
from solon.rows import Draft, Row, Vote

__all__ = ["Duel", "Judging", "Opinion", "judged", "opinion", "share"]


@dataclass(frozen=True)
class Duel:
    """Two texts of one row, as the run's judge saw them; votes speak of `first`.

    principle: what the row drew for judging
    votes:     what the run recorded; empty where the judge was not reached or its call failed
    """

    row: Row
    first: Draft
    second: Draft
    principle: str
    votes: tuple[Vote, ...] = ()


@dataclass(frozen=True, slots=True)
class Opinion:
    """One verdict, reduced to what is counted: None where a question does not arise.

    side:  1 the first text, -1 the second, 0 a tie, None no verdict
    same_slot: both orders chose the text that stood in the same place
    refusing_won, longer_won: among decisions where exactly one text refuses; where their words differ in number
    """

    prompt: str
    p: float | None = None
    side: int | None = None
    silent: bool = False
    same_slot: bool | None = None
    refusing_won: bool | None = None
    longer_won: bool | None = None


@dataclass(frozen=True, slots=True)
class Judging:
    """What came of judging by one principle (or by all).

    compared: verdicts asked for: decided, ties, silent (the judge did not say), failed (its call got no answer)
    of_all:   its share of all decisions
    decisive: mean |P - 0.5|, before any clamp
    same_slot: share of verdicts whose place won, not a text (0.5 is what a judge without any opinion would have)
    refusing, longer: how often the refusing text wins where exactly one refuses; the longer where one is longer
    """

    compared: int
    decided: int
    ties: int
    silent: int
    failed: int
    of_all: Interval
    decisive: Interval
    same_slot: Interval
    refusing: Interval
    longer: Interval


def opinion(duel: Duel, votes: Sequence[Vote], tie: float) -> Opinion:
    """Return what is counted of the votes on a pair; `tie` as in the recipe's judging."""
    p = aggregate(votes).p
    side = None if p is None else 0 if abs(p - 0.5) <= max(tie, 1e-9) else 1 if p > 0.5 else -1
    first, second = duel.first.text, duel.second.text
    refusing = longer = None
    if side:
        if refuses(first) != refuses(second):
            refusing = refuses(first if side > 0 else second)
        if (more := len(words(first)) - len(words(second))) != 0:
            longer = (more > 0) == (side > 0)
    by_order = {vote.order: vote.p_first - 0.5 for vote in votes if vote.p_first is not None}
    # as the closing table of a run counts it: the first text won in one place and lost in the other
    same = by_order["ab"] * by_order["ba"] < 0 if len(by_order) == 2 else None
    return Opinion(duel.row.id, p, side, bool(votes) and p is None, same, refusing, longer)


def judged(opinions: Sequence[Opinion], all_decided: int) -> Judging:
    """Return the counts and shares of these opinions; `all_decided` is how many decisions there are in all."""
    decided = sum(bool(each.side) for each in opinions)

    def told(name: str) -> Interval:
        return share([(each.prompt, value) for each in opinions if (value := getattr(each, name)) is not None])

    return Judging(
        len(opinions), decided,
        ties=sum(each.side == 0 for each in opinions),
        silent=sum(each.silent for each in opinions),
        failed=sum(each.side is None and not each.silent for each in opinions),
        of_all=wilson(decided, all_decided),
        decisive=clustered((each.prompt, abs(each.p - 0.5)) for each in opinions if each.p is not None),
        same_slot=told("same_slot"), refusing=told("refusing_won"), longer=told("longer_won"),
    )  # fmt: skip


def share(values: Sequence[tuple[Hashable, bool]]) -> Interval:
    """Return a share of (prompt, yes) values: Wilson's interval, or the bootstrap's where prompts come repeatedly.

    Prompts that are all alike leave the bootstrap nothing to vary: then Wilson's, over the number of prompts.
    """
    prompts = len({prompt for prompt, _ in values})
    if prompts == len(values):
        return wilson(sum(yes for _, yes in values), len(values))
    told = clustered((prompt, float(yes)) for prompt, yes in values)
    if told.value is not None and (told.low is None or told.low == told.high):
        around = wilson(round(told.value * prompts), prompts)
        return replace(told, low=around.low, high=around.high)
    return told
