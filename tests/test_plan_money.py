"""What a plan says of money: between what bounds the price lies, whether a budget holds, what an upgrade makes new."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from run_kit import Desk, Solon, desk

from solon import __version__
from solon.calls import Usage
from solon.commands import Planned, plan_recipe, run_recipe
from solon.generators import dialogue
from solon.judges import pairwise
from solon.outlay import Estimate, Outlay, outlook
from solon.pipelines.spread import Spread
from solon.pipelines.survey import StepCount, Survey
from solon.pipelines.wordings import own_wordings
from solon.spend import DOLLAR, Limit, Spend

NOTHING = Spend()
VARIED = '''

async def varied(call):
    """Answers of lengths that vary by hash, some three times as long as others; a fifth of the revisions is the answer
    itself, so that no judge is asked."""
    await noted(call)
    if call.labels:
        return said(call)
    digest = hashlib.sha256(call.to_json().encode()).hexdigest()
    if "Write the revised response" in call.messages[-1].content and int(digest[:2], 16) < 51:
        return next(turn.content for turn in call.messages if turn.role == "assistant")
    words = 10 + int(90 * (int(digest[4:10], 16) / 0xFFFFFF) ** 3)
    return f"Words {digest[:16]} " + " ".join(f"w{digest[place % 60]}{place}" for place in range(words)) + "."
'''


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


def varied_desk(path: Path, *, prompts: int = 40, **recipe: Any) -> Desk:
    model = {"use": "scripted:model.py:varied", "price": {"input": 1000, "output": 4000}}
    made = desk(path, prompts=prompts, **{"model": model, **recipe})
    (path / "model.py").write_text((path / "model.py").read_text() + VARIED)
    return made


# -- the interval --------------------------------------------------------------------------------------------


def cost(step: str, usage: Usage) -> Spend:
    return Spend(1, usage.input + usage.output, usage.input + 4 * usage.output)


def row_of(dice: random.Random, follows: float) -> list[tuple[str, Usage]]:
    """Return the calls of one row: what it takes to answer varies by the row, and by the call."""
    row = math.exp(dice.gauss(0, 0.5))
    tokens = [max(1, round(100 * row * math.exp(dice.gauss(0, 0.3)))) for _ in range(3)]
    calls = [("respond", Usage(input=20, output=tokens[0])), ("critique", Usage(input=tokens[0], output=tokens[1]))]
    if dice.random() < follows:
        calls.append(("judge", Usage(input=tokens[1], output=tokens[2])))
    return calls


def covered(dice: random.Random, measured: int, new: int, follows: float) -> bool:
    """Return whether the interval from so many measured rows holds what so many new ones really cost."""
    spread = Spread(cost)
    rows = [row_of(dice, follows) for _ in range(measured)]
    for number, row in enumerate(rows):
        spread.add(str(number), row)
    judged = sum(len(row) == 3 for row in rows)
    share = judged / measured
    if judged < 2:
        return True
    expected = {"respond": float(new), "critique": float(new), "judge": share * new}
    half = spread.halfwidth(
        "nano",
        new=expected,
        measured={"respond": measured, "critique": measured, "judge": judged},
        following={"judge": share * new},
        calls_variance=share * (1 - share) * (new + new * new / measured),
    )
    assert half is not None
    about = sum(calls * (spread.mean("nano", step) or 0.0) for step, calls in expected.items())
    really = sum(cost(step, usage).nano for _ in range(new) for step, usage in row_of(dice, follows))
    return abs(really - about) <= half


@pytest.mark.parametrize(
    ("measured", "new", "follows"), [(40, 40, 1.0), (40, 200, 0.8), (100, 40, 0.5), (60, 300, 0.8)]
)
def test_the_interval_holds_the_price_in_about_95_of_100_runs(measured: int, new: int, follows: float) -> None:
    dice = random.Random(f"{measured} {new} {follows}")
    inside = sum(covered(dice, measured, new, follows) for _ in range(300))
    assert 0.91 <= inside / 300 <= 0.99  # three standard errors


def test_calls_that_vary_together_within_a_row_vary_more_in_sum() -> None:
    together, apart = Spread(cost), Spread(cost)
    for number, tokens in enumerate([100, 900] * 20):
        other = tokens if number % 4 < 2 else 1000 - tokens
        together.add(str(number), [("a", Usage(output=tokens)), ("b", Usage(output=tokens))])
        apart.add(str(number), [("a", Usage(output=tokens)), ("b", Usage(output=other))])
    terms: dict[str, Any] = {
        "new": {"a": 40.0, "b": 40.0}, "measured": {"a": 40, "b": 40}, "following": {}, "calls_variance": 0.0,
    }  # fmt: skip
    wide, narrow = together.halfwidth("nano", **terms), apart.halfwidth("nano", **terms)
    assert wide is not None
    assert narrow is not None
    assert wide / narrow == pytest.approx(math.sqrt(2), rel=1e-6)


def test_there_is_no_interval_before_two_rows_were_measured_or_where_nobody_knows_how_many_calls_follow() -> None:
    spread = Spread(cost)
    terms: dict[str, Any] = {"new": {"a": 5.0}, "measured": {"a": 1}, "following": {}, "calls_variance": 0.0}
    assert spread.halfwidth("nano", **terms) is None
    spread.add("one", [("a", Usage(output=5))])
    spread.add("one", [("a", Usage(output=50))])  # a row says what it says once
    assert len(spread) == 1
    assert spread.halfwidth("nano", **terms) is None
    spread.add("two", [("a", Usage(output=7))])
    assert spread.halfwidth("nano", **{**terms, "measured": {"a": 2}}) is not None
    assert spread.halfwidth("nano", **{**terms, "measured": {"a": 2}, "calls_variance": None}) is None


async def test_a_trial_of_some_rows_bounds_what_the_whole_run_costs(tmp_path: Path) -> None:
    inside = 0
    for seed in range(12):
        made = varied_desk(tmp_path / str(seed))
        lines = "".join(f"Seed {seed}: how do I do thing number {number}?\n" for number in range(40))
        (made.path / "prompts.txt").write_text(lines)
        fresh = await plan_recipe(made.recipe)
        assert fresh.outlay.dollars is None
        await run_recipe(made.recipe, limit=16)
        planned = await plan_recipe(made.recipe)
        assert planned.outlay.dollars is not None
        assert planned.outlay.tokens is not None
        low, high = planned.outlay.dollars
        assert low < (planned.expected.dollars or 0) < high
        done = await run_recipe(made.recipe)
        inside += low <= (done.dollars or 0) <= high
    assert inside >= 10  # of twelve: 95 of 100, and lengths this skewed from sixteen rows a little less


async def test_the_interval_narrows_as_rows_are_measured_and_is_gone_when_all_is_known(tmp_path: Path) -> None:
    made = varied_desk(tmp_path / "desk")
    widths = []
    for limit in (6, 20, 40):
        await run_recipe(made.recipe, limit=limit)
        planned = await plan_recipe(made.recipe)
        bounds = planned.outlay.dollars
        widths.append(None if bounds is None else bounds[1] - bounds[0])
    assert widths[2] is None
    assert widths[0] is not None
    assert widths[1] is not None
    assert widths[1] < widths[0]


def test_a_plan_tells_the_interval_in_its_closing_line_and_for_machines(tmp_path: Path, solon: Solon) -> None:
    made = varied_desk(tmp_path / "desk")
    assert "likely $" not in solon("plan", made.recipe).out
    solon("run", made.recipe, "--limit", 12)
    assert ", about $" in (told := solon("plan", made.recipe)).out
    assert "(likely $" in told.out
    figures = json.loads(solon("plan", made.recipe, "--format", "json").out)
    low, high = figures["likely_dollars"]
    assert low < figures["spend"]["expected"]["dollars"] < high
    assert figures["likely_tokens"][0] < figures["likely_tokens"][1]


# -- batch jobs ----------------------------------------------------------------------------------------------


async def test_what_batch_jobs_answer_is_planned_at_their_share_of_the_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    made = desk(tmp_path / "desk", judging={"verdict": "parsed"}, model="openai:gpt-4.1")
    live = (await plan_recipe(made.recipe)).expected
    made.write(cast={"everyone": {"batch": True}})
    half = (await plan_recipe(made.recipe)).expected
    assert live.dollars
    assert half.dollars == pytest.approx(live.dollars / 2)
    assert (half.input, half.output) == (live.input, live.output)


def test_a_plan_says_how_many_waves_of_batch_jobs_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, solon: Solon
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    made = desk(tmp_path / "desk", judging={"verdict": "parsed"}, model="openai:gpt-4.1")
    assert "wave" not in solon("plan", made.recipe).out
    made.write(cast={"everyone": {"batch": True}})
    assert "batch jobs: at most 4 waves of up to 24 hours, each after the one before" in solon("plan", made.recipe).out
    made.write(cast={"judge": {"batch": True}})
    assert "batch jobs: at most 1 wave of up to 24 hours" in solon("plan", made.recipe).out
    assert json.loads(solon("plan", made.recipe, "--format", "json").out)["waves"] == 1


# -- the budget ----------------------------------------------------------------------------------------------


def verdict(limit: Limit, used: Spend = NOTHING) -> str:
    survey = Survey(steps={"a": StepCount(certain=10, at_most=20)}, roles={"a": "judge"})
    cost = Outlay(
        Estimate(100, 100, 1.0),
        Estimate(100, 100, 1.0),
        Estimate(200, 200, 2.0),
        tokens=(150, 250),
        dollars=(0.75, 1.25),
    )
    found = outlook(limit, used, survey, cost)
    assert found is not None
    return found.verdict


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (Limit(nano=2 * DOLLAR), "holds"),
        (Limit(nano=2 * DOLLAR - 1), "should hold"),
        (Limit(nano=DOLLAR * 5 // 4), "should hold"),
        (Limit(nano=DOLLAR * 6 // 5), "may not hold"),
        (Limit(nano=DOLLAR - 1), "will not hold"),
        (Limit(nano=0), "will not hold"),
        (Limit(tokens=400), "holds"),
        (Limit(tokens=250), "should hold"),
        (Limit(tokens=200), "may not hold"),
        (Limit(tokens=199), "will not hold"),
        (Limit(calls=20), "holds"),
        (Limit(calls=19), "should hold"),
        (Limit(calls=9), "will not hold"),
        (Limit(calls=20, nano=DOLLAR - 1), "will not hold"),
    ],
)
def test_a_budget_holds_against_all_that_may_be_asked_what_is_likely_or_what_is_expected(
    limit: Limit, told: str
) -> None:
    assert verdict(limit) == told


def test_what_is_used_already_counts_against_a_budget() -> None:
    assert verdict(Limit(nano=2 * DOLLAR), Spend(calls=1, nano=1)) == "should hold"
    assert verdict(Limit(calls=30), Spend(calls=10)) == "holds"
    assert verdict(Limit(calls=30), Spend(calls=21)) == "will not hold"


def test_no_budget_has_no_outlook_and_neither_has_money_without_a_price() -> None:
    unknown = Outlay(Estimate(dollars=None), Estimate(dollars=None), Estimate(dollars=None))
    assert outlook(Limit(), Spend(), Survey(), Outlay()) is None
    assert outlook(Limit(nano=5), Spend(), Survey(), unknown) is None
    assert outlook(Limit(calls=5), Spend(), Survey(), unknown) is not None


def test_a_plan_says_whether_the_budget_holds(tmp_path: Path, solon: Solon) -> None:
    made = varied_desk(tmp_path / "desk", budget="1M calls")
    assert "budget 1,000,000 calls: holds, to come about " in solon("plan", made.recipe).out
    made.write(budget="$0.01")
    assert "budget 0.01 USD: will not hold, to come about $" in (told := solon("plan", made.recipe)).out
    assert "the run stops there, and goes on when it is raised" in told.out
    figures = json.loads(solon("plan", made.recipe, "--format", "json").out)["budget"]
    assert figures["verdict"] == "will not hold"
    assert figures["limit"] == {"calls": None, "tokens": None, "nano": 10_000_000}
    made.write(budget=None)
    assert "budget" not in solon("plan", made.recipe).out


def test_a_plan_says_that_a_budget_in_money_with_an_unknown_price_would_not_start(tmp_path: Path, solon: Solon) -> None:
    made = desk(tmp_path / "desk", budget="25 USD", judging={"verdict": "parsed"})
    made.write(cast={"judge": {"model": {"use": "openai:house", "base_url": "http://127.0.0.1:9/v1"}}})
    told = solon("plan", made.recipe)
    assert told.code == 0
    assert "no run would start: budget: 25 USD, and nobody says what openai:house (judge) costs" in told.out
    assert "budget 25 USD:" not in told.out
    made.write(budget="25 calls")
    assert "no run would start" not in solon("plan", made.recipe).out


async def test_a_budget_is_no_part_of_the_plans_name(tmp_path: Path) -> None:
    made = desk(tmp_path / "desk")
    before = (await plan_recipe(made.recipe)).name
    made.write(budget="25 calls", prices=None)
    assert (await plan_recipe(made.recipe)).name == before


# -- an upgrade ----------------------------------------------------------------------------------------------


async def upgraded(made: Desk, patch: pytest.MonkeyPatch, module: ModuleType, template: str) -> Planned:
    """Return the plan of a Solon that says one of its own wordings in other words."""
    other = getattr(module, template) + "\n\nThank you."
    patch.setattr(module, template, other)
    patch.setattr("solon.pipelines.wordings." + ("JUDGE" if module is pairwise else template), other)
    # what is taken over the wordings when Solon is loaded, and names the plans
    patch.setattr("solon.pipelines.revision.JUDGE_TEMPLATES", "another")
    return await plan_recipe(made.recipe)


def test_a_run_keeps_the_digests_of_solons_own_wordings(tmp_path: Path, solon: Solon) -> None:
    made = desk(tmp_path / "desk")
    solon("run", made.recipe)
    facts = json.loads((made.latest / "run.json").read_text())
    assert facts["wordings"] == own_wordings()
    assert set(facts["wordings"]) == {"judge", "critique", "revision", "markup"}
    assert facts["solon"] == __version__


async def test_an_upgrade_that_rewords_a_template_is_told_with_what_it_makes_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = desk(tmp_path / "desk")
    done = await run_recipe(made.recipe)
    assert (await plan_recipe(made.recipe)).upgrade == ()
    facts = json.loads((done.folder.path / "run.json").read_text())
    facts["solon"] = "0.0.9"
    (done.folder.path / "run.json").write_text(json.dumps(facts))
    planned = await upgraded(made, monkeypatch, pairwise, "LETTER")
    assert planned.upgrade == (
        f"Solon's own wording of the judge's question changed since that run (0.0.9 -> {__version__}); "
        "among what is new are 8 calls from there on",
    )
    assert planned.survey.expected == 8  # four rows in both orders, and nothing else


async def test_a_reworded_revision_makes_new_what_follows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = desk(tmp_path / "desk")
    await run_recipe(made.recipe)
    planned = await upgraded(made, monkeypatch, dialogue, "REVISION_CHAT")
    (line,) = planned.upgrade
    assert "the request for a revision" in line
    assert "12 calls from there on" in line  # four revisions and eight questions to the judge


async def test_a_run_of_before_that_kept_no_digests_says_nothing(tmp_path: Path) -> None:
    made = desk(tmp_path / "desk")
    done = await run_recipe(made.recipe)
    facts = json.loads((done.folder.path / "run.json").read_text())
    del facts["wordings"]
    (done.folder.path / "run.json").write_text(json.dumps(facts))
    assert (await plan_recipe(made.recipe)).upgrade == ()
