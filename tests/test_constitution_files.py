"""Constitutions as files: names and paths, what is written and read again, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from constitution_kit import FLAT_2022, RANKED_2026, TRAITS, constitution, principle
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from solon.constitution import load, parse
from solon.errors import BadInput


def problems(text: str) -> list[str]:
    with pytest.raises(BadInput) as caught:
        parse(text, "c.yaml")
    return list(caught.value.problems)


@pytest.mark.parametrize("text", [FLAT_2022, RANKED_2026, TRAITS], ids=["flat 2022", "ranked 2026", "traits"])
def test_what_is_written_loads_back_equal_with_the_same_digest(text: str, tmp_path: Path) -> None:
    first = parse(text)
    (tmp_path / "kept.yaml").write_text(first.to_yaml(), encoding="utf-8")
    again = load("kept.yaml", tmp_path)
    assert again == first
    assert again.digest == first.digest


WORDS = st.text(min_size=1, max_size=40).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS, st.floats(0, 1e6), st.lists(WORDS, max_size=2), st.none() | st.integers(1, 9))
def test_any_constitution_survives_being_written(
    text: str, critique: str, weight: float, tags: list[str], rank: int | None
) -> None:
    shown = {"prompt": critique, "response": text, "critique": critique, "revision": text}
    first = constitution(
        principle(text=text, critique=critique, weight=weight, tags=tags, rank=rank, exemplars=[shown]), name=text
    )
    assert parse(first.to_yaml()) == first


def test_texts_of_several_lines_are_written_as_blocks() -> None:
    assert "preamble: |-\n  One.\n\n  Two.\n" in constitution(preamble="One.\n\nTwo.\n").to_yaml()


def test_a_constitution_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        constitution().name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        principle().weight = 2  # type: ignore[misc]


def test_a_path_is_looked_up_under_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mine.yaml").write_text(FLAT_2022)
    assert load("deep/mine.yaml", tmp_path).name == "Flat"
    assert load(tmp_path / "deep" / "mine.yaml", Path("/nowhere")).name == "Flat"
    monkeypatch.chdir(tmp_path / "deep")
    assert load("mine.yaml").name == "Flat"
    assert load(Path("mine.yaml")).name == "Flat"


def test_a_shipped_name_wins_over_a_file_of_that_name_unless_it_is_written_as_a_path(tmp_path: Path) -> None:
    (tmp_path / "cai-2022").write_text(FLAT_2022)
    assert len(load("cai-2022", tmp_path).principles) == 16
    assert load("./cai-2022", tmp_path).name == "Flat"
    assert load(Path("cai-2022"), tmp_path).name == "Flat"


def test_a_name_that_is_not_shipped_is_told_with_the_nearest_or_with_all(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        load("cai2022", tmp_path)
    assert str(caught.value) == (
        "no constitution 'cai2022' is shipped; did you mean 'cai-2022'? (or write the path of a YAML file)"
    )
    for strange in ("zzz", "z" * 5000, ""):
        with pytest.raises(BadInput):
            load(strange, tmp_path)
    with pytest.raises(BadInput, match="choose from: cai-2022, counsel, first-steps"):
        load("zzz", tmp_path)


def test_a_file_that_is_missing_or_broken_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"mine\.yaml: no such file"):
        load("mine.yaml", tmp_path)
    (tmp_path / "mine.yaml").write_text("")
    with pytest.raises(BadInput, match=r"mine\.yaml:1: the file is empty"):
        load("mine.yaml", tmp_path)
    (tmp_path / "mine.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(BadInput, match=r"mine\.yaml:1: byte 0xff is not UTF-8"):
        load("mine.yaml", tmp_path)
    (tmp_path / "mine.yaml").write_bytes(b"name: " + b"x" * 10_000_000)
    with pytest.raises(BadInput, match=r"mine\.yaml: larger than 10 MB"):
        load("mine.yaml", tmp_path)


def test_every_mistake_of_a_constitution_is_told_at_once() -> None:
    text = """\
nmae: Wrong
principles:
  - id: No Harm!
    text: Do no harm.
  - id: kind
    critque: Was it kind?
    wieght: 2
  - id: kind
    text: Again.
    weight: -1
  - id: ""
    text: x
    kind: hard
  - id: silent
    weight: .nan
  - id: wall
    kind: hard_constraint
    critique: Never.
  - id: mute
  - text: anonymous
    rank: 0
    tags: one
  - id: shown
    text: x
    exemplars:
      - prompt: Hello?
        respons: Hi.
        critique: c
        revision: v
    cases:
      - prompt: []
        better: b
        worse: ""
      - prompt: 3
        better: b
        worse: w
      - prompt:
          - {role: user, content: a}
          - {role: asistant, content: b}
        better: b
        worse: w
      - prompt:
          - {role: user, content: a}
          - {role: assistant, content: b}
        better: b
        worse: w
  - just a text
