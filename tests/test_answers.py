"""Answers of no use, asked anew as a recipe says, and a critic that is asked by a schema: from the page to the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from run_kit import Desk, desk
from wire import Answer, Wire, chat

from solon.cast import Player
from solon.commands import plan_recipe, run_recipe
from solon.errors import BadInput, Halt
from solon.pipelines.recipe import read_recipe
from solon.workshop import Workshop

RUDE = Answer(chat('{"critique": "It is rude."}'))
LETTER = Answer(chat('{"answer": "A"}'))
WORDS = Answer(chat("It is rude."))


@pytest.fixture
def made(tmp_path: Path) -> Desk:
    return desk(tmp_path / "desk")


def criticised_by(made: Desk, wire: Wire, **more: Any) -> None:
    critic = {"use": "openai:critic", "base_url": f"{wire.url}/v1", "patience": 0.0}
    made.write(cast={"critic": {"model": critic, **more}})


async def critic_of(made: Desk) -> Player:
    async with Workshop(read_recipe(made.recipe), made.path) as shop:
        return (await shop.cast()).critic


async def name_of(made: Desk) -> str:
    return (await plan_recipe(made.recipe)).name


# -- asked anew, by kind -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("again", "most", "anew"),
    [
        (None, 0, None),
        (2, 2, None),
        ({"empty": 2, "cut": 2}, 2, None),
        ({"empty": 2, "cut": 1}, 2, {"empty": 2, "cut": 1, "repetition": 0, "refused": 0}),
        ({"refused": 3}, 3, {"empty": 0, "cut": 0, "repetition": 0, "refused": 3}),
    ],
)
async def test_a_number_is_for_empty_and_cut_answers_and_a_mapping_says_each_kind(
    made: Desk, again: Any, most: int, anew: Any
) -> None:
    made.write(cast={"critic": {"again": again}})
    critic = await critic_of(made)
    assert (critic.again, critic.anew) == (most, anew)


async def test_what_is_asked_anew_is_in_the_plans_name_as_far_as_it_differs(made: Desk) -> None:
    names = []
    for again in (0, 1, {"empty": 1, "cut": 1}, {"empty": 1}, {"empty": 1, "refused": 1}):
        made.write(cast={"critic": {"again": again}})
        names.append(await name_of(made))
    assert names[1] == names[2]
    assert len(set(names)) == 4


@pytest.mark.parametrize(
    ("again", "line"),
    [
        ({"empy": 1}, "unknown key 'empy' in 'again'"),
        ({"cut": -1}, "must be at least 0"),
        ({"refused": 11}, "must be at most 10"),
        ("often", "expected a whole number or a mapping"),
    ],
)
async def test_a_policy_that_is_none_is_one_clear_line(made: Desk, again: Any, line: str) -> None:
    made.write(cast={"critic": {"again": again}})
    with pytest.raises(BadInput, match=line) as caught:
        read_recipe(made.recipe)
    assert len(caught.value.problems) == 1


# -- a structured critic -------------------------------------------------------------------------------------


async def test_a_run_asks_a_structured_critic_by_its_schema_and_keeps_the_words_alone(made: Desk) -> None:
    async with Wire(LETTER, RUDE) as wire:
        criticised_by(made, wire, structured=True)
        done = await run_recipe(made.recipe, limit=2)
        assert done.pairs == 2
        assert all("response_format" in request.body for request in wire.requests)
        asked = [request.body["messages"][-1]["content"] for request in wire.requests[1:]]
        assert asked and all(each.endswith('Reply in JSON: {"critique": "..."}.') for each in asked)
        with done.folder.store() as store:
            assert [outcome.drafts[1].critique for outcome in store.outcomes()] == ["It is rude."] * 2


async def test_a_critic_that_keeps_no_schema_is_refused_where_one_is_wanted_and_asked_plainly_on_auto(
    made: Desk,
) -> None:
    plain = await name_of(made)
    made.write(cast={"critic": {"structured": "auto"}})
    assert (await critic_of(made)).structured is False
    assert await name_of(made) == plain
    made.write(cast={"critic": {"structured": True}})
    with pytest.raises(BadInput, match="takes no schema; write `structured: auto` or `false` under `critic`"):
        await plan_recipe(made.recipe)


async def test_whether_a_server_keeps_a_schema_is_found_by_asking_once(made: Desk) -> None:
    async with Wire(WORDS) as wire:
        criticised_by(made, wire, structured="auto")
        assert (await critic_of(made)).structured is False
        assert (await critic_of(made)).structured is False
        assert len(wire.requests) == 1
    made.path.joinpath(".solon", "ledger.db").unlink()
    async with Wire(LETTER) as wire:
        criticised_by(made, wire, structured="auto")
        assert (await critic_of(made)).structured is True
        assert (await critic_of(made)).structured is True
        assert len(wire.requests) == 1


async def test_a_critic_that_does_not_answer_what_it_can_do_stops_the_run_before_it_begins(made: Desk) -> None:
    async with Wire(Answer("<html>")) as wire:
        criticised_by(made, wire, structured=True)
        with pytest.raises(Halt, match="the critic did not answer what it can do"):
            await run_recipe(made.recipe)
    assert made.asked() == []


async def test_a_structured_critic_is_another_plan_and_a_plain_one_is_the_plan_that_was(made: Desk) -> None:
    async with Wire(LETTER) as wire:
        names = []
        for structured in (None, False, True, "auto"):
            criticised_by(made, wire, structured=structured)
            names.append(await name_of(made))
    assert names[0] == names[1] != names[2] == names[3]


@pytest.mark.parametrize(
    ("cast", "line"),
    [
        ({"responder": {"structured": True}}, "`structured` is the critic's alone; write it under `critic`"),
        ({"everyone": {"structured": "auto"}}, "`structured` is the critic's alone; write it under `critic`"),
        ({"judge": {"structured": False}}, "write `verdict: structured` under `judging`"),
        (
            {"critic": {"structured": True, "model": {"use": "scripted:model.py:answer", "form": "text"}}},
            "the critic is a base model .form: text., which takes no schema; write `structured: false`",
        ),
        ({"critic": {"structured": "yes please"}}, "structured"),
    ],
)
async def test_a_wish_that_cannot_be_granted_is_told_with_its_line(made: Desk, cast: Any, line: str) -> None:
    made.write(cast=cast)
    with pytest.raises(BadInput, match=line) as caught:
        read_recipe(made.recipe)
    assert len(caught.value.problems) == 1
    assert str(made.recipe) in str(caught.value)


def test_the_schema_of_a_critique_is_one_that_servers_take() -> None:
    """OpenAI's strict mode wants every property required and no other one."""
    from solon.generators.critique import SCHEMA

    content = json.loads(SCHEMA)
    assert content["required"] == list(content["properties"]) == ["critique"]
    assert content["additionalProperties"] is False
