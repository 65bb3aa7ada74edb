"""What a comparison of two runs holds: frozen objects of plain numbers and texts, ready for JSON and for a page.

A is the run before the edit, B the one after it. Every share and every mean stands with its interval and its n.
"""

from __future__ import annotations

from dataclasses import dataclass

from solon.review.intervals import Interval

__all__ = [
    "KINDS",
    "Answered",
    "Change",
    "Comparison",
    "Edit",
    "Effect",
    "Group",
    "Histogram",
    "Outcomes",
    "Setting",
    "Side",
    "Telling",
    "Untouched",
    "View",
    "Words",
]

KINDS: dict[str, str] = {
    "same": "the same label",
    "flipped": "the label flipped",
    "became_tie": "became a tie",
    "set_aside": "set aside in B",
    "came_back": "came back: no pair in A, a pair in B",
    "other_reason": "no pair in both, for another reason",
    "other_pair": "the same answers, another two of them paired",
    "other_texts": "other answers, so that labels cannot be compared",
}
"""What can become of a row's label, each with the words that people read; `measures.moved` decides."""

Words = tuple[tuple[str, str], ...]
"""A word diff: ("equal" | "delete" | "insert", text)."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs. planned = pairs + set_aside + unfinished rows; reasons of those set aside."""

    path: str
    name: str
    constitution: str
    planned: int
    pairs: int
    set_aside: int
    unfinished: int
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class Setting:
    """Something beside the constitution that decides labels, and differs between the two runs."""

    what: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class Edit:
    """What became of one principle (its id), or of what stands around the principles ("").

    kinds: "added", "reworded", "reweighted", ... as `constitution.diff` calls them
    parts: what was edited ("text", "weight", "preamble"), and its word diff
    """

    principle: str
    kinds: tuple[str, ...]
    parts: tuple[tuple[str, Words], ...]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How many compared rows had label `a` in A and `b` in B."""

    a: str
    b: str
    rows: int


@dataclass(frozen=True, slots=True)
class Change:
    """How many rows' labels changed in this way. kind: one of KINDS.

    texts:   of these, rows whose judged texts differ between the runs
    touched: of these, rows that met a changed wording or another draw
    slight:  of these, rows whose P moved by less than `compare.SLIGHT`
    """

    kind: str
    rows: int
    texts: int
    touched: int
    slight: int


@dataclass(frozen=True, slots=True)
class Effect:
    """One measure before and after, over the rows that have it in both runs.

    measure: a name out of `measures.MEASURES`
    a, b:    its means; None where no row has it in both runs
    change:  mean of b - a by row, with its 95 % bootstrap interval, clustered by prompt
    size:    |mean| of b - a over its standard deviation (Cohen's d for paired values), 0 without spread
    beyond:  the interval leaves out 0, over at least `effects.LEAST` rows
    """

    measure: str
    a: float | None
    b: float | None
    change: Interval
    size: float
    beyond: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that have something in common.

    family, name: "judged by" and a principle; "revised by" and a principle; "tag"; "turns"; "length"
    rows, touched: compared rows in it, and those that met a changed wording or another draw
    flips:        share of flipped labels among rows with comparable labels, with Wilson's interval
    odd:          the share over all rows lies outside that interval (over at least `effects.LEAST` rows)
    """

    family: str
    name: str
    rows: int
    touched: int
    flips: Interval
    odd: bool
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class View:
    """All compared rows, or those of them that the edit touched.

    looked_at: intervals in it that could be marked: over at least `effects.LEAST` rows of which one moved. Where an
               edit has no effect, about one in twenty of them is marked by chance
    marked:    intervals that are: effects that are `beyond`, groups that are `odd`
    groups:    by family, most flips first; lengths by length
    """

    name: str
    rows: int
    looked_at: int
    marked: int
    flips: Interval
    effects: tuple[Effect, ...]
    groups: tuple[Group, ...]

    @property
    def found(self) -> list[tuple[Group, Effect]]:
        """Return the effects of groups whose interval leaves out 0, the largest one first."""
        found = [(group, effect) for group in self.groups for effect in group.effects if effect.beyond]
        return sorted(found, key=lambda one: -one[1].size)


@dataclass(frozen=True, slots=True)
class Untouched:
    """Rows that met no changed wording and no other draw: those with equal outcomes, and why others are not."""

    rows: int
    equal: int
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class Histogram:
    """How one measure is spread in A and in B: counts between `edges`, the last one shut; `over` counts beyond it."""

    measure: str
    edges: tuple[float, ...]
    a: tuple[int, ...]
    b: tuple[int, ...]
    over: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Answered:
    """What one run made of a row.

    label:  as in the table of outcomes; `detail` says more of a row that was set aside
    p:      P(revision is better), or P(A's chosen answer is better) in a preference run; None where nobody said
    text:   the chosen answer, or the last draft of a row without a pair; `draft` names it
    met:    (step, principle) of every draw
    """

    label: str
    detail: str
    p: float | None
    draft: str
    text: str
    rejected: str
    met: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Telling:
    """One row before and after.

    index, id:  its place in A's plan, and its prompt's id
    prompt:     (role, text) by turn
    kind:       what became of its label
    shift:      P in B - P in A, None where one of them is not there
    distance:   between the two texts, in [0, 1]; see `texts.distance`
    words:      from A's text to B's
    critiques:  (draft, from A's critique to B's) where they differ
    """

    index: int
    id: str
    tags: tuple[str, ...]
    prompt: tuple[tuple[str, str], ...]
    kind: str
    touched: bool
    shift: float | None
    distance: float
    a: Answered
    b: Answered
    words: Words
    critiques: tuple[tuple[str, Words], ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What an edit did to the data.

    story:        "revision" or "preference", the same in both runs
    both, only_a, only_b: prompts planned in both runs, or in one alone
    compared:     rows of `both` that are finished in both; `waiting` are not
    edit, edits:  what differs in the constitutions, in one line, and principle by principle
    settings:     what differs beside them
    touched:      compared rows that met a changed wording or another draw
    views:        all rows; and the touched ones, where they are some and not all
    spread:       over the rows of the last view
    left_out:     groups that are not shown, by family: all but its largest `effects.MOST_GROUPS`
    """

    a: Side
    b: Side
    story: str
    both: int
    only_a: int
    only_b: int
    compared: int
    waiting: int
    edit: str
    edits: tuple[Edit, ...]
    settings: tuple[Setting, ...]
    touched: int
    untouched: Untouched
    changes: tuple[Change, ...]
    outcomes: tuple[Outcomes, ...]
    views: tuple[View, ...]
    spread: tuple[Histogram, ...]
    left_out: dict[str, int]
    telling: tuple[Telling, ...]