"""
    assert problems(text) == [
        "c.yaml:1: unknown key 'nmae'; did you mean 'name'?",
        "c.yaml:3: 'id' in principle 'No Harm!': 'No Harm!' is no id; use small letters and digits, joined by '-', "
        "'_' or '.', for example 'no-harm'",
        "c.yaml:6: unknown key 'critque' in principle 'kind'; did you mean 'critique'?",
        "c.yaml:7: unknown key 'wieght' in principle 'kind'; did you mean 'weight'?",
        "c.yaml:8: id 'kind' is already taken on line 5; give every principle an id of its own",
        "c.yaml:10: 'weight' in principle 'kind' must be at least 0, found the number -1",
        "c.yaml:11: 'id' in item 4 of 'principles' must not be empty",
        "c.yaml:13: 'kind' in item 4 of 'principles': expected one of principle, priority, hard_constraint, trait, "
        "found the text 'hard'",
        "c.yaml:15: 'weight' in principle 'silent' must be a finite number, found the number .nan",
        "c.yaml:16: principle 'wall': a hard constraint needs `text`: it stands in every wording; add `text: ...`",
        "c.yaml:19: principle 'mute': says nothing; add `text: ...`, or at least one of critique, revision, preference",
        "c.yaml:20: 'id' is missing in item 8 of 'principles'; add `id: ...`",
        "c.yaml:21: 'rank' in item 8 of 'principles' must be at least 1, found the number 0",
        "c.yaml:22: 'tags' in item 8 of 'principles': expected a list, found the text 'one'; write it as a list: [one]",
        "c.yaml:27: unknown key 'respons' in item 1 of 'exemplars' in principle 'shown'; did you mean 'response'?",
        "c.yaml:31: 'prompt' in item 1 of 'cases' in principle 'shown' must not be empty",
        "c.yaml:33: 'worse' in item 1 of 'cases' in principle 'shown' must not be empty",
        "c.yaml:34: 'prompt' in item 2 of 'cases' in principle 'shown': expected a text, or a list of turns with role "
        "and content, found the number 3",
        "c.yaml:39: 'role' in item 2 of 'prompt' in item 3 of 'cases' in principle 'shown': expected one of system, "
        "user, assistant, found the text 'asistant'; did you mean 'assistant'?",
        "c.yaml:42: 'prompt' in item 4 of 'cases' in principle 'shown': the last turn is the assistant's; it must be "
        "the user's, who is then answered",
        "c.yaml:47: item 10 of 'principles': expected a mapping (`key: value` lines), found the text 'just a text'",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\n", "c.yaml:1: 'principles' is missing; add `principles: ...`"),
        ("name: x\nprinciples: []\n", "c.yaml:2: 'principles' must not be empty"),
        ("name: x\nprinciples:\n", "c.yaml:2: 'principles': expected a list, found nothing"),
        ("name: x\nprinciples: {a: b}\n", "c.yaml:2: 'principles': expected a list, found a mapping"),
        ("name: x\nversion: 1.10\nprinciples: [{id: a, text: b}]\n",
         "c.yaml:2: 'version': expected a text, found the number 1.10; put it in quotes: \"1.10\""),
        ("name: x\nprinciples: [{id: a, text: b, weight: true}]\n",
         "c.yaml:2: 'weight' in principle 'a': expected a number, found true"),
        ("name: x\nprinciples: [{id: a, text: b, weight: '2'}]\n",
         "c.yaml:2: 'weight' in principle 'a': expected a number, found the text '2'"),
        ("name: x\nprinciples: [{id: a, text: b, weight: .inf}]\n",
         "c.yaml:2: 'weight' in principle 'a' must be a finite number, found the number .inf"),
        ("name: x\nprinciples: [{id: a, text: ' '}]\n", "c.yaml:2: 'text' in principle 'a' must not be empty"),
        ("name: x\nprinciples: [{id: a, text: b, tags: [' ']}]\n",
         "c.yaml:2: item 1 of 'tags' in principle 'a' must not be empty"),
        ("name: x\nprinciples: [{id: 7, text: b}]\n",
         "c.yaml:2: 'id' in item 1 of 'principles': expected a text, found the number 7; put it in quotes: \"7\""),
        ("name: x\nprinciples:\n  - id: a\n    text: b\n  - id: ' a '\n    text: c\n",
         "c.yaml:5: id 'a' is already taken on line 3; give every principle an id of its own"),
        ("name: x\nprinciples: [{id: a, text: b}\n",
         "c.yaml:2: the '[' that opens here is not closed; close it by ']', with ',' between its items"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_remedy(text: str, told: str) -> None:
    assert problems(text) == [told]


def test_two_principles_of_one_id_are_refused_in_python_too() -> None:
    with pytest.raises(ValidationError, match="Ids are given twice: p"):
        constitution(principle(), principle())
