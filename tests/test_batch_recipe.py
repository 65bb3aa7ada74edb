"""`batch: true` in a recipe: one line for a role or for everyone, and refused where nobody takes batch jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from solon.errors import BadInput
from solon.pipelines.recipe import Recipe, read_recipe

PAGE = "constitution: first-steps\nprompts: prompts.txt\nstory: revision\n"


def read(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(PAGE + text, encoding="utf-8")
    return read_recipe(path)


def batched(recipe: Recipe) -> set[str]:
    return {role for role in recipe.roles() if recipe.role(role).batch}


def test_nobody_waits_for_batch_jobs_unless_the_recipe_says_so(tmp_path: Path) -> None:
    assert batched(read(tmp_path, "model: openai:m\n")) == set()


def test_one_line_under_a_role_switches_batch_jobs_on_for_it_alone(tmp_path: Path) -> None:
    assert batched(read(tmp_path, "model: openai:m\ncast:\n  judge: {batch: true}\n")) == {"judge"}


def test_one_line_under_everyone_switches_them_on_for_all_but_who_says_no(tmp_path: Path) -> None:
    text = "model: anthropic:m\ncast:\n  everyone: {batch: true}\n  judge: {batch: false}\n"
    assert batched(read(tmp_path, text)) == {"responder", "critic", "reviser"}


@pytest.mark.parametrize("model", ["smollm2", "local:folder", "scripted:m.py:answer"])
def test_a_model_that_nobody_sells_by_the_batch_is_refused_with_its_line(tmp_path: Path, model: str) -> None:
    with pytest.raises(BadInput) as told:
        read(tmp_path, f"model: openai:m\ncast:\n  judge: {{model: {model}, batch: true}}\n")
    assert told.value.problems == (
        f"{tmp_path}/recipe.yaml:6: the judge is {model}, and only OpenAI and Anthropic take batch "
        "jobs; write `batch: false` for judge, or give it another model",
    )


def test_everyones_batch_is_refused_for_the_one_role_that_plays_on_this_machine(tmp_path: Path) -> None:
    text = "model: openai:m\ncast:\n  everyone: {batch: true}\n  judge: {model: smollm2}\n"
    with pytest.raises(BadInput, match=r"recipe.yaml:6: .*the judge is smollm2"):
        read(tmp_path, text)


def test_a_number_is_no_switch_and_a_models_rows_a_batch_have_a_name_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"recipe.yaml:6: .*batch"):
        read(tmp_path, "model: openai:m\ncast:\n  judge: {batch: 1}\n")
    assert read(tmp_path, "model: {use: smollm2, batch_size: 3}\n").model.batch_size == 3
    with pytest.raises(BadInput, match="batch_size"):
        read(tmp_path, "model: {use: smollm2, batch: 3}\n")
