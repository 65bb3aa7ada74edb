"""`solon cost`: where the money of a run went, what this run paid of it, and what the ledger saved."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from run_kit import Desk, Solon, desk

from solon.commands import forget_calls, run_recipe
from solon.commands.costs import Cost, Costs, cost_of
from solon.ledger import Ledger
from solon.spend import DOLLAR, Spend

PRICE = {"input": 1000, "output": 4000}


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


@pytest.fixture
def made(tmp_path: Path) -> Desk:
    return desk(tmp_path / "desk", model={"use": "scripted:model.py:answer", "price": PRICE})


def dollars(costs: dict[str, Cost]) -> float:
    return sum(cost.dollars or 0.0 for cost in costs.values())


async def test_each_table_sums_to_what_the_whole_cost_and_the_purse_says_the_same(made: Desk) -> None:
    done = await run_recipe(made.recipe)
    costs = await cost_of(done.folder.path)
    assert (costs.rows, costs.planned, costs.forgotten) == (4, 4, 0)
    whole = costs.whole
    assert whole.calls == done.progress.asked == 4 * 5
    assert whole.usage == done.progress.usage
    assert whole.dollars == pytest.approx(done.dollars)
    for table in (costs.steps, costs.roles, costs.principles, costs.models):
        assert dollars(table) == pytest.approx(whole.dollars)
        assert sum(cost.calls for cost in table.values()) == whole.calls
        assert sum(cost.usage.output for cost in table.values()) == whole.usage.output
    assert costs.spent == whole.paid == Spend(20, whole.usage.input + whole.usage.output, whole.nano or 0)
    assert costs.saved == costs.unfinished == costs.lost == costs.reserved == Spend()


async def test_calls_are_told_by_step_role_principle_and_model(made: Desk) -> None:
    made.write(cast={"judge": {"model": {"use": "scripted:model.py:other", "price": {"input": 1, "output": 1}}}})
    done = await run_recipe(made.recipe)
    costs = await cost_of(done.folder.path)
    calls = {"respond": 4, "critique.1": 4, "revise.1": 4, "judge.ab": 4, "judge.ba": 4}
    assert {step: cost.calls for step, cost in costs.steps.items()} == calls
    assert {role: cost.calls for role, cost in costs.roles.items()} == {
        "responder": 4, "critic": 4, "reviser": 4, "judge": 8,
    }  # fmt: skip
    assert {name: cost.calls for name, cost in costs.models.items()} == {"model:answer": 12, "model:other": 8}
    drawn: Counter[str] = Counter({"": 4})
    with done.folder.store(read_only=True) as store:
        for outcome in store.outcomes():
            for draw in outcome.row.draws:
                drawn[draw.principle] += 2  # a critique and a revision by the one, two orders of judging by the other
    assert {id: cost.calls for id, cost in costs.principles.items()} == drawn
    judge = costs.models["model:other"]
    assert judge.dollars == pytest.approx((judge.usage.input + judge.usage.output) / 1e6)


async def test_what_an_earlier_run_paid_is_saved(made: Desk) -> None:
    first = await run_recipe(made.recipe)
    made.write(name="second")
    again = await run_recipe(made.recipe)
    costs = await cost_of(again.folder.path)
    assert costs.spent == Spend()
    assert costs.saved.calls == costs.whole.calls == 20
    assert costs.saved.dollars == pytest.approx(first.dollars)
    made.reword("Which response is less", "Which response is by far less")
    edited = await run_recipe(made.recipe)
    costs = await cost_of(edited.folder.path)
    assert costs.spent.calls == edited.progress.asked > 0
    assert costs.spent == costs.whole.paid
    assert costs.saved.calls == 20 - edited.progress.asked
    assert {step for step, cost in costs.steps.items() if cost.paid.calls} == {"judge.ab", "judge.ba"}


async def test_what_was_paid_for_rows_that_are_not_finished_is_told_apart(made: Desk) -> None:
    done = await run_recipe(made.recipe)
    with done.folder.store() as store:
        store.reopen(None, limit=1)
    costs = await cost_of(done.folder.path)
    assert costs.rows == 3
    assert costs.unfinished.calls == 5
    assert costs.unfinished + costs.whole.paid == costs.spent


async def test_a_call_that_was_asked_anew_was_paid_twice_and_is_used_once(made: Desk) -> None:
    done = await run_recipe(made.recipe)
    await run_recipe(made.recipe, refresh=True)
    costs = await cost_of(done.folder.path)
    assert (costs.spent.calls, costs.whole.calls, costs.unfinished.calls) == (40, 20, 20)


def test_the_command_prints_the_tables_and_what_became_of_the_money(made: Desk, solon: Solon) -> None:
    made.write(budget="50 USD")
    solon("run", made.recipe)
    told = solon("cost", made.latest)
    assert told.code == 0
    lines = told.out.splitlines()
    assert lines[0].split() == ["by", "calls", "tokens", "in", "cached", "out", "cost", "paid", "by", "it"]
    names = [line.split()[0] for line in lines if line]
    assert [name for name in names if name in ("step", "role", "principle", "model", "all")] == [
        "step", "role", "principle", "model", "all",
    ]  # fmt: skip
    assert "4 of 4 rows finished" in told.out
    assert "and 20 calls\nthe ledger saved $0.00 and 0 calls\n" in told.out
    assert "budget 50 USD: " in told.out
    assert told.out.endswith("prices: the recipe\n")
    assert "in vain" not in told.out
    figures = json.loads(solon("cost", made.latest, "--json").out)
    assert figures["used"]["calls"] == figures["paid"]["calls"] == 20
    assert figures["budget"] == "50 USD"
    assert {table["step"] for table in figures["steps"]} == {
        "respond", "critique.1", "revise.1", "judge.ab", "judge.ba",
    }  # fmt: skip
    assert None in {table["principle"] for table in figures["principles"]}


async def test_an_unknown_price_is_said_to_be_unknown_and_tokens_are_told_all_the_same(
    tmp_path: Path, solon: Solon
) -> None:
    made = desk(tmp_path / "desk", model={"use": "scripted:model.py:answer"})
    done = await run_recipe(made.recipe)
    # the recipe of a model at an address that nobody has a price of
    copy = done.folder.path / "recipe.yaml"
    judge = "{model: {use: 'openai:house', base_url: 'http://127.0.0.1:9/v1'}}"
    copy.write_text(copy.read_text() + f"cast:\n  judge: {judge}\n")
    costs = await cost_of(done.folder.path)
    assert costs.known is False
    assert costs.roles["judge"].dollars is None
    assert costs.roles["judge"].usage.input > 0
    assert costs.roles["critic"].dollars == 0.0  # this machine's
    assert costs.whole.dollars is None
    figures = costs.figures()
    assert figures["used"]["dollars"] is figures["paid"]["dollars"] is figures["saved"]["dollars"] is None
    assert figures["used"]["tokens"]["input"] == costs.whole.usage.input


def test_an_unknown_price_is_printed_as_such(made: Desk, solon: Solon) -> None:
    solon("run", made.recipe)
    copy = made.latest / "recipe.yaml"
    copy.write_text(copy.read_text().replace("scripted:model.py:answer", "openai:nobody-knows-it"))
    copy.write_text(copy.read_text().replace("price:", "options:"))
    told = solon("cost", made.latest).out
    assert "price unknown: model:answer; give `price:` with the model" in told
    assert "paid by this run: an unknown price and 20 calls" in told
    assert " ?" in told
    assert "$" not in told


async def test_lost_calls_and_calls_in_flight_are_told_at_their_most(made: Desk, solon: Solon) -> None:
    done = await run_recipe(made.recipe)
    ledger = Ledger.open(made.path / ".solon" / "ledger.db")
    await ledger.settle(done.folder.path.name, lost=Spend(2, 300, DOLLAR))
    await ledger.reserve(done.folder.path.name, Spend(1, 100, DOLLAR // 2))
    await ledger.close()
    costs = await cost_of(done.folder.path)
    assert (costs.lost, costs.reserved) == (Spend(2, 300, DOLLAR), Spend(1, 100, DOLLAR // 2))


def test_lost_calls_are_printed(made: Desk, solon: Solon) -> None:
    from solon.cli.costing import print_costs

    costs = Costs(made.path, lost=Spend(2, 300, DOLLAR), reserved=Spend(1, 100, DOLLAR // 2), forgotten=3)
    print_costs(costs)
    told = solon._capsys.readouterr().out
    assert "may have been billed in vain, at most: $1.00 and 2 calls" in told
    assert "in flight, at most: $0.50 and 1 call" in told
    assert "not in the ledger any more: 3 calls" in told


async def test_calls_that_the_ledger_forgot_are_counted_apart(made: Desk) -> None:
    done = await run_recipe(made.recipe)
    ledger = made.path / ".solon" / "ledger.db"
    await forget_calls(ledger, model=None, before=None, text="thing number 1")
    costs = await cost_of(done.folder.path)
    assert costs.forgotten == 20 - len(made.remembered()) > 0
    assert costs.whole.calls == len(made.remembered())
    assert costs.spent.calls == 20  # what was paid stays paid


def test_many_principles_are_told_by_the_dearest(made: Desk, solon: Solon) -> None:
    from solon.cli.costing import print_costs

    costs = Costs(made.path)
    costs.principles = {f"p{number:02}": Cost(calls=1, nano=number * DOLLAR) for number in range(25)}
    print_costs(costs)
    told = solon._capsys.readouterr().out
    assert "p24" in told
    assert "p04" not in told
    assert "and 5 more: see --json" in told


def test_prices_beside_the_recipe_are_found_from_the_run_folder(made: Desk, solon: Solon) -> None:
    page = "openai:\n  read: 2026-11-30\n  models: {house: {input: 1, output: 2}}\n"
    (made.path / "prices.yaml").write_text(page)
    made.write(prices="prices.yaml")
    solon("run", made.recipe)
    copy = made.latest / "recipe.yaml"
    copy.write_text(copy.read_text().replace("scripted:model.py:answer", "openai:house").replace("price:", "options:"))
    told = solon("cost", made.latest).out
    assert f"prices: {made.path / 'prices.yaml'}, read 2026-11-30" in told


def test_a_run_that_is_none_and_a_ledger_that_is_gone_end_in_one_line(made: Desk, solon: Solon) -> None:
    told = solon("cost", made.path)
    assert told.code == 4
    assert told.err.count("\n") == 1
    solon("run", made.recipe)
    for file in (made.path / ".solon").iterdir():
        file.unlink()
    told = solon("cost", made.latest)
    assert told.code == 4
    assert "the ledger is not there" in told.err
    assert told.err.count("\n") == 1


def test_cost_asks_nobody_and_changes_nothing(made: Desk, solon: Solon) -> None:
    solon("run", made.recipe)
    before, asked = (made.latest / "rows.db").read_bytes(), made.asked()
    solon("cost", made.latest)
    assert (made.latest / "rows.db").read_bytes() == before
    assert made.asked() == asked
