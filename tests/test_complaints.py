"""From a document to a model: what is wrong is told once, in plain words, all of it at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from solon import yamls
from solon.complaints import closest, one_of, short, words_of
from solon.errors import BadInput


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    size: float = Field(1, ge=0, lt=10, allow_inf_nan=False)
    colour: Literal["red", "green", "dark blue"] = "red"
    tags: list[str] = []
    parts: list[Part] = []


class Tool(BaseModel):
    model_config = ConfigDict(extra="forbid")

    use: str
    grip: Literal["left", "right"] = "right"

    @field_validator("use")
    @classmethod
    def _known(cls, use: str) -> str:
        if use == "hammer":
            return use
        raise ValueError(f"unknown tool {use!r}; write hammer")


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    count: int = Field(0, gt=-1, le=5)
    ready: bool = False
    first_part: Part | None = None
    parts: list[Part] = Field(min_length=1)
    tool: str | Tool = "hammer"
    tools: dict[str, Tool | str] = {}
    seen: str | list[Part] = ""

    @model_validator(mode="after")
    def _distinct(self) -> Thing:
        if len({part.id for part in self.parts}) < len(self.parts):
            raise PydanticCustomError("also_checked", "Parts share an id")
        return self


def problems(text: str, **options: Any) -> list[str]:
    with pytest.raises(BadInput) as caught:
        yamls.build(Thing, yamls.parse(text, "c.yaml"), **options)
    return list(caught.value.problems)


def repeated(document: yamls.Document) -> Iterator[str]:
    ids = [part["id"] for part in document.tree["parts"]]
    for index, each in enumerate(ids):
        if each in ids[:index]:
            yield document.problem(("parts", index, "id"), f"id {each!r} again")


def test_a_right_document_becomes_the_model() -> None:
    built = yamls.build(Thing, yamls.parse("name: x\nparts: [{id: a}]\ntool: {use: hammer}\n", "c.yaml"))
    assert built == Thing(name="x", parts=[Part(id="a")], tool=Tool(use="hammer"))


def test_every_mistake_is_told_at_once_in_the_order_of_lines() -> None:
    text = """\
name: 1.10
count: many
parts:
  - id: a
    size: -1
    colour: gren
    sise: 2
  - size: .nan
    tags: heavy
  - id: b
    parts:
      - id: c
        tags: [x, 7]
        extra: 1
