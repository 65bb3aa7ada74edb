"""The page of a comparison needs nothing else, obeys nothing that stands in a text, and is the same every time."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from test_compare import Made, candidates, compared, run_of

from solon.review.compare.comparison import Comparison, Group, Histogram
from solon.review.compare.page import page
from solon.review.compare.plots import flips, spread
from solon.review.compare.rows import compare
from solon.review.intervals import wilson

VOID = {"meta", "br", "link", "img", "hr"}
EVIL = '<script>alert(1)</script></textarea></div> & "quoted" {{ 7 * 7 }} \u202egnirts\u202c \x1b[2J \ud800 שלום'


class Elements(HTMLParser):
    """Collects elements, ids and links; fails on one that is closed by another."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, attribute: str) -> list[str]:
        return [value for _, attrs in self.seen if (value := attrs.get(attribute)) is not None]

    @property
    def text(self) -> str:
        return "".join(self.words)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A comparison with something in every section."""
    sides = (("law", "kind"), ("health", "brief"))
    a = [
        Made(f"Question {number}?", 0.3 + number / 60, tags=(tag,), judge=judge, principle=judge)
        for number in range(30)
        for tag, judge in (sides[number % 2],)
    ]
    b = [
        replace(row, p=1 - row.p, digest="new", critique="It is too curt.", revised=f"A new answer, number {number}.")
        if row.p is not None and number < 14
        else row
        for number, row in enumerate(a)
    ]
    b[20] = replace(b[20], reason="tie")
    return compared(tmp_path_factory.mktemp("page"), [*a, Made("Open?")], [*b, Made("Open?", 0.9)], seed=3)


@pytest.fixture(scope="module")
def html(done: Comparison) -> str:
    return page(done)


def test_the_page_is_well_formed_and_its_contents_lead_somewhere(html: str) -> None:
    elements = Elements(html)
    ids = elements.all("id")
    assert len(ids) == len(set(ids)), "every id once, those of the plots too"
    inner = [link[1:] for name in ("href", "xlink:href") for link in elements.all(name)]
    assert {"edit", "labels", "measures", "plots", "groups", "rows", "untouched", "reading"} <= set(inner)
    assert set(inner) <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)


def test_the_page_needs_nothing_from_anywhere(html: str) -> None:
    elements = Elements(html)
    assert {tag for tag, _ in elements.seen}.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert elements.all("src") == []
    assert all(link.startswith("#") for name in ("href", "xlink:href") for link in elements.all(name))
    outside = set(re.findall(r"https?://[^\s\"'<)]+", html)) | set(re.findall(r"@import[^;]*", html))
    assert outside == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, "names, which nobody fetches"
    assert not [name for _, attrs in elements.seen for name in attrs if name.startswith("on")]


def test_every_picture_has_words_and_takes_the_colours_of_the_page(html: str) -> None:
    elements = Elements(html)
    pictures = [attrs for tag, attrs in elements.seen if tag == "svg"]
    assert len(pictures) == 6
    ids = set(elements.all("id"))
    for attrs in pictures:
        assert attrs["role"] == "img"
        assert set((attrs["aria-labelledby"] or "").split()) <= ids
    drawn = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert set(re.findall(r"#[0-9a-fA-F]{6}", drawn)) == set(), "no colour of its own: it would not be read in the dark"
    assert {"var(--a)", "var(--b)", "var(--ink)"} <= set(re.findall(r"var\(--\w+\)", drawn))
    assert "prefers-color-scheme: dark" in html


def test_headings_go_down_one_level_at_a_time(html: str) -> None:
    levels = [int(tag[1]) for tag, _ in Elements(html).seen if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - level <= 1 for level, after in pairwise(levels))


def test_the_same_runs_make_the_same_bytes(done: Comparison, html: str) -> None:
    assert page(done) == html
    assert not re.search(r"Matplotlib v|\d{4}-\d\d-\d\dT", html), "neither a version nor a date"


def test_the_page_tells_the_figures(done: Comparison, html: str) -> None:
    text = " ".join(Elements(html).text.split())
    view = done.views[1]
    assert view.flips.value is not None and view.flips.low is not None and view.flips.high is not None
    assert f"{view.flips.value:.1%} [{view.flips.low:.1%}, {view.flips.high:.1%}] of {view.flips.n}" in text
    assert f"looked at, among touched rows: {view.looked_at}; marked: {view.marked}. Had the edit no" in text
    assert "unfinished in one of them, and not compared: 1." in text
    assert "The runs differ beside their constitutions." in text
    assert "no other principle: 16; of these, equal to the last byte (texts, votes and calls): 15." in text
    assert "1: the same answers were read otherwise" in text
    assert f"Row {done.telling[0].index}" in text


def test_a_telling_row_shows_what_went_and_what_came(done: Comparison, html: str) -> None:
    row = html.split('<details class="row"')[1]
    a, b = row.split('<section class="side a">')[1].split('<section class="side b">')
    assert "<del>" in a and "<ins>" not in a
    assert "<ins>" in b and "<del>" not in b
    assert "critique before revision.1" in a


def test_texts_that_share_little_stand_unmarked(tmp_path: Path) -> None:
    a = [Made("1", 0.9, revised="Entirely different words throughout this sentence.")]
    row = page(compared(tmp_path, a, [replace(a[0], p=0.1)])).split('<details class="row"')[1]
    assert "Entirely different words throughout this sentence." in row
    assert "<del>" not in row


def test_nothing_that_stands_in_a_text_is_obeyed(tmp_path: Path) -> None:
    texts = {"prompt": EVIL, "first": f"{EVIL} one", "critique": f"{EVIL} two", "tags": (EVIL,)}
    a = [Made(p=0.9, revised=f"{EVIL} three", **texts)]  # type: ignore[arg-type]
    b = [replace(a[0], p=0.2, critique=f"{EVIL} four", revised=f"{EVIL} five")]
    one = run_of(tmp_path / "a", a)
    other = run_of(
        tmp_path / "b & <b>", b, cast={"judge": {"system": "<script>x</script>"}},
        constitution="name: <script>y</script>\nprinciples:\n  - {id: kind, text: <script>z</script>}\n",
    )  # fmt: skip
    html = page(compare(one, other))
    elements = Elements(html)
    assert {tag for tag, _ in elements.seen}.isdisjoint({"script", "textarea"})
    assert {f"<script>{each}</script>" in elements.text for each in "xyz"} == {True}
    assert "<script>alert(1)</script></textarea></div>" in elements.text, "it stands there as it is"
    assert "{{ 7 * 7 }}" in elements.text
    assert "שלום" in elements.text
    assert not {"\u202e", "\u202c", "\x1b", "\ud800"} & set(html)
    assert html.encode("utf-8")
    assert all(
        attrs.get("dir") == "auto" for tag, attrs in elements.seen if "text" in (attrs.get("class") or "").split()
    )


def test_a_page_without_figures_says_so(tmp_path: Path) -> None:
    text = Elements(page(compared(tmp_path, [Made("1")], [Made("1", 0.9)]))).text
    assert "There is nothing to draw yet." in text
    assert "No row differs." in text


def test_a_page_of_equal_runs_says_so(tmp_path: Path) -> None:
    run = run_of(tmp_path / "a", [Made("1", 0.9), Made("2", 0.2)])
    text = Elements(page(compare(run, run))).text
    assert "Constitution: no difference." in text
    assert "are the same in both runs" in text
    assert "No row differs." in text


def test_a_preference_run_has_a_page_of_its_own_words(tmp_path: Path) -> None:
    two = ("One answer.", "Another answer.")
    rows = {f"{number}": (two, 0, 1, 0.9) for number in range(4)}
    a = candidates(tmp_path / "a", rows)
    html = page(compare(a, candidates(tmp_path / "b", {**rows, "0": (two, 1, 0, 0.7)})))
    text = Elements(html).text
    assert "A label says which candidate the judge preferred." in text
    assert "P(chosen is better)" in text and "P(revision is better)" not in text


def test_plots_mark_what_they_leave_out_and_take_any_name() -> None:
    histogram = Histogram("chosen_words", (0.0, 5.0, 10.0), (1, 2), (0, 3), (0, 1))
    svg = spread(histogram, "one", "words")
    assert 'id="one-' in svg and svg.endswith("</svg>")
    groups = [Group("judged by", "x < $y$ & z", 3, 3, wilson(1, 3), odd=False, effects=())]
    elements = Elements(flips(groups, wilson(1, 3), "two", "Flips <by> principle"))
    assert "x < $y$ & z (3)" in elements.text
    assert "Flips <by> principle: x < $y$ & z 33%." in elements.text
