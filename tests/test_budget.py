"""A budget, as a recipe writes it: strictly read, in three measures, no part of the plan's name."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_kit import Desk, desk

from solon.budget import limit_told
from solon.errors import BadInput
from solon.pipelines.recipe import read_recipe
from solon.spend import DOLLAR, Limit


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
