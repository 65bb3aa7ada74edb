"""What a sample of ballots says: who agrees, who contradicts, what could be dropped, which prompts are ambiguous.

read(votes, pairs, constitution, seed=0) -> Sample
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, pvariance

from solon.constitution import Constitution
from solon.errors import BadInput
from solon.review.audit.ballots import Ballot
from solon.review.audit.opinions import Duel, Judging, Opinion, judged, opinion
from solon.review.intervals import Interval, wilson

__all__ = [
    "DROPPABLE",
    "REDUNDANT",
    "Ablation",
    "Agreement",
    "Ambiguity",
    "Contradiction",
    "Example",
    "Sample",
    "read",
]

DROPPABLE = 0.05
"""A principle could be dropped where at most this share of labels would change, by the interval's upper end."""
REDUNDANT = 0.8
"""Two principles are redundant where they decide alike in at least this share, by the interval's lower end."""
FALSE_DISCOVERIES = 0.05
WORST = 3


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two principles decide the same pairs alike.

    equal:  share of equal decisions, over the pairs that both decided
    chance: the share that how often each chooses the first text would give alone
    kappa:  (equal - chance) / (1 - chance) (Cohen 1960), its interval that of `equal`; no value where chance is 1
    """

    one: str
    other: str
    equal: Interval
    chance: float | None
    kappa: Interval


@dataclass(frozen=True, slots=True)
class Example:
    """One pair on which two principles disagree: P(the first text is better) by each."""

    row: int
    prompt: str
    first: str
    second: str
    p_one: float
    p_other: float


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two principles that disagree more than their neighbours: more than `reference` lets expect, and than luck would
    among so many pairs of principles.

    reference: the share of equal decisions among all other pairs that one of the two is in, at least 0.5
    """

    agreement: Agreement
    reference: float
    worst: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Ablation:
    """What dropping a principle would do to the sampled labels: rows that drew it for judging draw among the rest.

    drew:    sampled rows that drew it
    flipped: labels that turn round; tied: decisions that become ties, or ties decisions
    unknown: rows without a vote to tell by; stranded: rows for which nothing else can be drawn
    changed: (flipped + tied) over all sampled rows whose labels are known
    droppable: its upper end is at most DROPPABLE, and no row is stranded
    """

    principle: str
    drew: int
    flipped: int
    tied: int
    unknown: int
    stranded: int
    changed: Interval
    droppable: bool


@dataclass(frozen=True, slots=True)
class Ambiguity:
    """How far the principles disagree about one prompt's two texts (after arXiv 2510.07686: where they do, the
    specification is ambiguous).

    minority: share of the decisions that go against the majority, at most 0.5
    variance: of P over the principles
    between_orders: mean distance of the two orders' P; same_slot: verdicts that a place won
    """

    row: int
    prompt: str
    minority: Interval
    variance: float
    between_orders: float | None
    same_slot: Interval


@dataclass(frozen=True, slots=True)
class Sample:
    """What the ballots say. `there` pairs could have been sampled, `pairs` were; tables in the principles' order."""

    pairs: int
    there: int
    everyone: Judging
    principles: dict[str, Judging]
    agreements: tuple[Agreement, ...]
    contradictions: tuple[Contradiction, ...]
    redundant: tuple[Agreement, ...]
    ablations: tuple[Ablation, ...]
    ambiguous: tuple[Ambiguity, ...]


def read(
    cast: Iterable[Ballot],
    duels: Sequence[Duel],
    constitution: Constitution,
    *,
    seed: int,
    tie: float = 0.0,
    there: int | None = None,
) -> Sample:
    """Return what ballots on `pairs` say; `seed` and `tie` are the recipe's, `there` as in Sample."""
    cast = tuple(cast)
    heard = {(each.principle, each.duel.row.id): opinion(each.duel, each.votes, tie) for each in cast}
    ids = [each.id for each in constitution.principles if any(ballot.principle == each.id for ballot in cast)]
    by_principle = {id: [heard[id, duel.row.id] for duel in duels if (id, duel.row.id) in heard] for id in ids}
    decided = sum(bool(each.side) for each in heard.values())
    agreements = [_agreement(one, by_principle[one], other, by_principle[other]) for one, other in combinations(ids, 2)]
    return Sample(
        len(duels), len(duels) if there is None else there,
        judged(tuple(heard.values()), decided),
        {id: judged(told, decided) for id, told in by_principle.items()},
        tuple(agreements),
        tuple(_contradictions(agreements, duels, heard)),
        tuple(each for each in agreements if _redundant(each)),
        tuple(_ablation(id, duels, heard, constitution, seed) for id in ids),
        tuple(_ambiguities(cast, duels, tie)),
    )  # fmt: skip


def _agreement(one: str, ones: Sequence[Opinion], other: str, others: Sequence[Opinion]) -> Agreement:
    theirs = {each.prompt: each.side for each in others if each.side}
    both = [(each.side, theirs[each.prompt]) for each in ones if each.side and each.prompt in theirs]
    equal = wilson(sum(a == b for a, b in both), len(both))
    if not both:
        return Agreement(one, other, equal, None, equal)
    a, b = (fmean(sides[place] > 0 for sides in both) for place in (0, 1))
    chance = a * b + (1 - a) * (1 - b)
    if chance > 1 - 1e-9:
        return Agreement(one, other, equal, chance, Interval(None, None, None, equal.n))
    value, low, high = (
        None if bound is None else (bound - chance) / (1 - chance) for bound in (equal.value, equal.low, equal.high)
    )
    return Agreement(one, other, equal, chance, Interval(value, low, high, equal.n))


