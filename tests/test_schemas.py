"""The JSON Schemas let pass what Solon reads, and mark what it refuses, as far as a schema can say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from run_kit import Solon

from solon import yamls
from solon.constitution import shipped, shipped_text
from solon.schemas import schema_text

ROOT = Path(__file__).parents[1]


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


def faults(page: str, tree: Any) -> list[str]:
    schema = json.loads(schema_text(page))
    Draft202012Validator.check_schema(schema)
    return [error.message for error in Draft202012Validator(schema).iter_errors(tree)]


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_constitution_fits_its_schema(name: str) -> None:
    assert faults("constitution", yamls.parse(shipped_text(name), name).value) == []


EXAMPLES = [path for path in sorted((ROOT / "examples").rglob("*.yaml")) if "runs" not in path.parts]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_recipe_fits_its_schema(path: Path) -> None:
    assert faults("recipe", yamls.read(path).value) == []


RECIPE = {"constitution": "cai-2022", "prompts": "p.jsonl", "model": "smollm2", "story": "revision"}


@pytest.mark.parametrize(
    "changed",
    [
        {"prompts": {"path": "p.jsonl", "limit": 3}},
        {"model": {"use": "openai:gpt-4.1", "price": {"input": 1, "output": 2.5}}},
        {"story": {"kind": "revision", "rounds": 2}},
        {"story": {"kind": "preference", "candidates": 4}},
        {"cast": {"judge": {"model": "smollm2", "temperature": "provider"}}},
        {"judging": {"clamp": [0.3, 0.7]}},
    ],
)
def test_short_and_long_forms_fit(changed: dict[str, Any]) -> None:
    assert faults("recipe", {**RECIPE, **changed}) == []


@pytest.mark.parametrize(
    ("page", "tree"),
    [
        ("recipe", {**RECIPE, "sed": 1}),
        ("recipe", {**RECIPE, "story": "revisions"}),
        ("recipe", {**RECIPE, "story": {"kind": "preference", "rounds": 2}}),
        ("recipe", {key: value for key, value in RECIPE.items() if key != "model"}),
        ("recipe", {**RECIPE, "window": 0}),
        ("constitution", {"name": "x", "principles": [{"id": "a", "txt": "b"}]}),
        ("constitution", {"name": "x", "principles": [{"id": "a", "text": "b", "weight": -1}]}),
        ("constitution", {"name": "x", "principles": [{"id": "a", "text": "b", "kind": "rule"}]}),
        ("constitution", {"principles": [{"id": "a", "text": "b"}]}),
    ],
)
def test_a_mistake_is_marked(page: str, tree: dict[str, Any]) -> None:
    assert faults(page, tree)


@pytest.mark.parametrize("page", ["constitution", "recipe"])
def test_every_key_carries_its_words(page: str) -> None:
    schema = json.loads(schema_text(page))
    parts = {**schema["$defs"], page: schema}
    turn = {"role", "content"}  # a turn of a conversation explains itself
    silent = [
        f"{part}.{key}"
        for part, content in parts.items()
        for key, about in content.get("properties", {}).items()
        if "description" not in about and "const" not in about and key not in turn
    ]
    assert silent == []


def test_the_starters_files_name_the_schemas_that_stand_beside_them(solon: Solon, tmp_path: Path) -> None:
    solon("init", tmp_path / "mine")
    for page in ("constitution", "recipe"):
        head = (tmp_path / "mine" / f"{page}.yaml").read_text().splitlines()[0]
        named = head.removeprefix("# yaml-language-server: $schema=")
        assert (tmp_path / "mine" / named).read_text() == schema_text(page)


def test_a_schema_is_printed_or_written(solon: Solon, tmp_path: Path) -> None:
    assert solon("schema", "recipe").out == schema_text("recipe")
    told = solon("schema", "constitution", "--to", tmp_path / "deep" / "c.json")
    assert (tmp_path / "deep" / "c.json").read_text() == schema_text("constitution")
    assert told.code == 0
    assert solon("schema", "constitution", "--to", tmp_path / "deep" / "c.json").code == 0  # over an older one


def test_a_schema_never_overwrites_something_else_and_an_unknown_page_is_told(solon: Solon, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    assert solon("schema", "recipe", "--to", tmp_path / "mine.txt").code == 2
    assert (tmp_path / "mine.txt").read_text() == "precious"
    told = solon("schema", "recipes")
    assert told.code == 2
    assert "did you mean 'recipe'?" in told.err
