"""Dice are thrown once: a plan whose recipe, constitution and prompts are unchanged is found, and not drawn again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_kit import Desk, data_of, desk

from solon.commands import Done, plan_recipe, run_recipe


@pytest.fixture
def made(tmp_path: Path) -> Desk:
    return desk(tmp_path, prompts=6)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by a plan's name whenever one is drawn."""
    from solon.pipelines import plan

    names: list[str] = []
    really = plan.make_plan

    async def noted(*given: Any) -> Any:
        made = await really(*given)
        names.append(made.name)
        return made

    monkeypatch.setattr(plan, "make_plan", noted)
    return names


async def test_a_second_start_and_a_plan_draw_nothing(made: Desk, drawn: list[str]) -> None:
    first = await run_recipe(made.recipe, limit=2)
    second = await run_recipe(made.recipe)
    planned = await plan_recipe(made.recipe)
    assert drawn == [first.folder.facts["plan"]]
    assert second.folder.path == first.folder.path
    assert (planned.name, planned.exists, planned.survey.finished) == (drawn[0], True, 6)


async def test_what_was_not_drawn_again_has_the_same_bytes(made: Desk, drawn: list[str], tmp_path: Path) -> None:
    other = desk(tmp_path / "other", prompts=6)
    await run_recipe(made.recipe, limit=2)
    done = await run_recipe(made.recipe)
    unbroken = await run_recipe(other.recipe)
    assert drawn == [done.folder.facts["plan"], unbroken.folder.facts["plan"]]
    assert data_of(done.folder.path) == data_of(unbroken.folder.path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda made: made.reword("Be brief.", "Be very brief."),
        lambda made: made.write(seed=7),
        lambda made: made.write(story={"kind": "revision", "rounds": 2}),
        lambda made: made.write(story={"kind": "revision", "rounds": 1, "distinct": True}),
        lambda made: made.write(judging={"verdict": "parsed"}),
        lambda made: made.write(prompts={"path": "prompts.txt", "limit": 3}),
        lambda made: (made.path / "prompts.txt").write_text("Something else?\n"),
        lambda made: made.write(model="scripted:model.py:other"),
    ],
    ids=["wording", "seed", "rounds", "distinct", "verdict", "limit", "prompts", "model"],
)
async def test_what_decides_rows_or_their_name_is_drawn_anew(made: Desk, drawn: list[str], edit: Any) -> None:
    await run_recipe(made.recipe)
    edit(made)
    await run_recipe(made.recipe)
    assert len(drawn) == 2


async def test_what_does_not_decide_the_data_draws_nothing(made: Desk, drawn: list[str]) -> None:
    await run_recipe(made.recipe)
    made.write(window=2, export={"test_fraction": 0.5}, name=None)
    await run_recipe(made.recipe)
    assert len(drawn) == 1


async def test_another_recipe_of_the_same_words_takes_no_rows_away(made: Desk, drawn: list[str]) -> None:
    first = await run_recipe(made.recipe)
    (made.path / "twin.yaml").write_text(made.recipe.read_text())
    done: Done = await run_recipe(made.path / "twin.yaml")
    assert len(drawn) == 2
    assert done.folder.path.name.startswith("twin-")
    assert data_of(done.folder.path) == data_of(first.folder.path)
    assert first.folder.store(read_only=True).finished == 6, "its rows stay where they are"


async def test_a_run_folder_that_cannot_be_read_is_no_reason_to_stop(made: Desk, drawn: list[str]) -> None:
    await run_recipe(made.recipe)
    (made.latest / "run.json").write_text("{")
    assert (await run_recipe(made.recipe)).progress.done == 6
    assert len(drawn) == 2
