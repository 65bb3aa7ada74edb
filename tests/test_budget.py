"""A budget, as a recipe writes it: strictly read, in three measures, no part of the plan's name."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from run_kit import Desk, Solon, data_of, desk, finished, started, twice

from solon.budget import left_told, limit_told
from solon.errors import BadInput, OverBudget
from solon.ledger import Account, Ledger
from solon.models.spec import Price
from solon.pipelines.recipe import read_recipe
from solon.prices import PriceMeter
from solon.spend import DOLLAR, Limit, Spend


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


@pytest.fixture
def made(tmp_path: Path) -> Desk:
    return desk(tmp_path / "desk")


def limit_of(made: Desk, budget: object) -> Limit:
    made.write(budget=budget)
    read = read_recipe(made.recipe).budget
    assert read is not None
    return read.limit


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("25 USD", Limit(nano=25 * DOLLAR)),
        ("25USD", Limit(nano=25 * DOLLAR)),
        ("$25", Limit(nano=25 * DOLLAR)),
        ("0.015 usd", Limit(nano=15_000_000)),
        ("1,200.50 dollars", Limit(nano=1200 * DOLLAR + DOLLAR // 2)),
        ("2M tokens", Limit(tokens=2_000_000)),
        ("1.5k tokens", Limit(tokens=1500)),
        ("5000 calls", Limit(calls=5000)),
        ("5_000 calls", Limit(calls=5000)),
        ("1 call", Limit(calls=1)),
        ("0 calls", Limit(calls=0)),
        ("0 USD", Limit(nano=0)),
        ({"usd": 25, "calls": 5000}, Limit(calls=5000, nano=25 * DOLLAR)),
        ({"usd": "$2.50", "tokens": "2M", "calls": "5k"}, Limit(5000, 2_000_000, 2 * DOLLAR + DOLLAR // 2)),
        ({"usd": 0.1}, Limit(nano=100_000_000)),
    ],
)
def test_a_budget_is_read_in_dollars_tokens_or_calls(made: Desk, written: object, meant: Limit) -> None:
    assert limit_of(made, written) == meant


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (25, "'25' does not say of what; write `25 USD`, `2M tokens` or `5000 calls`"),
        ("25", "does not say of what"),
        ("25 EUR", "no measure 'EUR'; prices are in US dollars, so write it in USD"),
        ("25 tokns", "no measure 'tokns'; did you mean 'tokens'?"),
        ("25 apples", "no measure 'apples'; choose from: USD, tokens, calls"),
        ("25 USD 3 calls", "no measure 'USD 3 calls'"),
        ("-3 calls", "calls: must be at least 0, found '-3'"),
        ("2.5 calls", "calls: expected a whole number, found '2.5'"),
        ("lots of USD", "is no amount"),
        ("1.2.3 USD", "usd: expected a number, found '1.2.3'"),
        ("inf USD", "is no amount"),
        ("9999999999999 USD", "usd: must be at most 1,000,000,000"),
        ("", "is no amount"),
        (True, "expected a budget, found 'True'"),
        (["25 USD"], "expected a budget"),
        ({}, "an empty mapping limits nothing"),
        ({"usd": -1}, "must be at least 0"),
        ({"usd": True}, "expected a number"),
        ({"tokens": 1.5}, "expected a whole number"),
        ({"usd": "25 USD"}, "expected a number, found '25 USD'"),
        ({"dollars": 3}, "unknown key 'dollars'"),
        ({"call": 3}, "did you mean 'calls'?"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_told_with_its_line_and_the_remedy(
    made: Desk, written: object, told: str
) -> None:
    with pytest.raises(BadInput) as caught:
        limit_of(made, written)
    assert told in str(caught.value)
    assert f"{made.recipe}:" in str(caught.value)
    assert len(caught.value.problems) == 1


def test_a_budget_is_told_as_people_write_it() -> None:
    assert limit_told(Limit(nano=25 * DOLLAR)) == "25 USD"
    assert limit_told(Limit(calls=5000, nano=DOLLAR // 2)) == "0.5 USD and 5,000 calls"
    assert limit_told(Limit(tokens=2_000_000)) == "2,000,000 tokens"
    assert limit_told(Limit(nano=0)) == "0 USD"
    assert limit_told(Limit()) == "no budget"
    assert left_told(Limit(nano=25 * DOLLAR), Spend(nano=3 * DOLLAR + 1)) == "22.00 USD"
    assert left_told(Limit(10, 100), Spend(3, 200)) == "0 tokens and 7 calls"


# -- a run stops at its cap ----------------------------------------------------------------------------------

PRICE = {"input": 1000, "output": 4000}
"""Dollars a million tokens: a tenth of a cent a word, and four tenths a word of answer."""
MOST = 40


def priced(path: Path, *, prompts: int = 30, **recipe: Any) -> Desk:
    """Return a desk whose scripted model has a price, and whose calls cost a few dollars at the very most."""
    model = {"use": "scripted:model.py:answer", "price": PRICE}
    return desk(path, prompts=prompts, **{"model": model, "cast": {"everyone": {"max_tokens": MOST}}, **recipe})


def account(made: Desk) -> Account:
    """Return the purse of the desk's run, from the ledger."""
    ledger = Ledger.open(made.path / ".solon" / "ledger.db")
    try:
        return ledger.account(made.latest.name)
    finally:
        asyncio.run(ledger.close())