name: y
"""
    assert problems(text) == [
        "c.yaml:1: 'name': expected a text, found the number 1.10; put it in quotes: \"1.10\"",
        "c.yaml:2: 'count': expected a whole number, found the text 'many'",
        "c.yaml:5: 'size' in part 'a' must be at least 0, found the number -1",
        "c.yaml:6: 'colour' in part 'a': expected one of red, green, dark blue, found the text 'gren'; "
        "did you mean 'green'?",
        "c.yaml:7: unknown key 'sise' in part 'a'; did you mean 'size'?",
        "c.yaml:8: 'size' in item 2 of 'parts' must be a finite number, found the number .nan",
        "c.yaml:8: 'id' is missing in item 2 of 'parts'; add `id: ...`",
        "c.yaml:9: 'tags' in item 2 of 'parts': expected a list, found the text 'heavy'; write it as a list: [heavy]",
        "c.yaml:13: item 2 of 'tags' in part 'c': expected a text, found the number 7; put it in quotes: \"7\"",
        "c.yaml:14: unknown key 'extra' in part 'c'; choose from: id, size, colour, tags, parts",
        "c.yaml:15: key 'name' is given twice (first on line 1); keep one",
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("count: 6", "'count' must be at most 5, found the number 6"),
        ("count: -1", "'count' must be more than -1, found the number -1"),
        ("count: 1.5", "'count': expected a whole number, found the number 1.5"),
        ("count:", "'count': expected a whole number, found nothing"),
        ("count: [1]", "'count': expected a whole number, found a list"),
        ("count: {}", "'count': expected a whole number, found an empty mapping"),
        ("ready: maybe", "'ready': expected true or false, found the text 'maybe'"),
        ("first_part: 3", "'first_part': expected a mapping (`key: value` lines), found the number 3"),
        ("first_part: {id: a, size: 10}", "'size' in 'first_part' must be less than 10, found the number 10"),
        ("first_part: {id: a, siz: 1}", "unknown key 'siz' in 'first_part'; did you mean 'size'?"),
        ("first_part: {id: true}", "'id' in 'first_part': expected a text, found true; put it in quotes: \"true\""),
        ("frist-part: {}", "unknown key 'frist-part'; did you mean 'first_part'?"),
        ("tool: 3", "'tool': expected a text or a mapping (`key: value` lines), found the number 3; "
                    'put it in quotes: "3"'),
        ("tool: {use: saw}", "'use' in 'tool': unknown tool 'saw'; write hammer"),
        ("tool: {uze: hammer}", "unknown key 'uze' in 'tool'; did you mean 'use'?"),
        ("tool: {}", "'use' is missing in 'tool'; add `use: ...`"),
        ("tools: {a: {use: hammer, gripp: left}}", "unknown key 'gripp' in 'a' in 'tools'; did you mean 'grip'?"),
        ("seen: [{idd: a}]", "unknown key 'idd' in item 1 of 'seen'; did you mean 'id'?"),
        ("seen: 1", "'seen': expected a text or a list, found the number 1; put it in quotes: \"1\""),
    ],
)  # fmt: skip
def test_a_mistake_is_told_once_by_name_value_and_remedy(line: str, told: str) -> None:
    assert problems(f"name: x\nparts: [{{id: a}}]\n{line}\n") == [f"c.yaml:3: {told}"]


def test_what_is_missing_or_empty_is_told_at_the_top() -> None:
    assert problems("parts: []\n") == [
        "c.yaml:1: 'parts' must not be empty",
        "c.yaml:1: 'name' is missing; add `name: ...`",
    ]
    assert problems("name: ''\nparts: [{id: a}]\n") == ["c.yaml:1: 'name' must not be empty"]


def test_a_check_of_the_document_speaks_beside_the_model_and_nothing_is_told_twice() -> None:
    twice = "name: x\nparts:\n  - id: a\n  - id: a\n"
    assert problems(twice, checks=[repeated]) == ["c.yaml:4: id 'a' again"]
    assert problems(twice + "count: 9\n", checks=[repeated]) == [
        "c.yaml:4: id 'a' again",
        "c.yaml:5: 'count' must be at most 5, found the number 9",
    ]


def test_a_model_that_guards_itself_is_heard_where_no_check_spoke() -> None:
    assert problems("name: x\nparts:\n  - id: a\n  - id: a\n") == ["c.yaml:1: the file: parts share an id"]


def test_no_word_of_pydantics_own_jargon_reaches_people() -> None:
    told = problems("name: []\ncount: x\nready: 7\nfirst_part: x\nparts: x\ntool: []\ntools: 3\nseen: {}\n")
    assert len(told) == 8
    assert not [each for each in told if "nput should" in each or "valid" in each or "pydantic" in each]


# ---- words ---------------------------------------------------------------------------------------------------------


def test_the_closest_word_forgives_case_and_dashes() -> None:
    assert closest("Applies-To", ["applies_to", "text"]) == "applies_to"
    assert closest("zebra", ["applies_to", "text"]) is None
    assert one_of("zebra", ["a", "b"]) == "choose from: a, b"
    assert one_of("txt", ["text", "b"]) == "did you mean 'text'?"


def test_a_long_text_is_shown_short() -> None:
    assert short("a\n  b") == "a b"
    assert short("x" * 100, 10) == "x" * 9 + "…"
    assert len(short("a" + " " * 1000 + "b")) <= 60


def test_what_a_library_says_stands_on_one_line_and_is_never_nothing() -> None:
    assert words_of(ValueError("It broke.\n  Badly.")) == "It broke. Badly"
    assert words_of(ValueError("x" * 1000), 10) == "x" * 9 + "…"
    assert words_of(KeyError()) == "KeyError"
