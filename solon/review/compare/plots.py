"""The plots of a comparison as SVG that stands in a page: coloured by the page's own variables, light and dark.

    svg = spread(histogram, "P(revision is better)")

The same numbers make the same bytes: no date, no library's version, salted ids.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from io import StringIO
from typing import Any

from solon.review.compare.comparison import Group, Histogram
from solon.review.intervals import Interval

__all__ = ["flips", "spread"]

A, B, INK, FAINT = "#0a0a01", "#0b0b02", "#0c0c03", "#0d0d04"
"""Drawn with these, and handed to the page's variables afterwards: matplotlib knows no CSS."""
VARIABLES = {A: "var(--a)", B: "var(--b)", INK: "var(--ink)", FAINT: "var(--faint)"}


def spread(histogram: Histogram, name: str, title: str) -> str:
    """Return both runs' distributions of one measure over each other: A filled, B a line.

    Args:
        name: a word for the ids inside, unique in the page.
        title: the measure in words; it names the axis and the picture.
    """

    def paint(axes: Any) -> None:
        axes.stairs(histogram.a, histogram.edges, fill=True, color=A, alpha=0.4, label="A")
        axes.stairs(histogram.b, histogram.edges, color=B, linewidth=2, label="B")
        axes.set(xlabel=title, ylabel="rows", xlim=(histogram.edges[0], histogram.edges[-1]))
        axes.set_ylim(bottom=0)
        axes.yaxis.get_major_locator().set_params(integer=True)
        if histogram.measure == "p":
            axes.axvline(0.5, color=FAINT, linewidth=1, linestyle=":")
        axes.legend(frameon=False)

    told = f"Distribution of {title} in A and in B, {sum(histogram.a):,} and {sum(histogram.b):,} rows."
    return _svg(paint, (6.0, 2.9), name, title, told)


def flips(groups: Sequence[Group], overall: Interval, name: str, title: str) -> str:
    """Return the share of flipped labels by group with its interval, the share over all rows as a line."""
    shown = [group for group in groups if group.flips.value is not None][::-1]

    def paint(axes: Any) -> None:
        for place, group in enumerate(shown):
            share = group.flips
            axes.plot([share.low, share.high], [place, place], color=FAINT, linewidth=2.5, solid_capstyle="butt")
            axes.plot([share.value], [place], marker="o", color=B, markersize=6)
        if overall.value is not None:
            axes.axvline(overall.value, color=INK, linewidth=1, linestyle=":")
        # a principle's id holds no $, but a name that did would be set as a formula
        names = [f"{group.name} ({group.flips.n:,})".replace("$", r"\$") for group in shown]
        axes.set_yticks(range(len(shown)), names)
        axes.set(xlabel="share of labels that flipped", xlim=(-0.02, 1.02), ylim=(-0.7, len(shown) - 0.3))

    told = ", ".join(f"{group.name} {group.flips.value:.0%}" for group in shown[::-1])
    return _svg(paint, (6.0, 0.9 + 0.28 * max(len(shown), 1)), name, title, f"{title}: {told}.")


def _svg(paint: Callable[[Any], None], size: tuple[float, float], name: str, title: str, told: str) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    look = {
        "svg.hashsalt": "solon", "svg.fonttype": "none", "font.size": 10, "font.family": "sans-serif",
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT, "xtick.color": FAINT, "ytick.color": FAINT,
        "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.facecolor": "none",
        "axes.spines.top": False, "axes.spines.right": False,
    }  # fmt: skip
    with matplotlib.rc_context(look):
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        paint(figure.add_subplot())
        file = StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(file.getvalue(), name, title, told)


def _inline(svg: str, name: str, title: str, told: str) -> str:
    """Return the picture as an element of a page: its ids made unique, its words given to screen readers."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    for drawn, variable in VARIABLES.items():
        svg = svg.replace(drawn, variable)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None  # matplotlib always writes one
    opened = (
        f'<svg {box[0]} role="img" aria-labelledby="{name}-title {name}-told" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink"><title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-told">{escape(told)}</desc>'
    )
    return opened + svg[svg.index(">") + 1 :].strip()