def _redundant(each: Agreement) -> bool:
    """Return whether two principles agree nearly always, and more than their shares alone would make them."""
    low = each.equal.low
    return low is not None and each.chance is not None and low >= REDUNDANT and low > each.chance


def _contradictions(
    agreements: Sequence[Agreement], duels: Sequence[Duel], heard: dict[tuple[str, str], Opinion]
) -> Iterator[Contradiction]:
    """Yield the pairs of principles whose interval lies below what their neighbours agree in, the worst first.

    Sixteen principles are 120 pairs, of which three would lie there by luck: so each must also pass a binomial test at
    a false discovery rate of 5 % over all of them (Benjamini and Hochberg 1995).
    """
    from scipy.stats import binom, false_discovery_control

    told = sorted(
        (each for each in agreements if each.equal.high is not None),
        key=lambda one: (one.equal.high, one.one, one.other),
    )
    if not told:
        return
    references = [_reference(each, agreements) for each in told]
    equal, n = ([round((each.equal.value or 0.0) * each.equal.n) for each in told], [each.equal.n for each in told])
    chances = false_discovery_control(binom.cdf(equal, n, references))
    for each, reference, chance in zip(told, references, chances, strict=True):
        if (each.equal.high or 0.0) < reference and chance <= FALSE_DISCOVERIES:
            yield Contradiction(each, reference, tuple(_worst(each, duels, heard)))


def _reference(each: Agreement, agreements: Sequence[Agreement]) -> float:
    two = {each.one, each.other}
    near = [one for one in agreements if one is not each and two & {one.one, one.other} and one.equal.n]
    n = sum(one.equal.n for one in near)
    return max(0.5, sum(one.equal.n * (one.equal.value or 0.0) for one in near) / n if n else 0.0)


def _worst(each: Agreement, duels: Sequence[Duel], heard: dict[tuple[str, str], Opinion]) -> Iterator[Example]:
    """Yield the pairs on which two principles are furthest apart and choose different texts."""
    apart = []
    for duel in duels:
        one, other = (heard.get((id, duel.row.id)) for id in (each.one, each.other))
        if one and other and one.side and other.side and one.side != other.side:
            apart.append((one.p or 0.0, other.p or 0.0, duel))
    for p_one, p_other, duel in sorted(apart, key=lambda each: -abs(each[0] - each[1]))[:WORST]:
        prompt = duel.row.prompt.messages[-1].content
        yield Example(duel.row.index, prompt, duel.first.text, duel.second.text, p_one, p_other)


def _ablation(
    id: str,
    duels: Sequence[Duel],
    heard: dict[tuple[str, str], Opinion],
    constitution: Constitution,
    seed: int,
) -> Ablation:
    drew = flipped = tied = unknown = stranded = 0
    for duel in duels:
        label = heard.get((duel.principle, duel.row.id))
        side = label.side if label else None
        new = side
        if duel.principle == id:
            drew += 1
            tags = duel.row.prompt.tags
            try:
                other = constitution.draw(seed, duel.row.id, "judge", roles=["preference"], tags=tags, without={id})
            except BadInput:
                stranded += 1
                continue
            instead = heard.get((other.id, duel.row.id))
            new = instead.side if instead else None
        if side is None or new is None:
            unknown += 1
        elif side * new < 0:
            flipped += 1
        elif side != new:
            tied += 1
    known = len(duels) - unknown - stranded
    changed = wilson(flipped + tied, known)
    droppable = not stranded and changed.high is not None and changed.high <= DROPPABLE
    return Ablation(id, drew, flipped, tied, unknown, stranded, changed, droppable)


def _ambiguities(cast: Iterable[Ballot], duels: Sequence[Duel], tie: float) -> list[Ambiguity]:
    """Return every pair that at least two principles spoke of, where they disagree most first."""
    by_row: dict[str, list[Ballot]] = {duel.row.id: [] for duel in duels}
    for ballot in cast:
        by_row[ballot.duel.row.id].append(ballot)
    told = []
    for duel in duels:
        heard = [opinion(duel, ballot.votes, tie) for ballot in by_row[duel.row.id]]
        ps = [each.p for each in heard if each.p is not None]
        if len(ps) < 2:
            continue
        sides = [each.side for each in heard if each.side]
        gaps = []
        for ballot in by_row[duel.row.id]:
            order = {vote.order: vote.p_first for vote in ballot.votes if vote.p_first is not None}
            gaps += [abs(order["ab"] - order["ba"])] if len(order) == 2 else []
        slots = [each.same_slot for each in heard if each.same_slot is not None]
        told.append(
            Ambiguity(
                duel.row.index, duel.row.prompt.messages[-1].content,
                wilson(min(sides.count(1), sides.count(-1)), len(sides)), pvariance(ps),
                fmean(gaps) if gaps else None, wilson(sum(slots), len(slots)),
            )
        )  # fmt: skip
    return sorted(told, key=lambda one: (-(one.minority.value or 0.0), -one.variance, one.row))
