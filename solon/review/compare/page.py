"""A comparison as one page that needs nothing else: no script, no network, light and dark, wide and narrow.

    Path("compare.html").write_text(page(compare(a, b)), encoding="utf-8")

Whatever stands in texts, paths or names is escaped, and shown as it is: control characters and signs that would turn
the reading direction of the page become visible ones.
"""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from solon.complaints import counted, visible
from solon.digests import whole
from solon.review.compare import plots
from solon.review.compare.comparison import KINDS, Comparison, View, Words
from solon.review.compare.effects import LEAST
from solon.review.compare.measures import MEASURES, SHARES
from solon.review.compare.rows import SLIGHT
from solon.review.intervals import RESAMPLES, Interval

__all__ = ["page"]


def page(comparison: Comparison) -> str:
    """Return the comparison as HTML. The same comparison makes the same page."""
    done, last = comparison, comparison.views[-1]
    room = Environment(
        loader=PackageLoader("solon", "review/compare"), autoescape=True, undefined=StrictUndefined, finalize=_visible,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    room.filters |= {
        "share": _share, "figure": _figure, "by": _by, "p": _p, "alike": _alike, "count": "{:,}".format,
        "counted": counted,
    }  # fmt: skip
    unmoved = [each.measure for each in done.views[0].effects if each.change.low == each.change.high == 0]
    moved = [each.measure for each in last.effects if each.change.n and each.measure not in unmoved]
    return room.get_template("report.html").render(
        done=done, last=last, kinds=KINDS, measures=MEASURES, least=LEAST, slight=SLIGHT, resamples=RESAMPLES,
        labels=_labels(done), table=_cross_table(done), pictures=_pictures(done, last),
        moved=moved, unmoved=unmoved,
    )  # fmt: skip


def _visible(value: Any) -> Any:
    """Return what a template writes; texts with control characters and signs of direction made visible."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return visible(whole(value))


def _labels(done: Comparison) -> tuple[list[str], list[str]]:
    """Return the labels of A and of B, the most frequent first."""
    sides: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for outcome in done.outcomes:
        for side, label in zip(sides, (outcome.a, outcome.b), strict=True):
            side[label] = side.get(label, 0) + outcome.rows
    # one order for both, so that what stayed the same stands on the diagonal
    total = {label: sum(side.get(label, 0) for side in sides) for side in sides for label in side}
    ordered = sorted(total, key=lambda label: (-total[label], label))
    return [label for label in ordered if label in sides[0]], [label for label in ordered if label in sides[1]]


def _cross_table(done: Comparison) -> dict[tuple[str, str], int]:
    return {(outcome.a, outcome.b): outcome.rows for outcome in done.outcomes}


def _pictures(done: Comparison, view: View) -> list[tuple[str, Markup, str]]:
    """Return (title, picture, what to know about it)."""
    made = []
    for histogram in done.spread:
        title = MEASURES[histogram.measure]
        over = max(histogram.over)
        note = f"; longer than shown: {histogram.over[0]:,} in A, {histogram.over[1]:,} in B" if over else ""
        told = f"{view.name}: {sum(histogram.a):,} in A, {sum(histogram.b):,} in B{note}"
        svg = plots.spread(histogram, f"spread-{histogram.measure}", title)
        made.append((title[0].upper() + title[1:], Markup(svg), told))
    for family in ("judged by", "revised by"):
        groups = [group for group in view.groups if group.family == family and group.flips.n]
        if groups:
            title = f"Flipped labels, {family} principle"
            svg = plots.flips(groups, view.flips, f"flips-{family.split()[0]}", title)
            made.append((title, Markup(svg), f"{view.name}, with 95 % intervals; the dotted line is their whole"))
    return made


def _alike(words: Words) -> bool:
    """Return whether a word diff tells more than it hides: texts that share little are read better unmarked."""
    sums = dict.fromkeys(("equal", "delete", "insert"), 0)
    for op, text in words:
        sums[op] += len(text.strip())
    return sums["equal"] >= LEAST_ALIKE * (sums["equal"] + max(sums["delete"], sums["insert"]))


LEAST_ALIKE = 0.2


def _share(one: Interval) -> str:
    """Return a share with its interval, in per cent."""
    if one.value is None:
        return "\N{EN DASH}"
    bounds = "" if one.low is None or one.high is None else f" [{one.low:.1%}, {one.high:.1%}]"
    return f"{one.value:.1%}{bounds}"


def _figure(value: float | None, measure: str) -> str:
    if value is None:
        return "\N{EN DASH}"
    if measure in SHARES:
        return f"{value:.1%}"
    return f"{value:,.1f}" if "words" in measure else f"{value:.3f}"


def _by(value: float | None, measure: str) -> str:
    """Return a change with its sign; shares in percentage points."""
    if value is None:
        return "\N{EN DASH}"
    told = f"{value * 100:+.1f}" if measure in SHARES else f"{value:+,.1f}" if "words" in measure else f"{value:+.3f}"
    # a minus is no hyphen, and a change that is rounded away has no sign
    return re.sub(r"^[+-](?=[0.]*$)", "", told).replace("-", "\N{MINUS SIGN}")


def _p(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.3f}"
