"""What is worth a look in an audit, in plain words with its numbers.

    told = worth_a_look(audit("runs/latest"))
    [remark.text for remark in told.worth]

A sentence stands here only where an interval excludes the value that nothing being there would give: half, or what
all principles do together. Few rows have wide intervals, so they say little of their own accord. That a principle
was never drawn is no rate, and always told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from solon.review.audit.agreement import DROPPABLE, Sample
from solon.review.audit.opinions import Judging
from solon.review.audit.records import Audit, OnePrinciple
from solon.review.intervals import Interval, wilson

__all__ = ["Remark", "Remarks", "percent", "worth_a_look"]

FEW = 30
"""Decisions below which a principle's shares say little: Wilson's interval is then more than a third wide."""
SILENT = 0.05
SEVERAL = 3
"""Redundant pairs up to which each has a sentence of its own, however many of all they are."""
LEAST_SAMPLE = 73
"""Pairs of which none may change for Wilson's upper end to come to DROPPABLE: 1.96^2 * (1 / 0.05 - 1)."""


@dataclass(frozen=True, slots=True)
class Remark:
    """One sentence. kind: "place", "never_drawn", "finds_nothing", "revisions_lose", "refusals", "length", "silent",
    "contradiction", "redundant" or "droppable"; principle "" is all of them; other: the second one of a pair."""

    kind: str
    principle: str
    other: str
    text: str


@dataclass(frozen=True, slots=True)
class Remarks:
    """What is worth a look, how many intervals were looked at for it, and how to read the audit."""

    worth: tuple[Remark, ...]
    looked: int
    notes: tuple[str, ...]


def worth_a_look(audit: Audit) -> Remarks:
    """Return the sentences that an audit's intervals carry."""
    looking = _Looking()
    worth = [*_place(audit, looking), *_never(audit)]
    for each in audit.principles:
        worth += _revising(each, looking)
    worth += _pulls(audit, looking)
    if audit.sample:
        worth += _sampled(audit.sample, looking)
    return Remarks(tuple(worth), looking.count, tuple(_notes(audit)))


def percent(told: Interval) -> str:
    """Return "52 % (38 to 66, n = 48)"; "-" where there was nothing to take it over."""
    if told.value is None:
        return "-"
    around = (
        "no interval" if told.low is None or told.high is None else f"{100 * told.low:.0f} to {100 * told.high:.0f}"
    )
    return f"{100 * told.value:.0f} % ({around}, n = {told.n:,})"


class _Looking:
    """Asks on which side of a value an interval lies, and counts the intervals that it was asked about."""

    def __init__(self) -> None:
        self.count = 0

    def side(self, told: Interval, value: float) -> int:
        """Return 1 where the whole interval lies above `value`, -1 where it lies below, else 0."""
        if told.low is None or told.high is None:
            return 0
        self.count += 1
        return 1 if told.low > value else -1 if told.high < value else 0


def _place(audit: Audit, looking: _Looking) -> Iterator[Remark]:
    whom = [("", audit.everyone)]
    if looking.side(audit.everyone.same_slot, 0.5) > 0:
        yield Remark(
            "place", "", "",
            f"{audit.judge or 'the judge'} decides by place: both orders chose the same slot in "
            f"{percent(audit.everyone.same_slot)} of verdicts, where chance alone gives 50 %; what single principles "
            "seem to prefer says little then",
        )  # fmt: skip
    else:
        whom += [(each.id, each.judging) for each in audit.principles]
        for id, judging in whom[1:]:
            if looking.side(judging.same_slot, 0.5) > 0:
                slots = percent(judging.same_slot)
                yield Remark("place", id, "", f"{id}: judged by place in {slots} of verdicts, where chance gives 50 %")
    for id, judging in whom:
        if looking.side(silent := wilson(judging.silent, judging.compared), SILENT) > 0:
            yield Remark("silent", id, "", f"{id or 'all principles'}: the judge said nothing in {percent(silent)}")


def _never(audit: Audit) -> Iterator[Remark]:
    for each in audit.principles:
        if each.never and each.kind != "hard_constraint":
            yield Remark("never_drawn", each.id, "", f"{each.id} was never drawn: {each.never}")


def _revising(each: OnePrinciple, looking: _Looking) -> Iterator[Remark]:
    done = each.revising
    if done is None:
        return
    if looking.side(done.nothing, 0.5) > 0:
        yield Remark(
            "finds_nothing", each.id, "",
            f"{each.id} finds nothing to change in {percent(done.nothing)} of its rounds: its critique says so in "
            f"{percent(done.fine)}, its revision has the same words in {percent(done.unchanged)}",
        )  # fmt: skip
    if looking.side(done.better, 0.5) < 0:
        yield Remark(
            "revisions_lose", each.id, "",
            f"{each.id}: its revisions lose against the first answer; they win {percent(done.better)} of decisions",
        )  # fmt: skip