def worst_call(made: Desk) -> int:
    """Return the most `nano` that one call of this desk was reckoned at."""
    meter = PriceMeter(Price.model_validate(PRICE))
    ledger = Ledger.open(made.path / ".solon" / "ledger.db")
    try:
        return max(meter.worst(entry.call).nano for entry in ledger.entries())
    finally:
        asyncio.run(ledger.close())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A finished run without any budget."""
    made = priced(tmp_path_factory.mktemp("whole") / "desk")
    assert finished(started("run", made.recipe, cwd=made.path)).code == 0
    return made


def usd(nano: int) -> str:
    return f"{nano / DOLLAR:.9f} USD"


def test_a_budget_of_half_the_price_stops_at_the_cap_and_a_raised_one_finishes_with_no_call_repeated(
    whole: Desk, tmp_path: Path, solon: Solon
) -> None:
    price = account(whole).spent.nano
    made = priced(tmp_path / "desk", budget=usd(price // 2))
    told = solon("run", made.recipe)
    assert told.code == OverBudget.exit_code == 6
    assert "budget" in told.err
    purse, tolerance = account(made), max(worst_call(whole), price // 200)
    assert purse.reserved == purse.lost == Spend()
    assert price // 2 - tolerance <= purse.spent.nano <= price // 2
    assert len(made.remembered()) == len(made.asked()) == purse.spent.calls  # all that was paid is kept

    told = solon("run", made.recipe)
    assert told.code == 6
    assert account(made) == purse  # the same budget asks for nothing more

    made.write(budget=usd(2 * price))
    assert solon("run", made.recipe).code == 0
    assert twice(made.asked()) == set()
    assert account(made).spent.nano == price
    assert data_of(made.latest) == data_of(whole.latest)


@pytest.mark.parametrize("unit", ["calls", "tokens"])
def test_a_budget_in_calls_or_tokens_holds_as_well(whole: Desk, tmp_path: Path, solon: Solon, unit: str) -> None:
    half = getattr(account(whole).spent, unit) // 2
    made = priced(tmp_path / "desk", budget={unit: half})
    assert solon("run", made.recipe).code == 6
    spent = account(made).spent
    assert half - 2000 <= getattr(spent, unit) <= half  # a call is reckoned at under two thousand tokens
    if unit == "calls":
        assert spent.calls == half
    made.write(budget=None)
    assert solon("run", made.recipe).code == 0
    assert twice(made.asked()) == set()


def test_a_budget_of_nothing_asks_nobody(tmp_path: Path, solon: Solon) -> None:
    made = priced(tmp_path / "desk", budget="0 calls")
    assert solon("run", made.recipe).code == 6
    assert made.asked() == []


def test_a_budget_counts_what_this_run_pays_and_not_what_the_ledger_knows(
    whole: Desk, tmp_path: Path, solon: Solon
) -> None:
    shutil.copytree(whole.path, tmp_path / "desk")
    made = Desk(tmp_path / "desk")
    made.write(name="another", budget="0 USD")
    assert solon("run", made.recipe).code == 0
    assert account(made).total == Spend()


def test_a_budget_holds_over_processes(whole: Desk, tmp_path: Path) -> None:
    price = account(whole).spent.nano
    made = priced(tmp_path / "desk", budget=usd(price // 2))
    told = finished(started("run", made.recipe, "--processes", 2, cwd=made.path))
    assert told.code == 6, told.err
    purse = account(made)
    assert price // 2 - 2 * worst_call(whole) <= purse.total.nano <= price // 2
    made.write(budget=usd(2 * price))
    assert finished(started("run", made.recipe, "--processes", 2, cwd=made.path)).code == 0
    assert twice(made.asked()) == set()
    assert data_of(made.latest) == data_of(whole.latest)


def test_a_budget_holds_over_a_kill_and_what_was_in_flight_counts_as_lost(whole: Desk, tmp_path: Path) -> None:
    price = account(whole).spent.nano
    made = priced(tmp_path / "desk", budget=usd(price // 2))
    process = started("run", made.recipe, cwd=made.path, env={"MODEL_DELAY": "0.3"})
    while len(made.remembered()) < 12:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    in_flight = set(made.asked()) - made.remembered()
    assert in_flight
    with closing(sqlite3.connect(made.path / ".solon" / "ledger.db")) as file:
        leased = {f"c1:{key.hex()}" for (key,) in file.execute("SELECT key FROM leases")}
    assert in_flight <= leased, "room is put by before a call is sent"
    told = finished(started("run", made.recipe, cwd=made.path))
    assert told.code == 6
    purse = account(made)
    assert purse.total.nano <= price // 2
    assert purse.lost.calls == len(leased)
    assert purse.reserved == Spend()
    assert twice(made.asked()) <= in_flight


def test_a_budget_in_money_with_an_unknown_price_refuses_to_start(tmp_path: Path, solon: Solon) -> None:
    made = desk(tmp_path / "desk", budget="25 USD")
    judge = {"use": "openai:house-judge", "base_url": "http://127.0.0.1:9/v1"}
    made.write(cast={"judge": {"model": judge}}, judging={"verdict": "parsed"})
    told = solon("run", made.recipe)
    assert told.code == 2
    assert told.err.count("\n") == 1
    assert "budget: 25 USD, and nobody says what openai:house-judge (judge) costs; write `price:" in told.err
    assert made.asked() == []
    made.write(cast={"judge": {"model": {**judge, "price": {"input": 0, "output": 0}, "patience": 0}}})
    assert "nobody says" not in solon("run", made.recipe).err


def test_a_file_of_prices_beside_the_recipe_makes_a_price_known(tmp_path: Path, solon: Solon) -> None:
    made = desk(tmp_path / "desk", budget="0 USD", judging={"verdict": "parsed"})
    made.write(cast={"judge": {"model": {"use": "openai:house-judge", "key_env": "NO_SUCH_KEY"}}})
    assert "nobody says what openai:house-judge (judge) costs" in solon("run", made.recipe).err
    page = "openai:\n  read: 2026-11-30\n  models: {house-judge: {input: 1, output: 2}}\n"
    (made.path / "prices.yaml").write_text(page)
    made.write(prices="prices.yaml")
    assert "no key in NO_SUCH_KEY" in solon("run", made.recipe).err
    made.write(prices="other.yaml")
    assert "other.yaml: no such file" in solon("run", made.recipe).err
