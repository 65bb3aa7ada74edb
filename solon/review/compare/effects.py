"""From the numbers of every compared row to effects with intervals: over all rows, by group, and how they spread.

A few dozen bytes a row are kept, no texts. Rows are compared with themselves (paired differences), and resampled by
prompt; a plan has each prompt once.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from solon.review.compare.comparison import Effect, Group, Histogram, View
from solon.review.compare.measures import MEASURES, Numbers
from solon.review.intervals import Interval, clustered, wilson
from solon.review.texts import words
from solon.rows import Row

__all__ = ["LEAST", "MOST_GROUPS", "Table"]

LEAST = 10
"""Rows below which no effect is marked: a bootstrap over a handful knows nothing of what it has not seen."""
MOST_GROUPS = 40
"""Groups shown of one family, its largest."""
BUCKETS = 1024
"""More prompts than twice this are resampled in so many bunches, by a hash: as good an interval, in flat memory."""
BINS = 20
COMPARABLE = frozenset({"same", "flipped"})

Places = NDArray[np.intp]
"""Places of rows in the table."""


class Table:
    """The numbers of all compared rows. `add` each one, then ask for `views` and `spread`."""

    def __init__(self, story: str) -> None:
        self.story = story
        self.measures = [name for name in MEASURES if name not in _FOREIGN[story]]
        self.left_out: dict[str, int] = {}
        self._a = {name: array("d") for name in self.measures}
        self._b = {name: array("d") for name in self.measures}
        self._flipped = array("d")
        self._touched = array("b")
        self._length = array("d")
        self._bunch = array("d")
        self._groups: dict[str, dict[str, array[int]]] = defaultdict(lambda: defaultdict(lambda: array("L")))

    def __len__(self) -> int:
        return len(self._touched)

    def add(self, a: Row, b: Row, kind: str, touched: bool, before: Numbers, after: Numbers, *, paired: bool) -> None:
        """Add a row as both runs have it. paired: both have a pair, so that a label could flip."""
        place = len(self)
        for name in self.measures:
            self._a[name].append(getattr(before, name))
            self._b[name].append(getattr(after, name))
        self._flipped.append(float(kind == "flipped") if paired and kind in COMPARABLE else np.nan)
        self._touched.append(touched)
        self._length.append(sum(len(words(message.content)) for message in a.prompt.messages))
        self._bunch.append(int(a.id[:8], 16) % BUCKETS)
        for family, name in _groups_of(a, b):
            self._groups[family][name].append(place)

    def views(self) -> tuple[View, ...]:
        """Return all rows; and the touched ones, where they are some and not all."""
        everything = np.arange(len(self))
        touched = np.flatnonzero(np.frombuffer(self._touched, dtype=np.int8)) if len(self) else everything
        families = dict(self._families())
        views = [self._view("all rows", everything, families)]
        if 0 < len(touched) < len(self):
            views.append(self._view("touched rows", touched, families))
        return tuple(views)

    def spread(self, *, touched_only: bool) -> tuple[Histogram, ...]:
        """Return how the continuous measures are spread, each over the rows that have it in that run."""
        among = np.frombuffer(self._touched, dtype=np.int8).astype(bool) if touched_only else slice(None)
        made = []
        for name in self.measures:
            if name in _SPREAD and len(self):
                a, b = (_there(np.array(side[name])[among]) for side in (self._a, self._b))
                if len(a) + len(b):
                    made.append(_histogram(name, a, b))
        return tuple(made)

    def _view(self, name: str, rows: Places, families: dict[str, dict[str, Places]]) -> View:
        flips = self._flips(rows)
        groups = [
            self._group(family, title, within, flips.value)
            for family, named in families.items()
            for title, places in named.items()
            if len(within := np.intersect1d(places, rows, assume_unique=True))
        ]
        order = {family: number for number, family in enumerate(families)}
        # sorted() keeps the order of what is equal: lengths and turns stay as they are, the rest goes by flips
        groups.sort(
            key=lambda group: (
                order[group.family],
                *(() if group.family in ORDERED else (-(group.flips.value or 0.0), -group.rows, group.name)),
            )
        )
        effects = self._effects(rows)
        everything = [*effects, *(effect for one in groups for effect in one.effects)]
        # only what could be marked: an interval that never is would make chance look larger than what was found
        looked_at = sum(_could_be_marked(effect.change) for effect in everything)
        looked_at += sum(one.flips.n >= LEAST for one in groups) if flips.value else 0
        marked = sum(effect.beyond for effect in everything) + sum(one.odd for one in groups)
        return View(name, len(rows), looked_at, marked, flips, effects, tuple(groups))

    def _group(self, family: str, name: str, rows: Places, overall: float | None) -> Group:
        flips = self._flips(rows)
        odd = (
            flips.n >= LEAST
            and overall is not None
            and flips.low is not None
            and flips.high is not None
            and not flips.low <= overall <= flips.high
        )
        touched = int(np.array(self._touched)[rows].sum())
        return Group(family, name, len(rows), touched, flips, odd, self._effects(rows))

    def _flips(self, rows: Places) -> Interval:
        flips = _there(np.array(self._flipped)[rows])
        return wilson(int(flips.sum()), len(flips))

    def _effects(self, rows: Places) -> tuple[Effect, ...]:
        return tuple(self._effect(name, rows) for name in self.measures)

    def _effect(self, name: str, rows: Places) -> Effect:
        a, b = np.array(self._a[name])[rows], np.array(self._b[name])[rows]
        both = ~(np.isnan(a) | np.isnan(b))
        a, b, rows = a[both], b[both], rows[both]
        if not len(rows):
            return Effect(name, None, None, Interval(None, None, None, 0), 0.0, beyond=False)
        by = b - a
        # nothing moved, in any resample: told without two thousand of them
        change = Interval(0.0, 0.0, 0.0, len(rows)) if not by.any() else self._clustered(rows, by)
        spread = float(by.std(ddof=1)) if len(rows) > 1 else 0.0
        low, high = change.low, change.high
        beyond = len(rows) >= LEAST and low is not None and high is not None and not low <= 0.0 <= high
        size = abs(float(by.mean())) / spread if spread > 0 else 0.0
        return Effect(name, float(a.mean()), float(b.mean()), change, size, beyond)

    def _clustered(self, rows: Places, values: NDArray[np.float64]) -> Interval:
        clusters = np.array(self._bunch)[rows] if len(rows) > 2 * BUCKETS else rows
        return clustered(zip(clusters.tolist(), values.tolist(), strict=True))

    def _families(self) -> Iterator[tuple[str, dict[str, Places]]]:
        """Yield each family with its groups, the largest ones; one group that holds every row tells nothing new."""
        named = {family: self._groups[family] for family in FAMILIES if family in self._groups}
        for family, groups in named.items():
            largest = sorted(groups, key=lambda name: (-len(groups[name]), name))
            if len(largest) > MOST_GROUPS:
                self.left_out[family] = len(largest) - MOST_GROUPS
            if len(largest) > 1:
                yield family, {name: np.array(groups[name], dtype=np.intp) for name in largest[:MOST_GROUPS]}
        thirds = dict(self._thirds())
        if len(thirds) > 1:
            yield "length", thirds

    def _thirds(self) -> Iterator[tuple[str, Places]]:
        """Yield the rows in thirds by the words of their prompts; equal lengths stay together."""
        lengths = np.array(self._length)
        if not len(lengths):
            return
        ordered = np.sort(lengths)
        low, high = (ordered[max(len(ordered) * part // 3 - 1, 0)] for part in (1, 2))
        for title, within in (
            (f"up to {low:.0f} words", lengths <= low),
            (f"{low + 1:.0f} to {high:.0f} words", (lengths > low) & (lengths <= high)),
            (f"{high + 1:.0f} words and more", lengths > high),
        ):
            if within.any():
                yield title, np.flatnonzero(within)


ORDERED = frozenset({"length", "turns"})
FAMILIES = ("judged by", "revised by", "tag", "turns")
_FOREIGN = {"revision": {"sure"}, "preference": {"p", "revision_words", "distance"}}
_SPREAD = frozenset({"p", "sure", "chosen_words", "revision_words", "distance"})
_UNIT = frozenset({"p", "sure", "distance"})


def _groups_of(a: Row, b: Row) -> Iterator[tuple[str, str]]:
    """Yield (family, name) of every group that a row is in: by what it met in either run, and by its prompt."""
    met = dict.fromkeys(
        ("judged by" if draw.step == "judge" else "revised by", draw.principle) for draw in (*a.draws, *b.draws)
    )
    yield from met
    tags = dict.fromkeys((*a.prompt.tags, *b.prompt.tags))
    yield from (("tag", tag) for tag in tags or ("(no tag)",))
    turns = Counter(message.role != "system" for message in a.prompt.messages)[True]
    yield "turns", "several turns" if turns > 1 else "one turn"


def _could_be_marked(change: Interval) -> bool:
    return change.n >= LEAST and not change.low == change.high == 0.0


def _there(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[~np.isnan(values)]


def _histogram(name: str, a: NDArray[np.float64], b: NDArray[np.float64]) -> Histogram:
    if name in _UNIT:
        edges = np.linspace(0.0, 1.0, BINS + 1)
    else:
        # whole words to a bin; one endless answer must not press all others into the first
        most = float(np.quantile(np.concatenate([a, b]), 0.99))
        width = max(int(np.ceil((most + 1) / BINS)), 1)
        edges = np.arange(BINS + 1, dtype=float) * width
    counts = [np.histogram(side, edges)[0] for side in (a, b)]
    over = tuple(int(len(side) - count.sum()) for side, count in zip((a, b), counts, strict=True))
    return Histogram(
        name, tuple(edges.tolist()), tuple(counts[0].tolist()), tuple(counts[1].tolist()), (over[0], over[1])
    )
