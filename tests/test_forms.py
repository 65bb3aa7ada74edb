"""Constitutions in the forms that others use: recognised, read, written, read back, and what is told of the rest."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from constitution_kit import FLAT_2022, RANKED_2026, TRAITS, constitution, principle
from hypothesis import example, given, settings
from hypothesis import strategies as st
from run_kit import Solon

from solon.constitution import ROLES, Constitution, load, parse, shipped
from solon.constitution.forms import FORMS, Imported, read_form, write_form
from solon.errors import BadInput

PAGE = Path(__file__).parents[1] / "docs" / "forms.md"

FULL = """\
name: Everything
version: "3"
description: For people.
licence: CC0-1.0
source: a book
preamble: You are asked much.
principles:
  - id: full
    kind: priority
    rank: 2
    weight: 2
    tags: [truth]
    applies_to: [facts]
    text: Say what is so.
    critique: Discuss whether it is so.
    revision: Make it so.
    preference: Which is so?
    rationale: People act on it.
    exemplars: [{prompt: Hi, response: Ho, critique: Hm, revision: Hello}]
    cases: [{prompt: Hi, better: Hello, worse: Ho}]
    prompts:
      - Is it so?
      - [{role: user, content: Hi}, {role: assistant, content: Ho}, {role: user, content: Is it so?}]
  - {id: never, kind: hard_constraint, text: Never do it.}
  - {id: own-words, critique: Is it kind?, revision: Make it kind., preference: Which is kinder?}
  - id: own-words-again
    critique: Is it kind?
    revision: Make it kind.
    exemplars: [{prompt: Hi, response: Ho, critique: Hm, revision: Hello}]
  - {id: asleep, text: Sleep., weight: 0}
  - {id: trait, kind: trait, text: I am kind.}
"""


def read(tmp_path: Path, text: str, name: str = "given.txt", form: str | None = None) -> Imported:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return read_form(path, form)


def problem(tmp_path: Path, text: str | bytes, name: str = "given.txt", form: str | None = None) -> str:
    """Return the one line that a bad file ends in, without the path of the folder."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput) as caught:
        read_form(path, form)
    (line,) = caught.value.problems
    assert line.count("\n") == 0
    assert len(line) < 500
    return line.replace(f"{tmp_path}/", "")


# -- what every form promises --------------------------------------------------------------------------------------

ANY = st.text(min_size=1, max_size=30).filter(str.strip)
VISIBLE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30).filter(str.strip)
MARKED = st.text("aB1 #*->`~.)([]{}_\\\n&;:=|<+\t", min_size=1, max_size=30).filter(str.strip)
TURNS = st.one_of(
    ANY, st.tuples(ANY, ANY, ANY).map(lambda said: [{"role": role, "content": words} for role, words in zip(
        ("user", "assistant", "user"), said, strict=True)])
)  # fmt: skip


@st.composite
def constitutions(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> Constitution:
    """Return a constitution with any of its fields filled."""
    few, maybe = st.lists(texts, max_size=2), st.none() | texts
    turns = st.one_of(texts, TURNS)
    ids = draw(st.lists(st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,3})?", fullmatch=True), min_size=1, max_size=4,
                        unique=True))  # fmt: skip
    principles = [
        draw(
            st.fixed_dictionaries(
                {"id": st.just(id), "text": texts},
                optional={
                    "critique": texts, "revision": texts, "preference": texts, "rationale": texts,
                    "kind": st.sampled_from(["principle", "priority", "hard_constraint", "trait"]),
                    "weight": st.floats(0, 10), "rank": st.integers(1, 9), "tags": few, "applies_to": few,
                    "exemplars": st.lists(st.fixed_dictionaries(
                        {"prompt": turns, "response": texts, "critique": texts, "revision": texts}), max_size=2),
                    "cases": st.lists(st.fixed_dictionaries({"prompt": turns, "better": texts, "worse": texts}),
                                      max_size=2),
                    "prompts": st.lists(turns, max_size=2),
                },
            )
        )
        for id in ids
    ]  # fmt: skip
    around = {name: draw(maybe) for name in ("version", "description", "licence", "source", "preamble")}
    return Constitution.model_validate({"name": draw(texts), **around, "principles": principles})