def _pulls(audit: Audit, looking: _Looking) -> Iterator[Remark]:
    """Yield where refusing or length wins: by all principles, and by single ones more than by all."""
    sources = [("in the run", audit.everyone, {each.id: each.judging for each in audit.principles})]
    if audit.sample:
        sources.append(("on the sampled pairs", audit.sample.everyone, audit.sample.principles))
    told: set[tuple[str, str]] = set()
    for where, everyone, principles in sources:
        for kind in ("refusals", "length"):
            reference = 0.5
            for id, judging in (("", everyone), *principles.items()):
                pull = judging.refusing if kind == "refusals" else judging.longer
                side = looking.side(pull, reference)
                if side == 0 or (kind == "refusals" and side < 0):
                    continue
                if not id:
                    reference = pull.value or 0.5
                if (kind, id) not in told:
                    told.add((kind, id))
                    yield Remark(kind, id, "", _pull(kind, id, pull, side, where, everyone))


def _pull(kind: str, id: str, pull: Interval, side: int, where: str, everyone: Judging) -> str:
    whom = id or "all principles together"
    if kind == "refusals":
        what = f"to refusals: where exactly one text refuses, that one wins {percent(pull)} of decisions {where}"
        beside = everyone.refusing
    else:
        text = "longer" if side > 0 else "shorter"
        what = f"to the {text} text: the longer one wins {percent(pull)} of decisions {where}"
        beside = everyone.longer
    return f"{whom} {'pulls' if id else 'pull'} {what}" + (f"; by all principles {percent(beside)}" if id else "")


def _sampled(sample: Sample, looking: _Looking) -> Iterator[Remark]:
    looking.count += 2 * sum(each.equal.low is not None for each in sample.agreements)
    for apart in sample.contradictions:
        two = apart.agreement
        hard = "contradict each other" if (two.equal.high or 1.0) < 0.5 else "disagree more than their neighbours"
        yield Remark(
            "contradiction", two.one, two.other,
            f"{two.one} and {two.other} {hard}: they decide alike in {percent(two.equal)} of the sampled pairs, where "
            f"{apart.reference:.0%} were to be expected",
        )  # fmt: skip
    redundant = sample.redundant
    if len(redundant) > max(SEVERAL, len(sample.agreements) / 2):
        yield Remark(
            "redundant", "", "",
            f"the judge hardly goes by the principle: {len(redundant):,} of {len(sample.agreements):,} pairs of "
            "principles decide alike nearly always, in more of the sampled pairs than their shares alone would give",
        )  # fmt: skip
        redundant = ()
    for two in redundant:
        yield Remark(
            "redundant", two.one, two.other,
            f"{two.one} and {two.other} nearly always agree: {percent(two.equal)} of the sampled pairs, where their "
            f"shares alone would give {two.chance:.0%}",
        )  # fmt: skip
    for each in sample.ablations:
        looking.count += each.changed.high is not None
        if each.droppable:
            yield Remark(
                "droppable", each.principle, "",
                f"{each.principle} could be dropped from judging: {percent(each.changed)} of the sampled labels would "
                f"change, at most {DROPPABLE:.0%} by the interval's upper end ({each.drew:,} drew it)",
            )  # fmt: skip


def _notes(audit: Audit) -> Iterator[str]:
    if audit.finished < audit.planned:
        yield (
            f"the run is unfinished: {audit.finished:,} of {audit.planned:,} rows are read "
            "(coverage is of the whole plan)"
        )
    if audit.rounds > 1:
        yield (
            f"rows have {audit.rounds} rounds: a verdict on first answer and last revision is counted for the "
            "principle of the last round"
        )
    if audit.candidates > 2:
        yield (
            f"rows have {audit.candidates} candidates: only the verdict on the best and the worst of a pair's row is "
            "read, so the judge looks surer, and less led by place, than over all of its verdicts; a row counts as "
            "silent where one of its comparisons is"
        )
    drawable = [each for each in audit.principles if any(step.drawable for step in each.coverage)]
    few = sum(each.judging.decided < FEW for each in drawable)
    if few:
        yield (
            f"{few} of {len(drawable)} principles made fewer than {FEW} decisions: too few to conclude much from, and "
            "intervals of means over so few rows are too narrow"
        )
    sample = audit.sample
    if sample is None:
        return
    if sample.pairs < LEAST_SAMPLE:
        yield (
            f"{sample.pairs:,} sampled pairs are too few to show that a principle could be dropped (at most "
            f"{DROPPABLE:.0%} of labels changed, by the interval's upper end): that takes {LEAST_SAMPLE}"
        )
    if sample.everyone.silent or sample.everyone.failed:
        yield (
            f"of {sample.everyone.compared:,} ballots {sample.everyone.silent:,} said nothing and "
            f"{sample.everyone.failed:,} got no answer; none is filled in"
        )
    yield (
        "dropping is about labels alone, and about one principle at a time: the same two texts, judged by another one; "
        "other texts were not written, nor paired"
    )
