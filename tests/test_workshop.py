"""The workshop: what a judge can do is found by asking, once; models and prices of a recipe's roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_kit import Desk, desk
from wire import Answer, Wire, chat, error

from solon.calls import Call, Usage
from solon.commands import check_models, plan_recipe, run_recipe
from solon.errors import BadInput, Halt, StorageError
from solon.models.spec import Price
from solon.outlay import Estimate, estimate
from solon.pipelines.recipe import read_recipe
from solon.pipelines.survey import StepCount
from solon.prices import PriceMeter
from solon.workshop import Workshop

TOPS = [{"token": "A", "logprob": -0.1}, {"token": "B", "logprob": -2.4}]
SHOWN = Answer(chat("A", logprobs={"content": [{**TOPS[0], "top_logprobs": TOPS}]}))
HIDDEN = Answer(chat("A"))
LETTER = Answer(chat('{"answer": "A"}'))


@pytest.fixture
def made(tmp_path: Path) -> Desk:
    return desk(tmp_path / "desk")


def judged_by(made: Desk, wire: Wire, **more: Any) -> None:
    judge = {"use": "openai:judge", "base_url": f"{wire.url}/v1", "patience": 0.0, **more}
    made.write(cast={"judge": {"model": judge}})


async def steps(made: Desk) -> str:
    """Return how the plan's judge is asked, seen from the plan's own name: "logprobs", "structured" or "parsed"."""
    recipe = read_recipe(made.recipe)
    async with Workshop(recipe, made.path) as shop:
        judge = (await shop.cast()).judge
        return recipe.judging.source(judge.can, judge.form, judge.name)


# -- probes --------------------------------------------------------------------------------------------------


async def test_a_judge_that_shows_log_probabilities_is_asked_for_them_once_for_ever(made: Desk) -> None:
    async with Wire(SHOWN) as wire:
        judged_by(made, wire)
        assert await steps(made) == "logprobs"
        assert await steps(made) == "logprobs"
        assert len(wire.requests) == 1
        assert wire.requests[0].body["logprobs"] is True


async def test_a_server_that_takes_a_parameter_and_ignores_it_cannot(made: Desk) -> None:
    """Only an answer that has what was asked for counts."""
    async with Wire(HIDDEN, LETTER) as wire:
        judged_by(made, wire)
        assert await steps(made) == "structured"
        assert await steps(made) == "structured"
        assert len(wire.requests) == 2
        assert "response_format" in wire.requests[1].body
    async with Wire(HIDDEN, HIDDEN) as wire:
        judged_by(made, wire)
        assert await steps(made) == "parsed"


@pytest.mark.parametrize(
    "refusal",
    [
        Answer(error("Unsupported parameter: 'logprobs'", code="unsupported_parameter", param="logprobs"), 400),
        Answer(error("something about this one request"), 400),
    ],
    ids=["parameter refused", "call rejected"],
)
async def test_a_refused_parameter_means_that_the_judge_cannot(made: Desk, refusal: Answer) -> None:
    async with Wire(refusal, refusal) as wire:
        judged_by(made, wire)
        assert await steps(made) == "parsed"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(error("no", code="invalid_api_key"), 401), "key"),
        (Answer(error("no such model", code="model_not_found"), 404), "no such model"),
        (Answer(error("overloaded"), 500), "the judge did not answer what it can do"),
        (Answer("<html>"), "the judge did not answer what it can do"),
    ],
    ids=["wrong key", "unknown model", "away", "unreadable"],
)
async def test_a_judge_that_is_away_has_said_nothing_and_the_run_does_not_begin(
    made: Desk, answer: Answer, told: str
) -> None:
    async with Wire(answer) as wire:
        judged_by(made, wire)
        with pytest.raises(Halt, match=told):
            await run_recipe(made.recipe)
        assert made.asked() == []
        # and nothing was recorded: when it is back it is asked again
        wire.answers = [SHOWN]
        assert await steps(made) == "logprobs"


async def test_a_ledger_that_cannot_be_written_is_told_before_a_judge_is_paid(
    made: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run_recipe(made.recipe)
    monkeypatch.setattr("solon.ledger.ledger.unwritable", lambda path: f"{path}: it cannot be written")
    async with Wire(SHOWN) as wire:
        judged_by(made, wire)
        with pytest.raises(StorageError, match="cannot be written"):
            await run_recipe(made.recipe)
        assert not wire.requests


async def test_a_stated_way_to_judge_asks_no_more_than_it_needs(made: Desk) -> None:
    async with Wire(LETTER) as wire:
        judged_by(made, wire)
        made.write(judging={"verdict": "parsed"})
        assert await steps(made) == "parsed"
        assert wire.requests == []
        made.write(judging={"verdict": "structured"})
        assert await steps(made) == "structured"
        assert ["response_format" in request.body for request in wire.requests] == [True]


async def test_a_stated_way_that_the_judge_cannot_go_is_refused(made: Desk) -> None:
    async with Wire(HIDDEN) as wire:
        judged_by(made, wire)
        for verdict, told in (("logprobs", "gives no log-probabilities"), ("structured", "takes no schema")):
            made.write(judging={"verdict": verdict})
            with pytest.raises(BadInput, match=told):
                await plan_recipe(made.recipe)


async def test_other_options_are_asked_about_anew_and_with_them(made: Desk) -> None:
    """A model that thinks first may hide what it shows without thinking."""
    async with Wire(HIDDEN, HIDDEN, SHOWN) as wire:
        judged_by(made, wire)
        assert await steps(made) == "parsed"
        judged_by(made, wire, options={"thinking": False})
        assert await steps(made) == "logprobs"
        assert wire.requests[2].body["thinking"] is False
        judged_by(made, wire)
        assert await steps(made) == "parsed"
        assert len(wire.requests) == 3


async def test_refresh_asks_a_judge_again_what_it_can_do(made: Desk) -> None:
    async with Wire(HIDDEN, HIDDEN, SHOWN) as wire:
        judged_by(made, wire)
        assert await steps(made) == "parsed"
        async with Workshop(read_recipe(made.recipe), made.path, refresh=True) as shop:
            assert (await shop.cast()).judge.can.logprobs is True
        assert await steps(made) == "logprobs"


async def test_offline_a_judge_that_was_never_asked_is_told(made: Desk) -> None:
    """Guessing would name another plan than the one that a run makes."""
    async with Wire(SHOWN) as wire:
        judged_by(made, wire)
        with pytest.raises(BadInput, match="run once without --offline, or write `verdict: parsed`"):
            await run_recipe(made.recipe, offline=True)
        assert wire.requests == []
        planned = await plan_recipe(made.recipe)
    done = await run_recipe(made.recipe, offline=True)  # the server is gone, what it can do is recorded
    assert done.folder.path == planned.folder


async def test_a_probe_is_in_no_answers_way(made: Desk) -> None:
    async with Wire(SHOWN) as wire:
        judged_by(made, wire)
        await plan_recipe(made.recipe)
        assert made.remembered() == set()


# -- models --------------------------------------------------------------------------------------------------


async def test_offline_needs_no_key(made: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made.write(model="openai:gpt-x", judging={"verdict": "parsed"})
    done = await run_recipe(made.recipe, offline=True)
    assert (done.pairs, done.progress.aside["not_known"]) == (0, 4)


async def test_the_stand_in_for_a_missing_key_never_leaves_the_house(
    made: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTHER_KEY", raising=False)
    async with Wire(SHOWN) as wire:
        judged_by(made, wire, key_env="OTHER_KEY")
        with pytest.raises(Halt, match="OTHER_KEY"):
            await plan_recipe(made.recipe)
        assert wire.requests == []
        monkeypatch.setenv("OTHER_KEY", "sk-mine")
        await plan_recipe(made.recipe)
        assert wire.requests[0].headers["Authorization"] == "Bearer sk-mine"


async def test_roles_with_the_same_words_share_one_model(made: Desk) -> None:
    made.write(cast={"judge": {"model": "scripted:model.py:other"}})
    async with Workshop(read_recipe(made.recipe), made.path) as shop:
        assert shop.model("critic") is shop.model("responder")
        assert shop.model("judge") is not shop.model("responder")
        cast = await shop.cast()
        assert cast.judge.model == "scripted:model:other@1"
        assert [player.role for player in cast.players()] == ["responder", "critic", "reviser", "judge"]


async def test_a_dry_cast_asks_nobody(made: Desk) -> None:
    async with Workshop(read_recipe(made.recipe), made.path) as shop:
        dry = await shop.dry_cast()
        with pytest.raises(Exception, match="not in the ledger"):
            await dry.responder.ask(Call(dry.responder.model, ()))
    assert made.asked() == []


# -- money ---------------------------------------------------------------------------------------------------


def test_an_estimate_goes_by_what_is_known_else_by_the_questions_length() -> None:
    price = PriceMeter(Price(input=1, output=10))
    count = StepCount(known=2, certain=3, following=1.5, at_most=5, known_usage=Usage(input=200, output=40))
    sure, about, most = estimate(price, count)
    assert (sure.input, sure.output) == (300, 60)
    assert (about.input, about.output) == (450, 90)
    assert (most.input, most.output) == (500, 100)
    assert most.dollars == pytest.approx((500 + 1000) / 1e6)
    fresh, _, _ = estimate(price, StepCount(most=50, certain=2, at_most=2, certain_chars=800))
    assert (fresh.input, fresh.output) == (200, 100)
    assert estimate(PriceMeter(None), StepCount()) == (Estimate(),) * 3  # nothing new costs nothing, whatever the price
    assert estimate(PriceMeter(None), count)[0].dollars is None
    assert (sure + estimate(PriceMeter(None), count)[0]).dollars is None


def test_an_estimate_goes_by_earlier_runs_where_no_call_of_the_step_is_known_any_more() -> None:
    count = StepCount(certain=4, at_most=4, seen=2, seen_usage=Usage(input=20, output=6), certain_chars=9999)
    sure, _, _ = estimate(PriceMeter(Price(input=1, output=10)), count)
    assert (sure.input, sure.output) == (40, 12)


async def test_spent_is_unknown_once_a_priceless_model_was_asked(made: Desk) -> None:
    async with Wire(SHOWN) as wire:
        judged_by(made, wire)
        done = await run_recipe(made.recipe)
        assert done.dollars is None
        assert done.folder.walks()[0]["dollars"] is None
        judged_by(made, wire, price={"input": 2, "output": 4})
        made.write(runs="elsewhere", ledger="fresh.db")
        done = await run_recipe(made.recipe)
    assert done.dollars == pytest.approx(8 * (7 * 2 + 5 * 4) / 1e6)


# -- models check --------------------------------------------------------------------------------------------


async def test_models_check_asks_each_role_what_the_run_would_ask_and_keeps_no_answer(made: Desk) -> None:
    async with Wire(Answer(chat("Hello.")), Answer(chat("Hello.")), SHOWN, LETTER) as wire:
        judged_by(made, wire)
        page = {
            "model": {"use": "openai:judge", "base_url": f"{wire.url}/v1"},
            "system": "Be fair.",
            "temperature": 0.3,
        }
        made.write(cast={"judge": page})
        found = {one.role: one for one in await check_models(made.recipe)}
        assert [request.body["messages"][0]["role"] for request in wire.requests] == [
            "system",
            "system",
            "user",
            "user",
        ]
        assert wire.requests[0].body["temperature"] == 0.3
        assert wire.requests[0].body["max_tokens"] == 32
    judge = found["judge"]
    assert (judge.answered, judge.logprobs, judge.schema, judge.problem) == (True, True, True, "")
    assert judge.tokens_per_second is not None
    assert found["critic"].logprobs is True  # as its script declares
    assert made.remembered() == set()


async def test_models_check_names_every_model_that_is_away(made: Desk) -> None:
    made.write(
        cast={
            "judge": {"model": {"use": "openai:gone", "base_url": "http://127.0.0.1:9/v1", "patience": 0.0}},
            "critic": {"model": "scripted:nowhere.py:answer"},
        }
    )
    found = {one.role: one for one in await check_models(made.recipe)}
    assert [role for role, one in found.items() if one.answered] == ["responder", "reviser"]
    assert "nobody answers" in found["judge"].problem
    assert "nowhere.py" in found["critic"].problem


async def test_models_check_tells_a_parameter_that_the_model_refuses(made: Desk) -> None:
    """It is never dropped: the run would stop at its first call."""
    refusal = Answer(error("Unsupported value: 'temperature'", code="unsupported_value", param="temperature"), 400)
    async with Wire(refusal) as wire:
        judged_by(made, wire)
        judge = (await check_models(made.recipe))[-1]
    assert not judge.answered
    assert "write `temperature: provider` for its role under `cast`" in judge.problem