def told_to_lose() -> dict[str, set[str]]:
    """Return what docs/forms.md says that each form does not hold."""
    rows = re.findall(r"^\| `([\w-]+)` \| (.+?) \| (.*?) ?\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: words for name, words, _ in rows} == FORMS
    return {name: set(re.findall(r"`(\w+)`", lost)) for name, _, lost in rows}


def written(given: Constitution, form: str) -> tuple[str, dict[str, tuple[str, ...]]]:
    """Return the text and what it loses; no text where nothing of the constitution fits."""
    try:
        done = write_form(given, form)
    except BadInput as problem:
        assert "no principle has what" in str(problem)
        return "", {}
    return done.text, dict(done.lost)


def assert_held(before: Constitution, after: Constitution, form: str, lost: dict[str, tuple[str, ...]]) -> None:
    """Check that `after` is `before` in every field that is not told to be lost, principle by principle."""
    for name in ("version", "description", "licence", "source", "preamble"):
        assert name in lost or getattr(after, name) == getattr(before, name)
    held = [each for each in before.principles if each.id not in lost.get("principle", ())]
    if form == "hf":
        held.sort(key=lambda each: each.weight == 0)  # what is only shown stands behind what is drawn
    for old, new in zip(held, after.principles, strict=True):
        for name in type(old).model_fields:
            if old.id not in lost.get(name, ()):
                value = getattr(old, name)
                made = name in ROLES and not value and getattr(new, name)
                assert getattr(new, name) == (old.own(name) if made else value), name


@pytest.mark.parametrize("form", [name for name in FORMS if name != "system-prompt"])
@settings(max_examples=40, deadline=None)
@given(given=constitutions(st.one_of(ANY, MARKED)))
def test_what_was_written_is_read_again_as_it_was_but_for_what_is_told(
    tmp_path_factory: pytest.TempPathFactory, form: str, given: Constitution
) -> None:
    """The form is told from the content, but where a text may be of several forms."""
    text, lost = written(given, form)
    if text:
        again = read(tmp_path_factory.mktemp("forms"), text, form=form).constitution
        assert_held(given, again, form, lost)
        assert parse(again.to_yaml()) == again


@pytest.mark.parametrize("form", ["cai", "cai-preferences", "hf", "traits", "markdown", "system-prompt"])
@settings(max_examples=40, deadline=None)
@given(given=constitutions(st.one_of(ANY, MARKED)))
def test_no_form_loses_more_than_its_page_says(form: str, given: Constitution) -> None:
    """Whatever stands in the texts: signs of Markdown, control characters, line ends of other systems."""
    assert set(written(given, form)[1]) <= told_to_lose()[form]


@pytest.mark.parametrize("form", ["list", "prose"])
@settings(max_examples=80, deadline=None)
@given(given=constitutions(st.one_of(VISIBLE, MARKED)))
def test_no_plain_text_loses_more_than_its_page_says(form: str, given: Constitution) -> None:
    """Whatever signs of Markdown stand in the texts; control characters no text file holds for certain."""
    assert set(written(given, form)[1]) <= told_to_lose()[form]


def test_the_page_says_what_each_form_loses_of_a_full_constitution() -> None:
    full = parse(FULL)
    assert {form: set(write_form(full, form).lost) for form in FORMS} == told_to_lose()


@settings(max_examples=80, deadline=None)
@given(given=constitutions(st.one_of(ANY, MARKED)))
def test_markdown_loses_nothing_at_all(tmp_path_factory: pytest.TempPathFactory, given: Constitution) -> None:
    text, lost = written(given, "markdown")
    assert lost == {}
    again = read(tmp_path_factory.mktemp("page"), text)
    assert (again.form, again.constitution) == ("markdown", given)


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("form", FORMS)
def test_the_shipped_constitutions_go_out_and_come_back(tmp_path: Path, name: str, form: str) -> None:
    given = load(name)
    text, lost = written(given, form)
    if not text:
        assert all(each.text is None for each in given.principles)
        return
    if form != "system-prompt":
        again = read(tmp_path, text)
        assert again.form == form
        assert_held(given, again.constitution, form, lost)
        assert write_form(again.constitution, form).text == text.replace(
            f"# {given.name}\n", f"# {again.constitution.name}\n"
        )


@pytest.mark.parametrize("form", ["cai", "hf", "traits", "cai-preferences"])
def test_importing_again_gives_the_same_ids(tmp_path: Path, form: str) -> None:
    once = read(tmp_path, write_form(load("first-steps"), form).text).constitution
    twice = read(tmp_path, write_form(once, form).text).constitution
    assert twice == once
